"""What a target is, and how a density becomes a PyMC model with a wide prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import log_ndtr as _numpy_log_ndtr

Draws: TypeAlias = Callable[[int, np.random.Generator], np.ndarray]
ArrayFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]
# A function of a point (or of points, one a row) and of the namespace to compute in, which is
# `numpy` or `pytensor.tensor`: each density is written once and cannot differ between the two.
Density: TypeAlias = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Target:
    """A PyMC model together with what is known about its posterior.

    "Unconstrained" below is the space of ``model.value_vars``, raveled and joined in that order.

    Parameters
    ----------
    name : str
        Snake case, the key in ``TARGETS`` for the default instances.
    model : pymc.Model
        The model; ``exp(model.logp())`` is the density, not always normalised.
    dim : int
        Dimension of the unconstrained space.
    draws : callable or None
        ``draws(n, rng)`` returns independent exact draws, shape (n, dim); None if there is no
        exact sampler.
    log_z : float or None
        Log of the integral of ``exp(model.logp())`` over the unconstrained space (over one period
        for circular variables); None if unknown.
    weights : numpy.ndarray or None
        Weights of the components in descending order, shape (K,); None if there are none.
    log_density : callable or None
        ``log_density(x)`` with x of shape (n, dim) returns ``model.logp()`` of each row, shape
        (n,), without PyTensor; None for real models.
    note : str
        Where the reference comes from, in one line.
    membership : callable or None
        ``membership(x)`` with x of shape (n, dim) returns the probabilities, shape (n, K), that
        each row came from each component, in the order of `weights`. Its mean over posterior
        draws estimates `weights` without bias even where components overlap.
    """

    name: str
    model: pm.Model
    dim: int
    draws: Draws | None
    log_z: float | None
    weights: np.ndarray | None
    log_density: ArrayFunction | None
    note: str
    membership: ArrayFunction | None = None


def logsumexp(a: Any, xp: Any) -> Any:
    """Log of the sum of exponentials over the last axis, stable whatever is rewritten."""
    # PyTensor's own logsumexp is stable only after a rewrite, and its gradient never is where
    # everything underflows; an explicit maximum is, in every mode.
    top = xp.max(a, axis=-1, keepdims=True)
    return xp.sum(top, axis=-1) + xp.log(xp.sum(xp.exp(a - top), axis=-1))


def softplus(a: Any, xp: Any) -> Any:
    """``log(1 + exp(a))`` without overflow."""
    return pt.softplus(a) if xp is pt else np.logaddexp(0.0, a)


def log_ndtr(a: Any, xp: Any) -> Any:
    """Log of the standard normal distribution function, accurate in both tails."""
    if xp is not pt:
        return _numpy_log_ndtr(a)
    # Each branch sees only arguments it can take: a branch that overflowed would spoil the
    # gradient of the other (zero times infinity).
    tail = -pt.minimum(a, -1.0) / np.sqrt(2.0)
    low = pt.log(0.5 * pt.erfcx(tail)) - tail**2
    high = pt.log1p(-0.5 * pt.erfc(pt.maximum(a, -1.0) / np.sqrt(2.0)))
    return pt.switch(a < -1.0, low, high)


def stack_maps(maps: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join one affine map per component, so that matrix products serve all components at once.

    Parameters
    ----------
    maps : numpy.ndarray
        One linear map per component, shape (K, d, m): standardised coordinates are
        ``(x - centre) @ map``.
    centres : numpy.ndarray
        Shape (K, d).

    Returns
    -------
    joint, offset, sums : numpy.ndarray
        Shapes (d, K m), (K m,) and (K m, K): ``z = x @ joint - offset`` holds the coordinates of
        all components side by side, and ``f(z) @ sums`` adds f up within each component.
    """
    n_components, _, width = maps.shape
    offset = np.einsum("kd,kdm->km", centres, maps).ravel()
    sums = np.kron(np.eye(n_components), np.ones((width, 1)))
    return np.concatenate(list(maps), axis=1), offset, sums


def potential_model(dim: int, scale: float, density: Density) -> pm.Model:
    """Model whose density is `density`, with normal prior draws as wide starting points.

    Parameters
    ----------
    dim : int
        Length of the one variable ``x``.
    scale : float
        Standard deviation of the prior, which covers the modes and does not know them.
    density : callable
        ``density(x, xp)``: the log density at x of shape (..., dim).
    """
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, scale, shape=dim)
        prior = pm.logp(pm.Normal.dist(0.0, scale, shape=dim), x).sum()
        pm.Potential("target", density(x, pt) - prior)
    return model


def mixture_target(
    *,
    name: str,
    weights: np.ndarray,
    log_components: Density,
    draw_component: Callable[[int, int, np.random.Generator], np.ndarray],
    dim: int,
    note: str,
    scale: float | None = None,
    make_model: Callable[[Density], pm.Model] | None = None,
) -> Target:
    """Target from normalised components.

    Parameters
    ----------
    name, dim, note
        As in `Target`.
    weights : numpy.ndarray
        Shape (K,), descending, adding to one.
    log_components : callable
        ``log_components(x, xp)``: normalised log densities of all components, shape (..., K).
    draw_component : callable
        ``draw_component(k, n, rng)``: n exact draws of component k, shape (n, dim).
    scale : float, optional
        Prior standard deviation for `potential_model`.
    make_model : callable, optional
        Makes the model of a mixture density that does not suit `potential_model`.
    """
    log_weights = np.log(weights)

    def density(x: Any, xp: Any) -> Any:
        return logsumexp(log_weights + log_components(x, xp), xp)

    def draws(n: int, rng: np.random.Generator) -> np.ndarray:
        labels = rng.choice(len(weights), size=n, p=weights)
        x = np.empty((n, dim))
        for k in range(len(weights)):
            chosen = labels == k
            x[chosen] = draw_component(k, int(chosen.sum()), rng)
        return x

    def membership(x: np.ndarray) -> np.ndarray:
        joint = log_weights + log_components(x, np)
        return np.exp(joint - logsumexp(joint, np)[..., None])

    if make_model is not None:
        model = make_model(density)
    elif scale is not None:
        model = potential_model(dim, scale, density)
    else:
        raise ValueError("scale and make_model are both None: give one of them to make the model")
    return Target(
        name=name,
        model=model,
        dim=dim,
        draws=draws,
        log_z=0.0,
        weights=weights,
        log_density=lambda x: density(np.asarray(x, dtype=float), np),
        note=note,
        membership=membership,
    )


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{argument}={value!r} is not a known choice: use one of {choices}")
