"""Problems with known answers, in the form that every method takes: prior and likelihood.

Parameters are the columns of an array theta (n, d): the free variables of the PyMC model, raveled
and joined in the order of `Problem.variables`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from hard_models import rv_aliases, rv_velocities
from scipy.special import ndtri
from simulator_models import BLOCK, TRUTHS, plume

from pymc_multimodal import Emulation
from pymc_multimodal.gallery import GalleryTarget

ArrayFunction = Callable[[np.ndarray], np.ndarray]
FromUnit = Callable[..., Any]
# ``density(x, xp)`` of points (..., d), where xp is numpy or pytensor.tensor.
Expression = Callable[[Any, Any], Any]
# Probabilities of the unit cube keep this distance from 0 and 1, where quantiles are infinite.
# Conventional: a little more than the spacing of float64 below 1.
EDGE = 1e-15


@dataclass(frozen=True)
class Problem:
    """A posterior with its log evidence and the probabilities of some events.

    Attributes
    ----------
    name : str
    dim : int
    model : callable
        ``model()`` builds the PyMC model.
    from_unit : callable
        ``from_unit(u, xp=numpy)`` maps points of the unit cube (n, d) to parameters whose
        distribution is the prior; xp is numpy or jax.numpy.
    log_likelihood : callable
        Log likelihood of parameters (n, d), shape (n,).
    events : callable
        Conditional probability of each event given parameters (n, d), shape (n, k): mostly 0 or 1.
    truth : array of shape (k,)
        Posterior probabilities of the events, mostly the masses of the modes.
    log_z : float
    variables : tuple of str
    has_gradient : bool
    settings : dict
        Settings of this package's fit that differ from its defaults.
    """

    name: str
    dim: int
    model: Callable[[], pm.Model]
    from_unit: FromUnit
    log_likelihood: ArrayFunction
    events: ArrayFunction
    truth: np.ndarray
    log_z: float
    variables: tuple[str, ...] = ("x",)
    has_gradient: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    def shares(self, theta: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Estimate the probabilities of the events from draws (n, d), with weights (n,) if any."""
        return np.average(self.events(theta), axis=0, weights=weights)


def inner(u: Any, xp: Any = np) -> Any:
    """Move points of the closed unit cube into the open one."""
    return xp.clip(u, EDGE, 1 - EDGE)


def scores(u: Any, xp: Any = np) -> Any:
    """Return the standard normal quantiles of probabilities, which may be 0 or 1."""
    if xp is np:
        return ndtri(inner(u))
    from jax.scipy.special import ndtri as quantile

    return quantile(inner(u, xp))


@dataclass(frozen=True)
class Box:
    """Uniform prior of each coordinate."""

    low: float
    high: float

    def from_unit(self, u: Any, xp: Any = np) -> Any:
        return self.low + (self.high - self.low) * u

    def variable(self, dim: int) -> Any:
        return pm.Uniform("x", self.low, self.high, shape=dim)

    def log_density(self, x: Any, xp: Any) -> Any:
        return -x.shape[-1] * np.log(self.high - self.low)


@dataclass(frozen=True)
class Normal:
    """Normal prior of each coordinate, with mean 0."""

    sd: float

    def from_unit(self, u: Any, xp: Any = np) -> Any:
        return self.sd * scores(u, xp)

    def variable(self, dim: int) -> Any:
        return pm.Normal("x", 0.0, self.sd, shape=dim)

    def log_density(self, x: Any, xp: Any) -> Any:
        constant = -np.log(self.sd) - 0.5 * np.log(2 * np.pi)
        return xp.sum(constant - 0.5 * (x / self.sd) ** 2, axis=-1)


def on_vector(
    name: str,
    dim: int,
    prior: Box | Normal,
    log_likelihood: Expression,
    answer: tuple[ArrayFunction, np.ndarray, float],
) -> Problem:
    """Build a problem of one vector variable; `answer` has its events, truth and log evidence."""

    def model() -> pm.Model:
        with pm.Model() as built:
            pm.Potential("likelihood", log_likelihood(prior.variable(dim), pt))
        return built

    numpy = partial(log_likelihood, xp=np)
    events, truth, log_z = answer
    return Problem(name, dim, model, prior.from_unit, numpy, events, np.array(truth), log_z)


def over_prior(density: Expression, prior: Box | Normal) -> Expression:
    """Return the likelihood with which a density is the posterior, and the evidence one."""
    return lambda x, xp: density(x, xp) - prior.log_density(x, xp)


def of_gallery(target: GalleryTarget, scale: float) -> Problem:
    """Return a target of the gallery, whose prior has the standard deviation `scale`."""
    prior = Normal(scale)
    density, weights, events = target.log_density, target.weights, target.membership
    assert density is not None
    assert weights is not None
    assert events is not None

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return density(x) - prior.log_density(x, np)

    return Problem(
        target.name,
        target.dim,
        lambda: target.model,
        prior.from_unit,
        log_likelihood,
        events,
        weights,
        0.0,
    )


def aliases() -> Problem:
    """Return `hard_models.rv_aliases`: a hundred day aliases of a period, by the frequency."""
    known, (t, v, sd) = rv_aliases(), rv_velocities()
    low, high = 0.03, 1.6

    def from_unit(u: Any, xp: Any = np) -> Any:
        f, k, phase, offset = inner(u, xp).T
        scale = np.sqrt(2) * 4.0
        columns = (
            low + (high - low) * f,
            scale * xp.sqrt(-xp.log1p(-k)),
            np.pi * (2 * phase - 1),
            10.0 * scores(offset, xp),
        )
        return xp.stack(columns, axis=1)

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        f, k, phase, offset = theta.T[:, :, None]
        z = (v - offset - k * np.cos(2 * np.pi * f * t + phase)) / sd
        return -0.5 * (z**2).sum(axis=1) - len(t) * np.log(sd * np.sqrt(2 * np.pi))

    def events(theta: np.ndarray) -> np.ndarray:
        return np.digitize(theta[:, 0], [0.5, 1.0])[:, None] == np.arange(3)

    truth = np.array([share for _, share in known.shares.values()])
    names = ("f", "K", "phase", "offset")
    assert known.model is not None
    return Problem(
        "rv_aliases", 4, known.model, from_unit, log_likelihood, events, truth,
        known.log_evidence, names,
    )  # fmt: skip


def slow_plume() -> Problem:
    """Return the plume of `simulator_models`: a black box, by the side of the axis."""
    simulator, (log_z, share) = plume(), TRUTHS["slow_plume"]
    noise = simulator.noise

    def from_unit(u: Any, xp: Any = np) -> Any:
        return xp.concatenate([inner(u[:, :2], xp), scores(u[:, 2:], xp)], axis=1)

    def log_likelihood(theta: np.ndarray) -> np.ndarray:
        parts = np.array_split(theta, max(1, len(theta) // BLOCK))
        z = (np.concatenate([simulator.outputs_of(p) for p in parts]) - simulator.seen) / noise
        return -0.5 * (z**2).sum(axis=1) - np.log(noise * np.sqrt(2 * np.pi)).sum()

    def model() -> pm.Model:
        from pytensor.compile.ops import wrap_py

        @wrap_py([pt.dvector], [pt.dvector])
        def solver(theta):
            return simulator.outputs_of(theta[None])[0]

        with pm.Model() as built:
            place = pm.Uniform("place", 0.0, 1.0, shape=2)
            score = pm.Normal("score", 0.0, 1.0, shape=2)
            outputs = solver(pt.concatenate([place, score]))
            pm.Normal("reading", outputs, noise, observed=simulator.seen)
        return built

    def events(theta: np.ndarray) -> np.ndarray:
        return np.stack([theta[:, 1] < 0.5, theta[:, 1] >= 0.5], axis=1)

    return Problem(
        "slow_plume", 4, model, from_unit, log_likelihood, events,
        np.array([share, 1 - share]), log_z, ("place", "score"), has_gradient=False,
        settings={"emulation": Emulation(min_seconds=0.0)},
    )  # fmt: skip
