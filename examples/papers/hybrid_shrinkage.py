"""How much spread do a region's generated draws lose? One mode, from 2 to 100 dimensions.

arXiv 2505.07825 learns the map from normal noise to the draws of a mode in two steps: a reverse
diffusion with the score of the draws themselves pairs noise with labels, and a small network is
regressed on the pairs. The diffusion ends on the draws, so neighbouring noise gets unrelated
labels, the network learns their average, and what it generates is too narrow, the more so the more
dimensions there are. The same network hardly shrinks on the labels of a smooth score, that of a
Gaussian mixture fitted to the draws, but what it learns is the shape of that mixture. Densities
fitted by likelihood, as `Hybrid()` uses them, err on the wide side: they include a heavy-tailed
component, and a network in many dimensions leaves mass where no draw was. In return they allow for
the correction that makes draws exact: *corrected* are draws picked from five times as many
proposals by their ratios, and the remark has the effective size of these as a share. Where that is
near 0 the corrected draws are a few points repeated: their row means nothing, and the figure
leaves them out.

Two targets of one mode: rotated products of skew-normals, and products of bananas. All methods
get the same 20,000 exact draws. *Spread* is the range between the 5 % and 95 % quantiles of
generated over that of exact draws, the mean over the principal directions of the latter: 1 is
right. *Distance* is the mean Kolmogorov-Smirnov distance along 100 random directions of the
whitened space, which sees shape as well; the first row is that of equally many exact draws. *Far*
is the share of draws further out than any of the exact ones. Run it with::

    python examples/papers/hybrid_shrinkage.py
    python examples/papers/hybrid_shrinkage.py --quick
"""

import argparse
import importlib
import time
from dataclasses import replace

import common
import numpy as np
from scipy.special import log_ndtr
from scipy.stats import ks_2samp

from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.elliptical_fit import fit_mixture
from pymc_multimodal.proposals.published import (
    EmpiricalScore,
    PublishedHybrid,
    SmoothedScore,
    labelled_pairs,
    train_map,
)
from pymc_multimodal.regions.draws import RegionDraws

EXACT, LABELS, MAP = "exact draws", "labels", "network on labels (paper)"
SMOOTH_LABELS, SMOOTH_MAP = "smoothed labels", "network on smoothed labels"
OURS, CORRECTED = "Hybrid()", "Hybrid(), corrected"
STYLE = {
    EXACT: ("0.35", "o"), LABELS: ("C1", "s"), MAP: ("C3", "X"), SMOOTH_LABELS: ("C8", "v"),
    SMOOTH_MAP: ("C2", "^"), OURS: ("C9", "D"), CORRECTED: ("C0", "P"),
}  # fmt: skip
CHAINS = 16


class SkewNormals:
    """``R (s * e)``: R a rotation, e independent skew-normals of shapes 3 to 8, s 0.5 to 1.5.

    One component of the mixture in the package's gallery.
    """

    name = "skew-normals"

    def __init__(self, dim: int, rng: np.random.Generator):
        self.dim = dim
        self.turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        self.spread, self.shape = rng.uniform(0.5, 1.5, dim), rng.uniform(3.0, 8.0, dim)

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws, shape (n, d)."""
        delta = self.shape / np.sqrt(1.0 + self.shape**2)
        a, b = rng.standard_normal((2, n, self.dim))
        return (self.spread * (delta * np.abs(a) + np.sqrt(1.0 - delta**2) * b)) @ self.turn.T

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d)."""
        z = x @ self.turn / self.spread
        log_phi = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
        tilt = log_ndtr(self.shape * z)
        logp = (np.log(2.0 / self.spread) + log_phi + tilt).sum(axis=1)
        hazard = np.exp(-0.5 * (self.shape * z) ** 2 - 0.5 * np.log(2 * np.pi) - tilt)
        return logp, ((self.shape * hazard - z) / self.spread) @ self.turn.T


class Bananas:
    """Pairs ``a = u``, ``b = u^2 - 1 + 0.4 e`` with u and e standard normal."""

    name = "bananas"

    def __init__(self, dim: int, rng: np.random.Generator, thin: float = 0.4):
        self.dim, self.thin = dim, thin

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws, shape (n, d)."""
        x = rng.standard_normal((n, self.dim))
        x[:, 1::2] = x[:, ::2] ** 2 - 1.0 + self.thin * x[:, 1::2]
        return x

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d)."""
        a = x[:, ::2]
        e = (x[:, 1::2] - a**2 + 1.0) / self.thin
        logp = -0.5 * (a**2 + e**2).sum(axis=1) - 0.5 * self.dim * np.log(2 * np.pi * self.thin)
        grad = np.empty_like(x)
        grad[:, ::2] = -a + 2.0 * a * e / self.thin
        grad[:, 1::2] = -e / self.thin
        return logp, grad


def as_local(x: np.ndarray, logp: np.ndarray, grad: np.ndarray) -> RegionDraws:
    """Put independent exact draws of one mode where the package keeps those of its chains."""
    n, d = x.shape
    shape = (CHAINS, n // CHAINS)
    one = np.ones(1)
    return RegionDraws(
        x=(x.reshape(*shape, d),),
        logp=(logp.reshape(shape),),
        grad=(grad.reshape(*shape, -1),),
        centre=x[np.argmax(logp)][None],
        ess=n * one,
    )


def mixture_score(z: np.ndarray, rng: np.random.Generator) -> SmoothedScore:
    """Score of a Gaussian mixture fitted to standardised draws, at most 16 components."""
    d = z.shape[1]
    base = EllipticalMixture.single(
        z.mean(axis=0), np.linalg.cholesky(np.cov(z.T)), np.inf, np.full(d, np.inf), np.zeros(d)
    )
    held_out = np.arange(len(z)) % 8 == 0
    mixture = fit_mixture(z[~held_out], z[held_out], base, rng, 16) or base
    return SmoothedScore(mixture.gaussian)


def generated(target, config: PublishedHybrid, n: int, rng: np.random.Generator):
    """Yield name, draws, seconds of training and a remark for every method."""
    x = target.draws(n, rng)
    d = target.dim
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / sd
    yield EXACT, target.draws(n, rng), 0.0, ""
    for names in ((LABELS, MAP), (SMOOTH_LABELS, SMOOTH_MAP)):
        began = time.monotonic()
        score = (
            EmpiricalScore(z[: config.score_draws]) if names[0] == LABELS else mixture_score(z, rng)
        )
        pairs = labelled_pairs(score, config.pairs, d, rng, config.ode_steps)
        yield names[0], mean + sd * pairs.x, time.monotonic() - began, ""
        learned = train_map(pairs.y, pairs.x, config, rng)
        yield names[1], mean + sd * learned.generate(n, rng), time.monotonic() - began, ""
    began = time.monotonic()
    local = as_local(x, *target(x))
    hybrid = Hybrid()
    fitted = hybrid.fit_regions(local, np.full(d, np.inf), rng)
    generator = hybrid.build(fitted, local, np.ones(1), rng)
    seconds = time.monotonic() - began
    family = fitted.densities[0].family
    yield OURS, generator.generate(n, rng), seconds, family
    proposed = generator.propose(5 * n, rng)
    with np.errstate(all="ignore"):
        # Gradients overflow at proposals far out; they are not needed here.
        log_ratio = target(proposed.x)[0] + proposed.minus_log_q
    share = np.exp(log_ratio - log_ratio.max())
    share /= share.sum()
    efficiency = 1.0 / (share**2).sum() / len(share)
    x = proposed.x[rng.choice(len(share), size=n, p=share)]
    yield CORRECTED, x, seconds, f"{family}, ESS {efficiency:.2f}"


def measures(x: np.ndarray, exact: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Spread, distance and share of far draws, as the docstring above defines them."""
    values, axes = np.linalg.eigh(np.cov(exact.T))
    a, b = ((part - exact.mean(axis=0)) @ axes / np.sqrt(values) for part in (x, exact))
    directions = rng.standard_normal((x.shape[1], 100))
    directions /= np.linalg.norm(directions, axis=0)
    pairs = zip((a @ directions).T, (b @ directions).T, strict=True)
    distance = [ks_2samp(u, v, method="asymp").statistic for u, v in pairs]
    ranges = [np.ptp(np.quantile(part, (0.05, 0.95), axis=0), axis=0) for part in (a, b)]
    far = np.linalg.norm(a, axis=1) > np.linalg.norm(b, axis=1).max()
    return {
        "spread": float(np.mean(ranges[0] / ranges[1])),
        "distance": float(np.mean(distance)),
        "far": float(np.mean(far)),
    }


def draw(rows: list[dict], samples: dict, shown: int):
    """Spread and distance by dimension, and what one banana of many looks like."""
    made, axes = common.figure(3, 4, (13, 10))
    grid = axes[0, 0].get_gridspec()
    for axis in axes[:2].ravel():
        axis.remove()
    for i, (kind, label) in enumerate((("spread", "spread"), ("distance", "distance"))):
        for j, name in enumerate((SkewNormals.name, Bananas.name)):
            axis = made.add_subplot(grid[i, 2 * j : 2 * j + 2])
            for method, (colour, marker) in STYLE.items():
                own = [r for r in rows if r["target"] == name and r["method"] == method]
                # A few points repeated have neither spread nor distance.
                own = [r for r in own if not r["remark"].endswith("ESS 0.00")]
                axis.plot(
                    [r["d"] for r in own], [r[kind] for r in own], color=colour, marker=marker,
                    label=method, linewidth=1.5,
                )  # fmt: skip
            dims = sorted({r["d"] for r in rows})
            axis.set(xscale="log", xlabel="dimension", ylabel=label)
            axis.set_xticks(dims, [str(d) for d in dims])
            axis.minorticks_off()
            axis.spines[["top", "right"]].set_visible(False)
            if kind == "spread":
                axis.set_title(name)
                axis.set_ylim(0, 1.05 * max(1.1, *(r["spread"] for r in rows)))
                axis.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
            else:
                axis.set_yscale("log")
    made.axes[-4].legend(fontsize=8, loc="lower left")
    for axis, method in zip(axes[2], (EXACT, MAP, SMOOTH_MAP, CORRECTED), strict=True):
        x = samples[method][:3000]
        axis.plot(x[:, 0], x[:, 1], ".", markersize=2, color=STYLE[method][0])
        axis.set(title=f"{method}\nbananas, d = {shown}", xlim=(-4, 4), ylim=(-4, 10))
        axis.title.set_fontsize(9)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two dimensions, short trainings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config, n, dims = PublishedHybrid(), 20_000, (2, 10, 20, 100)
    if options.quick:
        config = replace(config, pairs=1000, score_draws=1000, ode_steps=30, train_steps=300)
        n, dims = 4_000, (2, 10)
    rows, samples, shown = [], {}, dims[-2]
    # Its import would count as training of whoever comes first.
    importlib.import_module("torch")
    for kind in (SkewNormals, Bananas):
        for d in dims:
            rng = np.random.default_rng([options.seed, d])
            target = kind(d, rng)
            exact = target.draws(n, rng)
            for method, x, seconds, remark in generated(target, config, n, rng):
                found = measures(x, exact, rng)
                rows.append(
                    {"target": target.name, "d": d, "method": method, **found,
                     "seconds": seconds, "remark": remark}
                )  # fmt: skip
                if kind is Bananas and d == shown:
                    samples[method] = x
            print(f"{target.name}, {d} dimensions: done", flush=True)
    digits = {"spread": 3, "distance": 3, "far": 4, "seconds": 1}
    shown_rows = [{**r, **{k: f"{r[k]:.{n}f}" for k, n in digits.items()}} for r in rows]
    print(common.table(shown_rows))
    stem = "hybrid_shrinkage_quick" if options.quick else "hybrid_shrinkage"
    common.save(draw(rows, samples, shown), stem)


if __name__ == "__main__":
    main()
