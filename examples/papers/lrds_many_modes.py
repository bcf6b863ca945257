"""Four to sixty-four Gaussian modes in eight dimensions (arXiv 2410.19449, ManyModes).

Modes have variance 0.5, means uniform in a cube of half-width n, and weights that are log-spaced
over a factor of three. *Given* starts from the true means, as the paper does; *searched* from prior
draws. A mode is forgotten if its share is below 5 % of the smallest true weight. TV and KL are
those of the modes' weights: of the fit, and of draws of the generator without correction, where
20,000 exact draws would have an expected KL of (n - 1) / 40,000. Run it with::

    python examples/papers/lrds_many_modes.py
"""

import time

import common
import common_lrds
import numpy as np

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import many_modes
from pymc_multimodal.proposals import LRDS
from pymc_multimodal.search import ModeSearch

NUMBERS = (4, 8, 16, 32, 64)
VARIANTS = (("given", True), ("given", False), ("searched", True), ("searched", False))
DRAWS = 20_000
STYLES = {"given": "C0", "searched": "C1"}


def centres(n: int) -> np.ndarray:
    """Means of the components, heaviest first, as the gallery has them."""
    return np.random.default_rng(42).uniform(-n, n, size=(n, 8))[::-1]


def measure(n: int, locations: str, gradient: bool, seed: int, quick: bool) -> dict:
    """One fit: what it makes of the weights, and its cost."""
    target = many_modes(n)
    density = common_lrds.density_of(target, gradient)
    search = ModeSearch(locations=centres(n)) if locations == "given" else ModeSearch()
    began = time.monotonic()
    fit = fit_density(
        density,
        FitConfig(
            generator=LRDS(),
            modes=search,
            target_se=0.005 if quick else 0.001,
            random_seed=seed,
            challenge=common_lrds.CHALLENGE,
        ),
    )
    seconds = time.monotonic() - began
    weights = common_lrds.component_weights(target, fit, centres(n))
    x = fit.generate(DRAWS, np.random.default_rng([seed, 5]))
    return {
        "modes": fit.n_modes,
        "fit": compare(weights, target.weights),
        "draws": compare(common.component_shares(target, x), target.weights),
        "se": float(fit.weights.weight_se.max()),
        "evals": fit.n_logp_evals,
        "seconds": seconds,
        "statuses": common_lrds.warnings_of(fit),
    }


def compare(found: np.ndarray, truth: np.ndarray) -> dict:
    """Distances of weights from the true ones."""
    with np.errstate(divide="ignore"):
        kl = np.sum(truth * np.log(truth / found))
    return {
        "forgotten": int(np.sum(found < 0.05 * truth.min())),
        "tv": float(0.5 * np.abs(found - truth).sum()),
        "kl": float(min(kl, 1e9)),
        "error": float(np.abs(found - truth).max()),
    }


def report(found: dict) -> str:
    rows = []
    for (n, locations, gradient), runs in found.items():
        rows.append({
            "n": n,
            "locations": locations,
            "gradients": "yes" if gradient else "no",
            "modes": "/".join(sorted({str(r["modes"]) for r in runs})),
            "forgotten": max(r["fit"]["forgotten"] for r in runs),
            "largest error": f"{max(r['fit']['error'] for r in runs):.4f}",
            "se": f"{max(r['se'] for r in runs):.4f}",
            "TV": f"{max(r['fit']['tv'] for r in runs):.4f}",
            "KL": f"{max(r['fit']['kl'] for r in runs):.1e}",
            "TV, KL of draws": f"{max(r['draws']['tv'] for r in runs):.4f}, "
            f"{max(r['draws']['kl'] for r in runs):.1e}",
            "evaluations": f"{max(r['evals'] for r in runs):,}",
            "seconds": f"{max(r['seconds'] for r in runs):.0f}",
            "statuses": "; ".join(sorted({r["statuses"] for r in runs} - {""})),
        })  # fmt: skip
    return common.table(rows)


def draw(found: dict, stem: str) -> None:
    figure, ((left, right),) = common.figure(1, 2, (11, 4.2))
    for locations, gradient in VARIANTS:
        cases = [c for c in found if c[1:] == (locations, gradient)]
        n = [c[0] for c in cases]
        look = {"color": STYLES[locations], "ls": "-" if gradient else "--", "marker": "o"}
        label = f"{locations}, {'' if gradient else 'no '}gradients"
        left.plot(n, [max(r["fit"]["tv"] for r in found[c]) for c in cases], label=label, **look)
        right.plot(n, [max(r["evals"] for r in found[c]) for c in cases], **look)
    left.set(ylabel="total variation of the weights")
    right.set(ylabel="density evaluations of the fit")
    right.axhline(common_lrds.PUBLISHED_EVALS, color="black", lw=1)
    right.text(4, 0.8 * common_lrds.PUBLISHED_EVALS, "training in the paper", va="top")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="number of modes")
        ax.set_xticks(NUMBERS, map(str, NUMBERS))
        ax.minorticks_off()
    left.legend(frameon=False)
    common.save(figure, stem)


def main() -> None:
    options = common_lrds.options(__doc__, __file__, seeds=1)
    records, found = common.Records(options.out), {}
    for n in NUMBERS[:2] if options.quick else NUMBERS:
        for locations, gradient in VARIANTS:
            found[n, locations, gradient] = [
                records.get(
                    f"{n} {locations} {gradient} {seed}",
                    lambda a=(n, locations, gradient, seed): measure(*a, options.quick),
                )
                for seed in range(1, options.seeds + 1)
            ]
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
