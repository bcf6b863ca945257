"""The families of ``random_models.py`` as PyMC models: one compiled graph for each family.

Each graph has all parameters of its components as data. The prior of a model gives the starting
points, and a potential turns its density into that of the mixture: so the posterior, whose weights
and evidence are known, tests transforms, Jacobians and the compiled density as well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from inverse_model import ABSENT, renewed
from random_models import (
    FAMILIES,
    LOG_2PI,
    PRIOR_SD,
    Placed,
    RandomModel,
    circular,
    constrained,
    random_weights,
)
from scipy.special import i0e

from pymc_multimodal.model.build import density_of
from pymc_multimodal.target import Density

DIM, MAX_COMPONENTS = 6, 8
# Kinds of the coordinates of `constrained`, as there, and number of the angles of `circular`.
KINDS, N_ANGLES = np.array([0, 0, 1, 1, 2, 2]), 3
# Concentration of the prior of angles: nearly uniform.
FLAT = 1e-3


# ------------------------------------------------------------------ log densities of components


def normal(y, p):
    return (-0.5 * (y**2 + LOG_2PI)).sum(axis=1)


def skew_normal(y, p):
    return pm.logp(pm.SkewNormal.dist(mu=0.0, sigma=1.0, alpha=p["slant"]), y).sum(axis=1)


def student_t(y, p):
    nu = p["nu"]
    constant = pt.gammaln((nu + DIM) / 2) - pt.gammaln(nu / 2) - 0.5 * DIM * pt.log(nu * np.pi)
    return constant - 0.5 * (nu + DIM) * pt.log1p((y**2).sum(axis=1) / nu)


def bent(y, p):
    return normal(y - p["bend"] * (y[:, 0, None] ** 2 - 1), p)


def hierarchy(y, p):
    scaled = pt.concatenate(
        [
            y[:, 0, None],
            y[:, 1, None] / p["sd"][:, None],
            (y[:, 2:] - y[:, 0, None]) * pt.exp(-y[:, 1, None]),
        ],
        axis=1,
    )
    return normal(scaled, p) - pt.log(p["sd"]) - (DIM - 2) * y[:, 1]


SHAPES = {
    "gaussian": (normal, {}),
    "skewed": (skew_normal, {"slant": "a"}),
    "heavy": (student_t, {"nu": "nu"}),
    "curved": (bent, {"bend": "bend"}),
    "hierarchical": (hierarchy, {"sd": "sd"}),
}


# ------------------------------------------------------------------ graphs


def placed_model(family: str) -> pm.Model:
    """Components of one shape, moved, scaled and turned."""
    shape = SHAPES[family][0]
    with pm.Model() as model:
        p = {name: pm.Data(name, value) for name, value in _empty(family).items()}
        x = pm.Normal("x", p["shift"], PRIOR_SD, shape=DIM)
        y = (p["inverse"] * (x - p["centres"])[:, None, :]).sum(axis=2)
        mixture = pt.logsumexp(p["log_w"] - p["log_det"] + shape(y, p))
        pm.Potential("mixture", mixture - pm.logp(pm.Normal.dist(p["shift"], PRIOR_SD), x).sum())
    return model


def constrained_model() -> pm.Model:
    """Gamma, beta and normal variables, which PyMC transforms."""
    log, logit, real = (np.flatnonzero(KINDS == kind) for kind in range(3))
    with pm.Model() as model:
        p = {name: pm.Data(name, value) for name, value in _empty("constrained").items()}
        positive = pm.LogNormal("positive", 0.0, 3.0, shape=len(log))
        share = pm.Beta("share", 1.0, 1.0, shape=len(logit))
        free = pm.Normal("free", 0.0, 3.0, shape=len(real))
        a, b = p["a"], p["b"]
        gamma = pm.Gamma.dist(a[:, log], pt.exp(-b[:, log]))
        each = (
            pm.logp(gamma, positive).sum(axis=1)
            + pm.logp(pm.Beta.dist(a[:, logit], b[:, logit]), share).sum(axis=1)
            + pm.logp(pm.Normal.dist(a[:, real], b[:, real]), free).sum(axis=1)
        )
        prior = (
            pm.logp(pm.LogNormal.dist(0.0, 3.0), positive).sum()
            + pm.logp(pm.Normal.dist(0.0, 3.0), free).sum()
        )
        pm.Potential("mixture", pt.logsumexp(p["log_w"] + each) - prior)
    return model


def circular_model() -> pm.Model:
    """Angles and real variables."""
    with pm.Model() as model:
        p = {name: pm.Data(name, value) for name, value in _empty("circular").items()}
        angle = pm.VonMises("angle", 0.0, FLAT, shape=N_ANGLES)
        x = pm.Normal("x", 0.0, PRIOR_SD, shape=DIM - N_ANGLES)
        a, b = p["a"], p["b"]
        at = slice(0, N_ANGLES)
        turned = b[:, at] * (pt.cos(angle - a[:, at]) - 1) - p["log_i0e"] - LOG_2PI
        each = turned.sum(axis=1) + pm.logp(
            pm.Normal.dist(a[:, N_ANGLES:], b[:, N_ANGLES:]), x
        ).sum(axis=1)
        prior = (
            pm.logp(pm.VonMises.dist(0.0, FLAT), angle).sum()
            + pm.logp(pm.Normal.dist(0.0, PRIOR_SD), x).sum()
        )
        pm.Potential("mixture", pt.logsumexp(p["log_w"] + each) - prior)
    return model


@cache
def compiled(family: str) -> tuple[pm.Model, Density]:
    """Compile the graph of a family, with data to be set."""
    special = {"constrained": constrained_model, "circular": circular_model}
    model = special[family]() if family in special else placed_model(family)
    return model, density_of(model)


# ------------------------------------------------------------------ data


def _empty(family: str) -> dict[str, np.ndarray]:
    """Return data of the right shapes."""
    return parameters(pymc_model(0, family))


def parameters(model: RandomModel) -> dict[str, np.ndarray]:
    """Return the data of a model's graph, with components of no weight up to the number of all."""
    parts = model.components
    found = {"log_w": np.log(model.weights) + model.log_z}
    if isinstance(parts, Placed):
        names = SHAPES[model.family][1]
        found |= {"centres": parts.centres, "inverse": parts.inverse, "log_det": parts.log_det}
        found |= {name: getattr(parts.shape, source) for name, source in names.items()}
    else:
        found |= {"a": parts.a, "b": parts.b}
    if model.family == "circular":
        found["log_i0e"] = np.log(i0e(parts.b[:, :N_ANGLES]))
    missing = MAX_COMPONENTS - len(model.weights)
    # Those without weight repeat the first one.
    full = {k: np.concatenate([v, np.repeat(v[:1], missing, axis=0)]) for k, v in found.items()}
    full["log_w"][len(model.weights) :] = ABSENT
    if isinstance(parts, Placed):
        full["shift"] = model.prior.args[0]
    return full


def with_data(random: RandomModel) -> Density:
    """Set the data of the compiled graph, and the count of its evaluations to zero."""
    return renewed(*compiled(random.family), parameters(random))


MAKERS = FAMILIES | {
    "constrained": partial(constrained, kind=KINDS),
    "circular": partial(circular, n_angles=N_ANGLES),
}


def pymc_model(seed: int, family: str | None = None) -> RandomModel:
    """Make the model of a seed; the families are used in turn."""
    family = family or list(MAKERS)[seed % len(MAKERS)]
    rng = np.random.default_rng([seed, 2026])
    weights, log_z = random_weights(rng, MAX_COMPONENTS)
    made = RandomModel(family, weights, log_z, *MAKERS[family](rng, len(weights), DIM))
    return replace(made, density_factory=partial(with_data, made))
