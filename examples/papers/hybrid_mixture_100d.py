"""A Gaussian mixture in 100 dimensions, and its bridge sampling (arXiv 2505.07825, Table 2).

The paper compares the mode proportions of a 100-dimensional mixture by its hybrid sampler with
those by NUTS and emcee. Here, for five full-covariance Gaussians, the weights by the corrected
sampler stand beside NUTS, emcee, ``pm.sample_smc`` and the truth. Two panels look into the bridge
(Eqs. 20-21): how it converges by iteration, and how far its log evidence is off, beside the
standard error it states, when the proposal's covariance is inflated or shrunk by a factor. Mean
and covariance of that proposal are fitted to half of a mode's local chains; the bridge is on the
other half. Run it with::

    python examples/papers/hybrid_mixture_100d.py
"""

import common
import numpy as np
from common import EMCEE, EXACT, NUTS, OURS, SMC, Outcome

METHODS = (EXACT, OURS, NUTS, EMCEE, SMC)
FACTORS = (0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


def rivals(target, density, seed: int, quick: bool):
    rng = np.random.default_rng([seed, 2])
    yield EXACT, Outcome(target.draws(8000, rng), 0, 0.0, "8,000 draws")
    size = (50, 100) if quick else (300, 300)
    yield NUTS, common.run_nuts(target.model, seed=seed, draws=size[0], tune=size[1])
    start = common.walkers(density, 256, rng)
    steps = 200 if quick else 4000
    yield EMCEE, common.run_emcee(target.log_density, start, seed=seed, steps=steps)
    yield SMC, common.run_smc(target.model, seed=seed, draws=200 if quick else 1000)


def compare(seed: int, quick: bool) -> dict:
    """All methods, and the two studies of the bridge, from one fit."""
    from pymc_multimodal.gallery import TARGETS
    from pymc_multimodal.model.build import density_of

    target = TARGETS["gaussian_mixture_100d"]()
    density = density_of(target.model)
    rng = np.random.default_rng([seed, 3])
    precision = 0.01 if quick else 0.001
    fit, ours = common.run_ours(
        density, target_se=precision, seed=seed, draws=500 if quick else 2000
    )
    found = {
        "truth": target.weights,
        "fit": common.fit_record(fit, target, ours, 100_000, rng),
        OURS: common.method_record(target, ours, 0, rng),
        "iterations": [list(t) for t in fit.weights.iterations],
        "log_evidence_se": fit.weights.log_evidence_se,
        "factors": study_factors(fit, density, target, rng, repeats=5 if quick else 30),
    }
    for name, outcome in rivals(target, density, seed, quick):
        found[name] = common.method_record(target, outcome, 0, rng)
    return found


def study_factors(fit, density, target, rng, repeats: int, m: int = 2000) -> list[dict]:
    """Bridge the heaviest mode with inflated and shrunk proposals, many times each."""
    truth = np.log(target.weights[0])
    found = []
    for factor in FACTORS:
        runs = [one_bridge(fit, density, factor, m, rng) for _ in range(repeats)]
        error = np.array([r.log_evidence - truth for r in runs])
        se = np.sqrt([r.from_draws + r.from_proposals for r in runs])
        found.append({
            "factor": factor,
            "error": np.nan_to_num(error, neginf=-1e9),
            "se": np.nan_to_num(se, posinf=1e9),
            "iterations": runs[0].iterations,
        })  # fmt: skip
    return found


def one_bridge(fit, density, factor: float, m: int, rng: np.random.Generator):
    """Bridge on half of region 0's chains; the proposal is fitted to the other half."""
    from pymc_multimodal.evidence import bridge

    x, logp = fit.draws.x[0], fit.draws.logp[0]
    order = rng.permutation(len(x))
    own, held_out = order[: len(x) // 2], order[len(x) // 2 :]
    pool = x[own].reshape(-1, x.shape[-1])
    mean, root = pool.mean(axis=0), np.linalg.cholesky(factor * np.cov(pool.T))
    inverse, log_det = np.linalg.inv(root), np.log(np.diag(root)).sum()

    def log_q(points: np.ndarray) -> np.ndarray:
        z = (points - mean) @ inverse.T
        return -0.5 * (z**2).sum(axis=-1) - log_det - 0.5 * len(mean) * np.log(2 * np.pi)

    proposed = mean + rng.standard_normal((m, len(mean))) @ root.T
    inside = fit.label(proposed) == 0
    ratios = np.full(m, -np.inf)
    ratios[inside] = density.logp(proposed[inside]) - log_q(proposed[inside])
    draws = logp[held_out] - log_q(x[held_out])
    effective = draws.size * min(1.0, fit.draws.ess[0] / logp.size)
    return bridge(draws, ratios, effective)


def report(r: dict) -> str:
    rows = [{"method": "truth", "weights": common.show(r["truth"])}]
    for method in METHODS:
        rows.append(common.method_row(method, r[method]))
        if method == OURS:
            rows.append(common.fit_row(r["fit"]))
    bridges = []
    for f in r["factors"]:
        error, se = np.array(f["error"]), np.array(f["se"])
        bridges.append({
            "variance factor": f["factor"],
            "mean error": number(error.mean()),
            "rms error": number(np.sqrt(np.mean(error**2))),
            "se stated (median)": number(np.median(se)),
            "rms z": number(np.sqrt(np.mean((error / se) ** 2))),
        })  # fmt: skip
    return common.table(rows) + "\n\n" + common.table(bridges)


def number(value: float) -> str:
    return "no overlap" if abs(value) > 1e6 else f"{value:.3f}"


def draw(r: dict, stem: str) -> None:
    """Weights by method, the bridge by iteration, and its error over the variance factor."""
    figure, ((left, middle, right),) = common.figure(1, 3, (16, 4.8))
    draw_weights(left, r)
    draw_convergence(middle, r)
    factor = np.array([f["factor"] for f in r["factors"]])
    error = np.array([f["error"] for f in r["factors"]])
    se = np.median([f["se"] for f in r["factors"]], axis=1)
    rms = np.sqrt(np.mean(error**2, axis=1))
    right.plot(factor, np.where(rms < 1e6, rms, np.nan), "o-", label="rms error")
    right.plot(factor, np.where(se < 1e6, se, np.nan), "s--", label="standard error stated")
    right.set(
        xscale="log", yscale="log", xlabel="factor on the proposal's covariance",
        ylabel="log evidence of the heaviest mode (nats)", title="Error of the bridge",
    )  # fmt: skip
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    right.set_xticks(ticks, [f"{t:g}" for t in ticks])
    right.minorticks_off()
    right.legend(frameon=False)
    common.save(figure, stem)


def draw_convergence(ax, r: dict) -> None:
    """Distance of each iterate from the last, for the fit's proposals and for worse ones."""
    for k, trace in enumerate(r["iterations"]):
        error = trace[-1] - np.log(r["fit"]["truth"][k])
        label = f"mode {k}: {error:+.4f} ± {r['log_evidence_se'][k]:.4f} from the truth"
        ax.plot(np.abs(np.array(trace[:-1]) - trace[-1]), "o-", ms=4, label=label)
    for factor, line in ((0.5, "--"), (2.0, ":")):
        trace = next(f["iterations"] for f in r["factors"] if f["factor"] == factor)
        gap = np.abs(np.array(trace[:-1]) - trace[-1])
        ax.plot(gap, color="0.4", ls=line, label=f"mode 0, covariance × {factor:g}")
    ax.set(
        yscale="log", xscale="symlog", xlabel="iteration of the bridge",
        title="Convergence of the bridge", ylabel="|log evidence − last iterate| (nats)",
    )  # fmt: skip
    ticks = [0, 1, 2, 5, 10, 20]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_ylim(1e-13, 1e9)  # room for the legend
    ax.legend(frameon=False, fontsize=8)


def draw_weights(ax, r: dict) -> None:
    place = np.arange(len(r["truth"]))
    shown = METHODS[1:]
    for j, method in enumerate(shown):
        ax.bar(
            place + 0.2 * (j - 1.5), r[method]["weights"], width=0.2,
            color=common.COLOURS[method], label=method,
        )  # fmt: skip
    for k, w in enumerate(r["truth"]):
        ax.hlines(w, k - 0.42, k + 0.42, color="black", lw=1.5, label="" if k else "truth")
    ax.set_xticks(place, [f"mode {k}" for k in place])
    tallest = max(max(r[method]["weights"]) for method in shown)
    ax.set(ylabel="weight of the draws", title="Weights", ylim=(0, 1.3 * tallest))
    ax.legend(frameon=False, ncols=2)


def main() -> None:
    common.compare_once(__doc__, __file__, compare, report, draw)


if __name__ == "__main__":
    main()
