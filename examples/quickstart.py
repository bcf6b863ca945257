"""Where is the buoy? A posterior with several unequal modes, sampled and weighed in one call.

Three stations along a coast each measured the distance to a drifting buoy. The stations lie
almost on a line, so every pair of circles crosses twice. Any reading may be an echo, which is too
long, so it is not known which pair is right. The position therefore has several modes. The weak
prior and the echo model determine their weights. NUTS does not find these weights: each of its
chains stays near its start, and the chains disagree.

The script samples the model with ``pm.sample(step=MultimodalDiffusion())``, prints the table of
modes, compares the weights with NUTS and with a sum over a fine grid, and draws
``output/quickstart.png``. Run it with ``make demo``, or::

    python examples/quickstart.py
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from scipy import stats

import pymc_multimodal as mm
from pymc_multimodal import MultimodalDiffusion, mode_table

STATIONS = np.array([[-6.0, -0.6], [0.5, 1.2], [6.0, -0.4]])  # km
RANGES = np.array([7.6, 5.8, 8.6])  # km
NOISE = 0.2  # km
ECHO_PROBABILITY, ECHO_DELAY, ECHO_SPREAD = 0.002, 3.0, 4.0  # -, km, km
LAST_SEEN, DRIFT = np.array([0.0, 2.0]), 4.0  # km
OUTPUT = Path(__file__).parent / "output"


def build_model() -> pm.Model:
    """Model of the position given the readings, some of which may be echoes."""
    coords = {"station": ["west", "middle", "east"], "axis": ["east", "north"]}
    with pm.Model(coords=coords) as model:
        stations = pm.Data("stations", STATIONS, dims=("station", "axis"))
        position = pm.Normal("position", LAST_SEEN, DRIFT, dims="axis")
        distance = pm.Deterministic(
            "distance", pm.math.sqrt(((position - stations) ** 2).sum(axis=1)), dims="station"
        )
        pm.NormalMixture(
            "range",
            w=[1 - ECHO_PROBABILITY, ECHO_PROBABILITY],
            mu=pm.math.stack([distance, distance + ECHO_DELAY], axis=1),
            sigma=np.array([NOISE, ECHO_SPREAD]),
            observed=RANGES,
            dims="station",
        )
    return model


def log_density(position: np.ndarray) -> np.ndarray:
    """Compute the same log posterior, unnormalised, without PyMC; position is (n, 2)."""
    logp = stats.norm.logpdf(position, LAST_SEEN, DRIFT).sum(axis=1)
    for station, reading in zip(STATIONS, RANGES, strict=True):
        late = reading - np.hypot(*(position - station).T)
        direct = np.log1p(-ECHO_PROBABILITY) + stats.norm.logpdf(late, 0.0, NOISE)
        echo = np.log(ECHO_PROBABILITY) + stats.norm.logpdf(late, ECHO_DELAY, ECHO_SPREAD)
        logp += np.logaddexp(direct, echo)
    return logp


def on_grid(fit, half_width: float = 25.0, n: int = 1501) -> tuple[np.ndarray, float]:
    """Weights of the modes, and the log evidence, by summing over a grid."""
    axis = np.linspace(-half_width, half_width, n)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    logp = log_density(points)
    mass = np.exp(logp - logp.max())
    keep = mass > 1e-12
    share = np.bincount(fit.label(points[keep]), mass[keep], fit.n_modes) / mass[keep].sum()
    return share, logp.max() + np.log(mass.sum() * (axis[1] - axis[0]) ** 2)


def draw_picture(fit, idata, nuts, truth, path: Path) -> None:
    """Left: the draws by mode, on a map. Right: weights, and the chains of both samplers."""
    figure = plt.figure(figsize=(11.5, 6.0), layout="constrained")
    axes = figure.subplot_mosaic(
        [["map", "weights"], ["map", "draws"], ["map", "nuts"]], width_ratios=(1.1, 1)
    )
    mm.plot_corner(idata, ["position"], ax=axes["map"])
    for station, reading in zip(STATIONS, RANGES, strict=True):
        axes["map"].add_patch(plt.Circle(station, reading, fill=False, color="0.8", zorder=0))
    axes["map"].plot(*STATIONS.T, "^", color="black", ms=9)
    axes["map"].annotate("stations", STATIONS[1], (0, -16), textcoords="offset points", ha="center")
    axes["map"].set(xlim=(-8.5, 8.5), ylim=(-8, 9), aspect="equal")
    axes["map"].set(xlabel="east (km)", ylabel="north (km)")
    axes["map"].set_title("Where is the buoy? Ranges, and draws by mode", loc="left", fontsize=11)

    mm.plot_weights(idata, ax=axes["weights"])
    axes["weights"].plot(truth, np.arange(fit.n_modes), "D", ms=5, mfc="white", mec="black")
    axes["weights"].set_xlabel("weight (diamonds: sum over a grid)")

    for name, draws in (("draws", idata), ("nuts", nuts)):
        mm.plot_jumps(draws, ax=axes[name])
        axes[name].get_legend().remove()
        whose = "this package" if name == "draws" else "NUTS"
        axes[name].set_title(f"Mode of each draw of {whose}", loc="left", fontsize=11)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    model = build_model()

    began = time.monotonic()
    with model:
        step = MultimodalDiffusion(target_se=0.005, random_seed=1, progressbar=False)
        idata = pm.sample(tune=0, chains=4, step=step, random_seed=2, progressbar=False)
        step.attach(idata)
    seconds = time.monotonic() - began
    fit = step.fit

    # NUTS on the same model; its draws are labelled by the same partition. Its warnings are
    # silenced because its shares below show that its chains disagree.
    logging.getLogger("pymc").setLevel(logging.CRITICAL)
    with model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nuts = pm.sample(500, tune=500, chains=4, random_seed=3, progressbar=False)
    chains = nuts["posterior"]["position"].values
    visited = np.array([
        np.bincount(fit.label(chain), minlength=fit.n_modes) / len(chain) for chain in chains
    ])  # fmt: skip
    labels = np.array([fit.label(chain) for chain in chains])
    nuts["sample_stats"]["mode"] = xr.DataArray(labels, dims=("chain", "draw"))
    nuts = mm.attach(nuts, fit)
    truth, log_evidence = on_grid(fit)

    pd.set_option("display.width", 120, "display.max_columns", 20)
    print("\nModes, heaviest first\n")
    columns = ["weight", "weight_se", "log_evidence", "hits", "ess", "r_hat", "status"]
    table = mode_table(idata)
    where = [c for c in table.columns if c.startswith("position")]
    print(table[[*columns, *where]].round(4).to_string())

    print("\nWeights against a sum over a grid, and against four chains of NUTS\n")
    compared = pd.DataFrame({
        "weight": fit.weights.weight,
        "± (se)": fit.weights.weight_se,
        "grid": truth,
        "NUTS, all": visited.mean(axis=0),
        **{f"chain {c + 1}": share for c, share in enumerate(visited)},
    })  # fmt: skip
    compared.index.name = "mode"
    print(compared.round(4).to_string())
    print(
        f"\nlog evidence {fit.weights.total:.4f} ± {fit.weights.total_se:.4f}, "
        f"by the grid {log_evidence:.4f}"
    )

    print("\naz.summary of the draws\n")
    print(az.summary(idata, var_names=["position", "distance"]).to_string())

    draw_picture(fit, idata, nuts, truth, OUTPUT / "quickstart.png")
    n_draws = idata["posterior"].sizes["chain"] * idata["posterior"].sizes["draw"]
    print(
        f"\n{fit.n_logp_evals} density evaluations; fit and {n_draws} draws took "
        f"{seconds:.0f} s, compilation included.\nPicture: examples/output/quickstart.png"
    )


if __name__ == "__main__":
    main()
