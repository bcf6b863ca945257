"""What a learned control gains over its reference (arXiv 2410.19449, second stage of LRDS).

Exact local draws give the reference; the control is trained with the target's log density. The
effective share of weighted paths is taken from 40,000 proposals of each, because a few huge ratios
make it uncertain. The second table compares losses and numbers of steps. Run it with::

    python examples/papers/lrds_control.py          # one seed; --seed for others
"""

import common
import numpy as np
import reference_draws as shared

MAIN = ("skew_normal_mixture_20", "two_bananas_10", "five_bananas")
VARIANTS = {
    "log-variance": {"loss": "log-variance"},
    "kl": {"loss": "kl"},
    "stepwise, 4 steps": {"steps": 4},
    "stepwise, 16 steps": {"steps": 16},
}
TUNED = "skew_normal_mixture_20"


def study(name: str, seed: int, quick: bool, changes: dict) -> dict:
    """Learn and judge the reference and the control on one target."""
    from pymc_multimodal import LRDS, ControlNetwork
    from pymc_multimodal.gallery import TARGETS

    steps = {"regression_steps": 100, "steps": 20} if quick else {}
    config = LRDS(network=ControlNetwork(min_acceptance=2.0, **steps), **changes)
    learned = shared.learn(TARGETS[name](), config, seed, draws=2000 if quick else 16_000)
    plain = shared.learn(TARGETS[name](), LRDS(train=False), seed, draws=2000 if quick else 16_000)
    rng = np.random.default_rng([seed, 5])
    n = 2000 if quick else 2 * shared.PROPOSALS
    training = learned.generator.training
    found = {"seconds": training.seconds, "evals": training.evaluations, "kept": training.kept}
    for key, one in (("reference", plain), ("control", learned)):
        _, log_ratio = shared.proposals(one, n, rng)
        elbo, eubo = shared.bounds(one, log_ratio, n // 4, rng)
        found[key] = {
            "ess": shared.ess(log_ratio),
            "elbo": elbo,
            "eubo": eubo,
            "log_z": shared.log_evidence_error(one, log_ratio),
            "components": one.generator.chain.reference.n_components,
        }
    return found


def report(records: dict) -> str:
    rows = []
    for name, r in records.items():
        before, after = r["reference"], r["control"]
        rows.append({
            "target": name,
            "components": f"{before['components']}, {after['components']}",
            "path ESS before": f"{before['ess']:.3f}",
            "after": f"{after['ess']:.3f}",
            "factor": f"{after['ess'] / before['ess']:.1f}",
            "ELBO before": f"{before['elbo']:.2f}",
            "after ": f"{after['elbo']:.2f}",
            "EUBO before": f"{before['eubo']:.2f}",
            "after  ": f"{after['eubo']:.2f}",
            "evaluations": f"{r['evals']:,}",
            "seconds": f"{r['seconds']:.0f}",
            "kept": "yes" if r["kept"] else "no",
        })  # fmt: skip
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    figure, axes = common.figure(1, 1, (9, 4))
    place = np.arange(len(records))
    for j, key in enumerate(("reference", "control")):
        ess = [r[key]["ess"] for r in records.values()]
        axes[0, 0].bar(place + 0.4 * (j - 0.5), ess, width=0.4, color=f"C{j}", label=key)
    axes[0, 0].set_xticks(place, [n.replace(", ", ",\n") for n in records], rotation=30, ha="right")
    axes[0, 0].set(ylabel="path ESS / n")
    axes[0, 0].legend(frameon=False)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)

    def get(label: str, name: str, changes: dict) -> dict:
        return records.get(
            f"{label}, seed {options.seed}",
            lambda: study(name, options.seed, options.quick, changes),
        )

    targets = {name: get(name, name, {}) for name in (MAIN[:1] if options.quick else MAIN)}
    chosen = dict(list(VARIANTS.items())[:1]) if options.quick else VARIANTS
    variants = {v: get(v, TUNED, changes) for v, changes in chosen.items()}
    print(report(targets) + f"\n\n{TUNED}:\n" + report(variants))
    draw(targets | variants, options.stem)


if __name__ == "__main__":
    main()
