"""Diffusion samplers on tori (arXiv 2410.19449, third open question: other spaces than R^d).

Mixtures of products of von Mises densities in 2 to 6 angles, one mode across the seam and one of
them broad (concentration 0.8). Both references are learned on the unrolled line about each mode;
which copy of a point a chain ends at is an auxiliary variable. Judged are weights and marginals of
uncorrected and of weighted draws. Run it with::

    python examples/papers/lrds_torus.py
"""

import common
import numpy as np
import reference_draws as shared
from scipy.special import ive, logsumexp

DIMENSIONS = (2, 4, 6)
WEIGHTS = np.array([0.5, 0.3, 0.2])


class Torus:
    """What `reference_draws` needs of a target: three products of von Mises densities."""

    weights, log_z = WEIGHTS, 0.0

    def __init__(self, dim: int) -> None:
        self.dim = dim
        rng = np.random.default_rng(dim)
        self.centres = np.stack([np.full(dim, 0.4), np.full(dim, np.pi), np.full(dim, -1.8)])
        self.kappa = rng.uniform(4.0, 8.0, (3, dim))
        self.kappa[0, 0] = 0.8

    def _parts(self, x: np.ndarray) -> np.ndarray:
        turn = np.cos(x[:, None] - self.centres) - 1.0
        log_norm = np.log(2 * np.pi * ive(0, self.kappa))
        return np.log(WEIGHTS) + (self.kappa * turn - log_norm).sum(axis=2)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density, normalised over one period."""
        return logsumexp(self._parts(x), axis=1)

    def membership(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of the components."""
        parts = self._parts(x)
        return np.exp(parts - logsumexp(parts, axis=1, keepdims=True))

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws in ``[-pi, pi)``."""
        k = rng.choice(3, size=n, p=WEIGHTS)
        x = rng.vonmises(self.centres[k], self.kappa[k])
        return np.mod(x + np.pi, 2 * np.pi) - np.pi


def study(dim: int, config, seed: int, quick: bool) -> dict:
    """One reference in one dimension."""
    from pymc_multimodal.target.density import Density

    target = Torus(dim)
    density = Density(
        lambda x: (target.log_density(x), None), dim, has_gradient=False,
        period=np.full(dim, 2 * np.pi),
    )  # fmt: skip
    learned = shared.learn(target, config, seed, draws=1000 if quick else 4000, density=density)
    rng = np.random.default_rng([seed, 9])
    n = 2000 if quick else shared.PROPOSALS
    x, log_ratio = shared.proposals(learned, n, rng)
    x = x[np.isfinite(log_ratio)]
    points, weight = shared.corrected(learned, n, rng)
    drawn, exact = shared.resampled(points, weight, n, rng), target.draws(n, rng)
    return {
        "control": learned.generator.chain.control is not None,
        "ess": shared.ess(log_ratio),
        "log_z": shared.log_evidence_error(learned, log_ratio),
        "uncorrected": shared.variation(common.component_shares(target, x), WEIGHTS),
        "corrected": shared.variation(weight @ target.membership(points), WEIGHTS),
        "ks": marginal_ks(x, exact),
        "ks_corrected": marginal_ks(drawn, exact),
        "ks_exact": marginal_ks(target.draws(n, rng), exact),
        "effective": float(1.0 / np.sum(weight**2)),
        "points": np.round(x[:2000, :2], 3),
        "drawn": np.round(drawn[:2000, :2], 3),
    }


def marginal_ks(a: np.ndarray, b: np.ndarray) -> float:
    """Largest Kolmogorov-Smirnov distance of the angles."""
    from scipy.stats import ks_2samp

    return float(max(ks_2samp(p, q).statistic for p, q in zip(a.T, b.T, strict=True)))


def report(records: dict) -> str:
    rows = [
        {
            "angles": dim,
            "reference": name + ("" if r["control"] or "control" not in name else " (refused)"),
            "path ESS": f"{r['ess']:.3f}",
            "log Z off": f"{r['log_z']:+.4f}",
            "TV, uncorrected": f"{r['uncorrected']:.4f}",
            "TV, weighted": f"{r['corrected']:.4f}",
            "marginal KS, uncorrected": f"{r['ks']:.4f}",
            "weighted": f"{r['ks_corrected']:.4f}",
            "exact": f"{r['ks_exact']:.4f}",
            "effective draws": f"{r['effective']:,.0f}",
        }
        for (dim, name), r in records.items()
    ]
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    least = min(dim for dim, _ in records)
    shown = {name: r for (dim, name), r in records.items() if dim == least}
    figure, axes = common.figure(1, 1 + len(shown), (3 * (1 + len(shown)), 3.2))
    exact = Torus(least).draws(2000, np.random.default_rng(0))
    for ax, (name, points) in zip(
        axes[0], [("exact", exact), *((n, r["points"]) for n, r in shown.items())], strict=True
    ):
        ax.plot(*np.array(points)[:, :2].T, ".", ms=1, alpha=0.6)
        ax.set(xlim=(-np.pi, np.pi), ylim=(-np.pi, np.pi), title=name, aspect="equal")
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    found = {}
    for dim in DIMENSIONS[:1] if options.quick else DIMENSIONS:
        for name, config in shared.three_references(options.quick, 500, 200).items():
            found[dim, name] = records.get(
                f"{dim}, {name}, seed {options.seed}",
                lambda dim=dim, config=config: study(dim, config, options.seed, options.quick),
            )
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
