"""Targets with a known answer, and PyMC models with a given density and a wide prior."""

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
DensityExpression: TypeAlias = Callable[[Any, Any], Any]
"""A log density ``density(x, xp)`` of points x, shape (..., d).

`xp` is the namespace to compute in, `numpy` or `pytensor.tensor`. One function for both cannot give
two different densities.
"""


@dataclass(frozen=True)
class GalleryTarget:
    """A PyMC model whose posterior is known.

    Points are rows of the unconstrained space: the values of ``model.value_vars``, raveled and
    joined in that order.

    Parameters
    ----------
    name : str
        In snake case; the key in ``TARGETS``, if the target is there.
    model : pymc.Model
        Its density is ``exp(model.logp())``, which is not always normalised.
    dim : int
        Dimension of the unconstrained space.
    draws : callable or None
        ``draws(n, rng)`` returns independent exact draws, shape (n, dim); None if there is no
        exact sampler.
    log_z : float or None
        Log of the integral of ``exp(model.logp())`` over the unconstrained space (over one period
        for circular variables); None if unknown.
    weights : numpy.ndarray or None
        Weights of the components in descending order, shape (K,); None if they are unknown.
    log_density : callable or None
        ``log_density(x)`` with x of shape (n, dim) returns ``model.logp()`` of each row, shape
        (n,), without PyTensor; None for real models.
    note : str
        The source of the known answer, in one line.
    membership : callable or None
        ``membership(x)`` with x of shape (n, dim) returns the probabilities, shape (n, K), that
        each row came from each component, in the order of `weights`. The mean over posterior
        draws estimates `weights` without bias, also where components overlap.
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
    """Compute the log of the sum of exponentials over the last axis without overflow."""
    # PyTensor's own logsumexp is stable only after a rewrite, and its gradient is not stable where
    # all exponentials underflow. With an explicit maximum both are stable in every mode.
    top = xp.max(a, axis=-1, keepdims=True)
    return xp.sum(top, axis=-1) + xp.log(xp.sum(xp.exp(a - top), axis=-1))


def softplus(a: Any, xp: Any) -> Any:
    """Compute ``log(1 + exp(a))`` without overflow."""
    return pt.softplus(a) if xp is pt else np.logaddexp(0.0, a)


def log_ndtr(a: Any, xp: Any) -> Any:
    """Compute the log of the standard normal distribution function, accurate in both tails."""
    if xp is not pt:
        return _numpy_log_ndtr(a)
    # Each branch gets arguments at which it does not overflow. Otherwise the gradient of `switch`
    # would be NaN (zero times infinity).
    tail = -pt.minimum(a, -1.0) / np.sqrt(2.0)
    low = pt.log(0.5 * pt.erfcx(tail)) - tail**2
    high = pt.log1p(-0.5 * pt.erfc(pt.maximum(a, -1.0) / np.sqrt(2.0)))
    return pt.switch(a < -1.0, low, high)


def stack_maps(maps: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the affine maps of all components, to apply them in one matrix product.

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


def potential_model(dim: int, scale: float, density: DensityExpression) -> pm.Model:
    """Build a model with a given density, whose prior draws are normal.

    The density does not depend on the prior, because a Potential divides the prior out.

    Parameters
    ----------
    dim : int
        Length of the one variable ``x``.
    scale : float
        Standard deviation of the prior; the prior is to cover the modes.
    density : callable
        See `DensityExpression`.
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
    log_components: DensityExpression,
    draw_component: Callable[[int, int, np.random.Generator], np.ndarray],
    dim: int,
    note: str,
    scale: float | None = None,
    make_model: Callable[[DensityExpression], pm.Model] | None = None,
) -> GalleryTarget:
    """Build a target from normalised components.

    Parameters
    ----------
    name, dim, note
        See `GalleryTarget`.
    weights : numpy.ndarray
        Shape (K,), descending, adding to one.
    log_components : callable
        ``log_components(x, xp)``: normalised log densities of all components, shape (..., K).
    draw_component : callable
        ``draw_component(k, n, rng)``: n exact draws of component k, shape (n, dim).
    scale : float, optional
        Prior standard deviation for `potential_model`.
    make_model : callable, optional
        ``make_model(density)`` builds the model instead, from the mixture's `DensityExpression`.

    Raises
    ------
    ValueError
        If neither `scale` nor `make_model` is given.
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
        raise ValueError("scale=None and make_model=None: give one of them to build the model.")
    return GalleryTarget(
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
        raise ValueError(f"{argument}={value!r} is not a known choice: use one of {choices}.")
