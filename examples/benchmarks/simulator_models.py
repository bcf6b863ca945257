"""Simulators with Normal noise in NumPy.

Coordinates are unconstrained: standard normal by the prior, or the logits of uniform parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.special import expit, gammaln, logsumexp, ndtr, stdtr

from pymc_multimodal.target.density import Density

LOG_2PI = float(np.log(2 * np.pi))
# Points of the prior, and of the first mixture, by which the mixture of the truth is found.
# Conventional.
FIRST_POINTS = (200_000, 60_000)
# Evaluations at the same time. Conventional.
WORKERS = 16
# Step of the differences that stand for a solver's gradient. Conventional: the cube root of the
# spacing of float64.
GRADIENT_STEP = 6e-6
# Points of one call of a simulator, for its memory. Conventional.
BLOCK = 20_000
# Log Z and share of the event: ``simulators.py --truth``, with standard errors of 0.0023 and 0.0014
# at most; those of the plume by quadrature at two resolutions.
TRUTHS: dict[str, tuple[float, float]] = {
    "slow_plume": (2.463, 0.3670),
    "elliptic": (2.9406, 0.7124),
    "pk_flip_flop": (-7.0440, 0.1327),
    "pk_edge": (-7.8657, 0.3737),
}


@dataclass(frozen=True)
class Simulator:
    """A posterior with Normal noise, or one of which only the log likelihood is written.

    Attributes
    ----------
    name : str
    uniform : array of bool, shape (d,)
        Coordinates that are logits of parameters in (0, 1); the others are standard normal, times
        `prior_sd`.
    outputs_of : callable or None
        Outputs (n, m) of parameters (n, i), the first i of the d.
    event : callable
        Whether parameters (n, d) belong to an explanation, shape (n,).
    seen, noise : arrays of shape (m,)
        Readings, and standard deviations of their noise.
    noise_sd : float
        If positive, the last coordinate times `noise_sd` is added to the log of the noise.
    log_likelihood : callable or None
        Where there are no outputs, of parameters (n, d).
    prior_sd : float
    log_z, share : float or None
        Truth: log evidence, and posterior mass of the event.
    first_points : tuple of int
        Points by which the truth's mixture is found.
    cell_of : callable or None
        Number of the explanation of parameters (n, d); by default that of `event`.
    exact_draws : callable or None
        ``exact_draws(n, rng)`` returns posterior draws (n, d).
    """

    name: str
    uniform: np.ndarray
    outputs_of: Callable[[np.ndarray], np.ndarray] | None
    event: Callable[[np.ndarray], np.ndarray]
    seen: np.ndarray = field(default_factory=lambda: np.empty(0))
    noise: np.ndarray = field(default_factory=lambda: np.empty(0))
    noise_sd: float = 0.0
    log_likelihood: Callable[[np.ndarray], np.ndarray] | None = None
    prior_sd: float = 1.0
    log_z: float | None = None
    share: float | None = None
    first_points: tuple[int, int] = FIRST_POINTS
    cell_of: Callable[[np.ndarray], np.ndarray] | None = None
    exact_draws: Callable[[int, np.random.Generator], np.ndarray] | None = None

    @property
    def dim(self) -> int:
        return len(self.uniform)

    @property
    def inputs(self) -> np.ndarray:
        return np.arange(self.dim - (self.noise_sd > 0))

    @property
    def n_outputs(self) -> int:
        return len(self.seen)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"y[{i}]" for i in range(self.n_outputs))

    def parameters(self, x: np.ndarray) -> np.ndarray:
        """Parameters of unconstrained points, shape (n, d)."""
        return np.where(self.uniform, expit(x), x)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Run the simulator at unconstrained points (n, d): outputs (n, m)."""
        assert self.outputs_of is not None
        theta = self.parameters(x)[:, self.inputs]
        parts = [self.outputs_of(theta[i : i + BLOCK]) for i in range(0, len(x), BLOCK)]
        return np.concatenate(parts)

    def noise_at(self, x: np.ndarray) -> np.ndarray:
        """Return standard deviations of the noise at points (n, d), shape (n, m)."""
        factor = np.exp(self.noise_sd * x[:, -1:]) if self.noise_sd > 0 else np.ones((len(x), 1))
        return self.noise * factor

    def log_prior(self, x: np.ndarray) -> np.ndarray:
        """Log density of the prior at unconstrained points, shape (n,)."""
        z = x / self.prior_sd
        normal = -0.5 * z**2 - 0.5 * LOG_2PI - np.log(self.prior_sd)
        logistic = -np.abs(x) - 2 * np.log1p(np.exp(-np.abs(x)))
        return np.where(self.uniform, logistic, normal).sum(axis=1)

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log density (n,) for given outputs (n, m)."""
        sd = self.noise_at(x)
        each = -0.5 * ((y - self.seen) / sd) ** 2 - np.log(sd) - 0.5 * LOG_2PI
        return self.log_prior(x) + each.sum(axis=1)

    def log_density_and_grad(self, x: np.ndarray, y: np.ndarray):
        """Log density (n,) with its gradients by x and by the outputs."""
        sd = self.noise_at(x)
        by_x = np.where(self.uniform, 1 - 2 * expit(x), -x / self.prior_sd**2)
        if self.noise_sd > 0:
            by_x[:, -1] += self.noise_sd * (((y - self.seen) / sd) ** 2 - 1).sum(axis=1)
        return self.log_density(x, y), by_x, (self.seen - y) / sd**2

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,); the simulator is run."""
        if self.log_likelihood is not None:
            return self.log_prior(x) + self.log_likelihood(self.parameters(x))
        return self.log_density(x, self.outputs(x))

    def prior_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points, shape (n, d)."""
        u = rng.random((n, self.dim))
        logit = np.log(u) - np.log1p(-u)
        return np.where(self.uniform, logit, self.prior_sd * rng.standard_normal((n, self.dim)))

    def cells(self, x: np.ndarray) -> np.ndarray:
        """Return the number of the explanation of each point, shape (n,)."""
        theta = self.parameters(x)
        return (self.cell_of or self.event)(theta).astype(int)

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density (n,) with its gradient by central differences, shape (n, d)."""
        steps = GRADIENT_STEP * np.eye(self.dim)
        ends = [self.logp(np.concatenate([x + step, x - step])) for step in steps]
        above, below = np.stack(ends, axis=1).reshape(2, len(x), self.dim)
        return self.logp(x), (above - below) / (2 * GRADIENT_STEP)

    def density(
        self, hidden: bool = False, *, gradient: bool = False, seconds: float = 0.0
    ) -> Counted:
        """Return a density whose calls are counted; its outputs are seen unless they are hidden."""
        hidden = hidden or self.log_likelihood is not None
        return Counted(self, hidden, gradient=gradient, seconds=seconds)


class Counted(Density):
    """A density that counts the rounds of its evaluations, with 16 of them at the same time.

    A call that asks for n new points takes n / 16 rounds, rounded up.

    Parameters
    ----------
    simulator : Simulator
    hidden : bool
        Whether only the log density is seen.
    gradient : bool
        Whether it has a gradient; each is one evaluation.
    seconds : float
        That an evaluation of the log density takes longer.
    """

    def __init__(
        self,
        simulator: Simulator,
        hidden: bool,
        *,
        gradient: bool = False,
        seconds: float = 0.0,
    ) -> None:
        self.rounds = 0

        def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            time.sleep(seconds * len(x))
            return simulator.logp_and_grad(x) if gradient else (simulator.logp(x), None)

        super().__init__(
            function,
            simulator.dim,
            has_gradient=gradient,
            prior=simulator.prior_draws,
            split=None if hidden else lambda names: simulator,
        )

    def logp(self, x: np.ndarray, *, chunk: int | None = None) -> np.ndarray:
        before = self.n_logp_evals
        try:
            return super().logp(x, chunk=chunk)
        finally:
            self.rounds += -(-(self.n_logp_evals - before) // WORKERS)

    def logp_and_outputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = self.n_logp_evals
        try:
            return super().logp_and_outputs(x)
        finally:
            self.rounds += -(-(self.n_logp_evals - before) // WORKERS)


# ------------------------------------------------------------------ named simulators

PLUME_SIZE, PLUME_AREA, PLUME_WIDTH = (64, 48), (2.0, 1.0), 0.04
PLUME_WELLS = np.array([(1.0, 0.02), (1.5, -0.02), (1.25, 0.0), (1.75, 0.01)])


def plume_outputs(theta: np.ndarray) -> np.ndarray:
    """Concentrations at four wells of a steady plume, shape (n, 4).

    Advection along the first axis, by upwind differences, diffusion and decay. The sine transform
    across the flow leaves a tridiagonal system along it for each frequency.
    """
    (nx, ny), (lx, ly) = PLUME_SIZE, PLUME_AREA
    hx, hy = lx / (nx + 1), ly / (ny + 1)
    gx, gy = hx * np.arange(1, nx + 1), hy * np.arange(1, ny + 1) - ly / 2
    x, y = 0.1 + 0.8 * theta[:, :1], -0.4 + 0.8 * theta[:, 1:2]
    q, d = np.exp(0.5 * theta[:, 2]), 0.03 * np.exp(0.5 * theta[:, 3:4])
    frequency = np.arange(1, ny + 1)
    sines = np.sqrt(2 / (ny + 1)) * np.sin(np.pi * np.outer(frequency, frequency) / (ny + 1))
    across = -4 / hy**2 * np.sin(0.5 * np.pi * frequency / (ny + 1)) ** 2
    source_y = np.exp(-0.5 * ((gy - y) / PLUME_WIDTH) ** 2) @ sines
    source_x = np.exp(-0.5 * ((gx - x) / PLUME_WIDTH) ** 2) / (2 * np.pi * PLUME_WIDTH**2)
    below, above = -d / hx**2 - 1 / hx, -d / hx**2
    middle = 2 * d / hx**2 + 1 / hx + 0.3 - d * across
    ratio, right = np.empty((nx, len(theta), ny)), np.empty((nx, len(theta), ny))
    pivot = middle
    ratio[0], right[0] = above / pivot, source_x[:, :1] * source_y / pivot
    for i in range(1, nx):
        pivot = middle - below * ratio[i - 1]
        ratio[i] = above / pivot
        right[i] = (source_x[:, i : i + 1] * source_y - below * right[i - 1]) / pivot
    for i in range(nx - 2, -1, -1):
        right[i] -= ratio[i] * right[i + 1]
    out = np.zeros((len(theta), 4))
    for j, (wx, wy) in enumerate(PLUME_WELLS):
        ax, ay = (np.exp(-0.5 * ((g - w) / 0.03) ** 2) for g, w in ((gx, wx), (gy, wy)))
        weight_x, weight_y = ax / ax.sum(), (ay / ay.sum()) @ sines
        out[:, j] = np.einsum("i,inf,f->n", weight_x, right, weight_y)
    return q[:, None] * out


def plume() -> Simulator:
    """Where does a plume come from: position, strength and diffusion of a source."""
    true = np.array([[0.35 / 0.8, 0.57 / 0.8, 2 * np.log(1.2), 0.0]])
    noise = 0.06 * np.random.default_rng(2).standard_normal(4)
    return Simulator(
        "slow_plume",
        np.array([True, True, False, False]),
        plume_outputs,
        lambda theta: theta[:, 1] < 0.5,
        plume_outputs(true)[0] + noise,
        np.full(4, 0.06),
        first_points=(40_000, 20_000),
    )


def rod_outputs(theta: np.ndarray) -> np.ndarray:
    """Temperatures (n, 2) of a rod, -(k u')' = f, with two narrow sources at theta (n, 2)."""
    h = 1 / 42
    place, between = h * np.arange(1, 42), h * (np.arange(42) + 0.5)
    k = 1 + 0.6 * np.sin(2 * np.pi * between)
    matrix = np.diag(k[:-1] + k[1:]) - np.diag(k[1:-1], 1) - np.diag(k[1:-1], -1)
    bumps = np.exp(-0.5 * ((place - theta[..., None]) / 0.04) ** 2) / (0.04 * np.sqrt(2 * np.pi))
    force = np.einsum("s,nsi->ni", [1.0, 0.7], bumps)
    return force @ np.linalg.inv(matrix / h**2)[[16, 24]].T


def rod() -> Simulator:
    """Where are two sources of heat: four explanations of two temperatures."""
    noise = 0.005 * np.random.default_rng(1).standard_normal(2)
    return Simulator(
        "elliptic",
        np.ones(2, dtype=bool),
        rod_outputs,
        lambda theta: theta[:, 0] < 0.5,
        rod_outputs(np.array([[0.25, 0.6]]))[0] + noise,
        np.full(2, 0.005),
    )


TIMES = np.array([0.5, 1.0, 1.5, 2.0, 4.0, 6.0, 8.0, 12.0])


def compartments(ka, cl, v, q, v2) -> np.ndarray:
    """Concentrations (n, 8) after an oral dose of 100: two compartments; arguments (n, 1)."""
    k10, k12, k21 = cl / v, q / v, q / v2
    half, root = 0.5 * (k10 + k12 + k21), np.sqrt((k10 + k12 + k21) ** 2 / 4 - k10 * k21)
    alpha, beta = half + root, half - root
    # Rates that are equal are moved apart, which changes the sum by their relative distance.
    ka = np.where(np.abs(ka / alpha - 1) < 1e-5, ka * (1 + 2e-5), ka)
    ka = np.where(np.abs(ka / beta - 1) < 1e-5, ka * (1 + 2e-5), ka)
    a = (k21 - alpha) / ((ka - alpha) * (beta - alpha))
    b = (k21 - beta) / ((ka - beta) * (alpha - beta))
    decay = [np.exp(-rate * TIMES) for rate in (alpha, beta, ka)]
    return 100 * ka / v * (a * decay[0] + b * decay[1] - (a + b) * decay[2])


PK_MEDIAN, PK_SPREAD = np.log([0.8, 4.0, 10.0, 1.0, 10.0]), np.array([0.7, 0.5, 0.5, 0.4, 0.4])
PK_TRUE = np.array([[1.0, 0.2, 0.2, 0.3, 0.0]])


def pk_outputs(z: np.ndarray) -> np.ndarray:
    """Concentrations of log-normal rates, volumes and clearance, from normal scores (n, 5)."""
    return compartments(*np.exp(PK_MEDIAN + PK_SPREAD * z).T[:, :, None])


def pk() -> Simulator:
    """Absorption and elimination that may be exchanged (flip-flop kinetics)."""
    noise = 0.4 * np.random.default_rng(1).standard_normal(8)
    return Simulator(
        "pk_flip_flop",
        np.zeros(5, dtype=bool),
        pk_outputs,
        lambda z: (
            PK_MEDIAN[0] + PK_SPREAD[0] * z[:, 0]
            < (PK_MEDIAN[1] - PK_MEDIAN[2]) + PK_SPREAD[1] * z[:, 1] - PK_SPREAD[2] * z[:, 2]
        ),
        pk_outputs(PK_TRUE)[0] + noise,
        np.full(8, 0.4),
    )


# Scores of the normal ones between which the parameters are uniform: the true absorption and
# volume are near ends.
EDGES = np.array([[-3.0, 1.05], [-2.0, 2.0], [-2.0, 0.4], [-2.0, 2.0], [-2.0, 2.0]])


def _at_edge(theta: np.ndarray) -> np.ndarray:
    return EDGES[:, 0] + (EDGES[:, 1] - EDGES[:, 0]) * theta


def pk_edge() -> Simulator:
    """Return the same with uniform parameters, of which two have their mass at an end."""
    inner = pk()
    return Simulator(
        "pk_edge",
        np.ones(5, dtype=bool),
        lambda theta: pk_outputs(_at_edge(theta)),
        lambda theta: inner.event(_at_edge(theta)),
        inner.seen,
        inner.noise,
    )


def two_modes(kind: str, dim: int) -> Simulator:
    """Two normal or Student densities (5 degrees of freedom) of weights 0.3 and 0.7.

    The prior is normal with a standard deviation of 4; the likelihood is such that the posterior is
    the mixture.
    """
    centres = np.stack([np.full(dim, 4 / np.sqrt(dim)), np.full(dim, -4 / np.sqrt(dim))])
    widths = np.array([1.0, 0.7])
    prior = Simulator("", np.zeros(dim, dtype=bool), None, lambda t: t[:, 0] > 0, prior_sd=4.0)

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        parts = []
        for p, centre, width in zip((0.3, 0.7), centres, widths, strict=True):
            square = (((x - centre) / width) ** 2).sum(axis=1)
            if kind == "normals":
                value = -0.5 * square - 0.5 * dim * LOG_2PI
            else:
                value = gammaln(0.5 * (5 + dim)) - gammaln(2.5) - 0.5 * dim * np.log(5 * np.pi)
                value = value - 0.5 * (5 + dim) * np.log1p(square / 5)
            parts.append(np.log(p) - dim * np.log(width) + value)
        return logsumexp(parts, axis=0) - prior.log_prior(x)

    tail = ndtr if kind == "normals" else partial(stdtr, 5)

    def exact_draws(n: int, rng: np.random.Generator) -> np.ndarray:
        k = (rng.random(n) > 0.3).astype(int)
        z = rng.standard_normal((n, dim))
        if kind == "t":
            z /= np.sqrt(rng.chisquare(5, n) / 5)[:, None]
        return centres[k] + widths[k][:, None] * z

    return Simulator(
        f"{kind}_{dim}",
        np.zeros(dim, dtype=bool),
        None,
        lambda x: x.sum(axis=1) > 0,
        log_likelihood=log_likelihood,
        prior_sd=4.0,
        log_z=0.0,
        share=float(0.3 * tail(4.0) + 0.7 * (1 - tail(4.0 / 0.7))),
        exact_draws=exact_draws,
    )
