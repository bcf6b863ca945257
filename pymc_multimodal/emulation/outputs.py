"""Emulation of a simulator's outputs, and the log density that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.emulation.process import Process, fit_process, share_lengths
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    linear : array of bool, shape (m,)
        Whether an output is emulated as it is.
    """

    centre: np.ndarray
    reach: np.ndarray
    unit: np.ndarray
    components: np.ndarray
    mean: np.ndarray
    linear: np.ndarray

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
    processes : tuple of Process
    groups : tuple of arrays of int
        Numbers of the r scaled outputs that each process describes.
    x, y : arrays of shape (n, d) and (n, m)
        Points with their outputs.
    separable : bool
        Whether the log density is a sum over the outputs: C is diagonal.
    """

    model: OutputModel
    features: Features
    scaling: Scaling
    processes: tuple[Process, ...]
    groups: tuple[np.ndarray, ...]
    x: np.ndarray
    y: np.ndarray
    separable: bool

    @cached_property
    def _places(self) -> np.ndarray:
        """Place of each scaled output among those of all processes, shape (r,)."""
        return np.argsort(np.concatenate(self.groups))

    def _in_order(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """Join what the processes say of their outputs, arrays (n, r_i), in shape (n, r)."""
        return np.concatenate(list(parts), axis=1)[:, self._places]

    def predict_scaled(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the scaled outputs at points (n, d), shapes (n, r) and (n, r)."""
        z = self.features(x)
        mean, variance = zip(*(p.predict(z) for p in self.processes), strict=True)
        return self._in_order(mean), self._in_order(variance)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the scaled outputs at each point given the others, as above."""
        mean, variance = zip(*(p.left_out() for p in self.processes), strict=True)
        return self._in_order(mean), self._in_order(variance)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the mean density at points (n, d), and its error; shapes (n,), (n,).

        The mean is over what the outputs may be; the error is a standard deviation.
        """
        mean, variance = self.predict_scaled(x)
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
        y, slope = self.scaling.backward(self.predict_scaled(x)[0])
        _, _, grad = self.model.log_density_and_grad(x, y)
        step = STEP * self.scaling.unit
        _, _, beside = self.model.log_density_and_grad(x, y + step)
        with np.errstate(over="ignore", invalid="ignore"):
            c = np.maximum((grad - beside) / step, 0.0)
            by_component = np.einsum("nm,mr->nr", grad * slope, self.scaling.components)
            curvature = np.einsum("nm,mr->nr", c * slope**2, self.scaling.components**2)
        return OutputUncertainty(
            [p.correlation(self.features(x)) for p in self.processes],
            [p.variance for p in self.processes],
            [np.nan_to_num(by_component[:, g], posinf=0.0, neginf=0.0) for g in self.groups],
            [np.nan_to_num(curvature[:, g], posinf=0.0, neginf=0.0) for g in self.groups],
        )

    def updated(
        self, x: np.ndarray, y: np.ndarray, logp: np.ndarray, *, refit: bool
    ) -> OutputEmulator:
        """Return the emulator of more points; without a refit lengths and scale are the same."""
        if refit:
            return emulate_outputs(self.model, self.features, x, y, logp, self)
        fine = np.isfinite(y).all(axis=1)
        z, f = self.features(x[fine]), self.scaling.forward(y[fine])
        parts = zip(self.processes, self.groups, strict=True)
        processes = tuple(p.with_data(z, f[:, group]) for p, group in parts)
        return replace(self, processes=processes, x=x[fine], y=y[fine])

    @property
    def described(self) -> str:
        """What is emulated, in words."""
        return counted(self.model.n_outputs, "output") + " of the simulator"

    @cached_property
    def left_out_errors(self) -> np.ndarray:
        """Errors of the outputs at each point given the others, in standard deviations, (n, r)."""
        mean, variance = self.left_out()
        out: np.ndarray = (self.scaling.forward(self.y) - mean) / np.sqrt(variance)
        return out


class OutputUncertainty:
    """Uncertainty of the log density at candidates, which falls as candidates are chosen.

    Parameters
    ----------
    correlation : list of arrays of shape (n, n)
        Of the candidates, for each process.
    variance : list of arrays of shape (r_i,)
        Of the functions that each process describes: what correlations are multiplied with.
    grad, curvature : lists of arrays of shape (n, r_i)
        First and minus second derivatives of the log density by these functions.
    """

    def __init__(
        self,
        correlation: list[np.ndarray],
        variance: list[np.ndarray],
        grad: list[np.ndarray],
        curvature: list[np.ndarray],
    ) -> None:
        self.correlation = correlation
        self._squared = [v * g**2 for v, g in zip(variance, grad, strict=True)]
        self._bend = [v * c for v, c in zip(variance, curvature, strict=True)]

    def variance(self) -> np.ndarray:
        """Variance of the log density at each candidate, shape (n,)."""
        total = np.zeros(len(self.correlation[0]))
        for k, squared, bend in zip(self.correlation, self._squared, self._bend, strict=True):
            rest = np.maximum(np.diagonal(k), 0.0)[:, None]
            own = rest * bend
            total += np.sum(rest * squared / (1.0 + own) + 0.5 * own**2, axis=1)
        return total

    def choose(self, i: int) -> None:
        """Condition the processes on the value at candidate i, which is not known yet."""
        for k in self.correlation:
            if k[i, i] > 0:
                k -= np.outer(k[i], k[i]) / (k[i, i] * (1.0 + 1e-6))


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
    noise, separable = _noise(model, x, y, logp)
    alone: list[Process] = []
    if before is not None:
        linear = before.scaling.linear
    else:
        linear, alone = _linear(z, y, noise)
    scaling = _scaling(y, noise, linear)
    f = scaling.forward(y)
    if before is not None and sum(map(len, before.groups)) == f.shape[1]:
        groups, known = before.groups, before.processes
        processes = [fit_process(z, f[:, g], p) for g, p in zip(groups, known, strict=True)]
        return OutputEmulator(model, features, scaling, tuple(processes), groups, x, y, separable)
    begun = alone if len(alone) == f.shape[1] else [None] * f.shape[1]
    each = [fit_process(z, f[:, i : i + 1], begun[i]) for i in range(f.shape[1])]
    groups, processes = zip(*share_lengths(each), strict=True)
    return OutputEmulator(model, features, scaling, processes, groups, x, y, separable)


def _noise(
    model: OutputModel, x: np.ndarray, y: np.ndarray, logp: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Find the noise of the outputs by the log density, shape (m,), and whether it is separable.

    Where it is not known, or larger than the spread of the output, it is that spread.
    """
    best = np.argsort(-logp, kind="stable")[:BEST_POINTS]
    spread = _spread(y)
    hessian = _hessian(model, x[best], y[best], STEP * spread)
    c = np.median(np.diagonal(hessian, axis1=1, axis2=2), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(c > 0, 1.0 / np.sqrt(c), np.inf)
    unit = np.where(np.isfinite(noise), np.minimum(noise, spread), spread)
    return unit, _is_diagonal(hessian, spread)


def _spread(y: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.maximum(y.std(axis=0), 1e-12 * (1.0 + np.abs(y).max(axis=0)))
    return out


def _linear(z: np.ndarray, y: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, list[Process]]:
    """Whether a process describes an output itself better than its inverse hyperbolic sine, (m,).

    Also the processes of the better ones.
    """
    n, spread = min(len(y), SCALED_POINTS), _spread(y)
    y, linear, better = y[:n], [], []
    for i in range(y.shape[1]):
        own = fit_process(z[:n], y[:, i : i + 1] / spread[i])
        u = fit_process(z[:n], np.arcsinh(y[:, i : i + 1] / unit[i]))
        by_own = float(own.log_likelihood[0]) - n * np.log(spread[i])
        by_u = float(u.log_likelihood[0]) - 0.5 * np.log(unit[i] ** 2 + y[:, i] ** 2).sum()
        linear.append(by_own > by_u)
        better.append(own if linear[-1] else u)
    return np.array(linear), better


def _scaling(y: np.ndarray, unit: np.ndarray, linear: np.ndarray) -> Scaling:
    """Return the scale of the outputs, of which some are emulated as they are."""
    m = y.shape[1]
    centre = np.where(linear, np.median(y, axis=0), 0.0)
    reach = np.where(linear, LINEAR * _spread(y), unit)
    plain = Scaling(centre, reach, unit, np.eye(m), np.zeros(m), linear)
    if m <= MAX_SEPARATE:
        return plain
    u = plain.forward(y)
    mean = u.mean(axis=0)
    _, singular, rows = np.linalg.svd(u - mean, full_matrices=False)
    # Variance that is left, for each output, when r components are kept.
    left = np.append(np.cumsum(singular[::-1] ** 2)[::-1], 0.0) / u.size
    r = int(np.clip(np.argmax(left <= LEFT_OUT), 1, MAX_COMPONENTS))
    return replace(plain, components=rows[:r].T, mean=mean)


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
