"""Where are the two sources? An elliptic inverse problem with four unequal modes.

Heat flows along a rod, ``-(k u')' = f`` on (0, 1) with ends held at zero. f is the sum of two
narrow sources of known, different strengths. Two thermometers are read with some noise. Several
pairs of positions explain the readings, and their posterior masses differ.

The equation is discretised by finite differences and solved inside the model by PyTensor's
linear solve, so gradients are exact. In a second run the same solver is an Op without a gradient,
as an external code would be. Both runs are compared with a sum over a fine grid of positions. Run
it with::

    python examples/inverse_problem.py
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

import pymc_multimodal as pmm

NODES = 41
SPACING = 1 / (NODES + 1)
PLACE = SPACING * np.arange(1, NODES + 1)
WIDTH = 0.04
STRENGTH = np.array([1.0, 0.7])
SENSORS = np.array([16, 24])  # nodes, near 0.4 and 0.6
NOISE = 0.005
TRUE_POSITION = np.array([0.25, 0.60])
OUTPUT = Path(__file__).parent / "output"


def stiffness() -> np.ndarray:
    """Matrix of -(k u')' by central differences; k varies along the rod."""
    between = SPACING * (np.arange(NODES + 1) + 0.5)
    k = 1 + 0.6 * np.sin(2 * np.pi * between)
    inner = k[1:-1]
    return (np.diag(k[:-1] + k[1:]) - np.diag(inner, 1) - np.diag(inner, -1)) / SPACING**2


def sources(position, xp=np):
    """Right-hand side at the nodes; the last axis of `position` has both sources."""
    shape = xp.exp(-0.5 * ((PLACE - position[..., None]) / WIDTH) ** 2)
    return (STRENGTH[:, None] * shape).sum(axis=-2) / (WIDTH * np.sqrt(2 * np.pi))


def solve(position: np.ndarray) -> np.ndarray:
    """Temperatures at the sensors, in NumPy."""
    return np.linalg.solve(stiffness(), sources(position))[SENSORS]


class BlackBox(Op):
    """The solver as an external program: PyTensor gets values and no gradient."""

    __props__ = ()

    def make_node(self, position):
        """Declare input and output."""
        position = pt.as_tensor(position)
        return Apply(self, [position], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Call the program."""
        outputs[0][0] = solve(inputs[0])


def build_model(readings: np.ndarray, black_box: bool) -> pm.Model:
    """Posterior of both positions given the readings."""
    coords = {"source": ["strong", "weak"], "sensor": PLACE[SENSORS].round(2)}
    with pm.Model(coords=coords) as model:
        position = pm.Uniform("position", 0, 1, dims="source")
        if black_box:
            temperature = BlackBox()(position)
        else:
            temperature = pt.linalg.solve(stiffness(), sources(position, pt))[SENSORS]
        pm.Normal("reading", temperature, NOISE, observed=readings, dims="sensor")
    return model


def on_grid(readings: np.ndarray, n: int = 1200) -> tuple[np.ndarray, np.ndarray, float]:
    """Midpoints of a grid of positions, their posterior masses, and the log evidence."""
    axis = (np.arange(n) + 0.5) / n
    unit = np.exp(-0.5 * ((PLACE[:, None] - axis) / WIDTH) ** 2) / (WIDTH * np.sqrt(2 * np.pi))
    # The equation is linear in its sources, so it is solved once for each position of one source.
    response = np.linalg.solve(stiffness(), unit)[SENSORS]
    strong, weak = (s * response for s in STRENGTH)
    misfit = readings[:, None, None] - strong[:, :, None] - weak[:, None, :]
    logp = -0.5 * (misfit**2).sum(axis=0) / NOISE**2
    logp -= len(readings) * np.log(NOISE * np.sqrt(2 * np.pi))
    mass = np.exp(logp - logp.max())
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, (mass / mass.sum()).ravel(), float(np.log(mass.mean()) + logp.max())


def shares(fit, points: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Weights of the modes by the grid. The fit's coordinates are logits of the positions."""
    keep = mass > 1e-12
    x = np.log(points[keep]) - np.log1p(-points[keep])
    return np.bincount(fit.label(x), mass[keep], minlength=fit.n_modes) / mass[keep].sum()


def draw_picture(runs: dict, points: np.ndarray, mass: np.ndarray, path: Path) -> None:
    """Left: posterior and draws. Right: weights of both runs and of the grid."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    n = int(np.sqrt(len(mass)))
    axis = points[:n, 1]
    density = np.log(mass.reshape(n, n).T + 1e-300)
    left.contourf(axis, axis, density - density.max(), levels=[-8, -6, -4, -2, -1, 0], cmap="Greys")
    first, idata, _ = next(iter(runs.values()))
    mode = idata["sample_stats"]["mode"].values.ravel()
    position = idata["posterior"]["position"].values.reshape(-1, 2)
    for k in range(first.n_modes):
        left.plot(*position[mode == k].T, ".", ms=2, alpha=0.4, color=f"C{k % 10}")
    left.plot(*TRUE_POSITION, "*", ms=14, mfc="white", mec="black", label="truth")
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="strong source", ylabel="weak source")
    left.legend(frameon=False)
    place = np.arange(first.n_modes)
    right.bar(
        place, first.weights.weight, width=0.75, color=[f"C{k % 10}" for k in place], alpha=0.8
    )
    for j, (name, (fit, _, truth)) in enumerate(runs.items()):
        place = np.arange(fit.n_modes) + (-0.2, 0.05)[j]
        right.errorbar(
            place, fit.weights.weight, 1.96 * fit.weights.weight_se, fmt="os"[j], ms=4, capsize=4,
            color="black", mfc="black" if j else "white", label=name,
        )  # fmt: skip
        if not j:
            right.plot(place + 0.45, truth, "D", ms=5, mfc="white", mec="black", label="grid")
    right.set_xticks(np.arange(first.n_modes), [f"mode {k}" for k in range(first.n_modes)])
    right.set(ylabel="weight ± 95 %")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rng = np.random.default_rng(1)
    readings = solve(TRUE_POSITION) + NOISE * rng.standard_normal(len(SENSORS))
    points, mass, log_evidence = on_grid(readings)
    pd.set_option("display.width", 140)
    runs = {}
    for name, black_box, target_se in (
        ("solve in the model", False, 0.003),
        ("black box, no gradient", True, 0.01),
    ):
        model = build_model(readings, black_box)
        began = time.monotonic()
        fit = pmm.fit(model, target_se=target_se, random_seed=1, progressbar=False)
        idata = pmm.sample(1000, model=model, fit=fit, random_seed=2, progressbar=False)
        seconds = time.monotonic() - began
        truth = shares(fit, points, mass)
        runs[name] = fit, idata, truth
        table = pmm.mode_table(idata)
        where = [c for c in table.columns if c.startswith("position")]
        table = table[[*where, "weight", "weight_se", "hits", "r_hat", "status"]]
        table.insert(4, "grid", truth)
        print(f"\n{name}: target_se={target_se}\n")
        print(table.round(4).to_string())
        print(
            f"\nlog evidence {fit.weights.total:.4f} ± {fit.weights.total_se:.4f}, by the grid "
            f"{log_evidence:.4f}\n{fit.n_logp_evals} density evaluations, {fit.n_grad_evals} "
            f"gradients, {seconds:.0f} s with compilation and draws"
        )
    draw_picture(runs, points, mass, OUTPUT / "inverse_problem.png")
    print("\nPicture: examples/output/inverse_problem.png")


if __name__ == "__main__":
    main()
