"""How close modes may come: a 10-dimensional mixture over a grid of overlaps.

arXiv 2505.07825 cuts the space with a classifier and shows two-dimensional mixtures at three
separations, but not how the cut fares in more dimensions as modes merge. Here three anisotropic
Gaussians in ten dimensions, weights 0.5, 0.3 and 0.2, are moved together. Distance is that of the
closest two means in units of the mean standard deviation along the line that joins them. For each
distance and seed: the number of regions found, how often an exact draw lies in the region of the
component that most likely made it, the share of local moves rejected for leaving their region, the
error of the regions' weights beside the standard error stated, the acceptance of jumps, and whether
corrected and uncorrected draws pass a two-sample test against exact ones. Run it with::

    python examples/papers/hybrid_overlap.py
"""

from itertools import combinations

import common
import numpy as np
from common import OURS, UNCORRECTED

DIM = 10
WEIGHTS = np.array([0.5, 0.3, 0.2])
DISTANCES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


def mixture(distance: float):
    """Gallery target: three Gaussians whose closest means are `distance` spreads apart."""
    from pymc_multimodal.gallery.gaussian import gaussian_mixture

    rng = np.random.default_rng(10)
    turns = np.linalg.qr(rng.standard_normal((3, DIM, DIM)))[0]
    covariances = (turns * np.geomspace(0.2, 3.0, DIM)) @ turns.swapaxes(1, 2)
    means = rng.standard_normal((3, DIM))
    gaps = []
    for a, b in combinations(range(3), 2):
        line = means[a] - means[b]
        direction = line / np.linalg.norm(line)
        spread = direction @ (covariances[a] + covariances[b]) @ direction / 2
        gaps.append(np.linalg.norm(line) / np.sqrt(spread))
    means *= distance / min(gaps)
    return gaussian_mixture(
        f"three_modes_{distance:g}", WEIGHTS, means, covariances, scale=5.0,
        note="exact: Gaussian mixture",
    )  # fmt: skip


def classifier_accuracy(fit, target, rng: np.random.Generator, n: int = 50_000) -> dict:
    """How often a draw lies in the region of its likeliest component, which is rarely wrong.

    A component's region is the one that holds most of it; two that were joined share theirs.
    """
    x = target.draws(n, rng)
    membership = target.membership(x)
    best, label = membership.argmax(axis=1), fit.label(x)
    counts = np.zeros((len(WEIGHTS), fit.n_modes))
    np.add.at(counts, (best, label), 1)
    home = counts.argmax(axis=1)
    found = {"bayes": float(membership.max(axis=1).mean())}
    if fit.n_modes > 1:
        found["agreement"] = float(np.mean(home[best] == label))
    return found


def study(distance: float, seed: int, quick: bool) -> dict:
    from pymc_multimodal.model.build import density_of

    target = mixture(distance)
    density = density_of(target.model)
    rng = np.random.default_rng([seed, 3])
    fit, ours = common.run_ours(
        density, target_se=0.01 if quick else 0.003, seed=seed, draws=300 if quick else 1000
    )
    size = 300 if quick else 1000
    # Chains of their own, thinned until draws are independent as the test wants them.
    corrected, acceptance = common.corrected_draws(density, fit, size // 50, 50, rng, 12, skip=2)
    exact = target.draws(size, rng)
    white = common.whitener(target.draws(50_000, rng))
    samples = {OURS: corrected.reshape(-1, DIM), UNCORRECTED: fit.generate(size, rng)}
    p = {m: common.permutation_p_value(white(exact), white(x), rng) for m, x in samples.items()}
    record = common.fit_record(fit, target, ours, 100_000 if quick else 400_000, rng)
    shares = common.component_shares(target, ours.x)
    return record | {
        "distance": distance,
        "seed": seed,
        "evals": ours.evals,
        "crossings": float(fit.chains.crossings.max()),
        "acceptance": acceptance,
        "component_error": float(np.abs(shares - WEIGHTS).max()),
        "p": p,
        **classifier_accuracy(fit, target, rng),
    }


def by_distance(records: list[dict]) -> dict[float, list[dict]]:
    groups: dict[float, list[dict]] = {}
    for r in records:
        groups.setdefault(r["distance"], []).append(r)
    return dict(sorted(groups.items()))


def report(records: list[dict]) -> str:
    rows = []
    for distance, group in by_distance(records).items():

        def several(of, form=".3f", group=group):
            return " ".join(format(of(r), form) for r in group)

        rows.append({
            "distance": f"{distance:g}",
            "regions": several(lambda r: r["modes"], "d"),
            "agreement": several(lambda r: r.get("agreement", np.nan)),
            "best cut right": several(lambda r: r["bayes"]),
            "crossings": several(lambda r: r["crossings"]),
            "weight error": several(lambda r: r["region_error"], ".4f"),
            "se": several(lambda r: max(r["weight_se"]), ".4f"),
            "z": several(lambda r: r["largest_z"], ".1f"),
            "error of draws' components": several(lambda r: r["component_error"]),
            "log Z z": several(lambda r: r["log_z_error"] / r["log_z_se"], ".1f"),
            "acceptance": several(lambda r: r["acceptance"], ".2f"),
            "p corrected": several(lambda r: r["p"][OURS]),
            "p uncorrected": several(lambda r: r["p"][UNCORRECTED]),
            "evaluations": several(lambda r: r["evals"], ",d"),
            "flags": " / ".join(",".join(r["statuses"]) or "none" for r in group),
        })  # fmt: skip
    return common.table(rows)


def draw(records: list[dict], stem: str) -> None:
    figure, axes = common.figure(2, 3, (14, 7.5), sharex=True)
    d = np.array([r["distance"] for r in records])
    # Seeds side by side, so that none hides another.
    seeds = sorted({r["seed"] for r in records})
    x = d * (1 + 0.012 * (np.array([seeds.index(r["seed"]) for r in records]) - 1))

    def values(of):
        return np.array([of(r) for r in records], dtype=float)

    ax = axes[0, 0]
    ax.plot(x, values(lambda r: r["modes"]), "o", color="C0")
    ax.set(ylabel="regions found", ylim=(0.5, 3.5), yticks=[1, 2, 3])
    ax = axes[0, 1]
    ax.plot(x, values(lambda r: r.get("agreement", np.nan)), "o", color="C0",
            label="in the region of the likeliest component")  # fmt: skip
    grouped = by_distance(records)
    ax.plot(list(grouped), [g[0]["bayes"] for g in grouped.values()], "-", color="0.5",
            label="likeliest component made the draw")  # fmt: skip
    ax.set(ylabel="share of exact draws", ylim=(None, 1.01))
    ax.legend(frameon=False, fontsize=9)
    ax = axes[0, 2]
    ax.plot(x, values(lambda r: r["crossings"]), "o", color="C0")
    ax.set(ylabel="local moves rejected for crossing", ylim=(-0.005, None))
    ax = axes[1, 0]
    ax.plot(x, values(lambda r: r["region_error"] if r["modes"] > 1 else np.nan), "o", color="C0",
            label="largest error of a weight")  # fmt: skip
    ax.plot(x, values(lambda r: max(r["weight_se"]) if r["modes"] > 1 else np.nan), "_", ms=12,
            mew=2, color="black", label="standard error stated")  # fmt: skip
    ax.set(ylabel="weights of regions", ylim=(0, None))
    ax.legend(frameon=False, fontsize=9)
    ax = axes[1, 1]
    ax.plot(x, values(lambda r: r["acceptance"]), "o", color="C0")
    ax.set(ylabel="acceptance of jumps", ylim=(0, 1.02))
    ax = axes[1, 2]
    for name, mark in ((OURS, "o"), (UNCORRECTED, "x")):
        ax.plot(x, values(lambda r, name=name: r["p"][name]), mark, color=common.COLOURS[name],
                label=name)  # fmt: skip
    ax.axhline(0.05, color="0.5", lw=0.8)
    ax.set(yscale="log", ylabel="p-value against exact draws", ylim=(0.003, 4))
    ax.legend(frameon=False, fontsize=9, ncols=2)
    ticks = [1, 1.5, 2, 3, 4, 5, 6, 8]
    for ax in axes[1]:
        ax.set(xscale="log", xlabel="distance of the closest modes (spreads)")
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    distances = (1.5, 3.0, 6.0) if options.quick else DISTANCES
    seeds = range(options.seed, options.seed + (1 if options.quick else 3))
    results = [
        records.get(f"distance {d:g}, seed {s}", lambda d=d, s=s: study(d, s, options.quick))
        for d in distances
        for s in seeds
    ]
    print(report(results))
    draw(results, options.stem)


if __name__ == "__main__":
    main()
