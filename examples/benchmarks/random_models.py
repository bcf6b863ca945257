"""Random multimodal densities with known answers: `random_model(seed)`.

Every density is a mixture of normalised components, times ``exp(log_z)``. Each component is an
exact transformation of independent variables, so draws, weights and evidence are known without
error. Most families are NumPy functions given to `Density`, because compiling hundreds of PyMC
models would cost more than fitting them. The family ``"inverse"`` (see `inverse_model`) uses a real
`pymc.Model`. One such model is compiled for each dimension, and its data are set for each seed.

Components have widths of the same order, as the modes of one posterior mostly do. In thirty
dimensions no search finds the basin of a narrow mode beside a wide one, so such a model would say
nothing about errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import (
    betaln,
    expit,
    gammaln,
    i0e,
    log_expit,
    log_ndtr,
    softmax,
)

from pymc_multimodal.target.density import Density

MAX_DIM, MAX_MODES, MIN_WEIGHT = 30, 12, 0.01
# Standard deviation of the prior of real coordinates; components have widths of about one.
PRIOR_SD = 10.0
LOG_2PI = np.log(2 * np.pi)


# ------------------------------------------------------------------ components


class Normal:
    """Coordinates with mean a and standard deviation b."""

    @staticmethod
    def logp_and_grad(x, a, b):
        z = (x - a) / b
        return -0.5 * z**2 - np.log(b) - 0.5 * LOG_2PI, -z / b

    @staticmethod
    def draw(a, b, rng):
        return a + b * rng.standard_normal(a.shape)


class SkewNormal:
    """Coordinates with density ``2 phi(x - b) Phi(a (x - b))``."""

    @staticmethod
    def logp_and_grad(x, a, b):
        z = x - b
        log_cdf = log_ndtr(a * z)
        ratio = np.exp(-0.5 * (a * z) ** 2 - 0.5 * LOG_2PI - log_cdf)
        return np.log(2) - 0.5 * z**2 - 0.5 * LOG_2PI + log_cdf, -z + a * ratio

    @staticmethod
    def draw(a, b, rng):
        u, v = rng.standard_normal((2, *a.shape))
        return b + (a * np.abs(u) + v) / np.sqrt(1 + a**2)


class LogGamma:
    """Coordinates whose exponentials are gamma variables of shape a and log scale b."""

    @staticmethod
    def logp_and_grad(x, a, b):
        size = np.exp(x - b)
        return a * (x - b) - size - gammaln(a), a - size

    @staticmethod
    def draw(a, b, rng):
        return b + np.log(rng.gamma(a))


class LogitBeta:
    """Coordinates whose inverse logits are beta variables."""

    @staticmethod
    def logp_and_grad(x, a, b):
        return a * log_expit(x) + b * log_expit(-x) - betaln(a, b), a - (a + b) * expit(x)

    @staticmethod
    def draw(a, b, rng):
        # Two gamma variables avoid the logit of a beta draw that rounds to one.
        return np.log(rng.gamma(a)) - np.log(rng.gamma(b))


class VonMises:
    """Angles with mean a and concentration b."""

    @staticmethod
    def logp_and_grad(x, a, b):
        return b * (np.cos(x - a) - 1) - np.log(i0e(b)) - LOG_2PI, -b * np.sin(x - a)

    @staticmethod
    def draw(a, b, rng):
        return (rng.vonmises(a, b) + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class Independent:
    """Independent coordinates of one or several kinds; parameters a and b have shape (K, d)."""

    kinds: tuple[tuple[Any, slice], ...]
    a: np.ndarray
    b: np.ndarray

    def logp_and_grad(self, y):
        """Log densities, shape (n, K), and gradients of all components at y, shape (n, K, d)."""
        logp, grad = 0.0, np.empty_like(y)
        for kind, at in self.kinds:
            each, grad[..., at] = kind.logp_and_grad(y[..., at], self.a[:, at], self.b[:, at])
            logp = logp + each.sum(axis=-1)
        return logp, grad

    def draw(self, k, rng):
        """One draw for each entry of k, shape (n,), from the component with this index."""
        parts = [kind.draw(self.a[k, at], self.b[k, at], rng) for kind, at in self.kinds]
        return np.concatenate(parts, axis=1)


def standard_normal(n_modes, dim):
    shape = (n_modes, dim)
    return Independent(((Normal, slice(dim)),), np.zeros(shape), np.ones(shape))


@dataclass(frozen=True)
class StudentT:
    """Spherical multivariate t with `nu`, shape (K,), degrees of freedom."""

    nu: np.ndarray
    dim: int

    def logp_and_grad(self, y):
        nu, d = self.nu, self.dim
        size = (y**2).sum(axis=-1) / nu
        constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - 0.5 * d * np.log(nu * np.pi)
        pull = (nu + d) / nu / (1 + size)
        return constant - 0.5 * (nu + d) * np.log1p(size), -pull[..., None] * y

    def draw(self, k, rng):
        scale = np.sqrt(self.nu[k] / rng.chisquare(self.nu[k]))
        return scale[:, None] * rng.standard_normal((len(k), self.dim))


@dataclass(frozen=True)
class Curved:
    """``y_0 = z_0, y_i = z_i + bend_i (z_0^2 - 1)``, with z standard normal; Jacobian one."""

    bend: np.ndarray

    def logp_and_grad(self, y):
        first = y[..., :1]
        z = y - self.bend * (first**2 - 1)
        logp = -0.5 * (z**2).sum(axis=-1) - 0.5 * z.shape[-1] * LOG_2PI
        grad = -z
        grad[..., 0] += 2 * y[..., 0] * (z * self.bend).sum(axis=-1)
        return logp, grad

    def draw(self, k, rng):
        z = rng.standard_normal((len(k), self.bend.shape[1]))
        return z + self.bend[k] * (z[:, :1] ** 2 - 1)


@dataclass(frozen=True)
class Hierarchy:
    """Mean mu, log tau and effects ``mu + tau z_j``; `sd` is the standard deviation of log tau."""

    sd: np.ndarray
    dim: int

    def logp_and_grad(self, y):
        mu, log_tau, effects = y[..., 0], y[..., 1], y[..., 2:]
        n = self.dim - 2
        tau = np.exp(log_tau)[..., None]
        z = (effects - mu[..., None]) / tau
        square = (z**2).sum(axis=-1)
        logp = -0.5 * (mu**2 + (log_tau / self.sd) ** 2 + square) - n * log_tau
        grad = np.empty_like(y)
        grad[..., 2:] = -z / tau
        grad[..., 0] = -mu - grad[..., 2:].sum(axis=-1)
        grad[..., 1] = -log_tau / self.sd**2 + square - n
        return logp - np.log(self.sd) - 0.5 * self.dim * LOG_2PI, grad

    def draw(self, k, rng):
        z = rng.standard_normal((len(k), self.dim))
        z[:, 1] *= self.sd[k]
        z[:, 2:] = z[:, :1] + np.exp(z[:, 1:2]) * z[:, 2:]
        return z


@dataclass(frozen=True)
class Placed:
    """Components ``x = centre + factor y``; factors of shape (K, d, d)."""

    shape: Any
    centres: np.ndarray
    factors: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "inverse", np.linalg.inv(self.factors))
        object.__setattr__(self, "log_det", np.linalg.slogdet(self.factors)[1])

    def logp_and_grad(self, x):
        step = np.swapaxes(x - self.centres, 0, 1)
        y = np.swapaxes(step @ np.swapaxes(self.inverse, 1, 2), 0, 1)
        logp, grad = self.shape.logp_and_grad(y)
        grad = np.swapaxes(np.swapaxes(grad, 0, 1) @ self.inverse, 0, 1)
        return logp - self.log_det, grad

    def draw(self, k, rng):
        y = self.shape.draw(k, rng)
        x = np.empty_like(y)
        for j in np.unique(k):
            x[k == j] = self.centres[j] + y[k == j] @ self.factors[j].T
        return x


# ------------------------------------------------------------------ the mixture


@dataclass(frozen=True)
class RandomModel:
    """A mixture whose weights and evidence are known.

    Attributes
    ----------
    family : str
    weights : array of shape (K,)
        Exact weights of the components.
    log_z : float
        Exact log integral of the density.
    components : object
        ``logp_and_grad`` of all components, and ``draw``.
    prior : callable
        ``prior(n, rng)``: starting points, which do not depend on the answer.
    period : array of shape (d,)
    density_factory : callable, optional
        Makes the `Density` if the density is not this function itself.
    """

    family: str
    weights: np.ndarray
    log_z: float
    components: Any
    prior: Any
    period: np.ndarray
    density_factory: Any = None

    @property
    def dim(self) -> int:
        return len(self.period)

    def _parts(self, x):
        points = np.broadcast_to(x[:, None], (len(x), len(self.weights), x.shape[1]))
        # Overflow far out in the tail of one component does no harm: another dominates there.
        with np.errstate(over="ignore", invalid="ignore"):
            logp, grad = self.components.logp_and_grad(points)
        return np.nan_to_num(logp, nan=-np.inf) + np.log(self.weights), grad

    def __call__(self, x):
        """Log densities, shape (n,), and gradients of rows x, shape (n, d)."""
        logs, grad = self._parts(x)
        # This is much faster than SciPy's logsumexp for the few rows of a chain's step.
        total = np.logaddexp.reduce(logs, axis=1)
        with np.errstate(invalid="ignore"):
            share = np.exp(logs - total[:, None])[..., None]
            pull = np.where(share > 0, share * grad, 0.0).sum(axis=1)
        return total + self.log_z, pull

    def membership(self, x):
        """Probability of each component given each row, shape (n, K)."""
        return softmax(self._parts(x)[0], axis=1)

    def draws(self, n, rng):
        """Exact draws, shape (n, d)."""
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.components.draw(k, rng)

    def density(self) -> Density:
        if self.density_factory is not None:
            return self.density_factory()
        return Density(self, self.dim, prior=self.prior, period=self.period)


# ------------------------------------------------------------------ random parameters


def log_uniform(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def random_centres(rng, n_modes, dim):
    """Centres, shape (K, d); most distances are 3 to 14 widths."""
    distance = log_uniform(rng, 3.0, 14.0, (n_modes, 1))
    return distance / np.sqrt(2 * dim) * rng.standard_normal((n_modes, dim))


def random_widths(rng, n_modes, dim):
    """Widths of about one, shape (K, d), from equal in all components to unrelated."""
    unlike = rng.random()
    common, own = rng.uniform(-1, 1, dim), rng.uniform(-1, 1, (n_modes, dim))
    whole = 0.5 * unlike / np.sqrt(dim) * rng.standard_normal((n_modes, 1))
    return 2.0 ** ((1 - unlike) * common + unlike * own) * np.exp(whole)


def random_turns(rng, n_modes, dim):
    """Orthogonal matrices, shape (K, d, d), at random equal or different for the components."""
    n = 1 if rng.random() < 0.5 else n_modes
    turns = np.linalg.qr(rng.standard_normal((n, dim, dim)))[0]
    return np.broadcast_to(turns, (n_modes, dim, dim))


def real_prior(shift, sd, n, rng):
    return shift + sd * rng.standard_normal((n, len(shift)))


def placed(shape, rng, n_modes, dim, rotate=True):
    """Put standardised components at random places, with random widths and rotations."""
    widths = random_widths(rng, n_modes, dim)
    if rotate:
        factors = random_turns(rng, n_modes, dim) * widths[:, None]
    else:
        factors = np.eye(dim) * np.ones((n_modes, 1, 1))
    centres = random_centres(rng, n_modes, dim)
    shift = 2.0 * rng.standard_normal(dim)
    return (
        Placed(shape, centres, factors),
        partial(real_prior, shift, PRIOR_SD),
        np.full(dim, np.inf),
    )


def gaussian(rng, n_modes, dim):
    return placed(standard_normal(n_modes, dim), rng, n_modes, dim)


def skewed(rng, n_modes, dim):
    slant = rng.uniform(-8.0, 8.0, (n_modes, dim))
    shape = Independent(((SkewNormal, slice(dim)),), slant, np.zeros_like(slant))
    return placed(shape, rng, n_modes, dim)


def heavy(rng, n_modes, dim):
    return placed(StudentT(log_uniform(rng, 3.0, 12.0, n_modes), dim), rng, n_modes, dim)


def curved(rng, n_modes, dim):
    """At most four bent coordinates; none in one dimension."""
    bend = np.zeros((n_modes, dim))
    bent = slice(1, min(dim, 1 + rng.integers(1, 5)))
    bend[:, bent] = rng.uniform(-1.5, 1.5, bend[:, bent].shape)
    return placed(Curved(bend), rng, n_modes, dim)


def hierarchical(rng, n_modes, dim):
    """Log tau has about the precision that the number of effects gives."""
    dim = max(dim, 3)
    sd = rng.uniform(0.3, 0.8, n_modes) / np.sqrt(dim - 2)
    components, prior, period = placed(Hierarchy(sd, dim), rng, n_modes, dim, rotate=False)
    components.centres[:, 1] = rng.normal(0.0, 0.5 / np.sqrt(dim), n_modes)
    return components, prior, period


def constrained(rng, n_modes, dim, kind=None):
    """Gamma variables on the log scale (kind 0), beta on the logit scale (1), and real ones (2)."""
    if kind is None:
        kind = np.sort(rng.integers(0, 3, dim))
        kind[0] = 0
    ends = np.cumsum(np.bincount(kind, minlength=3))
    log, logit, real = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], dim)
    centres = np.clip(0.4 * random_centres(rng, n_modes, dim), -5, 5)
    a, b = log_uniform(rng, 2.0, 20.0, (n_modes, dim)), centres.copy()
    size, middle = log_uniform(rng, 5.0, 50.0, (n_modes, dim)), expit(np.clip(centres, -2, 2))
    a[:, logit], b[:, logit] = (size * middle)[:, logit], (size * (1 - middle))[:, logit]
    a[:, real], b[:, real] = centres[:, real], log_uniform(rng, 0.2, 0.8, a[:, real].shape)
    kinds = ((LogGamma, log), (LogitBeta, logit), (Normal, real))

    def prior(n, rng):
        x = 3.0 * rng.standard_normal((n, dim))
        x[:, logit] = rng.logistic(size=x[:, logit].shape)
        return x

    return Independent(kinds, a, b), prior, np.full(dim, np.inf)


def circular(rng, n_modes, dim, n_angles=None):
    """Angles and real coordinates."""
    angles = slice(0, int(rng.integers(1, dim + 1)) if n_angles is None else n_angles)
    real = slice(angles.stop, dim)
    a, b = random_centres(rng, n_modes, dim), random_widths(rng, n_modes, dim)
    centre = rng.uniform(-np.pi, np.pi, dim)
    a[:, angles] = (centre + 0.35 * a)[:, angles]
    b[:, angles] = log_uniform(rng, 3.0, 30.0, a[:, angles].shape)

    def prior(n, rng):
        x = PRIOR_SD * rng.standard_normal((n, dim))
        x[:, angles] = rng.uniform(-np.pi, np.pi, x[:, angles].shape)
        return x

    period = np.where(np.arange(dim) < angles.stop, 2 * np.pi, np.inf)
    return Independent(((VonMises, angles), (Normal, real)), a, b), prior, period


FAMILIES = {
    "gaussian": gaussian,
    "skewed": skewed,
    "heavy": heavy,
    "curved": curved,
    "constrained": constrained,
    "hierarchical": hierarchical,
    "circular": circular,
}


def random_weights(rng, max_modes):
    """Weights of a random number of components, shape (K,), and a log evidence.

    An eighth of the models has one mode; the others have two or more, small numbers more often.
    """
    n_modes = 1 if rng.random() < 0.125 else int(log_uniform(rng, 2, max_modes + 1))
    weights = MIN_WEIGHT + (1 - MIN_WEIGHT * n_modes) * rng.dirichlet(np.ones(n_modes))
    return weights, float(rng.normal(0.0, 10.0))


def random_model(seed: int, family: str | None = None) -> RandomModel:
    """Make the model of a seed; the families are used in turn.

    Parameters
    ----------
    seed : int
    family : str, optional
        A key of `FAMILIES`, or ``"inverse"``. By default the seed sets the family.
    """
    names = [*FAMILIES, "inverse"]
    family = family or names[seed % len(names)]
    rng = np.random.default_rng([seed, 2024])
    dim = int(log_uniform(rng, 1, MAX_DIM + 1))
    weights, log_z = random_weights(rng, MAX_MODES)
    if family == "inverse":
        from inverse_model import inverse

        return inverse(rng, dim, weights)
    return RandomModel(family, weights, log_z, *FAMILIES[family](rng, len(weights), dim))
