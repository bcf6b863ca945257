"""A source in a plate with an inclusion: a PDE inverse problem (arXiv 2505.07825, PDE example).

The paper ends with the posterior of an inverse problem for a partial differential equation that
has several modes. Its equation could not be recovered, so this one is our own. A plate conducts
heat, ``-div(k grad u) = f`` on the unit square, and its edges are held at zero. A narrow source of
unknown place and strength heats it; at a known place in its upper half there is an inclusion of
unknown conductivity. Three thermometers on the horizontal midline and one just above it hardly tell
above from below: there is a mode in each half, and the two do not weigh the same.

The equation is discretised on a 19 x 19 grid by finite volumes and solved by a banded Cholesky
factorisation, as external code would; an adjoint solve with the same factor gives the gradient.
Given place and inclusion the model is linear in the strength, whose prior is normal, so that the
other three parameters are left for quadrature: that is the reference. Run it with::

    python examples/papers/hybrid_pde.py
"""

import common
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from common import EMCEE, NUTS, OURS, SMC, UNCORRECTED
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.special import expit, logit

REFERENCE = "quadrature"
SIDE = 19
SPACING = 1 / (SIDE + 1)
PLACE = SPACING * np.arange(1, SIDE + 1)
WIDTH = 0.07
SENSORS = ((3, 9), (7, 9), (11, 9), (15, 10))  # nodes: heights 0.5 and, the last, 0.55
INCLUSION, REACH = np.array([0.55, 0.72]), 0.16
STRENGTH_SD, CONTRAST_SD = 0.3, 0.7
NOISE = 0.005
TRUTH = np.array([0.36, 0.68, 1.0, 0.8])  # place (2), strength, log contrast
NAMES = ("place $x$", "place $y$", "strength", "log contrast")


def inclusion(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shape of the inclusion, between 0 and 1."""
    return np.exp(-0.5 * ((x - INCLUSION[0]) ** 2 + (y - INCLUSION[1]) ** 2) / REACH**2)


# Between nodes, edges of the plate included: where conductivity is needed.
_MIDDLE = SPACING * (np.arange(SIDE + 1) + 0.5)
ACROSS = inclusion(_MIDDLE[:, None], PLACE[None])  # between (i - 1, j) and (i, j)
ALONG = inclusion(PLACE[:, None], _MIDDLE[None])  # between (i, j - 1) and (i, j)


def factor(contrast: float) -> np.ndarray:
    """Banded Cholesky factor of -div(k grad .), nodes numbered row by row."""
    kx, ky = np.exp(contrast * ACROSS), np.exp(contrast * ALONG)
    band = np.zeros((SIDE + 1, SIDE * SIDE))  # lower form: band[d, j] = A[j + d, j]
    band[0] = (kx[:-1] + kx[1:] + ky[:, :-1] + ky[:, 1:]).ravel()
    beside = -ky[:, 1:].copy()
    beside[:, -1] = 0.0  # the last of a row and the first of the next are no neighbours
    band[1] = beside.ravel()
    band[SIDE, : -SIDE or None] = -kx[1:-1].ravel()
    return cholesky_banded(band / SPACING**2, lower=True, check_finite=False)


def solve(chol: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions for right-hand sides of shape (nodes, m), as grids of shape (SIDE, SIDE, m)."""
    found = cho_solve_banded((chol, True), right, check_finite=False)
    return found.reshape(SIDE, SIDE, -1)


SENSOR_ROWS = np.zeros((SIDE, SIDE, len(SENSORS)))
for _k, _node in enumerate(SENSORS):
    SENSOR_ROWS[(*_node, _k)] = 1.0
SENSOR_ROWS = SENSOR_ROWS.reshape(SIDE * SIDE, -1)


def bump(at: np.ndarray) -> np.ndarray:
    """Profile of the source along one axis, shape (..., SIDE)."""
    step = (PLACE - np.asarray(at)[..., None]) / WIDTH
    return np.exp(-0.5 * step**2) / (WIDTH * np.sqrt(2 * np.pi))


def readings_and_jacobian(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures at the sensors, shape (4,), and their derivatives, shape (4, 4)."""
    x, y, strength, contrast = theta
    bx, by = bump(x), bump(y)
    unit = np.outer(bx, by)
    solved = solve(factor(contrast), np.column_stack([SENSOR_ROWS, unit.ravel()]))
    adjoint, heat = solved[..., :-1], strength * solved[..., -1]
    # A perturbation of the source reaches a sensor through the adjoint solution.
    slope_x = np.outer(bx * (PLACE - x) / WIDTH**2, by)
    slope_y = np.outer(bx, by * (PLACE - y) / WIDTH**2)
    sources = np.stack([strength * slope_x, strength * slope_y, unit])
    jacobian = np.empty((len(SENSORS), 4))
    jacobian[:, :3] = np.einsum("ijk,pij->kp", adjoint, sources)
    jacobian[:, 3] = 0.0
    for axis, shape in ((0, ACROSS), (1, ALONG)):
        flux = shape * np.exp(contrast * shape) * steps(heat[..., None], axis)[..., 0]
        jacobian[:, 3] -= np.einsum("ijk,ij->k", steps(adjoint, axis), flux)
    return strength * jacobian[:, 2], jacobian


def steps(grids: np.ndarray, axis: int) -> np.ndarray:
    """Differences between neighbours along an axis, the cold edges of the plate included."""
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    return np.diff(np.pad(grids, pad), axis=axis) / SPACING


class HeatOp(Op):
    """The solver as PyTensor sees external code that has an adjoint."""

    __props__ = ()

    def make_node(self, theta):
        """Declare the parameters, the readings and their Jacobian."""
        theta = pt.as_tensor(theta)
        return Apply(self, [theta], [pt.dvector(), pt.dmatrix()])

    def perform(self, node, inputs, outputs):
        """Solve."""
        outputs[0][0], outputs[1][0] = readings_and_jacobian(inputs[0])

    def L_op(self, inputs, outputs, gradients):
        """Chain rule for the readings; the Jacobian is not differentiated again."""
        return [gradients[0] @ outputs[1]]

    pullback = L_op  # its name from PyTensor 3 on


def build_model(readings: np.ndarray) -> pm.Model:
    with pm.Model() as model:
        place = pm.Uniform("place", 0, 1, shape=2)
        strength = pm.Normal("strength", 1.0, STRENGTH_SD)
        contrast = pm.Normal("contrast", 0.0, CONTRAST_SD)
        temperature, _ = HeatOp()(pt.concatenate([place, [strength], [contrast]]))
        pm.Normal("reading", temperature, NOISE, observed=readings)
    return model


# ------------------------------------------------------------------ the reference


class Quadrature:
    """Posterior over a grid of place and contrast, the strength integrated in closed form.

    Parameters
    ----------
    readings : array of shape (4,)
    side, nodes : int
        Grid points along each axis of the place, and for the contrast.
    """

    def __init__(self, readings: np.ndarray, side: int, nodes: int) -> None:
        self.axis = (np.arange(side) + 0.5) / side
        self.contrast = CONTRAST_SD * np.linspace(-4.5, 4.5, nodes)
        self.width = self.contrast[1] - self.contrast[0]
        bumps = bump(self.axis)
        prior = np.exp(-0.5 * (self.contrast / CONTRAST_SD) ** 2)
        prior /= prior.sum()
        logs, self.mean = [], []
        precision = 1 / STRENGTH_SD**2
        for contrast, mass in zip(self.contrast, prior, strict=True):
            adjoint = solve(factor(contrast), SENSOR_ROWS)
            unit = np.einsum("xi,ijk,yj->xyk", bumps, adjoint, bumps, optimize=True)
            total = precision + (unit**2).sum(axis=2) / NOISE**2
            mean = (precision + unit @ readings / NOISE**2) / total
            square = (readings**2).sum() / NOISE**2 + precision - total * mean**2
            log = -0.5 * square - 0.5 * np.log(total / precision) + np.log(mass)
            logs.append(log - len(readings) * np.log(NOISE * np.sqrt(2 * np.pi)))
            self.mean.append(np.stack([mean, 1 / np.sqrt(total)]))
        log = np.stack(logs)
        mass = np.exp(log - log.max())
        self.log_evidence = float(log.max() + np.log(mass.sum() / side**2))
        self.mass = mass / mass.sum()
        self.mean = np.stack(self.mean)

    @property
    def over_place(self) -> np.ndarray:
        """Posterior mass of each cell of the plate, shape (side, side)."""
        return self.mass.sum(axis=0)

    @property
    def above(self) -> float:
        """Posterior mass of places in the upper half."""
        return float(self.over_place[:, self.axis > 0.5].sum())

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the four parameters: a cell, a place in it, and the strength given both."""
        cell = rng.choice(self.mass.size, size=n, p=self.mass.ravel())
        c, i, j = np.unravel_index(cell, self.mass.shape)
        jitter = rng.random((3, n)) - 0.5
        place = self.axis[np.stack([i, j])] + jitter[:2] / len(self.axis)
        mean, sd = self.mean[c, 0, i, j], self.mean[c, 1, i, j]
        strength = mean + sd * rng.standard_normal(n)
        contrast = self.contrast[c] + jitter[2] * self.width
        return np.column_stack([*place, strength, contrast])


def to_unconstrained(theta: np.ndarray) -> np.ndarray:
    return np.column_stack([logit(theta[:, :2]), theta[:, 2:]])


def to_parameters(x: np.ndarray) -> np.ndarray:
    return np.column_stack([expit(x[:, :2]), x[:, 2:]])


# ------------------------------------------------------------------ the comparison


def methods(model, density, seed: int, quick: bool):
    """Yield name and outcome of each method, and the fit with ours."""
    rng = np.random.default_rng([seed, 2])
    draws = 300 if quick else 2000
    fit, ours = common.run_ours(density, target_se=0.03 if quick else 0.005, seed=seed, draws=draws)
    yield OURS, ours, fit
    x = fit.generate(4 * draws, rng)
    yield UNCORRECTED, common.Outcome(x, 0, 0.0, f"the same fit, {4 * draws:,} draws"), None
    size = (50, 50) if quick else (500, 500)
    yield NUTS, common.run_nuts(model, seed=seed, draws=size[0], tune=size[1]), None
    start = common.walkers(density, 64, rng)
    steps = 100 if quick else 2000
    yield EMCEE, common.run_emcee(density.logp, start, seed=seed, steps=steps), None
    yield SMC, common.run_smc(model, seed=seed, draws=100 if quick else 1000), None


def compare(seed: int, quick: bool) -> dict:
    from pymc_multimodal.model.build import density_of

    readings = make_readings()
    exact = Quadrature(readings, *((100, 31) if quick else (240, 81)))
    model = build_model(readings)
    density = density_of(model)
    rng = np.random.default_rng([seed, 3])
    reference = exact.draws(20_000 if quick else 400_000, rng)
    found = {"log_evidence": exact.log_evidence, "above": exact.above}
    found[REFERENCE] = {"points": np.round(reference[:4000], 4)}
    for name, outcome, fit in methods(model, density, seed, quick):
        theta = to_parameters(outcome.x)
        above = float(np.mean(theta[:, 1] > 0.5))
        found[name] = {
            "weights": [above, 1 - above],
            "error": abs(above - exact.above),
            "evals": outcome.evals,
            "seconds": outcome.seconds,
            "settings": outcome.settings,
            "extra": outcome.extra,
            "points": np.round(common.pick(theta, 4000, rng), 4),
        }
        if fit is not None:
            found["fit"] = judge(fit, outcome, to_unconstrained(reference), exact)
    return found


def make_readings() -> np.ndarray:
    noise = np.random.default_rng(4).standard_normal(len(SENSORS))
    return readings_and_jacobian(TRUTH)[0] + NOISE * noise


def judge(fit, outcome, reference: np.ndarray, exact: Quadrature) -> dict:
    """Weights and evidence of the fit beside those of the quadrature."""
    n = len(reference)
    truth = np.bincount(fit.label(reference), minlength=fit.n_modes) / n
    z = common.z_scores(
        fit.weights.weight, fit.weights.weight_se, truth, np.sqrt(truth * (1 - truth) / n)
    )
    return outcome.extra | {
        "truth": truth,
        "region_error": float(np.abs(fit.weights.weight - truth).max()),
        "largest_z": float(np.abs(z).max()),
        "log_z_error": fit.weights.total - exact.log_evidence,
        "log_z_se": fit.weights.total_se,
        "locations": to_parameters(fit.modes.locations),
    }


def report(r: dict) -> str:
    rows = [{"method": REFERENCE, "weights": common.show([r["above"], 1 - r["above"]])}]
    for method in (OURS, UNCORRECTED, NUTS, EMCEE, SMC):
        rows.append(common.method_row(method, r[method]))
        if method == OURS:
            rows.append(common.fit_row(r["fit"]))
    rows = [{k.replace("weights", "above, below"): v for k, v in row.items()} for row in rows]
    return common.table(rows) + (
        f"\n\nregions: stated {common.show(r['fit']['weight'])}, "
        f"by quadrature {common.show(r['fit']['truth'])}"
    )


def draw(r: dict, stem: str) -> None:
    """Posterior of the place with draws of each method, and marginals of all parameters."""
    figure, axes = common.figure(2, 5, (16, 7))
    exact = Quadrature(make_readings(), 160, 41)
    density = np.log(exact.over_place.T + 1e-300)
    for ax, method in zip(axes[0], (OURS, UNCORRECTED, NUTS, EMCEE, SMC), strict=True):
        ax.contourf(
            exact.axis, exact.axis, density - density.max(), levels=[-8, -6, -4, -2, -1, 0],
            cmap="Greys", alpha=0.8,
        )  # fmt: skip
        points = np.array(r[method]["points"])[:1500]
        ax.plot(*points[:, :2].T, ".", ms=2, alpha=0.4, color=common.COLOURS[method])
        where = np.array(SENSORS) * SPACING + SPACING
        ax.plot(*where.T, "^", ms=6, mfc="white", mec="black", label="thermometers")
        ax.plot(*TRUTH[:2], "*", ms=12, mfc="white", mec="black", label="true source")
        turn = np.linspace(0, 2 * np.pi, 100)
        circle = INCLUSION[:, None] + REACH * np.stack([np.cos(turn), np.sin(turn)])
        ax.plot(*circle, ":", color="black", lw=1, label="inclusion")
        share = r[method]["weights"][0]
        ax.set_title(f"{method}\nabove: {share:.3f} (exactly {r['above']:.3f})", fontsize=10)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=NAMES[0])
    axes[0, 0].set_ylabel(NAMES[1])
    for i, ax in enumerate(axes[1, :4]):
        values = {m: np.array(r[m]["points"])[:, i] for m in (REFERENCE, OURS, NUTS, EMCEE, SMC)}
        low, high = np.quantile(values[REFERENCE], [0.001, 0.999])
        edges = np.linspace(low, high, 31)
        for method, v in values.items():
            height = np.histogram(v, edges, density=True)[0]
            if method == REFERENCE:
                ax.stairs(height, edges, fill=True, color="0.85", label=method)
            else:
                ax.stairs(height, edges, color=common.COLOURS[method], lw=1.3, label=method)
        ax.set(xlabel=NAMES[i], yticks=[])
    axes[1, 0].set_ylabel("posterior density")
    axes[1, 4].axis("off")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    marks = axes[0, 0].get_legend_handles_labels()
    axes[1, 4].legend(handles + marks[0], labels + marks[1], frameon=False, loc="center left")
    common.save(figure, stem)


def main() -> None:
    common.compare_once(__doc__, __file__, compare, report, draw)


if __name__ == "__main__":
    main()
