"""Simulators in NumPy with known posteriors: what a PyMC model with a black box is split into."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.target import Density

# Points of the quadrature along each coordinate, and their range: integrands are smooth and vanish
# at both ends, so that the trapezoidal rule is exact to more digits than any test asks for.
GRID = {1: 20_001, 2: 1201, 3: 181}
REACH = 6.5


class Likelihood:
    """A standard normal prior and independent normal observations of outputs.

    The last coordinate scales the standard deviations by ``exp(noise * x)`` if `noise` is given.
    """

    def __init__(self, f, dim, observed, sd, noise=None):
        self.f, self.observed = f, np.asarray(observed, float)
        self.sd = np.broadcast_to(np.asarray(sd, float), self.observed.shape)
        self.noise, self.calls, self.points = noise, 0, []
        self.inputs, self.dim = np.arange(dim), dim + (noise is not None)
        self.n_outputs = len(self.observed)
        self.names = tuple(f"y[{i}]" for i in range(self.n_outputs))

    def outputs(self, x):
        self.calls += len(x)
        self.points.extend(row.tobytes() for row in x)
        return self.f(x[:, : len(self.inputs)])

    def scale(self, x):
        return self.sd if self.noise is None else self.sd * np.exp(self.noise * x[:, -1:])

    def log_density(self, x, y):
        return self.log_density_and_grad(x, y)[0]

    def log_density_and_grad(self, x, y):
        sd = self.scale(x)
        z = (y - self.observed) / sd
        logp = -0.5 * (x**2).sum(axis=1) - 0.5 * self.dim * np.log(2 * np.pi)
        logp = logp - 0.5 * (z**2).sum(axis=1) - (np.log(sd) * np.ones_like(z)).sum(axis=1)
        grad = -x.copy()
        if self.noise is not None:
            grad[:, -1] += self.noise * ((z**2).sum(axis=1) - self.n_outputs)
        return logp - 0.5 * self.n_outputs * np.log(2 * np.pi), grad, -z / sd

    def logp(self, x):
        """The log density of points, uncounted."""
        return self.log_density(x, self.f(x[:, : len(self.inputs)]))

    def density(self, *, visible=True, **kwargs):
        """The density as a fit sees it, with the outputs visible or not."""

        def function(x):
            return self.log_density(x, self.outputs(x)), None

        def prior(n, rng):
            return rng.standard_normal((n, self.dim))

        split = (lambda names: self) if visible else (lambda names: None)
        return Density(function, self.dim, has_gradient=False, prior=prior, split=split, **kwargs)

    def truth(self, inside):
        """Log evidence, and the share of the posterior where `inside` holds, by quadrature."""
        axis = np.linspace(-REACH, REACH, GRID[self.dim])
        rest = np.stack(np.meshgrid(*[axis] * (self.dim - 1), indexing="ij"), -1)
        rest = rest.reshape(-1, self.dim - 1)
        total, own = [], []
        for first, last in pairwise(range(0, len(axis) + 60, 60)):
            some = axis[first:last]
            if not len(some):
                break
            x = np.column_stack([np.repeat(some, len(rest)), np.tile(rest, (len(some), 1))])
            logp = np.nan_to_num(self.logp(x), nan=-np.inf)
            total.append(logsumexp(logp))
            own.append(logsumexp(logp, b=inside(x)))
        log_z = logsumexp(total)
        share = np.exp(logsumexp(own) - log_z)
        return log_z + self.dim * np.log(axis[1] - axis[0]), share


def parabola():
    """Two unequal modes in two coordinates."""

    def f(x):
        return np.stack([x[:, 0] ** 2 + 0.3 * x[:, 0], x[:, 1] + 0.3 * x[:, 0]], axis=1)

    return Likelihood(f, 2, [1.2, 0.4], [0.2, 0.3])


def exchange():
    """Concentrations after absorption: the rates can be exchanged with a change of volume."""
    times = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0])

    def f(x):
        fast, slow, volume = np.exp(x @ np.diag([0.7, 0.7, 0.3]) + [0.0, -1.0, 0.0]).T[:, :, None]
        gap = np.where(abs(fast - slow) < 1e-6, 1e-6, fast - slow)
        return 10 * fast / (volume * gap) * (np.exp(-slow * times) - np.exp(-fast * times))

    observed = f(np.array([[0.8, -0.2, 0.1]]))[0] + [0.14, 0.33, 0.13, -0.52, 0.36, -0.18]
    return Likelihood(f, 3, observed, 0.4)


def free_noise():
    """`parabola`, with a noise that is unknown and no input of the simulator."""
    base = parabola()
    return Likelihood(base.f, 2, base.observed, base.sd, noise=0.4)


def first_negative(x):
    return x[:, 0] < 0


def rates_exchanged(x):
    return 0.7 * x[:, 0] < 0.7 * x[:, 1] - 1.0


class WrongEmulator:
    """The log density of a target plus an error that is known."""

    described = "log density"

    def __init__(self, target, error=None):
        self.target, self.error = target, error or (lambda x: 0.0)

    def log_density(self, x):
        return self.target.logp(x) + self.error(x)

    def predict(self, x):
        return self.log_density(x), np.zeros(len(x))

    def updated(self, x, y, logp, *, refit):
        return self
