"""Where does the plume come from? An expensive simulator, and the place of the next well.

Solvent leaks into an aquifer. Groundwater flows around a lens of clay, and four wells behind it
measure the concentration. They lie near the axis of the lens, so a source on its northern side
explains the readings nearly as well as one on its southern side. Unknown are the place of the
source, its strength and the dispersion.

A solver for flow and transport (sparse finite volumes) takes some milliseconds, and has no
gradient: PyTensor calls it as a black box. The concentrations at the wells are emulated by Gaussian
processes, and true evaluations judge the result: some 700 evaluations are enough. The decision
follows from the draws: for each place of a fifth well, the probability of naming the wrong side
after its reading. Run it with::

    python examples/expensive_simulator.py
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.ops import wrap_py
from scipy import sparse
from scipy.sparse.linalg import splu

import pymc_multimodal as pmm

CELL = 31.25  # m
SHAPE = NX, NY = 64, 32
X, Y = CELL * (np.arange(NX) + 0.5), CELL * (np.arange(NY) + 0.5)
CONDUCTIVITY, CLAY = 25.0, 0.5  # m/day
DROP = 20.0  # m, of the hydraulic head from west to east
POROSITY, THICKNESS = 0.25, 10.0  # of the aquifer, which is THICKNESS metres high
WIDTH = 40.0  # m, of the source
WELLS = np.array([[1050.0, 503.0], [1300.0, 498.0], [1550.0, 504.0], [1800.0, 497.0]])
NOISE = 0.25  # mg/l
TRUTH = {"east": 420.0, "north": 730.0, "rate": 4.0, "dispersion": 5.0}
MAX_EVALS = 800
SOLVED_DRAWS = 200  # for the decision
OUTPUT = Path(__file__).parent / "output"


class Aquifer:
    """Steady transport in groundwater that flows around a lens of clay."""

    def __init__(self) -> None:
        self.clay = ((X[:, None] - 750.0) / 250.0) ** 2 + ((Y - 500.0) / 130.0) ** 2 < 1.0
        number = np.arange(NX * NY).reshape(SHAPE)
        a = np.concatenate([number[:-1].ravel(), number[:, :-1].ravel()])
        b = np.concatenate([number[1:].ravel(), number[:, 1:].ravel()])
        face = np.arange(len(a))
        # From each face to the difference of its two cells.
        difference = self._matrix(face, b) - self._matrix(face, a)
        k = np.where(self.clay, CLAY, CONDUCTIVITY).ravel()
        between = 2.0 * k[a] * k[b] / (k[a] + k[b])
        # Darcy's law: head DROP in the west, zero in the east, no flow through the other sides.
        west, east = np.zeros(NX * NY), np.zeros(NX * NY)
        west[number[0]], east[number[-1]] = 2.0 * k[number[0]], 2.0 * k[number[-1]]
        system = difference.T @ sparse.diags(between) @ difference + sparse.diags(west + east)
        head = splu(system.tocsc()).solve(DROP * west)
        flux = -between * (difference @ head)
        upwind = self._matrix(face, np.where(flux > 0, a, b))
        self.advection = (
            -difference.T @ sparse.diags(flux) @ upwind + sparse.diags(east * head)
        ).tocsc()
        self.dispersion = (POROSITY * difference.T @ difference).tocsc()
        self.head = head.reshape(SHAPE)
        self.at_wells = np.stack([self._patch(*well, CELL) for well in WELLS])

    @staticmethod
    def _matrix(row: np.ndarray, column: np.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(row), NX * NY))

    @staticmethod
    def _patch(east: float, north: float, width: float) -> np.ndarray:
        """Weights of the cells around a place, with the sum 1."""
        squared = (X[:, None] - east) ** 2 + (Y - north) ** 2
        weight = np.exp(-0.5 * squared / width**2).ravel()
        return weight / weight.sum()

    def concentration(self, east, north, rate, dispersion) -> np.ndarray:
        """Concentrations in mg/l in all cells; rate in kg/day, dispersion in m^2/day."""
        system = self.advection + dispersion * self.dispersion
        source = 1e3 * rate / THICKNESS * self._patch(east, north, WIDTH)
        return splu(system, permc_spec="MMD_AT_PLUS_A").solve(source)


def build_model(aquifer: Aquifer, readings: np.ndarray) -> pm.Model:
    """Posterior of the source given the readings; the solver is a black box."""

    @wrap_py([pt.dscalar] * 4, [pt.dvector])
    def solver(east, north, rate, dispersion):
        return aquifer.at_wells @ aquifer.concentration(east, north, rate, dispersion)

    with pm.Model(coords={"well": np.arange(len(WELLS))}) as model:
        east = pm.Uniform("east", 100.0, 700.0)
        north = pm.Uniform("north", 100.0, 900.0)
        rate = pm.LogNormal("rate", np.log(4.0), 0.25)
        dispersion = pm.LogNormal("dispersion", np.log(5.0), 0.5)
        # As a pm.Deterministic the concentrations would cost an evaluation for each draw.
        at_wells = solver(east, north, rate, dispersion)
        pm.Normal("reading", at_wells, NOISE, observed=readings, dims="well")
    return model


def expected_error(fields: np.ndarray, side: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compute the expected probability of naming the wrong side after a reading in each cell.

    Each of the n draws predicts a reading, and a reading weighs the draws anew. The side with the
    larger probability is named; the other one's is the probability that this is wrong.

    Parameters
    ----------
    fields : array of shape (n, cells)
        Concentrations.
    side : array of bool, shape (n,)
    rng : numpy.random.Generator
    """
    error = np.empty(fields.shape[1])
    for j, c in enumerate(fields.T):
        read = c + NOISE * rng.standard_normal(len(c))
        log_weight = -0.5 * ((read[:, None] - c) / NOISE) ** 2
        weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
        share = weight @ side / weight.sum(axis=1)
        error[j] = np.clip(np.minimum(share, 1.0 - share), 0.0, None).mean()
    return error


def draw_picture(aquifer, fit, idata, error, best, path) -> None:
    """Left: draws of the source by mode, the wells and the clay. Right: the fifth well."""
    figure, (left, right) = plt.subplots(2, 1, figsize=(8.5, 8.4), layout="constrained")
    mode = idata["sample_stats"]["mode"].values.ravel()
    east, north = (idata["posterior"][name].values.ravel() for name in ("east", "north"))
    for k in range(fit.n_modes):
        own, weight = mode == k, fit.weights.weight[k]
        label = f"mode {k}: {weight:.2f} ± {1.96 * fit.weights.weight_se[k]:.2f}"
        left.plot(east[own], north[own], ".", ms=4, alpha=0.5, color=f"C{k % 10}", label=label)
    left.plot(TRUTH["east"], TRUTH["north"], "*", ms=15, mfc="white", mec="black", label="truth")
    shown = right.pcolormesh(X, Y, error.T, cmap="viridis_r", shading="nearest")
    figure.colorbar(shown, ax=right, label="expected error of the side named")
    right.plot(*best, "P", ms=12, mfc="white", mec="black", label="fifth well")
    for axes in (left, right):
        axes.contourf(X, Y, aquifer.clay.T, levels=[0.5, 1.5], colors="0.6", alpha=0.6)
        axes.contour(X, Y, aquifer.head.T, levels=12, colors="0.8", linewidths=0.7)
        axes.plot(*WELLS.T, "v", ms=9, mfc="white", mec="black", label="wells")
        axes.set(xlim=(0, CELL * NX), ylim=(0, CELL * NY), aspect="equal")
        axes.set(xlabel="east (m)", ylabel="north (m)")
        axes.legend(loc="upper right", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rng = np.random.default_rng(1)
    aquifer = Aquifer()
    readings = aquifer.at_wells @ aquifer.concentration(**TRUTH)
    readings = readings + NOISE * rng.standard_normal(len(WELLS))
    model = build_model(aquifer, readings)
    began = time.monotonic()
    fit = pmm.fit(model, max_evals=MAX_EVALS, random_seed=1, progressbar=False)
    idata = pmm.sample(1000, model=model, fit=fit, random_seed=2, progressbar=False)
    seconds = time.monotonic() - began

    pd.set_option("display.width", 140)
    table = pmm.mode_table(idata)
    columns = [*TRUTH, "weight", "weight_se", "status"]
    print(f"\nConcentrations at the wells (mg/l): {readings.round(2)}\n")
    print(table[columns].round(3).to_string())
    print(f"\n{fit.n_logp_evals} evaluations of the solver, {seconds:.0f} s with compilation")
    for status in fit.statuses:
        print(f"{status.level}: {status}")

    # The decision. Draws are resampled evaluations, so some of them are equal: each is solved once.
    posterior = idata["posterior"]
    draws = np.stack([posterior[name].values.ravel() for name in TRUTH], axis=1)
    draws = draws[rng.choice(len(draws), SOLVED_DRAWS, replace=False)]
    unique, back = np.unique(draws, axis=0, return_inverse=True)
    fields = np.stack([aquifer.concentration(*row) for row in unique])[back.ravel()]
    side = draws[:, 1] > 500.0
    error = expected_error(fields, side, rng).reshape(SHAPE)
    i, j = np.unravel_index(np.argmin(error), SHAPE)
    share = float((posterior["north"].values > 500.0).mean())
    print(
        f"\nThe source lies north of the axis with a probability of {share:.2f}. A fifth well at "
        f"({X[i]:.0f} m, {Y[j]:.0f} m) lowers the expected error of the side from "
        f"{min(share, 1 - share):.2f} to {error[i, j]:.2f}; {np.mean(error < 0.01):.0%} of the "
        f"area are good for less than 0.01. The decision took {len(unique)} further solutions."
    )
    path = OUTPUT / "expensive_simulator.png"
    draw_picture(aquifer, fit, idata, error, (X[i], Y[j]), path)
    print(f"Picture: examples/output/{path.name}")


if __name__ == "__main__":
    main()
