"""Two Gaussian modes in 500 and 1,000 dimensions (a question that arXiv 2410.19449 leaves open).

The modes have weights 2/3 and 1/3, and means drawn from the standard normal; the search starts from
a prior of standard deviation 3. *Diagonal*: each mode has independent coordinates with variances of
its own, log-uniform over a factor of 100. *Correlated*: coordinates of variance 0.1 in a row, those
of neighbours correlated by 0.9, alike in both modes. *Unlike*: correlated by 0.9 in the heavy mode
and by -0.5 in the light one, which has the larger volume. *Given* starts from locations that are
off by 0.1 in each coordinate, instead of from the prior. Gradients are used. Run it with::

    python examples/papers/lrds_high_dimension.py
    python examples/papers/lrds_high_dimension.py --seeds 3
"""

import resource
import time

import common
import common_lrds
import numpy as np

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import LRDS
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target.density import Density

DIMENSIONS = (100, 500, 1000)
STRUCTURES = ("diagonal", "correlated", "unlike", "unlike, given")
RADIUS = 0.1
TARGET_SE = 0.005
PRIOR = 3.0


def parameters(dim: int, structure: str) -> tuple[np.ndarray, np.ndarray]:
    """Means (2, d) and covariances: variances (2, d) or matrices (2, d, d)."""
    rng = np.random.default_rng(dim)
    means = rng.standard_normal((2, dim))
    if structure == "diagonal":
        return means, 10.0 ** rng.uniform(-2.0, 0.0, (2, dim))
    lags = np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))
    return means, 0.1 * np.stack([0.9**lags, (-0.5 if "unlike" in structure else 0.9) ** lags])


def density_of(means: np.ndarray, covariances: np.ndarray) -> Density:
    """Log density of the mixture with its gradient, in NumPy."""
    dim = means.shape[1]
    full = covariances.ndim == 3
    inverse = np.linalg.inv(covariances) if full else 1.0 / covariances
    log_det = np.linalg.slogdet(covariances)[1] if full else np.log(covariances).sum(axis=1)
    constant = np.log([2 / 3, 1 / 3]) - 0.5 * (log_det + dim * np.log(2 * np.pi))

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = x - means[:, None]
        pull = step @ inverse if full else step * inverse[:, None]
        parts = constant[:, None] - 0.5 * np.einsum("kni,kni->kn", step, pull)
        total = np.logaddexp.reduce(parts, axis=0)
        share = np.exp(parts - total)
        return total, -np.einsum("kn,kni->ni", share, pull)

    return Density(function, dim, prior=lambda n, rng: PRIOR * rng.standard_normal((n, dim)))


def measure(dim: int, structure: str, seed: int) -> dict:
    """One fit: weights, spread of what is generated, cost."""
    means, covariances = parameters(dim, structure)
    density = density_of(means, covariances)
    search = ModeSearch()
    if "given" in structure:
        noise = np.random.default_rng([seed, 9]).standard_normal(means.shape)
        search = ModeSearch(locations=means + RADIUS * noise, radius=RADIUS)
    config = FitConfig(
        generator=LRDS(),
        modes=search,
        target_se=TARGET_SE,
        random_seed=seed,
        challenge=common_lrds.CHALLENGE,
    )
    began = time.monotonic()
    fit = fit_density(density, config)
    seconds = time.monotonic() - began
    weights = np.zeros(2)
    np.add.at(weights, [nearest(means, m) for m in fit.modes.locations], fit.weights.weight)
    rng = np.random.default_rng([seed, 2])
    x = fit.generate(2000, rng)
    home = np.array([nearest(means, point) for point in x])
    step = x - means[home]
    variance = covariances if covariances.ndim == 2 else np.diagonal(covariances, 0, 1, 2)
    ratio = (step**2 / variance[home]).mean(axis=0)
    ours, acceptance = common.corrected_draws(density, fit, 100, 16, rng)
    shares = np.mean([nearest(means, p) == 0 for p in ours.reshape(-1, dim)])
    return {
        "modes": fit.n_modes,
        "error": float(np.abs(weights - [2 / 3, 1 / 3]).max()),
        "se": float(fit.weights.weight_se.max()),
        "log_z": fit.weights.total,
        "log_z_se": fit.weights.total_se,
        "variance": float(ratio.mean()),
        "corrected": float(shares),
        "acceptance": acceptance,
        "evals": fit.n_logp_evals,
        "seconds": seconds,
        "stages": fit.seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "statuses": common_lrds.warnings_of(fit),
    }


def nearest(means: np.ndarray, x: np.ndarray) -> int:
    """Index of the mean nearest to a point."""
    return int(np.linalg.norm(x - means, axis=1).argmin())


def report(found: dict) -> str:
    rows = []
    for (dim, structure), runs in found.items():
        worst = max(runs, key=lambda r: r["error"])
        slow = max(worst["stages"], key=worst["stages"].get)
        rows.append({
            "d": dim,
            "structure": structure,
            "modes": worst["modes"],
            "error %": f"{100 * worst['error']:.2f}",
            "se %": f"{100 * worst['se']:.2f}",
            "log Z (true 0)": f"{worst['log_z']:+.3f} ± {worst['log_z_se']:.3f}",
            "variance of draws": f"{worst['variance']:.3f}",
            "acceptance": f"{worst['acceptance']:.3f}",
            "evaluations": f"{max(r['evals'] for r in runs):,}",
            "seconds": f"{max(r['seconds'] for r in runs):.0f}",
            "slowest stage": f"{slow} {worst['stages'][slow]:.0f} s",
            "memory GB": f"{max(r['memory'] for r in runs):.1f}",
            "statuses": worst["statuses"],
        })  # fmt: skip
    return common.table(rows)


def draw(found: dict, stem: str) -> None:
    figure, ((left, right),) = common.figure(1, 2, (11, 4.2))
    for colour, structure in zip(("C0", "C1", "C2", "C3"), STRUCTURES, strict=True):
        cases = {d: runs for (d, s), runs in found.items() if s == structure}
        error = [100 * max(r["error"] for r in runs) for runs in cases.values()]
        se = [100 * max(r["se"] for r in runs) for runs in cases.values()]
        left.plot(list(cases), error, "o-", color=colour, label=structure)
        left.plot(list(cases), se, "o:", color=colour, label="its standard error")
        evals = [max(r["evals"] for r in runs) for runs in cases.values()]
        right.plot(list(cases), evals, "o-", color=colour, label=structure)
    left.set(xlabel="dimension", ylabel="largest error of a weight (%)", yscale="log")
    right.set(xlabel="dimension", ylabel="density evaluations of the fit", ylim=(0, None))
    left.legend(frameon=False)
    common.save(figure, stem)


def main() -> None:
    options = common_lrds.options(__doc__, __file__, seeds=1)
    records, found = common.Records(options.out), {}
    for dim in (100,) if options.quick else DIMENSIONS:
        for structure in STRUCTURES:
            found[dim, structure] = [
                records.get(
                    f"{dim} {structure} {seed}",
                    lambda a=(dim, structure, seed): measure(*a),
                )
                for seed in range(1, options.seeds + 1)
            ]
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
