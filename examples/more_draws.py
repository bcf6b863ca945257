"""Fifty thousand draws from five hundred stored posterior draws, and a warm start on new data.

A dial reads the size of a force but not its direction, so the posterior of the force has two
modes. The prior makes one of them likelier. The model is sampled once, exactly, and 500 draws are
stored. `ScoreLangevin.from_draws` learns their score and runs short Langevin paths from them. The
modes keep the shares that the 500 draws have, and the draws within modes are refreshed. Then more
readings are added. If the new fit begins from the old one, 30 draws of the new posterior are
enough. Many exact draws show how good both results are. Run it with::

    python examples/more_draws.py
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm

import pymc_multimodal as mm

OUTPUT = Path(__file__).parent / "output"
FEW, MANY, UPDATE = 500, 50_000, 30
READINGS = np.random.default_rng(4).normal(2.0, 0.5, 8)


def build_model(readings: np.ndarray) -> pm.Model:
    """Model of a force; the readings have its size only."""
    with pm.Model() as model:
        force = pm.Normal("force", 0.25, 2.0)
        noise = pm.HalfNormal("noise", 1.0)
        pm.Normal("reading", pm.math.abs(force), noise, observed=readings)
    return model


def sample(readings: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    """Exact posterior draws by name, shape (4 * draws,)."""
    with build_model(readings):
        fit = mm.fit(target_se=0.01, random_seed=1, progressbar=False)
        idata = mm.sample(draws=draws, chains=4, fit=fit, random_seed=2, progressbar=False)
    return {name: idata["posterior"][name].values.ravel() for name in ("force", "noise")}


def thin(draws: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Keep n evenly spaced, nearly independent draws."""
    keep = np.linspace(0, len(draws["noise"]) - 1, n).astype(int)
    return {name: value[keep] for name, value in draws.items()}


def summary(draws: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the likelier mode, and spread within it."""
    force, noise = draws["force"], draws["noise"]
    up = force > 0
    return {
        "draws": len(noise),
        "P(force > 0)": up.mean(),
        "its sd": force[up].std(),
        "5 %": np.quantile(force[up], 0.05),
        "95 %": np.quantile(force[up], 0.95),
        "noise, mean": noise.mean(),
        "noise, 95 %": np.quantile(noise, 0.95),
    }


def score_error(generator: mm.ScoreGenerator, readings: np.ndarray, draws: dict) -> float:
    """Squared error of the learned score at exact draws, relative to the exact score's size.

    Both are taken in the coordinates in which the score was learned.
    """
    from pymc_multimodal.model.build import density_of

    x = np.column_stack([draws["force"], np.log(draws["noise"])])
    exact = density_of(build_model(readings)).logp_and_grad(x)[1]
    basis = generator.coordinates.basis
    miss = (generator.score(x) - exact) @ basis
    return float(np.sum(miss**2) / np.sum((exact @ basis) ** 2))


def draw_picture(exact: dict, stored: dict, made: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    shown = (("stored", stored, "0.35"), ("generated", made, "C0"), ("exact", exact, "C1"))
    for axis, (name, draws, colour) in zip(axes, shown, strict=False):
        x = np.column_stack([draws["force"], draws["noise"]])[
            :: max(1, len(draws["noise"]) // 2000)
        ]
        axis.plot(*x.T, ".", ms=2.5, alpha=0.5, color=colour)
        axis.set(title=f"{len(draws['noise']):,} {name} draws", xlabel="force", ylabel="noise")
        axis.set(xlim=(-3.2, 3.2), ylim=(0.2, 1.6))
    bins = np.linspace(-3, 3, 80)
    for name, draws, colour in shown:
        axes[3].hist(draws["force"], bins, density=True, histtype="step", color=colour,
                     label=name)  # fmt: skip
    axes[3].set(title="force", xlabel="force")
    axes[3].legend(fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    quick = parser.parse_args().quick
    # The small sets of draws below cause a warning each time; the report has all warnings.
    logging.getLogger("pymc.multimodal").setLevel(logging.ERROR)
    size, config = (
        (500, mm.ScoreLangevin(training_steps=100)) if quick else (5000, mm.ScoreLangevin())
    )
    exact = sample(READINGS, size)

    stored = thin(exact, FEW)
    generator = mm.ScoreLangevin.from_draws(
        stored, config=config, transforms={"noise": "log"}, random_seed=1
    )
    made = generator.to_dict(generator.generate(MANY, 1))
    print(generator.report())
    rows = {"stored": summary(stored), "generated": summary(made), "exact": summary(exact)}
    pd.set_option("display.width", 120)
    print("\n" + pd.DataFrame(rows).T.round(3).to_string())

    more = np.concatenate([READINGS, np.random.default_rng(5).normal(2.0, 0.5, 2)])
    updated = sample(more, size)
    errors = []
    for seed in range(2 if quick else 6):
        keep = np.random.default_rng(seed).permutation(len(updated["noise"]))[:UPDATE]
        few = {name: value[keep] for name, value in updated.items()}
        errors.append({})
        for name, previous in (("cold", None), ("warm", generator)):
            new = mm.ScoreLangevin.from_draws(
                few, config=config, transforms={"noise": "log"}, previous=previous, random_seed=seed
            )
            errors[-1][name] = score_error(new, more, updated)
    print(
        f"\nSquared score error, relative, after {len(more) - len(READINGS)} more readings; "
        f"{len(errors)} sets of {UPDATE} draws of the new posterior:"
    )
    print(pd.DataFrame(errors).describe().loc[["mean", "min", "50%", "max"]].round(3).to_string())
    path = OUTPUT / "more_draws.png"
    draw_picture(exact, stored, made, path)
    print(f"\nPicture: examples/output/{path.name}")


if __name__ == "__main__":
    main()
