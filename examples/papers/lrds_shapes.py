"""Rings and Checkerboard of arXiv 2410.19449: components or an energy-based model.

From exact local draws, references of 1 to 64 components and an energy-based one are learned
without a control; masses of rings and squares are taken from uncorrected and from weighted draws.
The held-out log likelihood, which needs no target, is set beside the path ESS: whether it can
choose the number of components is the paper's second open question. With ``--pipeline N`` the whole
pipeline is run on the rings with N seeds as well. Run it with::

    python examples/papers/lrds_shapes.py --pipeline 5
"""

import time

import common
import numpy as np
import reference_draws as shared

COMPONENTS = (1, 4, 8, 16, 32, 64)
TARGETS = ("rings", "checkerboard")


def references(quick: bool) -> dict:
    from pymc_multimodal import LRDS, EnergyNetwork

    found = {
        f"mixture of {j}": LRDS(components=j, train=False)
        for j in (COMPONENTS[:2] if quick else COMPONENTS)
    }
    energy = EnergyNetwork(steps=20 if quick else 1000)
    return found | {
        "mixture, size chosen": LRDS(train=False),
        "energy-based on 16": LRDS(reference="ebm", components=16, train=False, energy=energy),
    }


def study(name: str, config, seed: int, quick: bool) -> dict:
    """One reference on one target."""
    from pymc_multimodal.gallery import TARGETS as gallery

    target = gallery[name]()
    began = time.monotonic()
    learned = shared.learn(target, config, seed, draws=1000 if quick else 4000)
    seconds = time.monotonic() - began
    rng = np.random.default_rng([seed, 6])
    n = 2000 if quick else 2 * shared.PROPOSALS
    x, log_ratio = shared.proposals(learned, n, rng)
    points, weight = shared.corrected(learned, n, rng)
    fresh = target.draws(n // 4, rng)
    logp = learned.density.logp(fresh)
    # The log likelihood of fresh draws; for chains without a density, its lower bound by paths.
    likelihood = np.mean(learned.generator.chain.log_density(fresh, rng))
    return {
        "components": learned.generator.chain.reference.n_components,
        "likelihood": float(likelihood),
        "entropy": float(-np.mean(logp)),
        "uncorrected": shared.variation(common.component_shares(target, x), target.weights),
        "corrected": shared.variation(weight @ target.membership(points), target.weights),
        "ess": shared.ess(log_ratio),
        "ks": shared.sliced_ks(x, target.draws(n, rng), rng),
        "seconds": seconds,
        "points": np.round(x[:1500], 3),
    }


def pipeline(reference: str, seed: int) -> dict:
    """Run the whole pipeline on the rings."""
    from pymc_multimodal import LRDS
    from pymc_multimodal.fit import FitConfig
    from pymc_multimodal.gallery import TARGETS as gallery

    target = gallery["rings"]()
    density = shared.density_of(target, gradient=True)
    config = FitConfig(generator=LRDS(reference=reference), target_se=0.01, random_seed=seed)
    fit, ours = common.run_ours(density, target_se=0.01, seed=seed, config=config, draws=1000)
    rng = np.random.default_rng([seed, 7])
    return {
        "uncorrected": shared.variation(
            common.component_shares(target, fit.generate(20_000, rng)), target.weights
        ),
        "corrected": shared.variation(common.component_shares(target, ours.x), target.weights),
        "modes": fit.n_modes,
        "acceptance": ours.extra["acceptance"],
        "log_z_error": fit.weights.total - target.log_z,
        "log_z_se": fit.weights.total_se,
        "evals": fit.n_logp_evals,
        "seconds": ours.seconds,
        "statuses": ours.extra["statuses"],
    }


def report(records: dict, whole: dict) -> str:
    rows = []
    for (name, reference), r in records.items():
        rows.append({
            "target": name,
            "reference": reference,
            "components": r["components"],
            "held-out log likelihood": f"{r['likelihood']:.3f}",
            "below the best possible": f"{-r['entropy'] - r['likelihood']:.3f}",
            "path ESS": f"{r['ess']:.3f}",
            "TV, uncorrected": f"{r['uncorrected']:.4f}",
            "TV, weighted": f"{r['corrected']:.4f}",
            "sliced KS": f"{r['ks']:.4f}",
            "seconds": f"{r['seconds']:.0f}",
        })  # fmt: skip
    text = common.table(rows)
    if not whole:
        return text
    runs = [
        {
            "pipeline on rings": name,
            "regions": r["modes"],
            "TV, uncorrected": f"{r['uncorrected']:.4f}",
            "TV, corrected": f"{r['corrected']:.4f}",
            "acceptance": f"{r['acceptance']:.2f}",
            "log Z off": f"{r['log_z_error']:.4f} (se {r['log_z_se']:.4f})",
            "evaluations": f"{r['evals']:,}",
            "seconds": f"{r['seconds']:.0f}",
            "warnings": ", ".join(r["statuses"]),
        }
        for name, r in whole.items()
    ]
    return text + "\n\n" + common.table(runs)


def draw(records: dict, stem: str) -> None:
    names = list(dict.fromkeys(name for name, _ in records))
    references = list(dict.fromkeys(reference for _, reference in records))[1:]
    figure, axes = common.figure(len(names), len(references), (2.2 * len(references), 4.6))
    for row, name in zip(axes, names, strict=True):
        for ax, reference in zip(row, references, strict=True):
            r = records[name, reference]
            ax.plot(*np.array(r["points"]).T, ".", ms=1, color="C0", alpha=0.6)
            ax.set(xlim=(-6, 6), ylim=(-6, 6), xticks=[], yticks=[], aspect="equal")
            ax.set_title(f"{reference}\nESS {r['ess']:.2f}", fontsize=8)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(
        __doc__, __file__,
        pipeline={"type": int, "default": 0, "help": "whole fits of the rings, one for each seed"},
    )  # fmt: skip
    repeats = options.pipeline
    records = common.Records(options.out)
    found = {}
    for name in TARGETS:
        for reference, config in references(options.quick).items():
            found[name, reference] = records.get(
                f"{name}, {reference}, seed {options.seed}",
                lambda name=name, config=config: study(name, config, options.seed, options.quick),
            )
    whole = {
        f"{reference}, seed {seed}": records.get(
            f"pipeline, {reference}, seed {seed}",
            lambda reference=reference, seed=seed: pipeline(reference, seed),
        )
        for reference in ("gmm", "ebm")
        for seed in range(1, repeats + 1)
    }
    print(report(found, whole))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
