"""Models as users write them, with data; no exact draws."""

from __future__ import annotations

import numpy as np
import pymc as pm

from pymc_multimodal.gallery.base import GalleryTarget


def symmetric_mixture() -> GalleryTarget:
    """Two-component normal mixture of 60 points whose labels are free to swap.

    Notes
    -----
    Nothing orders the components, so swapping them leaves the posterior unchanged and each
    labelling holds exactly half of the mass: `membership` goes by ``mu[0] < mu[1]``. Unconstrained
    coordinates are mu (2), log sigma (2) and the log odds of w.
    """
    rng = np.random.default_rng(60)
    data = np.concatenate([rng.normal(-2.0, 1.0, 36), rng.normal(2.5, 0.7, 24)])
    with pm.Model(coords={"component": ["first", "second"]}) as model:
        mu = pm.Normal("mu", 0.0, 5.0, dims="component")
        sigma = pm.HalfNormal("sigma", 2.0, dims="component")
        w = pm.Beta("w", 2.0, 2.0)
        pm.NormalMixture("y", w=pm.math.stack([w, 1.0 - w]), mu=mu, sigma=sigma, observed=data)

    def membership(x: np.ndarray) -> np.ndarray:
        ordered = x[:, 0] < x[:, 1]
        return np.stack([ordered, ~ordered], axis=1).astype(float)

    return GalleryTarget(
        name="symmetric_mixture",
        model=model,
        dim=5,
        draws=None,
        log_z=None,
        weights=np.array([0.5, 0.5]),
        log_density=None,
        note="weights exact by symmetry; no exact draws",
        membership=membership,
    )


_EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
_SCHOOLS = {"school": list("ABCDEFGH")}


def eight_schools_centered() -> GalleryTarget:
    """Eight schools, centred: the density is unbounded as tau goes to zero.

    Notes
    -----
    Rubin (1981); Gelman et al., Bayesian Data Analysis, section 5.5, with the priors
    ``mu ~ N(0, 5)`` and ``tau ~ HalfCauchy(5)``. The variables are mu, log tau and theta.
    """
    with pm.Model(coords=_SCHOOLS) as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        theta = pm.Normal("theta", mu, tau, dims="school")
        pm.Normal("y", theta, _ERRORS, observed=_EFFECTS, dims="school")
    return GalleryTarget(
        name="eight_schools_centered",
        model=model,
        dim=10,
        draws=None,
        log_z=None,
        weights=None,
        log_density=None,
        note="reference: long NUTS run on eight_schools_noncentered",
    )


def eight_schools_noncentered() -> GalleryTarget:
    """Eight schools, non-centred: the same posterior of mu, tau and theta, easy to sample.

    Notes
    -----
    As `eight_schools_centered` with ``theta = mu + tau * eta``, a Deterministic. The variables are
    mu, log tau and eta.
    """
    with pm.Model(coords=_SCHOOLS) as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        eta = pm.Normal("eta", 0.0, 1.0, dims="school")
        theta = pm.Deterministic("theta", mu + tau * eta, dims="school")
        pm.Normal("y", theta, _ERRORS, observed=_EFFECTS, dims="school")
    return GalleryTarget(
        name="eight_schools_noncentered",
        model=model,
        dim=10,
        draws=None,
        log_z=None,
        weights=None,
        log_density=None,
        note="reference: long NUTS run on this model",
    )
