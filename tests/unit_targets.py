"""Densities of units with two explanations each, of which everything is known by quadrature."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.target import Density, Place
from pymc_multimodal.target.units import find_units

LOG_2PI = np.log(2 * np.pi)
# Distance of the explanations from the mean, and the share of the upper one.
APART, UPPER = 2.0, 0.7


class Terms:
    """Terms of a density, with what they depend on."""

    def __init__(self, function, depends):
        self.function, self.depends = function, np.asarray(depends, dtype=bool)
        self.places = tuple(Place("x", "x", (i,)) for i in range(self.depends.shape[1]))

    def prepare(self):
        """There is nothing to compile."""

    def __call__(self, x):
        return self.function(x)


def density_of(function, depends, prior):
    """Return the density that is the sum of the terms, without a gradient."""
    terms = Terms(function, depends)
    return Density(
        lambda x: (function(x).sum(axis=1), None),
        terms.depends.shape[1],
        has_gradient=False,
        prior=prior,
        terms=lambda: terms,
    )


def pairs(n_units=8, size=1, hub=True, coupled=0.0):
    """Units z_i around a hub g: z_i - g - s a is normal, with s = 1 or -1 of shares 0.7 and 0.3.

    The hub is standard normal; other coordinates of a unit are normal around the first. `coupled`
    is a coupling between the first two units that the terms do not tell.
    """
    h = int(hub)
    d = h + n_units * size
    width = 0.4

    def function(x):
        g = x[:, :1] if hub else np.zeros((len(x), 1))
        z = x[:, h:].reshape(len(x), n_units, size)
        first = z[..., 0] - g
        each = [
            np.log(share) - 0.5 * ((first - s * APART) / width) ** 2 - np.log(width)
            for s, share in ((1, UPPER), (-1, 1 - UPPER))
        ]
        own = logsumexp(each, axis=0) - 0.5 * LOG_2PI
        own += (-0.5 * (z[..., 1:] - z[..., :1]) ** 2 - 0.5 * LOG_2PI).sum(axis=2)
        own[:, 0] -= coupled * z[:, 0, 0] * z[:, 1, 0]
        top = -0.5 * g**2 - 0.5 * LOG_2PI if hub else np.empty((len(x), 0))
        return np.concatenate([top, own], axis=1)

    depends = np.zeros((h + n_units, d), dtype=bool)
    depends[:, :h] = True
    for i in range(n_units):
        depends[h + i, h + i * size : h + (i + 1) * size] = True
    return density_of(function, depends, lambda n, rng: 3.0 * rng.standard_normal((n, d)))


def draws_of_pairs(n, rng, n_units=8, size=1, hub=True):
    """Exact draws of `pairs`, shape (n, d)."""
    g = rng.standard_normal((n, 1)) if hub else np.zeros((n, 1))
    sign = np.where(rng.random((n, n_units)) < UPPER, 1.0, -1.0)
    z = np.empty((n, n_units, size))
    z[..., 0] = g + sign * APART + 0.4 * rng.standard_normal((n, n_units))
    z[..., 1:] = z[..., :1] + rng.standard_normal((n, n_units, size - 1))
    z = z.reshape(n, -1)
    return np.concatenate([g, z], axis=1) if hub else z


def shifted_wells(slope, tilt=0.0):
    """Units z_i around a hub g, with wells at 1 and -1 from a_i g, tilted by the hub.

    Returns
    -------
    density : Density
    units : Units
    """
    n_units = len(slope)

    def function(x):
        y = x[:, 1:] - slope * x[:, :1]
        own = -4.0 * (y**2 - 1.0) ** 2 + tilt * x[:, :1] * y
        return np.concatenate([-0.5 * x[:, :1] ** 2, own], axis=1)

    depends = np.concatenate([np.ones((n_units + 1, 1)), np.eye(n_units + 1)[:, 1:]], axis=1)
    density = density_of(
        function, depends, lambda n, rng: 2.0 * rng.standard_normal((n, n_units + 1))
    )
    model = density.term_model
    return density, find_units(model.depends, model.places)
