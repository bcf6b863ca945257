"""Vanilla score matching from data against annealed score matching from noise: accuracy and cost.

The usual way around what vanilla score matching misses between modes is to learn the scores of
the draws with noise at many levels (Song and Ermon 2019, arXiv 1907.05600), and to run Langevin
dynamics from the largest down to none. It needs no start from data. arXiv 2310.01762 asks how the
two compare. *Annealed* is one noise-conditional network, 12 levels, and 20 steps on each;
*network alone* and *ScoreLangevin* are as in score_mixtures.py. All networks have the same width
and number of training steps.

*Error* is the total variation of the components' shares from the truth, beside that of the stored
draws; *distance* the energy distance to the exact law over that of as many exact draws as were
stored, in whitened coordinates (1: as good); *spread* the ratio of standard deviations within
components, generated over exact, averaged. *Steps* is the number of evaluations of the network
for a draw. The second table repeats it on one target over widths and numbers of stored draws.
Run it with::

    python examples/papers/score_annealed.py
    python examples/papers/score_annealed.py --quick
"""

import importlib
import time

import common
import numpy as np
import score_tools as tools
from score_tools import OURS, PLAIN, STORED

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.proposals.mixture import GaussianMixture

ANNEALED = "annealed"
STYLE = {**tools.STYLE, ANNEALED: "C2"}
LEVELS, LOWEST, STEPS_EACH, STEP = 12, 0.03, 20, 0.15
WIDTHS, SIZES, SETS = (16, 128), (200, 2000), 1
M = 2000


class Annealed:
    """Noise-conditional score in standardised coordinates, and annealed Langevin dynamics.

    Parameters
    ----------
    x : array of shape (n, d)
    rng : numpy.random.Generator
    width, steps : int
        Of the two hidden layers, and of training.
    """

    def __init__(self, x: np.ndarray, rng: np.random.Generator, width: int, steps: int):
        import torch

        self.mean, self.sd = x.mean(axis=0), x.std(axis=0)
        # From about the diameter of the standardised draws.
        self.levels = np.geomspace(2.0 * np.sqrt(x.shape[1]), LOWEST, LEVELS)
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            d = x.shape[1]
            self.net = torch.nn.Sequential(
                torch.nn.Linear(d + 1, width), torch.nn.SiLU(),
                torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, d),
            )  # fmt: skip
            self._train((x - self.mean) / self.sd, rng, steps)

    def _noise(self, z, sigma):
        """Noise that the network sees in z, arrays as tensors; minus sigma times the score."""
        import torch

        # Of unit size at every level.
        scaled = z / torch.sqrt(1 + sigma**2)
        return self.net(torch.cat([scaled, torch.log(sigma)], dim=1))

    def _train(self, z: np.ndarray, rng: np.random.Generator, steps: int) -> None:
        import torch

        optimiser = torch.optim.Adam(self.net.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in range(steps):
            rows = rng.integers(len(z), size=256)
            sigma = rng.choice(self.levels, (256, 1))
            noise = rng.standard_normal((256, z.shape[1]))
            given, sigma, noise = (
                torch.as_tensor(a, dtype=torch.float32)
                for a in (z[rows] + sigma * noise, sigma, noise)
            )
            loss = (self._noise(given, sigma) - noise).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    def score(self, z: np.ndarray, sigma: float) -> np.ndarray:
        """Score of the draws with noise of this deviation."""
        import torch

        with torch.no_grad():
            given = torch.as_tensor(z, dtype=torch.float32)
            return -self._noise(given, torch.full((len(z), 1), sigma)).double().numpy() / sigma

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Run from noise through all levels; the last step takes the remaining noise away."""
        z = self.levels[0] * rng.standard_normal((n, len(self.mean)))
        for sigma in self.levels:
            # The curvature at a level is at most one over its variance.
            step = STEP * sigma**2
            for _ in range(STEPS_EACH):
                noise = rng.standard_normal(z.shape)
                z = z + step * self.score(z, sigma) + np.sqrt(2 * step) * noise
        return self.mean + self.sd * (z + sigma**2 * self.score(z, sigma))


class Mixture:
    """A mixture as a target."""

    def __init__(self, mixture: GaussianMixture):
        self.mixture, self.weights = mixture, mixture.weights

    def draws(self, n, rng):
        """Exact draws, shape (n, d)."""
        return self.mixture.sample(n, rng)

    def membership(self, x):
        """Component of each row, one-hot, shape (n, K)."""
        return np.eye(len(self.weights))[tools.label(self.mixture, x)]


CASES = {
    "two normals, d = 32": lambda: Mixture(tools.two_normals(32, 8.0)),
    "forty_modes_unequal": TARGETS["forty_modes_unequal"],
    "rings": TARGETS["rings"],
    "two_bananas_10": TARGETS["two_bananas_10"],
}
ROBUST = "two_bananas_10"


def spread(membership: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return deviations within components, shape (K, d), NaN where there are few draws."""
    out = np.full((membership.shape[1], x.shape[1]), np.nan)
    label = membership.argmax(axis=1)
    for k in range(len(out)):
        if np.sum(label == k) > 10:
            out[k] = x[label == k].std(axis=0)
    return out


def generated(x: np.ndarray, n: int, rng: np.random.Generator, width: int, steps: int):
    """Yield name, draws, seconds of training and generating, and evaluations for a draw."""
    began = time.monotonic()
    config = ScoreLangevin(width=width, training_steps=steps)
    fitted = ScoreLangevin.from_draws(x, config=config, random_seed=int(rng.integers(2**31)))
    trained = time.monotonic()
    made = fitted.generate(n, rng)
    evals = round(fitted.trial.stop_time / fitted.step_size)
    yield OURS, made, (trained - began, time.monotonic() - trained), evals
    began = time.monotonic()
    # In whitened coordinates of the fit above, where modes have about unit variance.
    z = fitted.coordinates.to_z(x)
    alone = tools.plain_score(z, rng, width=width, training_steps=steps)
    trained = time.monotonic()
    made = fitted.coordinates.to_x(alone.run(tools.again(z, n, rng), rng))
    evals = round(tools.STOP / tools.STEP)
    yield PLAIN, made, (trained - began, time.monotonic() - trained), evals
    began = time.monotonic()
    annealed = Annealed(x, rng, width, steps)
    trained = time.monotonic()
    made = annealed.generate(n, rng)
    yield ANNEALED, made, (trained - began, time.monotonic() - trained), LEVELS * STEPS_EACH


def measure(case: str, m: int, width: int, seed: int, quick: bool) -> dict:
    target, rng = CASES[case](), np.random.default_rng([seed, m, width])
    n = 500 if quick else 5000
    x, exact = target.draws(m, rng), target.draws(2 * n, rng)
    white = common.whitener(exact)
    truth, own = target.weights, spread(target.membership(exact), exact)
    share = target.membership(x).mean(axis=0)
    found = {STORED: {"error": tools.total_variation(share, truth)}}
    importlib.import_module("torch")
    for name, made, seconds, evals in generated(x, n, rng, width, 100 if quick else 1500):
        made = made[np.isfinite(made).all(axis=1)]
        gap = tools.within([white(made)], [white(x)], [white(exact)])
        membership = target.membership(made)
        found[name] = {
            "error": tools.total_variation(membership.mean(axis=0), truth),
            "spread": float(np.nanmean(spread(membership, made) / own)),
            "training": seconds[0],
            "running": seconds[1] / len(made) * 10_000,
            "evals": evals,
            **gap,
        }
    return found


def columns(records: list[dict]):
    """Yield cells of a table for each method, means over data sets."""
    for name in (OURS, PLAIN, ANNEALED):
        yield {
            "method": name,
            "error": f"{tools.mean_of(records, name, 'error'):.4f}",
            "of the data": f"{tools.mean_of(records, STORED, 'error'):.4f}",
            "distance": f"{tools.ratio_of(records, name):.2f}",
            "spread": f"{tools.mean_of(records, name, 'spread'):.2f}",
            "training, s": f"{tools.mean_of(records, name, 'training'):.1f}",
            "10,000 draws, s": f"{tools.mean_of(records, name, 'running'):.1f}",
            "steps": f"{tools.mean_of(records, name, 'evals'):.0f}",
        }


def draw(cases: dict, robust: dict, stem: str) -> None:
    figure, axes = common.figure(1, 2 + len(WIDTHS), (16, 3.8))
    for place, name in enumerate((OURS, PLAIN, ANNEALED)):
        at = np.arange(len(cases)) + 0.25 * (place - 1)
        for axis, values in (
            (axes[0, 0], [max(tools.mean_of(r, name, "error"), 1e-4) for r in cases.values()]),
            (axes[0, 1], [max(tools.ratio_of(r, name), 0.1) for r in cases.values()]),
        ):
            axis.bar(at, values, 0.25, color=STYLE[name], label=name)
            axis.set_xticks(range(len(cases)), cases, rotation=35, fontsize=7, ha="right")
        for axis, width in zip(axes[0, 2:], WIDTHS, strict=True):
            own = {m: r for (w, m), r in robust.items() if w == width}
            if not own:
                continue
            ratio = [max(tools.ratio_of(r, name), 0.1) for r in own.values()]
            axis.plot(list(own), ratio, "o-", color=STYLE[name])
            axis.set(title=f"{ROBUST}, width {width}", xscale="log", yscale="log")
            axis.set_xlabel("stored draws")
            axis.title.set_fontsize(9)
    at = np.arange(len(cases))
    axes[0, 0].plot(at, [tools.mean_of(r, STORED, "error") for r in cases.values()], "k_", ms=20)
    axes[0, 0].set(yscale="log", title="error of shares (bars: of the data)")
    axes[0, 1].set(yscale="log", title="distance (stored draws: 1)")
    axes[0, 1].axhline(1.0, color="0.6", lw=0.8)
    axes[0, 0].legend(fontsize=7)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)

    def cell(case: str, m: int, width: int, count: int) -> list[dict]:
        return [
            records.get(
                f"{case}, {m} draws, width {width}, seed {s}",
                lambda s=s: measure(case, m, width, s, options.quick),
            )
            for s in range(options.seed, options.seed + count)
        ]

    cases = {
        case: cell(case, M, 64, 1 if options.quick else SETS)
        for case in list(CASES)[: 1 if options.quick else None]
    }
    sizes, widths = (SIZES[:1], WIDTHS[:1]) if options.quick else (SIZES, WIDTHS)
    robust = {(w, m): cell(ROBUST, m, w, 1) for w in widths for m in sizes}
    print(common.table([{"target": c, **row} for c, r in cases.items() for row in columns(r)]))
    print()
    rows = [
        {"width": w, "stored": f"{m:,}", **row}
        for (w, m), r in robust.items()
        for row in columns(r)
    ]
    print(common.table(rows))
    draw(cases, robust, options.stem)


if __name__ == "__main__":
    tools.quiet()
    main()
