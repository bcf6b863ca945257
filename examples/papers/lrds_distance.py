"""Modes far apart, roughly known, and close together (arXiv 2410.19449, distance study).

Two Gaussian modes of weights 2/3 and 1/3, in three tables.

*Distance*: modes at -a and +a in each of 8 coordinates with variance 0.05, for a from 1 to 16.

*Radius*: the search starts from locations that are off by a normal error of the given radius in
each coordinate, instead of from prior draws; it draws eight starts about each with that radius.

*Crossings*: modes so close that chains cross. What counts is their distance in units of the common
spread (Mahalanobis), whatever the dimension and the correlation: it is 3 to 8 here. *Crossed* is
the share of unrestricted chains, 60 moves each, that end nearer to the other component; *refused*
is the share of moves that left their region in the local chains, where there are two regions. The
weights of the regions are compared with exact draws that the same regions label; *within* is the
error in % of the heavy component's share in the local draws, weighted by region.
Run it with::

    python examples/papers/lrds_distance.py
"""

import time

import common
import common_lrds
import numpy as np

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import two_modes
from pymc_multimodal.gallery.gaussian import gaussian_mixture
from pymc_multimodal.proposals import LRDS
from pymc_multimodal.regions import LocalSampling
from pymc_multimodal.regions.pilot import explore
from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of

HALF_DISTANCES = (1, 2, 4, 8, 16)
RADII = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
APART = (3.0, 4.0, 5.0, 6.0, 8.0)
DIMENSIONS = (2, 8, 32)
# Correlation of neighbouring coordinates.
CORRELATIONS = (0.0, 0.9)
TARGET_SE = 0.002


def measure(density, target, seed: int, search: ModeSearch | None = None, means=None) -> dict:
    """One fit, its weights by component."""
    began = time.monotonic()
    config = FitConfig(
        generator=LRDS(),
        modes=search or ModeSearch(),
        target_se=TARGET_SE,
        random_seed=seed,
        challenge=common_lrds.CHALLENGE,
    )
    fit = fit_density(density, config)
    weights = common_lrds.component_weights(target, fit, means)
    return {
        "modes": fit.n_modes,
        "error": float(np.abs(weights - target.weights).max()) if fit.n_modes > 1 else np.inf,
        "se": float(fit.weights.weight_se.max()),
        "evals": fit.n_logp_evals,
        "seconds": time.monotonic() - began,
        "statuses": common_lrds.warnings_of(fit),
    }


def far(a: float, gradient: bool, seed: int) -> dict:
    """Modes at half-distance a."""
    target = two_modes(8, separation=a)
    means = a * np.outer([-1.0, 1.0], np.ones(8))
    return measure(common_lrds.density_of(target, gradient), target, seed, means=means)


def roughly_known(dim: int, radius: float, seed: int) -> dict:
    """Locations with an error."""
    target = two_modes(dim)
    means = np.outer([-1.0, 1.0], np.ones(dim))
    noise = np.random.default_rng([seed, 9]).standard_normal(means.shape)
    search = ModeSearch(locations=means + radius * noise, radius=radius)
    return measure(common_lrds.density_of(target), target, seed, search, means)


def close(dim: int, correlation: float, apart: float, seed: int) -> dict:
    """Modes so close that chains may cross."""
    lags = np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))
    covariance = 0.05 * correlation**lags
    direction = np.ones(dim)
    size = np.sqrt(direction @ np.linalg.solve(covariance, direction))
    means = 0.5 * apart / size * np.outer([-1.0, 1.0], direction)
    target = gaussian_mixture(
        f"close_{dim}", np.array([2.0, 1.0]), means, np.stack([covariance] * 2),
        scale=1.0, note="exact: Gaussian mixture",
    )  # fmt: skip
    density = common_lrds.density_of(target)
    rng = np.random.default_rng([seed, 4])
    settings = ModeSearch(locations=means)
    search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    modes = modes_of(density, search, settings)
    pilot = explore(density, modes, LocalSampling(), rng)
    side = target.membership(pilot.draws).argmax(axis=3)
    home = target.membership(modes.locations).argmax(axis=1)
    before = density.n_logp_evals
    config = FitConfig(
        generator=LRDS(), target_se=TARGET_SE, random_seed=seed, challenge=common_lrds.CHALLENGE
    )
    fit = fit_density(density, config)
    truth, truth_se = common.region_shares(fit, target, 100_000, rng)
    z = common.z_scores(fit.weights.weight, fit.weights.weight_se, truth, truth_se)
    return {
        "optima": len(modes),
        "crossed": float(np.mean(side[:, :, -1] != home[:, None])),
        "regions": fit.n_modes,
        "refused": float(np.max(fit.chains.crossings)),
        "r_hat": float(np.nanmax(fit.chains.r_hat)),
        "error": float(np.abs(fit.weights.weight - truth).max()),
        "se": float(fit.weights.weight_se.max()),
        "z": float(np.abs(z).max()),
        "within": within_error(fit, target),
        "evals": density.n_logp_evals - before,
        "statuses": common_lrds.warnings_of(fit),
    }


def within_error(fit, target) -> float:
    """Error of the heavy component's share as the weighted local draws have it."""
    shares = [target.membership(fit.local_draws(k))[:, 0].mean() for k in range(fit.n_modes)]
    return float(fit.weights.weight @ shares - target.weights[0])


def collect(records: common.Records, seed: int, quick: bool) -> tuple[dict, dict, dict]:
    distances = {
        (a, g): records.get(f"distance {a} {g} {seed}", lambda a=a, g=g: far(a, g, seed))
        for a in HALF_DISTANCES[: 1 if quick else None]
        for g in (True, False)
    }
    radii = {
        (d, r): records.get(f"radius {d} {r} {seed}", lambda d=d, r=r: roughly_known(d, r, seed))
        for d in ((8,) if quick else (8, 32))
        for r in RADII[: 2 if quick else None]
    }
    crossings = {
        (d, c, a): records.get(
            f"apart {d} {c} {a} {seed}", lambda d=d, c=c, a=a: close(d, c, a, seed)
        )
        for d in DIMENSIONS[: 1 if quick else None]
        for c in CORRELATIONS
        for a in APART[: 2 if quick else None]
    }
    return distances, radii, crossings


def report(distances: dict, radii: dict, crossings: dict) -> str:
    first = [
        {"a": a, "gradients": "yes" if g else "no"} | common_row(r)
        for (a, g), r in distances.items()
    ]
    second = [{"d": d, "radius": radius} | common_row(r) for (d, radius), r in radii.items()]
    third = [
        {
            "d": d,
            "correlation": c,
            "apart": a,
            "optima": r["optima"],
            "crossed": f"{r['crossed']:.2f}",
            "regions": r["regions"],
            "refused": f"{r['refused']:.3f}" if r["regions"] > 1 else "",
            "R-hat": f"{r['r_hat']:.3f}",
            "error %": f"{100 * r['error']:.2f}",
            "se %": f"{100 * r['se']:.2f}",
            "largest z": f"{r['z']:.1f}",
            "within %": f"{100 * r['within']:+.2f}",
            "evaluations": f"{r['evals']:,}",
            "statuses": r["statuses"],
        }
        for (d, c, a), r in crossings.items()
    ]
    return "\n\n".join(map(common.table, (first, second, third)))


def common_row(r: dict) -> dict:
    return {
        "modes": r["modes"],
        "error %": f"{100 * r['error']:.2f}" if r["modes"] > 1 else "mode missed",
        "se %": f"{100 * r['se']:.2f}",
        "evaluations": f"{r['evals']:,}",
        "seconds": f"{r['seconds']:.0f}",
        "statuses": r["statuses"],
    }


def draw(crossings: dict, stem: str) -> None:
    """Share of chains that cross, by distance, dimension and correlation."""
    figure, ((ax,),) = common.figure(1, 1, (7, 4.2))
    for j, d in enumerate(DIMENSIONS):
        for c, line in zip(CORRELATIONS, ("-", "--"), strict=True):
            found = {a: r for (dim, corr, a), r in crossings.items() if (dim, corr) == (d, c)}
            if found:
                share = [r["crossed"] for r in found.values()]
                ax.plot(list(found), share, f"o{line}", color=f"C{j}",
                        label=f"d = {d}, correlation {c:g}")  # fmt: skip
    ax.set(xlabel="distance of the modes in units of their spread",
           ylabel="chains nearer to the other mode after 60 moves")  # fmt: skip
    ax.legend(frameon=False, fontsize=8)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    found = collect(common.Records(options.out), options.seed, options.quick)
    print(report(*found))
    draw(found[2], options.stem)


if __name__ == "__main__":
    main()
