"""Small PyMC models that the tests share; each function builds a new model."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

WEIGHTS = (0.7, 0.3)
"""Weights of the two modes of `unequal` and `one_dimensional`, heaviest first."""


def four_modes() -> pm.Model:
    """Four equal modes at (±2, ±2), with coords, data and a Deterministic."""
    with pm.Model(coords={"axis": ["east", "north"]}) as model:
        data = pm.Data("data", np.array([4.0, 4.0]), dims="axis")
        noise = pm.Data("noise", 1.0)
        x = pm.Normal("x", 0.0, 3.0, dims="axis")
        square = pm.Deterministic("square", x**2, dims="axis")
        pm.Normal("y", square, noise, observed=data, dims="axis")
    return model


def unequal() -> pm.Model:
    """Modes at 3 and -3 with weights 0.7 and 0.3, beside a positive scale."""
    with pm.Model() as model:
        mu = np.array([-3.0, 3.0])
        pm.NormalMixture("x", w=np.array([0.3, 0.7]), mu=mu, sigma=0.5)
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.Normal("y", 0.0, sigma, observed=np.array([-1.0, -0.3, 0.4, 1.1]))
    return model


def one_dimensional(name: str = "weight") -> pm.Model:
    """A single variable with two modes; by default it is called what a mode's weight is."""
    with pm.Model() as model:
        mu = np.array([-3.0, 3.0])
        pm.NormalMixture(name, w=np.array([0.3, 0.7]), mu=mu, sigma=0.5)
    return model


def unimodal() -> pm.Model:
    """One mode, and a log evidence of log N(1; 0, sqrt(2))."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", x, 1.0, observed=1.0)
    return model


class Square(Op):
    """A solver from elsewhere: it squares its input and knows no gradient."""

    __props__ = ()

    def make_node(self, x):
        x = pt.as_tensor_variable(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.square(inputs[0])


def black_box() -> pm.Model:
    """`four_modes` in one dimension, through an Op without gradient."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=1)
        pm.Normal("y", Square()(x), 1.0, observed=np.array([4.0]))
    return model


def circular() -> pm.Model:
    """Two equal modes at 0 and pi on a circle, beside a variable on the line."""
    with pm.Model() as model:
        phi = pm.VonMises("phi", mu=0.0, kappa=0.01)
        pm.Normal("z", 0.0, 1.0)
        pm.Potential("double", 4.0 * pm.math.cos(2.0 * phi))
    return model


def tilted_signs() -> pm.Model:
    """Six coordinates of unknown sign, one of them tilted: 64 modes in two orbits of 32."""
    with pm.Model(coords={"axis": ["east", "north"], "time": [0, 1, 2]}) as model:
        p = pm.Normal("p", 0, 3, dims=("axis", "time"))
        pm.Potential("q", pm.math.sum(-0.5 * ((pm.math.abs(p) - 2) / 0.4) ** 2) + 0.3 * p[0, 0])
    return model
