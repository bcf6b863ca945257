"""A masked autoregressive flow as a density, in NumPy once it is trained; see `draw_on` too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import expit

from pymc_multimodal.proposals.flow.units import SortedUnits
from pymc_multimodal.proposals.on_device import draw_on
from pymc_multimodal.target.circle import into_window, unroll

if TYPE_CHECKING:
    import torch

    from pymc_multimodal.proposals.elliptical import EllipticalMixture

__all__ = ["AutoregressiveLayer", "FlowDensity", "FlowError"]

# Rows that a layer works on together; conventional. The number bounds the memory (rows x width)
# and changes no result.
CHUNK_ROWS = 2048
# Bound of the absolute log slope of a layer, as in zuko (`MonotonicAffineTransform`, slope=1e-3),
# the library that trains the weights: the two have to agree.
MAX_LOG_SLOPE = float(-np.log(1e-3))
# Share of their range at the training draws by which shifts and log slopes may leave it.
# Measured: examples/benchmarks/constants.py
BOUND_MARGIN = 0.05
# Share of the draws whose normal is wider, and by how many sqrt(d) its mean squared radius is
# larger than that of a standard normal, which is d with a standard deviation of sqrt(2 d).
# Measured: examples/benchmarks/constants.py
WIDE_SHARE, WIDE_RADIUS = 0.05, 3.0


class FlowError(RuntimeError):
    """A network could not be trained; the message says why."""


class AutoregressiveLayer:
    r"""``z_i = x_i exp(a_i) + b_i`` with a and b functions of the coordinates before i.

    Parameters
    ----------
    order : array of int, shape (d,)
        Position of each coordinate.
    weights : list of arrays of shape (out, in)
        Masked weights of the network that gives (b, a) of each coordinate, interleaved.
    biases : list of arrays of shape (out,)
    bounds : array of shape (2, d, 2), optional
        Least and largest b and a. A network is arbitrary where it has seen no draw, and each
        coordinate amplifies the errors of those before it: without bounds, a few draws in high
        dimension are at distances like 1e30.

    Notes
    -----
    The masked autoregressive flow of Papamakarios, Pavlakou and Murray (2017), arXiv 1705.07057.
    Sampling computes one coordinate after the other. Every hidden unit is computed once, as soon
    as the coordinates that it depends on are known: a draw costs one pass through the network
    instead of d.
    """

    def __init__(
        self,
        order: np.ndarray,
        weights: list[np.ndarray],
        biases: list[np.ndarray],
        bounds: np.ndarray | None = None,
    ) -> None:
        d = len(order)
        self.bounds = np.array([np.full((d, 2), -np.inf), np.full((d, 2), np.inf)])
        if bounds is not None:
            self.bounds = np.asarray(bounds, dtype=float)
        self.order = np.asarray(order)
        self.weights = [np.asarray(w, dtype=float) for w in weights]
        self.biases = [np.asarray(b, dtype=float) for b in biases]
        self.by_position = np.argsort(self.order)
        self._sort_units()

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Transport points x of shape (n, d).

        Returns
        -------
        z : array of shape (n, d)
        log_det : array of shape (n,)
            Log determinant of the Jacobian.
        """
        b, a = np.moveaxis(np.clip(self.shifts_and_log_slopes(x), *self.bounds), 2, 0)
        return x * np.exp(a) + b, a.sum(axis=1)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Transport points z of shape (n, d) back to x."""
        x = np.empty_like(z)
        for first in range(0, len(z), CHUNK_ROWS):
            x[first : first + CHUNK_ROWS] = self._inverse(z[first : first + CHUNK_ROWS])
        return x

    @property
    def sorted_units(self) -> SortedUnits:
        """The layer in the order in which its inverse is computed."""
        return SortedUnits(
            hidden=self._hidden,
            known=self._n_known,
            out=self._out,
            out_bias=self._out_bias,
            bounds=self.bounds[:, self.by_position],
            by_position=self.by_position,
            max_log_slope=MAX_LOG_SLOPE,
        )

    def bounded(self, x: np.ndarray) -> AutoregressiveLayer:
        """Layer whose shifts and slopes stay within what they are at x, shape (n, d)."""
        affine = self.shifts_and_log_slopes(x)
        low, high = affine.min(axis=0), affine.max(axis=0)
        margin = BOUND_MARGIN * (high - low)
        bounds = np.stack([low - margin, high + margin])
        return AutoregressiveLayer(self.order, self.weights, self.biases, bounds)

    def shifts_and_log_slopes(self, x: np.ndarray) -> np.ndarray:
        """Shift and log slope of each coordinate without bounds, shape (n, d, 2)."""
        h = x
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = h @ w.T + b
            h *= expit(h)
        out = (h @ self.weights[-1].T + self.biases[-1]).reshape(len(x), -1, 2)
        out[:, :, 1] = _log_slope(out[:, :, 1])
        return out

    def _sort_units(self) -> None:
        """Sort the units of each layer by the position of the last coordinate they depend on."""
        d = len(self.order)
        last_position, column = np.arange(d), self.by_position
        self._hidden: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_known = [np.arange(d + 1)]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            w = w[:, column]
            unsorted = np.where(w != 0, last_position, -1).max(axis=1)
            column = np.argsort(unsorted, kind="stable")
            last_position = unsorted[column]
            self._hidden.append((np.ascontiguousarray(w[column]), b[column][:, None]))
            # Units of this layer that are known before the first coordinate, and once the
            # coordinate at each position is.
            self._n_known.append(np.searchsorted(last_position, np.arange(-1, d), side="right"))
        out = self.weights[-1][:, column].reshape(d, 2, -1)[self.by_position]
        self._out = np.ascontiguousarray(out)
        self._out_bias = self.biases[-1].reshape(d, 2)[self.by_position]

    def _inverse(self, z: np.ndarray) -> np.ndarray:
        n, d = z.shape
        z = z.T[self.by_position]
        # Features come first: the rows that a step reads and writes are contiguous.
        values = [np.empty((d, n))] + [np.empty((len(w), n)) for w, _ in self._hidden]
        n_done = [0] * len(self._n_known)
        self._advance(values, n_done, -1)
        for p in range(d):
            b, a = self._out[p, :, : n_done[-1]] @ values[-1][: n_done[-1]]
            b += self._out_bias[p, 0]
            a = _log_slope(a + self._out_bias[p, 1])
            low, high = self.bounds[:, self.by_position[p]]
            a, b = np.clip(a, low[1], high[1]), np.clip(b, low[0], high[0])
            values[0][p] = (z[p] - b) * np.exp(-a)
            n_done[0] = p + 1
            self._advance(values, n_done, p)
        x = np.empty((n, d))
        x[:, self.by_position] = values[0].T
        return x

    def _advance(self, values: list[np.ndarray], n_done: list[int], p: int) -> None:
        """Compute the hidden units that are known once the coordinate at position p is."""
        for i, (w, b) in enumerate(self._hidden):
            units = slice(n_done[i + 1], int(self._n_known[i + 1][p + 1]))
            if units.start == units.stop:
                continue
            h = w[units, : n_done[i]] @ values[i][: n_done[i]] + b[units]
            h *= expit(h)
            values[i + 1][units] = h
            n_done[i + 1] = units.stop


def _log_slope(raw: np.ndarray) -> np.ndarray:
    return raw / (1.0 + np.abs(raw) / MAX_LOG_SLOPE)


@dataclass(frozen=True, eq=False)
class FlowDensity:
    """A trained transport of the standard normal, with a heavy-tailed component.

    Parameters
    ----------
    mean : array of shape (d,)
    scale : array of shape (d, d)
        Lower-triangular factor; the transport maps ``scale^-1 (x - mean)``.
    layers : tuple of AutoregressiveLayer
        From the draws towards the normal.
    defensive : EllipticalMixture
        The heavy-tailed component, whose tails bound the ratio of target to proposal. It has the
        window on circular coordinates, too.
    share : float
        Share of the heavy-tailed component.
    wide : float
        Share of the draws whose normal is wider. They follow the learned shape into the tails,
        where there was no draw, and keep independence chains from being stuck.
    device : str
        Where many draws are made (`draw_on`).
    """

    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[AutoregressiveLayer, ...]
    defensive: EllipticalMixture
    share: float
    wide: float = WIDE_SHARE
    device: str = "cpu"

    @property
    def family(self) -> str:
        """Family of the density: "network"."""
        return "network"

    @property
    def period(self) -> np.ndarray:
        """Periods of circular coordinates, ``inf`` elsewhere; shape (d,)."""
        return self.defensive.period

    @property
    def centre(self) -> np.ndarray:
        """Middle of the window on circular coordinates, shape (d,)."""
        return self.defensive.centre

    @property
    def undefended(self) -> FlowDensity:
        """The transport alone, without heavy-tailed and wide components."""
        return replace(self, share=0.0, wide=0.0)

    @cached_property
    def _inverse_scale(self) -> np.ndarray:
        inverse: np.ndarray = solve_triangular(self.scale, np.eye(len(self.mean)), lower=True)
        return inverse

    @property
    def _log_constant(self) -> float:
        """Log of the normal's peak density over the volume of the whitening."""
        log_volume = np.log(np.diag(self.scale)).sum()
        return float(-0.5 * len(self.mean) * np.log(2 * np.pi) - log_volume)

    @property
    def _width(self) -> float:
        """Standard deviation of the wide normal."""
        return float(np.sqrt(1.0 + WIDE_RADIUS / np.sqrt(len(self.mean))))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped; rows outside the window are NaN."""
        heavy = rng.random(n) < self.share
        x = np.empty((n, len(self.mean)))
        x[heavy] = self.defensive.sample(int(heavy.sum()), rng)
        z = rng.standard_normal((int(n - heavy.sum()), len(self.mean)))
        z[rng.random(len(z)) < self.wide] *= self._width
        z = self._inverse(z, rng)
        x[~heavy] = into_window(z @ self.scale.T + self.mean, self.centre, self.period)
        return x

    def _inverse(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transport normal points back through all layers; no random number is drawn."""

        def by_numpy() -> np.ndarray:
            x = z
            for layer in reversed(self.layers):
                x = layer.inverse(x)
            return x

        def by_torch(device: torch.device) -> np.ndarray:
            from pymc_multimodal.proposals.flow.torch_inverse import inverse_with_torch

            return inverse_with_torch([q.sorted_units for q in self.layers], z, device)

        weights = sum(w.size for layer in self.layers for w in layer.weights)
        # A product and a sum for each weight; the mask leaves half of them.
        return draw_on(self.device, float(len(z) * weights), rng, by_numpy, by_torch)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the copy of each row inside the window, shape (n,)."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(
                np.log1p(-self.share) + self.log_flow(x),
                np.log(self.share) + self.defensive.log_density(x),
            )

    def log_flow(self, x: np.ndarray) -> np.ndarray:
        """Log density without the heavy-tailed component, shape (n,)."""
        out = np.empty(len(x))
        x = unroll(x, self.centre, self.period)
        for first in range(0, len(x), CHUNK_ROWS):
            z = (x[first : first + CHUNK_ROWS] - self.mean) @ self._inverse_scale.T
            log_det = np.zeros(len(z))
            for layer in self.layers:
                z, log_slopes = layer.forward(z)
                log_det += log_slopes
            out[first : first + CHUNK_ROWS] = log_det + self._log_base(np.einsum("ni,ni->n", z, z))
        return out + self._log_constant

    def _log_base(self, r2: np.ndarray) -> np.ndarray:
        """Log density at squared radii of the normal and the wide normal, without constant."""
        wide = -0.5 * r2 / self._width**2 - len(self.mean) * np.log(self._width)
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log1p(-self.wide) - 0.5 * r2, np.log(self.wide) + wide)
