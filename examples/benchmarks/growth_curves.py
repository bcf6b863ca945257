"""Exponents and a picture of what `growth` has measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["draw", "exponents", "sampler_of"]

# Families of targets, what grows in them, and what is shown of them.
FAMILIES = {
    "normals": "modes (ten dimensions)",
    "two_modes": "dimensions (two modes)",
    "apart": "distance of two modes",
    "price": "seconds of an evaluation with a gradient",
    "black_box": "seconds of an evaluation without a gradient",
    "workers_two_modes": "workers (two modes)",
    "workers_four_modes": "workers (four modes)",
}
COSTS = {
    "evals_unscreened": "evaluations",
    "cpu": "CPU seconds",
    "peak_mb": "peak memory (MB)",
    "rounds": "rounds of evaluations",
}
OWN = "pymc_multimodal"
# Colours that are told apart with every kind of colour blindness (Okabe and Ito).
COLOURS = {OWN: "#0072B2", "sample_smc": "#D55E00", "nautilus": "#009E73"}


def sampler_of(run: dict) -> str:
    """Name of the sampler of a record."""
    name: str = run.get("sampler", OWN)
    return name


def curves(runs: list[dict]) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]:
    """Sizes and costs (means over the seeds) of each family, sampler and cost."""
    found: dict[tuple[str, str, str], dict[float, list[float]]] = {}
    for run in runs:
        if "stopped" in run or not run.get("challenge", True):
            continue
        if "rounds" in run:
            for workers, rounds in run["rounds"].items():
                at = found.setdefault((run["name"], OWN, "rounds"), {})
                at.setdefault(float(workers), []).append(rounds)
            continue
        family, size = run["name"].rsplit("_", 1)
        for cost in ("evals_unscreened", "cpu", "peak_mb"):
            if family in FAMILIES and cost in run:
                at = found.setdefault((family, sampler_of(run), cost), {})
                at.setdefault(float(size), []).append(run[cost])
    out = {}
    for key, at in found.items():
        sizes = sorted(at)
        out[key] = np.array(sizes), np.array([np.mean(at[s]) for s in sizes])
    return out


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Exponent of a power law by least squares on logarithmic scales; NaN below two points."""
    good = (x > 0) & (y > 0)
    if good.sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(x[good]), np.log(y[good]), 1)[0])


def exponents(runs: list[dict]) -> list[str]:
    """Lines of the table of exponents."""
    lines, found = (
        ["what grows, sampler, from, to, cost, exponent, exponent of the upper half"],
        curves(runs),
    )
    for (family, sampler, cost), (x, y) in found.items():
        upper = slice(len(x) // 2 - (len(x) < 4), None)
        lines.append(
            f"{FAMILIES[family]}, {sampler}, {x[0]:g}, {x[-1]:g}, {COSTS[cost]}, "
            f"{slope(x, y):.2f}, {slope(x[upper], y[upper]):.2f}"
        )
    return lines


def draw(runs: list[dict], path: Path) -> None:
    """Draw the curves: a row for each cost, a column for what grows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = curves(runs)
    rows = ("evals_unscreened", "cpu", "peak_mb")
    columns = ("normals", "two_modes", "apart", "price", "black_box")
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(13, 7), sharex="col", sharey="row", layout="constrained"
    )
    for (family, sampler, cost), (x, y) in found.items():
        if cost in rows and family in columns:
            axis = axes[rows.index(cost), columns.index(family)]
            axis.loglog(x, y, "o-", color=COLOURS[sampler], label=sampler, markersize=4)
    for i, cost in enumerate(rows):
        axes[i, 0].set_ylabel(COSTS[cost])
    for j, family in enumerate(columns):
        axes[-1, j].set_xlabel(FAMILIES[family].replace(" with", "\nwith"))
    for axis in axes.flat:
        axis.grid(visible=True, color="0.9", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    axes[0, -1].legend(lines.values(), lines, frameon=False, fontsize=8)
    figure.savefig(path, dpi=80)
