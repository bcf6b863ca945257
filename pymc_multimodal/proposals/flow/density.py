"""The network rung: an autoregressive transport with a density, in NumPy once it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import expit

from pymc_multimodal import checks
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.elliptical import factor
from pymc_multimodal.target.circle import into_window, unroll

if TYPE_CHECKING:
    from pymc_multimodal.proposals.elliptical import EllipticalMixture

__all__ = ["AutoregressiveLayer", "FlowDensity", "FlowError", "Network", "fit_flow"]

# Rows that a layer works on at once: more do not fit into the processor's cache.
CHUNK = 2048


class FlowError(RuntimeError):
    """A network could not be trained; the message says why."""


@dataclass(frozen=True)
class Network:
    """Settings of the network rung.

    Parameters
    ----------
    transforms : int
        Autoregressive layers, in alternating order of the coordinates.
    hidden : tuple of int
        Least widths of each layer's hidden layers; twice the dimension where that is more.
    steps : int
        Most gradient steps of one region, on `batch` draws each.
    total_steps : int
        Gradient steps of all regions each time that densities are fitted, which a fit does
        several times; regions that have most to gain come first.
    batch : int
    learning_rate : float
        Largest rate of the one-cycle schedule; lower in more than 20 dimensions, by the square
        root.
    score_weight : float
        Weight of the score-matching term beside the negative log likelihood; it is used where
        the chains have computed gradients anyway.
    worth_it : float
        Expected acceptance of jumps from which on no network is tried.
    min_effective : float
        Effective draws of a region below which no network is tried.
    device : str
        A torch device such as "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    A masked autoregressive flow (Papamakarios, Pavlakou and Murray 2017, "Masked autoregressive
    flow for density estimation"), fitted by likelihood and score matching.
    """

    transforms: int = 3
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 800
    total_steps: int = 6000
    batch: int = 256
    learning_rate: float = 2e-2
    score_weight: float = 1.5
    worth_it: float = 0.8
    min_effective: float = 80.0
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("transforms", "steps", "total_steps", "batch"):
            checks.count("Network", name, getattr(self, name), 1)
        if not self.hidden:
            raise ValueError("Network(hidden=()): name the width of each layer.")
        for width in self.hidden:
            checks.count("Network", "hidden", width, 1)
        for name in ("learning_rate", "score_weight", "worth_it", "min_effective"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"Network({name}={value!r}) must be a number.")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"Network(learning_rate={self.learning_rate}) must be positive.")
        if not 0 <= self.score_weight < np.inf:
            raise ValueError(f"Network(score_weight={self.score_weight}) must not be negative.")
        if not 0 <= self.worth_it <= 1:
            raise ValueError(
                f"Network(worth_it={self.worth_it}) is an acceptance and lies between 0 and 1."
            )
        check_device("Network", "device", self.device)


class AutoregressiveLayer:
    r"""``z_i = x_i exp(a_i) + b_i`` with a and b from the coordinates that come before i.

    Parameters
    ----------
    order : array of int, shape (d,)
        Position of each coordinate.
    weights : list of arrays of shape (out, in)
        Masked weights of the network that gives (b, a) of each coordinate, interleaved.
    biases : list of arrays of shape (out,)
    bounds : array of shape (2, d, 2), optional
        Least and largest b and a. Where no draw has been, a network may say anything, and what
        one coordinate gets wrong the next ones amplify: without bounds a few draws in high
        dimension end up astronomically far away.

    Notes
    -----
    The masked autoregressive flow of Papamakarios, Pavlakou and Murray (2017). Sampling asks
    for one coordinate after the other; every hidden unit is computed once, as soon as the
    coordinates that it depends on are there, so that a draw costs one pass through the
    network and not one for each coordinate.
    """

    # Bound of the logarithm of a slope, as in the library that trains the weights.
    MAX_LOG_SLOPE = float(-np.log(1e-3))

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
        self._arrange()

    def _arrange(self) -> None:
        """Sort the units of each layer by the position of the last coordinate they need."""
        d = len(self.order)
        ready, column = np.arange(d), self.by_position
        self._steps: list[tuple[np.ndarray, np.ndarray]] = []
        self._counts = [np.arange(d + 1)]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            w = w[:, column]
            last = np.where(w != 0, ready, -1).max(axis=1)
            column = np.argsort(last, kind="stable")
            ready = last[column]
            self._steps.append((np.ascontiguousarray(w[column]), b[column][:, None]))
            # Units of this layer that are known before the first coordinate, and once that of
            # each position is.
            self._counts.append(np.searchsorted(ready, np.arange(-1, d), side="right"))
        out = self.weights[-1][:, column].reshape(d, 2, -1)[self.by_position]
        self._out = np.ascontiguousarray(out)
        self._out_bias = self.biases[-1].reshape(d, 2)[self.by_position]

    def _log_slope(self, raw: np.ndarray) -> np.ndarray:
        return raw / (1.0 + np.abs(raw) / self.MAX_LOG_SLOPE)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Transport x of shape (n, d); return z and the log determinants, shape (n,)."""
        b, a = np.moveaxis(np.clip(self._affine(x), *self.bounds), 2, 0)
        return x * np.exp(a) + b, a.sum(axis=1)

    def bounded(self, x: np.ndarray) -> AutoregressiveLayer:
        """Layer whose shifts and slopes stay within what they are at x, shape (n, d)."""
        affine = self._affine(x)
        low, high = affine.min(axis=0), affine.max(axis=0)
        slack = 0.05 * (high - low)
        bounds = np.stack([low - slack, high + slack])
        return AutoregressiveLayer(self.order, self.weights, self.biases, bounds)

    def _affine(self, x: np.ndarray) -> np.ndarray:
        """Shift and log slope of each coordinate, shape (n, d, 2), without bounds."""
        h = x
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = h @ w.T + b
            h *= expit(h)
        out = (h @ self.weights[-1].T + self.biases[-1]).reshape(len(x), -1, 2)
        out[:, :, 1] = self._log_slope(out[:, :, 1])
        return out

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Transport z of shape (n, d) back."""
        x = np.empty_like(z)
        for first in range(0, len(z), CHUNK):
            x[first : first + CHUNK] = self._inverse(z[first : first + CHUNK])
        return x

    def _inverse(self, z: np.ndarray) -> np.ndarray:
        n, d = z.shape
        z = z.T[self.by_position]
        # Features first: the rows that a step reads and writes are contiguous.
        known = [np.empty((d, n))] + [np.empty((len(w), n)) for w, _ in self._steps]
        last, done = len(self._steps), [0] * len(self._counts)
        # Units that depend on no coordinate are there before the first one.
        self._advance(known, done, -1)
        for p in range(d):
            b, a = self._out[p, :, : done[last]] @ known[last][: done[last]]
            b += self._out_bias[p, 0]
            a = self._log_slope(a + self._out_bias[p, 1])
            low, high = self.bounds[:, self.by_position[p]]
            a, b = np.clip(a, low[1], high[1]), np.clip(b, low[0], high[0])
            known[0][p] = (z[p] - b) * np.exp(-a)
            done[0] = p + 1
            self._advance(known, done, p)
        x = np.empty((n, d))
        x[:, self.by_position] = known[0].T
        return x

    def _advance(self, known: list[np.ndarray], done: list[int], p: int) -> None:
        for i, (w, b) in enumerate(self._steps):
            units = slice(done[i + 1], int(self._counts[i + 1][p + 1]))
            if units.start == units.stop:
                continue
            h = w[units, : done[i]] @ known[i][: done[i]] + b[units]
            h *= expit(h)
            known[i + 1][units] = h
            done[i + 1] = units.stop


class FlowDensity:
    """A trained transport of the standard normal, with a heavy-tailed part beside it.

    Parameters
    ----------
    mean : array of shape (d,)
    scale : array of shape (d, d)
        Lower-triangular factor; the transport works on ``scale^-1 (x - mean)``.
    layers : tuple of AutoregressiveLayer
        From the draws towards the normal.
    defence : EllipticalMixture
        Its tails bound the ratio of target to proposal.
    share : float
        Share of the defence.
    wide : float
        Share of the draws whose normal is wider: they follow the shape that was learned out
        into the tails, which no draw showed, and keep independence chains from being stuck.
    """

    rung = "network"

    def __init__(
        self,
        mean: np.ndarray,
        scale: np.ndarray,
        layers: tuple[AutoregressiveLayer, ...],
        defence: EllipticalMixture,
        share: float,
        wide: float = 0.05,
    ) -> None:
        self.mean, self.scale, self.layers = mean, scale, tuple(layers)
        self.defence, self.share, self.wide = defence, share, wide
        self.period, self.centre = defence.period, defence.centre
        d = len(mean)
        self._inverse = solve_triangular(scale, np.eye(d), lower=True)
        self._constant = -0.5 * d * np.log(2 * np.pi) - np.log(np.diag(scale)).sum()
        # The squared radius of the wide part is about three standard deviations larger.
        self._width = float(np.sqrt(1.0 + 3.0 / np.sqrt(d)))

    @property
    def core(self) -> FlowDensity:
        """The transport alone."""
        return FlowDensity(self.mean, self.scale, self.layers, self.defence, 0.0, 0.0)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped; rows outside the window are NaN."""
        heavy = rng.random(n) < self.share
        x = np.empty((n, len(self.mean)))
        x[heavy] = self.defence.sample(int(heavy.sum()), rng)
        z = rng.standard_normal((int(n - heavy.sum()), len(self.mean)))
        z[rng.random(len(z)) < self.wide] *= self._width
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        x[~heavy] = into_window(z @ self.scale.T + self.mean, self.centre, self.period)
        return x

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the copy of each row inside the window, shape (n,)."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(
                np.log1p(-self.share) + self.log_flow(x),
                np.log(self.share) + self.defence.log_density(x),
            )

    def log_flow(self, x: np.ndarray) -> np.ndarray:
        """Log density without the defence, shape (n,)."""
        out = np.empty(len(x))
        x = unroll(x, self.centre, self.period)
        for first in range(0, len(x), CHUNK):
            z = (x[first : first + CHUNK] - self.mean) @ self._inverse.T
            total = np.zeros(len(z))
            for layer in self.layers:
                z, log_slope = layer.forward(z)
                total += log_slope
            out[first : first + CHUNK] = total + self._log_base(np.einsum("ni,ni->n", z, z))
        return out + self._constant

    def _log_base(self, r2: np.ndarray) -> np.ndarray:
        """Log density of the normal and its wide part, but for the normal's constant."""
        wide = -0.5 * r2 / self._width**2 - len(self.mean) * np.log(self._width)
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log1p(-self.wide) - 0.5 * r2, np.log(self.wide) + wide)


def fit_flow(
    x: np.ndarray,
    grad: np.ndarray | None,
    held_out: np.ndarray,
    defence: EllipticalMixture,
    share: float,
    settings: Network,
    steps: int,
    rng: np.random.Generator,
    previous: FlowDensity | None = None,
    bar: float = -np.inf,
) -> FlowDensity:
    """Train a transport on draws and their gradients; held-out draws say when to stop.

    Parameters
    ----------
    x, grad : arrays of shape (n, d)
        Unrolled draws and gradients of the log density there; grad may be None.
    held_out : array of shape (m, d)
        Unrolled draws of other chains.
    defence : EllipticalMixture
        Heavy-tailed part; gives the window on circular coordinates too.
    share : float
        Share of the defence.
    settings : Network
    steps : int
        Gradient steps.
    rng : numpy.random.Generator
    previous : FlowDensity, optional
        An earlier fit of the same region to start from.
    bar : float
        Mean log density of the held-out draws under the density that the transport is to beat.

    Raises
    ------
    FlowError
        If there are too few draws or dimensions, or training came to nothing.
    """
    if grad is not None:
        finite = np.isfinite(grad).all(axis=1)
        x, grad = x[finite], grad[finite]
    n, d = x.shape
    if not (np.isfinite(x).all() and np.isfinite(held_out).all()):
        raise FlowError("some draws are not finite")
    if d < 2:
        raise FlowError("one coordinate leaves nothing to transport autoregressively")
    if n < max(100, 2 * d):
        raise FlowError(f"{n} draws are too few for a network in {d} dimensions")
    # Only here: importing torch takes seconds, and most posteriors need no network.
    from pymc_multimodal.proposals.flow.training import train

    if previous is None:
        mean, scale, first = x.mean(axis=0), factor(np.cov(x.T)), None
    else:
        mean, scale, first = previous.mean, previous.scale, previous.layers

    def whiten(points: np.ndarray) -> np.ndarray:
        return solve_triangular(scale, (points - mean).T, lower=True).T

    layers = train(
        whiten(x),
        grad @ scale if grad is not None else None,
        whiten(held_out),
        settings,
        steps,
        rng,
        first,
        bar + float(np.log(np.diag(scale)).sum()),
    )
    bounded, z = [], whiten(x)
    for layer in layers:
        bounded.append(layer.bounded(z))
        z, _ = bounded[-1].forward(z)
    return FlowDensity(mean, scale, tuple(bounded), defence, share)
