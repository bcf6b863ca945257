"""Draws that are foreseen, so that workers evaluate the points of many at once."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np

from pymc_multimodal import kernel
from pymc_multimodal.emulation import EmulatedGenerator, EmulatedJump
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.record import record
from pymc_multimodal.target import Density, Target

__all__ = ["foreseeable", "foreseen"]


def foreseeable(fit: Fit, density: Density) -> bool:
    """Tell whether draws of a fit can be foreseen, and workers gain by it.

    An emulator has to tell which proposals are likely to be accepted.
    """
    return density.shared and any(isinstance(m, EmulatedJump) for m in fit.kernel.moves)


def foreseen(
    fit: Fit,
    target: Target,
    state: kernel.ChainState,
    draws: range,
    rng: np.random.Generator,
) -> Target:
    """Evaluate the points that the next draws are likely to need, in one batch.

    The draws are made once with the emulated density in place of the true one. Where the true
    density decides otherwise, the chain soon meets the foreseen one again, since both use the same
    proposals. The draws are those that are made without foresight.

    Parameters
    ----------
    fit : Fit
    target : Target
    state : kernel.ChainState
        Of n chains.
    draws : range
        Numbers of the draws; negative ones are not recorded.
    rng : numpy.random.Generator
        The one that makes the draws. It is left as it is.

    Returns
    -------
    Target
        It knows the points that were evaluated, and evaluates others.
    """
    generator = fit.kernel.generator
    assert isinstance(generator, EmulatedGenerator)
    ahead, guess = copy.deepcopy(rng), _Guess(target.density, generator)
    guessing = replace(target, density=cast(Density, guess))
    for draw in draws:
        none = kernel.propose(guessing, fit.kernel, 0, ahead)
        state, accepted = kernel.step(guessing, fit.kernel, state, none, ahead, draw)
        if draw >= 0:
            record(fit, state, accepted, ahead)
    x = np.unique(np.concatenate([*guess.asked, np.empty((0, target.dim))]), axis=0)
    known = _Known(target.density, x, target.density.logp(x))
    return replace(target, density=cast(Density, known))


class _Guess:
    """A density that gives the emulated values, and remembers the points."""

    def __init__(self, density: Density, generator: EmulatedGenerator) -> None:
        self._density, self._generator = density, generator
        self.asked: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._density, name)

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Emulated log densities, shape (n,)."""
        self.asked.append(x.copy())
        return self._generator.emulator.log_density(x)


class _Known:
    """A density whose values at some points are known."""

    def __init__(self, density: Density, x: np.ndarray, logp: np.ndarray) -> None:
        self._density = density
        self._values = {p.tobytes(): float(v) for p, v in zip(x, logp, strict=True)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._density, name)

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log densities, shape (n,); points that are not known are evaluated."""
        logp = np.array([self._values.get(p.tobytes(), np.nan) for p in x])
        new = np.isnan(logp)
        if new.any():
            logp[new] = self._density.logp(x[new])
        return logp
