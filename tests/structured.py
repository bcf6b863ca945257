"""Small PyMC models of units that share a few coordinates, and models that only look like it."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

N = 5
ROWS = np.repeat(np.arange(N), [1, 2, 3, 1, 2])
COORDS = {"unit": list("abcde"), "axis": ["east", "north"], "kind": range(3)}


def _data(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


def wells() -> pm.Model:
    """Coordinates that are independent of one another."""
    with pm.Model() as model:
        d = pm.Normal("d", 0, 2, shape=N)
        pm.Normal("v", 0, 1, shape=N)
        pm.Potential("p", pt.sum(0.5 * d + 6 * d**2 - d**4 - pm.logp(pm.Normal.dist(0, 2), d)))
    return model


def centred() -> pm.Model:
    """A centred hierarchy."""
    with pm.Model(coords=COORDS) as model:
        mu, tau = pm.Normal("mu", 0, 2), pm.HalfNormal("tau", 1)
        z = pm.Normal("z", mu, tau, dims="unit")
        pm.Normal("y", abs(z), 0.3, observed=_data(N), dims="unit")
    return model


def grouped() -> pm.Model:
    """Several observations for each unit, which has a mean and a scale of its own."""
    with pm.Model(coords=COORDS) as model:
        mu, nu = pm.Normal("mu", 0, 2), pm.Gamma("nu", 2, 1)
        z = pm.Normal("z", 0, 1, dims="unit")
        s = pm.HalfNormal("s", 1, dims="unit")
        rows = pm.Data("rows", ROWS)
        pm.StudentT("y", nu, mu=mu + z[rows], sigma=s[rows], observed=_data(len(ROWS)))
    return model


def one_hot() -> pm.Model:
    """As `grouped`, by a product with a matrix of zeros and ones."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        z = pm.Laplace("z", mu, 1, dims="unit")
        design = pm.Data("design", np.eye(N)[ROWS])
        pm.Normal("y", pt.dot(design, z), 1.0, observed=_data(len(ROWS)))
        pm.Normal("x", (design * z).sum(axis=1), 1.0, observed=_data(len(ROWS), 2))
    return model


def mixture() -> pm.Model:
    """A mixture for each unit, with a free weight."""
    with pm.Model(coords=COORDS) as model:
        w, s = pm.Beta("w", 2, 2), pm.HalfNormal("s", 1)
        z = pm.Normal("z", 0, 2, dims="unit")
        weights = pt.stack([w, 1 - w])
        means = pt.stack([z, -z], axis=1)
        pm.NormalMixture("y", weights, means, s, observed=_data(N), dims="unit")
        terms = pt.stack([pm.logp(pm.Normal.dist(0, 1), z - 1), -(z**2)], axis=-1)
        pm.Potential("p", pm.math.logsumexp(terms, axis=-1))
    return model


def scales() -> pm.Model:
    """A scale for each unit, which checks inside a mixture and a truncation compare with zero."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        z, s = pm.Normal("z", mu, 1, dims="unit"), pm.HalfNormal("s", 1, dims="unit")
        means = pt.stack([z, -z], axis=1)
        pm.NormalMixture("y", [0.4, 0.6], means, s[:, None], observed=_data(N), dims="unit")
        pm.TruncatedNormal("x", z, s, lower=-3.0, observed=abs(_data(N)), dims="unit")
    return model


def missing() -> pm.Model:
    """A regression with missing covariates and responses."""
    x, y = _data(12), _data(12, 2)
    gaps, other = np.isin(np.arange(12), [1, 5, 6]), np.isin(np.arange(12), [2, 9])
    with pm.Model(coords={"row": range(12)}) as model:
        a, b, s = pm.Normal("a", 0, 3), pm.Normal("b", 0, 2), pm.HalfNormal("s", 1)
        covariate = pm.Normal("x", 0, 1, observed=np.ma.masked_array(x, gaps), dims="row")
        pm.Normal("y", a + b * covariate, s, observed=np.ma.masked_array(y, other), dims="row")
    return model


def planes() -> pm.Model:
    """Two correlated coordinates for each unit."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        cov = np.array([[1.0, 0.4], [0.4, 2.0]])
        z = pm.MvNormal("z", pt.stack([mu, mu]), cov, dims=("unit", "axis"))
        pm.Normal("y", abs(z[:, 0]) - z[:, 1], 0.5, observed=_data(N), dims="unit")
    return model


def simplexes() -> pm.Model:
    """A point of a simplex and an ordered pair for each unit."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        w = pm.Dirichlet("w", np.ones((N, 3)), dims=("unit", "kind"))
        order = pm.distributions.transforms.ordered
        c = pm.Normal("c", mu, 1, dims=("unit", "axis"), transform=order,
                      initval=np.tile([-1.0, 1.0], (N, 1)))  # fmt: skip
        pm.Normal("y", (w[:, :2] * c).sum(axis=1), 0.5, observed=_data(N), dims="unit")
    return model


def hyperprior() -> pm.Model:
    """A hierarchy whose mean has a prior with parameters of its own."""
    with pm.Model(coords=COORDS) as model:
        m = pm.Normal("m", 0, 1)
        mu, tau = pm.Normal("mu", m, 2), pm.HalfNormal("tau", 1)
        z = pm.Normal("z", 0, 1, dims="unit")
        pm.Normal("y", abs(mu + tau * z), 0.3, observed=_data(N), dims="unit")
    return model


def products() -> pm.Model:
    """Potentials that are scalars: products, quotients and a sum of squares by a dot product."""
    with pm.Model() as model:
        t = pm.HalfNormal("t", 1)
        z = pm.Normal("z", 0, 1, shape=N)
        pm.Potential("p", -0.5 * pt.dot(z, z) * t - pt.sum(z**4) / t)
        pm.Potential("q", pt.switch(t > 1.0, pt.sum(abs(z)) + t, -2.0 * pt.sum(z)))
        pm.Potential("r", pt.cumsum(pt.concatenate([t[None], z]))[:1].sum())
    return model


def walk() -> pm.Model:
    """A random walk."""
    with pm.Model() as model:
        steps = pm.Normal("z", 0, 1, shape=9)
        pm.Potential("p", -0.5 * pt.sum(pt.diff(steps) ** 2))
    return model


def field() -> pm.Model:
    """Units with a covariance between all of them."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        distance = np.abs(np.arange(N)[:, None] - np.arange(N))
        z = pm.MvNormal("z", np.zeros(N), np.exp(-0.5 * distance**2), dims="unit")
        pm.Normal("y", abs(mu + z), 0.3, observed=_data(N), dims="unit")
    return model


def zero_sum() -> pm.Model:
    """Units that sum to zero."""
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", 0, 2)
        z = pm.ZeroSumNormal("z", 1.0, dims="unit")
        pm.Normal("y", abs(mu + z), 0.3, observed=_data(N), dims="unit")
    return model


def regression() -> pm.Model:
    """Coefficients that all observations share."""
    with pm.Model() as model:
        b, s = pm.Normal("b", 0, 1, shape=4), pm.HalfNormal("s", 1)
        pm.Normal("y", pt.dot(_data((20, 4)), b), s, observed=_data(20, 2))
    return model
