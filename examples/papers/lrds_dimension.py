"""Mixture against energy-based reference as the dimension grows (arXiv 2410.19449, question 1).

Skewed modes (``skew_normal_mixture``) and curved ones (``two_bananas``) of 2 to 32 dimensions; the
references are learned from exact local draws, without and with a control. Run it with::

    python examples/papers/lrds_dimension.py
"""

import time

import common
import numpy as np
import reference_draws as shared

DIMENSIONS = {"skewed": (2, 8, 32), "curved": (4, 32)}
METHODS = ("mixture", "mixture, control", "energy-based")


def study(kind: str, dim: int, seed: int, quick: bool) -> dict:
    """All methods in one dimension."""
    from pymc_multimodal.gallery import skew_normal_mixture, two_bananas

    target = skew_normal_mixture(dim) if kind == "skewed" else two_bananas(dim)
    n = 1000 if quick else shared.PROPOSALS
    found = {}
    for name, config in shared.three_references(quick, 800, 300).items():
        began = time.monotonic()
        learned = shared.learn(target, config, seed, draws=1000 if quick else 8000)
        seconds = time.monotonic() - began
        rng = np.random.default_rng([seed, 8])
        x, log_ratio = shared.proposals(learned, n, rng)
        elbo, eubo = shared.bounds(learned, log_ratio, n // 4, rng)
        found[name] = {
            "ess": shared.ess(log_ratio),
            "elbo": elbo,
            "eubo": eubo,
            "ks": shared.sliced_ks(x, target.draws(n, rng), rng),
            "weights": shared.variation(common.component_shares(target, x), target.weights),
            "seconds": seconds,
        }
    return found


def report(records: dict) -> str:
    rows = []
    for (kind, dim), r in records.items():
        for method in METHODS:
            m = r[method]
            first = method == METHODS[0]
            rows.append({
                "modes": kind if first else "",
                "dimension": dim if first else "",
                "reference": method,
                "path ESS": f"{m['ess']:.3f}",
                "ELBO": f"{m['elbo']:.2f}",
                "EUBO": f"{m['eubo']:.2f}",
                "sliced KS": f"{m['ks']:.4f}",
                "TV of weights": f"{m['weights']:.4f}",
                "seconds": f"{m['seconds']:.0f}",
            })  # fmt: skip
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    figure, axes = common.figure(1, 2, (10, 4))
    for ax, key in zip(axes[0], ("ess", "ks"), strict=True):
        for kind, line in (("skewed", "-"), ("curved", "--")):
            chosen = {d: r for (k, d), r in records.items() if k == kind}
            for j, method in enumerate(METHODS):
                values = [r[method][key] for r in chosen.values()]
                ax.plot(
                    list(chosen), values, f"C{j}o{line}", label=f"{kind}: {method}", ms=4
                )  # fmt: skip
        ax.set(xlabel="dimension", ylabel={"ess": "path ESS / n"}.get(key, "sliced KS"))
        ax.set(xscale="log", yscale="log")
    axes[0, 0].legend(frameon=False, fontsize=7)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    found = {}
    for kind, dimensions in DIMENSIONS.items():
        for dim in dimensions[:1] if options.quick else dimensions:
            found[kind, dim] = records.get(
                f"{kind}, {dim}, seed {options.seed}",
                lambda kind=kind, dim=dim: study(kind, dim, options.seed, options.quick),
            )
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
