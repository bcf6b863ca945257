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
from scipy import stats

from pymc_multimodal import MultimodalDiffusion, mode_table

STATIONS = np.array([[-6.0, -0.6], [0.5, 1.2], [6.0, -0.4]])  # km
RANGES = np.array([7.6, 5.8, 8.6])  # km
NOISE = 0.2  # km
ECHO_PROBABILITY, ECHO_DELAY, ECHO_SPREAD = 0.002, 3.0, 4.0  # -, km, km
LAST_SEEN, DRIFT = np.array([0.0, 2.0]), 4.0  # km
OUTPUT = Path(__file__).parent / "output"
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#666666"]


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


def draw_picture(fit, draws, mode, chains, truth, path: Path) -> None:
    """Left: the map with draws by mode. Right: weights, and mode shares of each chain of NUTS."""
    figure = plt.figure(figsize=(10.5, 4.9), layout="constrained")
    left, top, bottom = figure.subplot_mosaic(
        [["map", "shares"], ["map", "weights"]], width_ratios=(1.12, 1), height_ratios=(1.15, 1)
    ).values()
    weight, error = fit.weights.weight, fit.weights.weight_se
    colour = np.array([COLOURS[k % len(COLOURS)] for k in range(fit.n_modes)])

    for station, reading in zip(STATIONS, RANGES, strict=True):
        left.add_patch(plt.Circle(station, reading, fill=False, color="0.8", lw=1.2, zorder=1))
    left.scatter(*draws.T, s=6, c=colour[mode], alpha=0.4, lw=0, zorder=2)
    left.plot(*STATIONS.T, "^", color="black", ms=9, zorder=3)
    left.annotate("stations", STATIONS[1], (0, -16), textcoords="offset points", ha="center")
    for k, where in enumerate(fit.modes.locations):
        side = 1 if where[0] > 0 else -1
        left.annotate(
            f"{100 * weight[k]:.1f} %",
            where,
            xytext=(16 * side, 6),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            color=colour[k],
            weight="bold",
            zorder=4,
        )
    left.set(xlim=(-8.5, 8.5), ylim=(-8, 9), aspect="equal")
    left.set(xlabel="east (km)", ylabel="north (km)")
    left.set_title("Where is the buoy? Ranges, and draws by mode", loc="left", fontsize=11)

    rows = {
        "grid": truth,
        "this package": np.bincount(mode, minlength=fit.n_modes) / len(mode),
        **{f"NUTS, chain {c + 1}": share for c, share in enumerate(chains)},
    }
    place = np.array([0.0, 1.0, *(2.5 + np.arange(len(chains)))])
    shares = np.array(list(rows.values()))
    start = np.cumsum(shares, axis=1) - shares
    for k in range(fit.n_modes):
        top.barh(place, shares[:, k], left=start[:, k], height=0.8, color=colour[k])
    top.set_yticks(place, list(rows))
    top.invert_yaxis()
    top.set(xlim=(0, 1))
    top.set_title("Share of the draws in each mode", loc="left", fontsize=11)
    top.tick_params(axis="y", length=0)

    bottom.bar(np.arange(fit.n_modes), weight, width=0.7, color=colour)
    bottom.errorbar(
        np.arange(fit.n_modes) - 0.12, weight, 1.96 * error, fmt="none", color="black", capsize=4
    )
    bottom.plot(
        np.arange(fit.n_modes) + 0.12, truth, "D", ms=5, mfc="white", mec="black", label="grid"
    )
    bottom.set_xticks(np.arange(fit.n_modes), [f"mode {k}" for k in range(fit.n_modes)])
    bottom.set_title("Weights ± 95 %", loc="left", fontsize=11)
    bottom.legend(frameon=False)
    for axis in (left, top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    top.spines["left"].set_visible(False)
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

    mode = idata["sample_stats"]["mode"].values.ravel()
    draws = idata["posterior"]["position"].values.reshape(-1, 2)
    draw_picture(fit, draws, mode, visited, truth, OUTPUT / "quickstart.png")
    print(
        f"\n{fit.n_logp_evals} density evaluations; fit and {len(draws)} draws took "
        f"{seconds:.0f} s, compilation included.\nPicture: examples/output/quickstart.png"
    )


if __name__ == "__main__":
    main()
