"""How well an emulator predicts what it was not told: points left out one by one, and new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.emulation.outputs import OutputEmulator
from pymc_multimodal.emulation.surface import BAND, BAND_PER_DIMENSION, SurfaceEmulator

if TYPE_CHECKING:
    from pymc_multimodal.emulation.rounds import Emulator

__all__ = ["LeftOut", "left_out", "unseen_log_ratios"]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions of m outputs at n points, each from the other points.

    Attributes
    ----------
    names : tuple of m str
    true, mean : arrays of shape (n, m)
    low, high : arrays of shape (n, m)
        Two standard deviations of the emulator's scale below and above the mean.
    linear_width : array of shape (m,)
        Values up to which the scale of an output is linear; it is logarithmic beyond.
    near : array of bool, shape (n,)
        Whether a point is so near the highest that it counts.
    """

    names: tuple[str, ...]
    true: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    linear_width: np.ndarray
    near: np.ndarray

    @property
    def share_inside(self) -> np.ndarray:
        """Share of the near points whose true value is between `low` and `high`, shape (m,)."""
        inside = (self.true >= self.low) & (self.true <= self.high)
        out: np.ndarray = inside[self.near].mean(axis=0)
        return out


def left_out(emulator: Emulator) -> LeftOut:
    """Predict what an emulator was told at each of its points from the other points.

    Where nothing but the log density is emulated, this is what its process describes: the log
    density less that of the mixture over the modes.

    Parameters
    ----------
    emulator : Emulator

    Returns
    -------
    LeftOut
    """
    if isinstance(emulator, OutputEmulator):
        mean, variance = emulator.left_out()
        scaling, model = emulator.scaling, emulator.model
        centre = scaling.mean + mean @ scaling.components.T
        reach = 2.0 * np.sqrt(variance @ scaling.components.T**2)
        low, mid, high = map(scaling.outputs, (centre - reach, centre, centre + reach))
        near = _near(model.log_density(emulator.x, emulator.y), emulator.x.shape[1])
        return LeftOut(model.names, emulator.y, mid, low, high, scaling.reach, near)
    assert isinstance(emulator, SurfaceEmulator)
    mean, variance = emulator.process.left_out()
    reach, true = 2.0 * np.sqrt(variance), emulator.process.y
    near, width = np.ones(len(true), dtype=bool), np.array([np.inf])
    name = ("log density less a simple one's",)
    return LeftOut(name, true, mean, mean - reach, mean + reach, width, near)


def unseen_log_ratios(emulator: Emulator, x: np.ndarray, logp: np.ndarray) -> np.ndarray:
    """Log density less the emulated one, at the points that the emulator was not told.

    After a fit these are the judged draws, and points of earlier fits that it was given. Points of
    a density far below the highest are left out.

    Parameters
    ----------
    emulator : Emulator
    x, logp : arrays of shape (n, d) and (n,)
        All points that were evaluated.

    Returns
    -------
    array of shape (k,)
    """
    assert isinstance(emulator, OutputEmulator | SurfaceEmulator)
    told = {row.tobytes() for row in _points(emulator)}
    new = np.array([row.tobytes() not in told for row in emulator.features(x)], dtype=bool)
    rows = np.flatnonzero(new & _near(logp, x.shape[1]))
    out: np.ndarray = logp[rows] - emulator.log_density(x[rows])
    return out[np.isfinite(out)]


def _points(emulator: Emulator) -> np.ndarray:
    """Features of the points that the emulator was told, shape (n, f)."""
    if isinstance(emulator, OutputEmulator):
        return emulator.processes[0].x
    assert isinstance(emulator, SurfaceEmulator)
    return emulator.process.x


def _near(logp: np.ndarray, dim: int) -> np.ndarray:
    """Whether log densities are those of points that count, shape (n,)."""
    high = logp[np.isfinite(logp)].max(initial=-np.inf)
    out: np.ndarray = logp > high - BAND - BAND_PER_DIMENSION * dim
    return out
