"""Two-dimensional Gaussian mixtures at three separations (arXiv 2505.07825, Figure 3).

The paper draws from mixtures whose modes are well apart, weakly connected and overlapping, and
shows that its hybrid sampler puts the right share into each mode where chains do not. Here the
same three cases are drawn by the corrected sampler, by its fitted generator without correction
(the paper's way), by four chains of NUTS, by emcee and by ``pm.sample_smc``, beside exact draws.
The table gives the largest error of a component's weight, taken from each draw's membership
probabilities, which is unbiased even where components overlap. Run it with::

    python examples/papers/hybrid_mixture_2d.py
"""

import time

import common
import numpy as np
from common import EMCEE, EXACT, NUTS, OURS, SMC, UNCORRECTED, Outcome

SEPARATIONS = {"well": "well apart", "weak": "weakly connected", "overlap": "overlapping"}
COLUMNS = (EXACT, OURS, UNCORRECTED, NUTS, EMCEE, SMC)


def outcomes(target, density, seed: int, quick: bool):
    """Yield the name, the outcome and, for ours, the fit of each method in turn."""
    rng = np.random.default_rng([seed, 2, len(target.name)])
    draws = 500 if quick else 2000
    yield EXACT, Outcome(target.draws(4 * draws, rng), 0, 0.0, f"{4 * draws:,} draws"), None
    fit, ours = common.run_ours(density, target_se=0.01 if quick else 0.003, seed=seed, draws=draws)
    yield OURS, ours, fit
    began = time.monotonic()
    x = fit.generate(4 * draws, rng)
    settings = f"the same fit, {4 * draws:,} draws"
    yield UNCORRECTED, Outcome(x, 0, time.monotonic() - began, settings), None
    yield NUTS, common.run_nuts(target.model, seed=seed, draws=draws // 2, tune=draws // 4), None
    start = common.walkers(density, 64, rng)
    steps = 400 if quick else 2000
    yield EMCEE, common.run_emcee(target.log_density, start, seed=seed, steps=steps), None
    yield SMC, common.run_smc(target.model, seed=seed, draws=draws // 2), None


def compare(separation: str, seed: int, quick: bool) -> dict:
    from pymc_multimodal.gallery import TARGETS
    from pymc_multimodal.model.build import density_of

    target = TARGETS[f"mixture_2d_{separation}"]()
    density = density_of(target.model)
    rng = np.random.default_rng([seed, 3])
    found = {"truth": target.weights}
    for name, outcome, fit in outcomes(target, density, seed, quick):
        found[name] = common.method_record(target, outcome, 800, rng)
        found[name]["component"] = target.membership(found[name]["points"]).argmax(axis=1)
        if fit is not None:
            found["fit"] = common.fit_record(fit, target, outcome, 500_000, rng)
    return found


def report(results: dict[str, dict]) -> str:
    rows = []
    for separation, r in results.items():
        rows.append(
            {"separation": separation, "method": "truth", "weights": common.show(r["truth"])}
        )
        for method in COLUMNS:
            rows.append({"separation": separation, **common.method_row(method, r[method])})
            if method == OURS:
                rows.append({"separation": separation, **common.fit_row(r["fit"])})
    return common.table(rows)


def draw(results: dict[str, dict], stem: str) -> None:
    """Rows are separations, columns methods; colours are components."""
    figure, axes = common.figure(len(results), len(COLUMNS), (15, 7.8), sharex="row", sharey="row")
    for row, (separation, r) in zip(axes, results.items(), strict=True):
        exact = np.array(r[EXACT]["points"])
        low, high = exact.min(axis=0) - 0.5, exact.max(axis=0) + 0.5
        for ax, method in zip(row, COLUMNS, strict=True):
            points, component = np.array(r[method]["points"]), np.array(r[method]["component"])
            for k, colour in enumerate(("C0", "C1", "C2", "C3")):
                ax.plot(*points[component == k].T, ".", ms=2.5, alpha=0.6, color=colour)
            error = "" if method == EXACT else f"\nlargest weight error {r[method]['error']:.3f}"
            ax.set_title(method + error, fontsize=10)
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            ax.tick_params(labelsize=8)
        row[0].set_ylabel(f"{SEPARATIONS[separation]}\n$x_2$")
    for ax in axes[-1]:
        ax.set_xlabel("$x_1$")
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    results = {}
    for separation in SEPARATIONS:
        results[separation] = records.get(
            f"{separation}, seed {options.seed}",
            lambda s=separation: compare(s, options.seed, options.quick),
        )
    print(report(results))
    draw(results, options.stem)


if __name__ == "__main__":
    main()
