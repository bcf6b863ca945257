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


def normal(x, mean, sd):
    """Log density of a normal."""
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * LOG_2PI


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


def uneven():
    """Units of one and of two coordinates around a hub g.

    Eight units z are normal around zero with the standard deviation e^g, and are seen. In three
    others a^2 + k is seen: two bent ridges, which are images of one another.

    Returns
    -------
    density : Density
    log_z : float
    """
    seen, noise = np.array([0.3, -0.2, 0.8, 0.1, -0.6, 0.4, 0.0, 1.1]), 0.5

    def function(x):
        g, z, a, k = x[:, :1], x[:, 1:9], x[:, 9::2], x[:, 10::2]
        plain = normal(z, 0.0, np.exp(g)) + normal(seen, z, noise)
        bent = normal(a, 0.0, 2.0) + normal(k, 0.0, 1.0) + normal(1.5, a**2 + k, noise)
        return np.concatenate([normal(g, -0.5, 1.0), plain, bent], axis=1)

    depends = np.zeros((12, 15), dtype=bool)
    depends[:9, 0] = depends[range(9), range(9)] = True
    for i in range(3):
        depends[9 + i, 9 + 2 * i : 11 + 2 * i] = True

    def prior(n, rng):
        g = rng.normal(-0.5, 1.0, (n, 1))
        z, bent = np.exp(g) * rng.standard_normal((n, 8)), rng.standard_normal((n, 6))
        return np.concatenate([g, z, bent * np.tile([2, 1], 3)], axis=1)

    g, a = np.linspace(-8.0, 6.0, 4001)[:, None], np.linspace(-9.0, 9.0, 20_001)
    plain = normal(seen, 0.0, np.hypot(np.exp(g), noise)).sum(axis=1)
    of_hub = logsumexp(plain + normal(g[:, 0], -0.5, 1.0)) + np.log(g[1, 0] - g[0, 0])
    each = normal(a, 0.0, 2.0) + normal(1.5, a**2, np.hypot(1.0, noise))
    of_bent = logsumexp(each) + np.log(a[1] - a[0])
    return density_of(function, depends, prior), float(of_hub + 3 * of_bent)


def funnel():
    """A funnel of five coordinates, whose log density is unbounded, beside two pairs of wells.

    Returns
    -------
    density : Density
    log_z : float
    """
    seen, noise = np.array([0.3, -0.2, 0.8, 0.1]), 0.5

    def function(x):
        t, z, wells = x[:, :1], x[:, 1:5], x[:, 5:]
        own = normal(t, 0.0, 1.0) + (normal(z, 0.0, np.exp(t)) + normal(seen, z, noise)).sum(
            axis=1, keepdims=True
        )
        return np.concatenate([own, -((wells**2 - 2.0) ** 2)], axis=1)

    depends = np.zeros((3, 7), dtype=bool)
    depends[0, :5] = depends[1, 5] = depends[2, 6] = True

    def prior(n, rng):
        t = rng.standard_normal((n, 1))
        z = np.exp(t) * rng.standard_normal((n, 4))
        return np.concatenate([t, z, 2 * rng.standard_normal((n, 2))], axis=1)

    t, w = np.linspace(-9.0, 9.0, 4001), np.linspace(-6.0, 6.0, 20_001)
    own = normal(t, 0.0, 1.0) + normal(seen[:, None], 0.0, np.hypot(np.exp(t), noise)).sum(axis=0)
    of_funnel = logsumexp(own) + np.log(t[1] - t[0])
    of_wells = logsumexp(-((w**2 - 2.0) ** 2)) + np.log(w[1] - w[0])
    return density_of(function, depends, prior), float(of_funnel + 2 * of_wells)


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
