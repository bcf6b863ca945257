"""Emulation of a simulator's outputs, and the log density that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.emulation.process import JointProcess, Process, fit_process
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.emulation.features import Features
    from pymc_multimodal.target import OutputModel

__all__ = ["OutputEmulator", "OutputUncertainty", "Scaling", "emulate_outputs"]

# Outputs up to which each has a process of its own; more are described by principal components.
# Conventional.
MAX_SEPARATE = 12
# Share of the noise's variance that the components which are left out may have, and most
# components. Conventional.
LEFT_OUT, MAX_COMPONENTS = 0.01, 20
# Points of the highest log density of which the noise of the outputs is found. Conventional.
BEST_POINTS = 8
# Multiple of an output's spread beyond which its inverse hyperbolic sine is linear. Conventional.
LINEAR = 1e3
# First points, those of the design, by which the scale of an output is chosen. Conventional.
SCALED_POINTS = 128
# Step of the differences by which second derivatives of the log likelihood are found, in units of
# the noise; where it is not known, in spreads of the outputs. Conventional.
STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Scaling:
    r"""Outputs on the scale on which they are emulated, :math:`u = (b/c) \sinh^{-1}((y - a) / b)`.

    With a = 0 and b = c the noise of an observation, u is close to a logarithm where outputs span
    decades. With a large b it is linear, in units of c.

    Attributes
    ----------
    centre, reach, unit : arrays of shape (m,)
        The numbers a, b and c.
    components : array of shape (m, r)
        Rows of outputs are ``mean + components @ f``; the identity where each has its own process.
    mean : array of shape (m,)
    """

    centre: np.ndarray
    reach: np.ndarray
    unit: np.ndarray
    components: np.ndarray
    mean: np.ndarray

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Coefficients of outputs (n, m), shape (n, r)."""
        out: np.ndarray = (self._scaled(y) - self.mean) @ self.components
        return out

    def _scaled(self, y: np.ndarray) -> np.ndarray:
        out: np.ndarray = self.reach / self.unit * np.arcsinh((y - self.centre) / self.reach)
        return out

    def backward(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return outputs of coefficients (n, r), and their derivatives by u; two arrays (n, m)."""
        u = self._by_reach(self.mean + f @ self.components.T)
        return self.centre + self.reach * np.sinh(u), self.unit * np.cosh(u)

    def outputs(self, u: np.ndarray) -> np.ndarray:
        """Return outputs of values on this scale, both of shape (n, m)."""
        out: np.ndarray = self.centre + self.reach * np.sinh(self._by_reach(u))
        return out

    def _by_reach(self, u: np.ndarray) -> np.ndarray:
        return np.clip(u * (self.unit / self.reach), -300.0, 300.0)


@dataclass(frozen=True, eq=False)
class OutputEmulator:
    r"""The log density with the outputs of its simulator emulated.

    The outputs have means and variances V. With the gradient g of the log density by the outputs
    and minus its second derivatives C, both at the means, the log of its mean over the outputs is

    .. math:: \ell - \tfrac12 \log |I + B^T C B| + \tfrac12 (B^T g)^T (I + B^T C B)^{-1} B^T g,
              \qquad B B^T = V,

    which is exact for normal observations: V is added to the noise's variance.

    Attributes
    ----------
    model : OutputModel
    features : Features
    scaling : Scaling
    processes : tuple of r Process
    x, y : arrays of shape (n, d) and (n, m)
        Points with their outputs.
    separable : bool
        Whether the log density is a sum over the outputs: C is diagonal.
    """

    model: OutputModel
    features: Features
    scaling: Scaling
    processes: tuple[Process, ...]
    x: np.ndarray
    y: np.ndarray
    separable: bool

    @cached_property
    def _joint(self) -> JointProcess:
        return JointProcess(self.processes)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the mean density at points (n, d), and its error; shapes (n,), (n,).

        The mean is over what the outputs may be; the error is a standard deviation.
        """
        z = self.features(x)
        mean, variance = self._joint(z)
        y, slope = self.scaling.backward(mean)
        with np.errstate(over="ignore", invalid="ignore"):
            value, _, grad = self.model.log_density_and_grad(x, y)
            root = (slope[:, :, None] * self.scaling.components) * np.sqrt(variance)[:, None]
            g = np.einsum("nmr,nm->nr", root, grad)
            inside = np.eye(root.shape[2]) + self._curvature(x, y, grad, root)
            ok = np.isfinite(inside).all(axis=(1, 2)) & np.isfinite(g).all(axis=1)
        out, sd = np.full(len(x), -np.inf), np.full(len(x), np.inf)
        if ok.any():
            chol = np.linalg.cholesky(inside[ok])
            solved = np.linalg.solve(chol, g[ok][:, :, None])[:, :, 0]
            squared = np.square(solved).sum(axis=1)
            half_log = np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
            out[ok] = value[ok] - half_log + 0.5 * squared
            sd[ok] = np.sqrt(
                squared + 0.5 * np.square(inside[ok] - np.eye(inside.shape[1])).sum((1, 2))
            )
        return np.where(np.isfinite(out), out, -np.inf), sd

    def _curvature(
        self, x: np.ndarray, y: np.ndarray, grad: np.ndarray, root: np.ndarray
    ) -> np.ndarray:
        """Return B' C B with the negative part of C left out, shape (n, r, r)."""
        step = STEP * self.scaling.unit
        if self.separable:
            _, _, beside = self.model.log_density_and_grad(x, y + step)
            c = np.maximum((grad - beside) / step, 0.0)
            out: np.ndarray = np.einsum("nmr,nm,nms->nrs", root, c, root)
            return out
        columns = []
        for r in range(root.shape[2]):
            length = np.maximum(np.max(np.abs(root[:, :, r]) / self.scaling.unit, axis=1), 1e-300)
            h = STEP / length
            _, _, beside = self.model.log_density_and_grad(x, y + h[:, None] * root[:, :, r])
            columns.append(np.einsum("nmr,nm->nr", root, (grad - beside) / h[:, None]))
        full = np.stack(columns, axis=2)
        full = 0.5 * (full + full.transpose(0, 2, 1))
        full[~np.isfinite(full).all(axis=(1, 2))] = 0.0
        value, vector = np.linalg.eigh(full)
        positive: np.ndarray = (vector * np.maximum(value, 0.0)[:, None]) @ vector.transpose(
            0, 2, 1
        )
        return positive

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log of the mean density at points (n, d), shape (n,)."""
        return self.predict(x)[0]

    def uncertainty(self, x: np.ndarray) -> OutputUncertainty:
        """Return the uncertainty of the log density at candidates, shape (n, d)."""
        z = self.features(x)
        mean, _ = self._joint(z)
        y, slope = self.scaling.backward(mean)
        _, _, grad = self.model.log_density_and_grad(x, y)
        step = STEP * self.scaling.unit
        _, _, beside = self.model.log_density_and_grad(x, y + step)
        with np.errstate(over="ignore", invalid="ignore"):
            c = np.maximum((grad - beside) / step, 0.0)
            by_component = np.einsum("nm,mr->nr", grad * slope, self.scaling.components)
            curvature = np.einsum("nm,mr->nr", c * slope**2, self.scaling.components**2)
        return OutputUncertainty(
            [p.covariance(z) for p in self.processes],
            np.nan_to_num(by_component, posinf=0.0, neginf=0.0),
            np.nan_to_num(curvature, posinf=0.0, neginf=0.0),
        )

    def updated(
        self, x: np.ndarray, y: np.ndarray, logp: np.ndarray, *, refit: bool
    ) -> OutputEmulator:
        """Return the emulator of more points; without a refit lengths and scale are the same."""
        if refit:
            return emulate_outputs(self.model, self.features, x, y, logp, self)
        fine = np.isfinite(y).all(axis=1)
        z, f = self.features(x[fine]), self.scaling.forward(y[fine])
        processes = tuple(p.with_data(z, f[:, i]) for i, p in enumerate(self.processes))
        return replace(self, processes=processes, x=x[fine], y=y[fine])

    @property
    def described(self) -> str:
        """What is emulated, in words."""
        return counted(self.model.n_outputs, "output") + " of the simulator"

    @cached_property
    def left_out_errors(self) -> np.ndarray:
        """Errors of the outputs at each point given the others, in standard deviations, (n, r)."""
        parts = [(p.y - p.left_out()[0]) / np.sqrt(p.left_out()[1]) for p in self.processes]
        return np.stack(parts, axis=1)


class OutputUncertainty:
    """Uncertainty of the log density at candidates, which falls as candidates are chosen.

    Parameters
    ----------
    covariance : list of r arrays of shape (n, n)
        Of the candidates, for each process.
    grad, curvature : arrays of shape (n, r)
        First and minus second derivatives of the log density by the processes.
    """

    def __init__(
        self, covariance: list[np.ndarray], grad: np.ndarray, curvature: np.ndarray
    ) -> None:
        self.covariance, self.grad, self.curvature = covariance, grad, curvature

    def variance(self) -> np.ndarray:
        """Variance of the log density at each candidate, shape (n,)."""
        v = np.stack([np.maximum(np.diagonal(c), 0.0) for c in self.covariance], axis=1)
        own = v * self.curvature
        return np.sum(v * self.grad**2 / (1.0 + own) + 0.5 * own**2, axis=1)

    def choose(self, i: int) -> None:
        """Condition the processes on the value at candidate i, which is not known yet."""
        for c in self.covariance:
            if c[i, i] > 0:
                c -= np.outer(c[i], c[i]) / (c[i, i] * (1.0 + 1e-6))


def emulate_outputs(
    model: OutputModel,
    features: Features,
    x: np.ndarray,
    y: np.ndarray,
    logp: np.ndarray,
    before: OutputEmulator | None = None,
) -> OutputEmulator:
    """Fit the processes of all outputs.

    Parameters
    ----------
    model : OutputModel
    features : Features
    x, y, logp : arrays of shape (n, d), (n, m) and (n,)
        Points with their outputs and log densities; rows with outputs that are not finite are left
        out.
    before : OutputEmulator, optional
        Of fewer points: where the lengths are searched from.

    Returns
    -------
    OutputEmulator
    """
    fine = np.isfinite(y).all(axis=1)
    x, y, logp = x[fine], y[fine], logp[fine]
    z = features(x)
    scaling, separable = _scaling(model, x, z, y, logp)
    f = scaling.forward(y)
    known = before.processes if before is not None else ()
    if len(known) != f.shape[1]:
        known = ()
    processes = tuple(
        fit_process(z, f[:, i], known[i] if known else None) for i in range(f.shape[1])
    )
    return OutputEmulator(model, features, scaling, processes, x, y, separable)


def _scaling(
    model: OutputModel, x: np.ndarray, z: np.ndarray, y: np.ndarray, logp: np.ndarray
) -> tuple[Scaling, bool]:
    """Find the noise of the outputs by the log density, and whether they are emulated as it is."""
    best = np.argsort(-logp, kind="stable")[:BEST_POINTS]
    m, spread = y.shape[1], np.maximum(y.std(axis=0), 1e-12 * (1.0 + np.abs(y).max(axis=0)))
    hessian = _hessian(model, x[best], y[best], STEP * spread)
    separable = _is_diagonal(hessian, spread)
    c = np.median(np.diagonal(hessian, axis1=1, axis2=2), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(c > 0, 1.0 / np.sqrt(c), np.inf)
    unit = np.where(np.isfinite(noise), np.minimum(noise, spread), spread)
    linear = np.array([_is_linear(z, y[:, i], unit[i], spread[i]) for i in range(m)])
    centre = np.where(linear, np.median(y, axis=0), 0.0)
    reach = np.where(linear, LINEAR * spread, unit)
    plain = Scaling(centre, reach, unit, np.eye(m), np.zeros(m))
    if m <= MAX_SEPARATE:
        return plain, separable
    u = plain.forward(y)
    mean = u.mean(axis=0)
    _, singular, rows = np.linalg.svd(u - mean, full_matrices=False)
    # Variance that is left, for each output, when r components are kept.
    left = np.append(np.cumsum(singular[::-1] ** 2)[::-1], 0.0) / u.size
    r = int(np.clip(np.argmax(left <= LEFT_OUT), 1, MAX_COMPONENTS))
    return Scaling(centre, reach, unit, rows[:r].T, mean), separable


def _is_linear(z: np.ndarray, y: np.ndarray, unit: float, spread: float) -> bool:
    """Whether a process describes an output itself better than its inverse hyperbolic sine."""
    n = min(len(y), SCALED_POINTS)
    own = fit_process(z[:n], y[:n] / spread).log_likelihood - n * np.log(spread)
    u = fit_process(z[:n], np.arcsinh(y[:n] / unit)).log_likelihood
    return own > u - 0.5 * np.log(unit**2 + y[:n] ** 2).sum()


def _hessian(model: OutputModel, x: np.ndarray, y: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Minus the second derivatives of the log density by the outputs, shape (n, m, m)."""
    columns = []
    for j in range(y.shape[1]):
        h = np.zeros(y.shape[1])
        h[j] = step[j]
        _, _, above = model.log_density_and_grad(x, y + h)
        _, _, below = model.log_density_and_grad(x, y - h)
        columns.append((below - above) / (2.0 * step[j]))
    return np.stack(columns, axis=2)


def _is_diagonal(hessian: np.ndarray, unit: np.ndarray) -> bool:
    """Whether second derivatives, in units of the outputs, are those of a sum over outputs."""
    scaled = np.abs(hessian * unit * unit[:, None])
    scaled = np.where(np.isfinite(scaled), scaled, 0.0)
    size = scaled.max(initial=0.0)
    off = scaled * (1.0 - np.eye(len(unit)))
    return bool(off.max(initial=0.0) <= 1e-6 * size)
