"""Models of units, with their log evidence and the shares of each unit's explanations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import logsumexp
from scipy.stats import halfnorm, norm


@dataclass(frozen=True)
class UnitModel:
    """A model and what is known of it.

    Attributes
    ----------
    model : pymc.Model
    log_evidence : float
    upper : array of shape (N,)
        Posterior probability that the coordinate `above` of each unit is above the border.
    above : callable
        ``above(fit)`` tells for each unit, and each of its explanations, whether it is there.
    is_upper : callable
        ``is_upper(draws)`` tells for each draw, and each unit, whether it is there, (n, N), from
        arrays of draws by variable, each of shape (n, ...).
    weights : callable
        ``weights(fit)`` gives the true weight of each unit's explanations, (N, K), where these are
        more than two.
    """

    model: pm.Model
    log_evidence: float
    upper: np.ndarray = field(default_factory=lambda: np.zeros(0))
    above: object = None
    is_upper: object = None
    weights: object = None


def wells(pairs: int = 16) -> UnitModel:
    """Independent double wells, and as many normals: 2^pairs modes."""
    with pm.Model() as model:
        d = pm.Normal("d", 0, 2, shape=pairs)
        pm.Normal("v", 0, 1, shape=pairs)
        density = 0.5 * d + 6 * d**2 - d**4
        pm.Potential("wells", pt.sum(density - pm.logp(pm.Normal.dist(0, 2), d)))
    x = np.linspace(-5, 5, 200_001)
    one = 0.5 * x + 6 * x**2 - x**4
    total = logsumexp(one)
    upper = np.full(pairs, np.exp(logsumexp(one[x > 0]) - total))
    log_z = pairs * float(total + np.log(x[1] - x[0]))
    return UnitModel(
        model,
        log_z,
        upper,
        lambda fit: fit.units.location[:pairs, :, 0] > 0,
        lambda draws: draws["d"] > 0,
    )


def population(n: int = 20, seed: int = 11) -> UnitModel:
    """Rates with a common mean and spread, of which only the distance from 1.2 is seen."""
    rng = np.random.default_rng(seed)
    rates = rng.normal(1.0, 0.4, n)
    seen = np.abs(rates - 1.2) + 0.1 * rng.standard_normal(n)
    with pm.Model(coords={"unit": range(n)}) as model:
        mu, tau = pm.Normal("mu", 0, 2), pm.HalfNormal("tau", 1)
        z = pm.Normal("z", 0, 1, dims="unit")
        pm.Normal("seen", pm.math.abs(mu + tau * z - 1.2), 0.1, observed=seen, dims="unit")
    log_tau, mean = np.linspace(-6, 2, 401), np.linspace(-3, 5, 801)
    t, m = np.exp(log_tau)[:, None], mean[None]
    joint, upper = np.zeros((401, 801)), []
    for y in seen:
        sides = []
        for sign in (1, -1):
            centre, variance = sign * (m - 1.2), t**2
            v = 1 / (1 / variance + 100)
            cut = v * (centre / variance + 100 * y)
            sides.append(
                norm.logpdf(y, centre, np.sqrt(t**2 + 0.01)) + norm.logcdf(cut / np.sqrt(v))
            )
        both = np.logaddexp(*sides)
        joint += both
        upper.append(np.exp(sides[0] - both))
    joint += norm.logpdf(m, 0, 2) + halfnorm.logpdf(t) + log_tau[:, None]
    total = logsumexp(joint)
    weight = np.exp(joint - total)
    cell = (log_tau[1] - log_tau[0]) * (mean[1] - mean[0])

    def above(fit):
        # A unit's explanations are located at one value of the hubs: the larger z is above.
        z = fit.units.location[:, :, 0]
        return z == np.nanmax(z, axis=1, keepdims=True)

    shares = np.array([(weight * u).sum() for u in upper])

    def is_upper(draws):
        return draws["mu"][:, None] + draws["tau"][:, None] * draws["z"] > 1.2

    return UnitModel(model, float(total + np.log(cell)), shares, above, is_upper)


def shifts(n: int = 200, seed: int = 3) -> UnitModel:
    """Units of two coordinates whose level is seen shifted by -1.5, 0 or 2: three explanations."""
    rng = np.random.default_rng(seed)
    by, share = np.array([-1.5, 0.0, 2.0]), np.array([0.25, 0.5, 0.25])
    level, slope = rng.normal(1.0, 0.7, n), rng.normal(0.0, 1.0, n)
    first = level + by[rng.choice(3, n, p=share)] + 0.25 * rng.standard_normal(n)
    second = slope + 0.3 * level + 0.5 * rng.standard_normal(n)
    with pm.Model(coords={"unit": range(n)}) as model:
        mu, tau = pm.Normal("mu", 0, 2), pm.HalfNormal("tau", 1)
        a, s = pm.Normal("a", mu, tau, dims="unit"), pm.Normal("s", 0, 1, dims="unit")
        parts = [
            np.log(p) + pm.logp(pm.Normal.dist(a + d, 0.25), first)
            for d, p in zip(by, share, strict=True)
        ]
        pm.Potential("first", pt.logsumexp(pt.stack(parts), axis=0).sum())
        pm.Normal("second", s + 0.3 * a, 0.5, observed=second, dims="unit")
    log_tau, mean = np.linspace(-2, 1, 241), np.linspace(-1, 3, 321)
    t, m = np.exp(log_tau)[:, None], mean[None]
    # Both observations of a unit are normal, given the hubs and the shift.
    v11, v12, v22 = t**2 + 0.0625, 0.3 * t**2, 0.09 * t**2 + 1.25
    det = v11 * v22 - v12**2
    joint, each = norm.logpdf(m, 0, 2) + halfnorm.logpdf(t) + log_tau[:, None], []
    for y1, y2 in zip(first, second, strict=True):
        logs = []
        for d, p in zip(by, share, strict=True):
            r1, r2 = y1 - d - m, y2 - 0.3 * m
            square = (r1**2 * v22 - 2 * r1 * r2 * v12 + r2**2 * v11) / det
            logs.append(np.log(p) - 0.5 * square - 0.5 * np.log(det) - np.log(2 * np.pi))
        every = logsumexp(logs, axis=0)
        each.append([np.exp(log - every) for log in logs])
        joint = joint + every
    total = logsumexp(joint)
    weight = np.exp(joint - total)
    cell = (log_tau[1] - log_tau[0]) * (mean[1] - mean[0])
    shares = np.array([[(weight * u).sum() for u in unit] for unit in each])

    def weights(fit):
        # The three are some six standard deviations apart. A small one, from which the valley to
        # its neighbour is less than a nat deep, is part of that neighbour.
        gap = np.abs(fit.units.location[:n, None, :, 0] - (first[:, None] - by)[:, :, None])
        nearest = np.argmin(np.where(np.isnan(gap), np.inf, gap), axis=2)
        out = np.zeros(gap[:, 0].shape)
        np.add.at(out, (np.arange(n)[:, None], nearest), shares)
        return out

    return UnitModel(model, float(total + np.log(cell)), weights=weights)


def groups(n: int = 30) -> UnitModel:
    """Return a centred hierarchy whose mean is g^2 / 2, so that g has two signs."""
    rng = np.random.default_rng(5)
    sd = rng.uniform(1.0, 2.5, n)
    y = 2.0 + rng.normal(0, 0.5, n) + sd * rng.standard_normal(n)
    with pm.Model(coords={"group": range(n)}) as model:
        g, tau = pm.Normal("g", 0.3, 2.0), pm.HalfNormal("tau", 2.0)
        theta = pm.Normal("theta", g**2 / 2, tau, dims="group")
        pm.Normal("y", theta, sd, observed=y, dims="group")
    log_tau, x = np.linspace(-14, 3, 1201)[:, None], np.linspace(-6, 6, 2401)[None]
    joint = norm.logpdf(x, 0.3, 2.0) + halfnorm.logpdf(np.exp(log_tau), scale=2.0) + log_tau
    for value, s in zip(y, sd, strict=True):
        joint = joint + norm.logpdf(value, x**2 / 2, np.sqrt(s**2 + np.exp(2 * log_tau)))
    cell = 17 / 1200 * 12 / 2400
    total = logsumexp(joint)
    upper = np.exp(logsumexp(joint[:, x[0] > 0]) - total)
    return UnitModel(
        model,
        float(total + np.log(cell)),
        np.array([upper]),
        lambda fit: np.empty((1, 0)),
        lambda draws: draws["g"][:, None] > 0,
    )


def missing() -> UnitModel:
    """Two regression lines with four missing covariates and two missing responses."""
    rng = np.random.default_rng(4)
    n = 40
    x, k = rng.normal(0, 1, n), rng.random(n) < 0.55
    y = np.where(k, 2.0 + 1.8 * x, -0.5 - 1.2 * x) + 0.4 * rng.standard_normal(n)
    no_x = rng.choice(n, 4, False)
    no_y = rng.choice(np.setdiff1d(np.arange(n), no_x), 2, False)
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(2))
        a, b, s = (
            pm.Normal("a", 0, 3, shape=2),
            pm.Normal("b", 0, 2, shape=2),
            pm.HalfNormal("s", 1),
        )
        masked_x = np.ma.masked_array(x, np.isin(np.arange(n), no_x))
        masked_y = np.ma.masked_array(y, np.isin(np.arange(n), no_y))
        at = pm.Normal("x", 0, 1, observed=masked_x)
        pm.NormalMixture("y", w=w, mu=a + b * at[:, None], sigma=s, observed=masked_y)
    # By importance sampling of the parameters with the missing values integrated: to 0.002.
    return UnitModel(model, -110.9689)


MODELS = {
    "wells_16": wells,
    "population_20": population,
    "population_200": lambda: population(200),
    "shifts_20": lambda: shifts(20),
    "shifts_200": shifts,
    "groups_30": groups,
    "missing": missing,
}
