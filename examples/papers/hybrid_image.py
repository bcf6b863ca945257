"""A density of two dimensions made from a photograph (arXiv 2505.07825, image densities).

The paper shows that its local generator, training-free labels and a small network, copes with
shapes like those of a picture. Here the darkness of scikit-learn's photograph of a pavilion is
the density, treated as one region, and exact draws of it are the data of every method:

- labels: the reverse diffusion with the score of the draws themselves, nothing trained;
- network on labels: the paper's generator, and once more on labels of the smoothed score;
- trained score: a score network trained in the usual way, by denoising, with the same diffusion
  and as many gradient steps; every draw costs the whole diffusion;
- the families of `Hybrid()`: densities, whose draws can be corrected.

*TV* is the total variation distance of histograms on a coarse grid to the exact masses of the
cells; the first row is that of equally many exact draws, which no sampler can beat by more than
chance. *Seconds* are those until the generator can be used, and for as many draws as data. The
labels are at the draws that they remember: they are as good as these, but nothing new.
Run it with::

    python examples/papers/hybrid_image.py
    python examples/papers/hybrid_image.py --quick
"""

import argparse
import importlib
import time
from dataclasses import replace
from itertools import pairwise

import common
import numpy as np
from hybrid_shrinkage import as_local, mixture_score
from sklearn.datasets import load_sample_image

from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.proposals.published import (
    EmpiricalScore,
    PublishedHybrid,
    labelled_pairs,
    reverse_ode,
    schedule,
    train_map,
)

CELL = 4  # pixels of a cell, along each side
LINE = np.full(2, np.inf)


class Picture:
    """A density on a rectangle, constant on every pixel: the darkness of a photograph."""

    def __init__(self, contrast: float = 2.5, shrink: int = 4):
        grey = load_sample_image("china.jpg")[:424, 40:464].mean(axis=2) / 255.0
        blocks = grey.reshape(424 // shrink, shrink, 424 // shrink, shrink).mean(axis=(1, 3))
        # A floor keeps the density positive wherever a draw may come to lie.
        mass = np.maximum((blocks.max() - blocks) ** contrast, 1e-4)
        # The first coordinate runs to the right, the second upwards.
        self.mass = (mass / mass.sum())[::-1].T
        self.size = len(mass)

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws: a pixel by its mass, and a uniform point in it."""
        pixel = rng.choice(self.mass.size, size=n, p=self.mass.ravel())
        corner = np.stack(np.unravel_index(pixel, self.mass.shape), axis=1)
        return corner + rng.random((n, 2))

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density, -inf outside of the picture."""
        i = np.floor(x).astype(int)
        inside = ((i >= 0) & (i < self.size)).all(axis=1)
        logp = np.full(len(x), -np.inf)
        logp[inside] = np.log(self.mass[tuple(i[inside].T)])
        return logp

    def total_variation(self, x: np.ndarray) -> float:
        """Distance of a histogram on cells of CELL pixels to the exact masses of the cells."""
        edges = np.append(np.arange(0, self.size, CELL), self.size)
        cells = np.add.reduceat(np.add.reduceat(self.mass, edges[:-1], 0), edges[:-1], 1)
        share = np.histogramdd(x, (edges, edges))[0] / len(x)
        # What lies outside of the picture is in no cell and counts in full.
        return 0.5 * float(np.abs(share - cells).sum() + 1.0 - share.sum())


def train_score(z: np.ndarray, config: PublishedHybrid, rng: np.random.Generator):
    """Train a score network by denoising; return the score as a function.

    With ``m = a z + b f_theta(z, t)``, the usual objective ``E |m(z, t) - x|^2 / b^2`` over
    draws x and noised ``z = alpha x + beta e``; ``S = (alpha m - z) / beta^2``. The a and b are
    those of Karras et al. (2022), arXiv 2206.00364, for data of unit variance. Predicting the
    noise instead does not go with this schedule: at time 1 the diffusion divides by alpha, 1e-4.
    """
    import torch

    torch.set_num_threads(1)

    def features(t):
        angles = np.pi * t * 2.0 ** np.arange(4)
        return np.concatenate([np.sin(angles), np.cos(angles), 0.2 * np.log(schedule(t)[1])], -1)

    def skip(t):
        alpha, beta2 = schedule(t)
        return alpha / (alpha**2 + beta2), np.sqrt(beta2 / (alpha**2 + beta2))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        parts = []
        for a, b in pairwise((2 + 9, 128, 128, 128)):
            parts += [torch.nn.Linear(a, b), torch.nn.SiLU()]
        network = torch.nn.Sequential(*parts, torch.nn.Linear(128, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.train_steps)
    for _ in range(config.train_steps):
        # Small times are where the shape is decided.
        t = rng.random((config.batch, 1)) ** 2
        alpha, beta2 = schedule(t)
        x = z[rng.integers(len(z), size=config.batch)]
        noised = alpha * x + np.sqrt(beta2) * rng.standard_normal((config.batch, 2))
        a, b = skip(t)
        inputs = torch.tensor(np.concatenate([noised, features(t)], axis=1), dtype=torch.float32)
        wanted = torch.tensor((x - a * noised) / b, dtype=torch.float32)
        loss = ((network(inputs) - wanted) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()

    def score(points: np.ndarray, t: float) -> np.ndarray:
        times = np.full((len(points), 1), t)
        inputs = np.concatenate([points, features(times)], axis=1)
        with torch.no_grad():
            output = network(torch.tensor(inputs, dtype=torch.float32)).double().numpy()
        a, b = skip(t)
        alpha, beta2 = schedule(t)
        return (alpha * (a * points + b * output) - points) / beta2

    return score


def generated(picture: Picture, x: np.ndarray, config: PublishedHybrid, rng: np.random.Generator):
    """Yield name, draws, seconds of training, seconds of drawing and a remark, by method."""
    n = len(x)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / sd

    began = time.monotonic()
    yield "exact draws", picture.draws(n, rng), 0.0, time.monotonic() - began, ""

    for name in ("", "smoothed "):
        began = time.monotonic()
        smooth = mixture_score(z, rng) if name else EmpiricalScore(z[: config.score_draws])
        pairs = labelled_pairs(smooth, config.pairs, 2, rng, config.ode_steps)
        labelled = time.monotonic() - began
        remark = f"{len(pairs.x)} draws"
        yield f"{name}labels", mean + sd * pairs.x, 0.0, labelled, remark
        learned = train_map(pairs.y, pairs.x, config, rng)
        trained = time.monotonic() - began
        began = time.monotonic()
        drawn = mean + sd * learned.generate(n, rng)
        yield f"network on {name}labels", drawn, trained, time.monotonic() - began, ""

    began = time.monotonic()
    score = train_score(z, config, rng)
    trained = time.monotonic() - began
    began = time.monotonic()
    drawn = mean + sd * reverse_ode(score, rng.standard_normal((n, 2)), config.ode_steps)
    yield "trained score", drawn, trained, time.monotonic() - began, ""

    local = as_local(x, picture.logp(x), np.empty((n, 0)))
    for hybrid, label in (
        (Hybrid(families=("gaussian",)), "Hybrid, gaussian"),
        (Hybrid(), "Hybrid()"),
        (Hybrid(max_components=256), "Hybrid(max_components=256)"),
    ):
        began = time.monotonic()
        fitted = hybrid.fit_regions(local, LINE, rng)
        generator = hybrid.build(fitted, local, np.ones(1), rng)
        trained = time.monotonic() - began
        began = time.monotonic()
        drawn = generator.generate(n, rng)
        family = fitted.densities[0].family
        yield label, drawn, trained, time.monotonic() - began, family
    began = time.monotonic()
    proposed = generator.propose(5 * n, rng)
    share = np.exp(picture.logp(proposed.x) + proposed.minus_log_q)
    share /= share.sum()
    drawn = proposed.x[rng.choice(len(share), size=n, p=share)]
    remark = f"{family}, ESS {1.0 / (share**2).sum() / len(share):.2f}"
    yield "the last, corrected", drawn, trained, time.monotonic() - began, remark


def draw(picture: Picture, samples: dict):
    """Histograms of all methods, beside the density itself."""
    made, axes = common.figure(3, 4, (13, 10.5))
    panels = {"density": None, **samples}
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, (name, x) in zip(axes.ravel(), panels.items(), strict=False):
        edges = np.arange(0, picture.size + 1, 2)
        mass = picture.mass
        if x is None:
            shown = mass.reshape(len(mass) // 2, 2, -1, 2).sum(axis=(1, 3))
        else:
            shown = np.histogramdd(x, (edges, edges))[0] / len(x)
        axis.imshow(shown.T, origin="lower", cmap="Greys", vmin=0.0, vmax=2.0 / shown.size * 3)
        title = name if x is None else f"{name}\nTV {picture.total_variation(x):.3f}"
        axis.set_title(title, fontsize=10)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few draws, short trainings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    n = 20_000
    config = PublishedHybrid(pairs=20_000, score_draws=5_000, ode_steps=100, train_steps=4_000)
    if options.quick:
        n = 4_000
        config = replace(config, pairs=1_000, score_draws=1_000, ode_steps=30, train_steps=300)
    # Its import would count as training of whoever comes first.
    importlib.import_module("torch")
    picture = Picture()
    x = picture.draws(n, rng)
    rows, samples = [], {}
    for name, drawn, trained, drawing, remark in generated(picture, x, config, rng):
        samples[name] = drawn
        rows.append(
            {"method": name, "TV": f"{picture.total_variation(drawn):.3f}",
             "training s": f"{trained:.1f}", "drawing s": f"{drawing:.2f}", "remark": remark}
        )  # fmt: skip
    print(common.table(rows))
    stem = "hybrid_image_quick" if options.quick else "hybrid_image"
    common.save(draw(picture, samples), stem)


if __name__ == "__main__":
    main()
