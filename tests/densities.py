"""Small analytic densities: a log density with gradient, exact draws, and a known answer.

Every target is called with points of shape (n, d) and returns log densities, shape (n,), and
gradients, shape (n, d). All are picklable, and none needs a compiler.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.special import i0e, log_ndtr, logsumexp
from scipy.stats import multivariate_t

from pymc_multimodal.proposals.flow import AutoregressiveLayer
from pymc_multimodal.regions.draws import RegionDraws
from pymc_multimodal.target.density import Density


class WideNormal:
    """A prior that covers the target: independent normals."""

    def __init__(self, dim, sd=5.0, mean=0.0):
        self.dim, self.sd, self.mean = dim, sd, mean

    def __call__(self, n, rng):
        return self.mean + self.sd * rng.standard_normal((n, self.dim))


class WithoutGradient:
    """The same log density, silent about its gradient."""

    def __init__(self, target):
        self.target = target

    def __call__(self, x):
        return self.target(x)[0], None


class Target:
    """What all targets share: dimension, period and the way into a `Density`."""

    dim: int
    log_z = 0.0
    period = None

    def logp(self, x):
        return self(x)[0]

    def density(self, *, gradient=True, prior=None, **kwargs):
        function = self if gradient else WithoutGradient(self)
        prior = WideNormal(self.dim) if prior is None else prior
        period = None if self.period is None else np.asarray(self.period)
        return Density(
            function, self.dim, has_gradient=gradient, prior=prior, period=period, **kwargs
        )


class Mixture(Target):
    """Gaussian mixture times exp(log_z); `weights` are its exact mode weights where it is wide."""

    def __init__(self, means, covariances, weights, log_z=0.0):
        self.means = np.asarray(means, dtype=float)
        self.covariances = np.asarray(covariances, dtype=float)
        self.weights = np.asarray(weights, dtype=float)
        self.log_z = log_z
        self.dim = self.means.shape[1]
        self.factors = np.linalg.cholesky(self.covariances)
        self.precisions = np.linalg.inv(self.covariances)
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        self.constants = np.log(self.weights) - log_det - 0.5 * self.dim * np.log(2 * np.pi)

    def _parts(self, x):
        step = x[:, None] - self.means
        pull = np.einsum("kij,nkj->nki", self.precisions, step)
        return self.constants - 0.5 * np.einsum("nki,nki->nk", step, pull), pull

    def __call__(self, x):
        logs, pull = self._parts(x)
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total + self.log_z, -np.einsum("nk,nki->ni", share, pull)

    def draws(self, n, rng):
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.dim))
        return self.means[k] + np.einsum("nij,nj->ni", self.factors[k], noise)

    def component(self, x):
        """The component that most likely made each row."""
        return np.argmax(self._parts(x)[0], axis=1)


def gaussian(mean, covariance, log_z=0.0):
    return Mixture(np.array([mean]), np.array([covariance]), [1.0], log_z)


def two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3):
    """Well apart along the diagonal, with correlated and unequal covariances."""
    along = np.ones(dim) / np.sqrt(dim)
    means = 0.5 * distance * np.array([-along, along])
    wide = np.eye(dim) + 0.5 * np.outer(along, along)
    narrow = 0.3 * (np.eye(dim) + 0.4 * (np.ones((dim, dim)) - np.eye(dim)) / dim)
    return Mixture(means, [wide, narrow], weights, log_z)


def four_normals(log_z=1.0):
    """Separate modes in six dimensions."""
    means = 3.0 * np.random.default_rng(3).standard_normal((4, 6))
    return Mixture(means, [0.25 * np.eye(6)] * 4, [0.4, 0.3, 0.2, 0.1], log_z=log_z)


class Banana(Target):
    """First coordinate normal; the second a parabola of it plus noise; others standard normal."""

    def __init__(self, dim=2, sd=1.0, bend=1.0, noise=0.5):
        self.dim, self.sd, self.bend, self.noise = dim, sd, bend, noise

    def __call__(self, x):
        a = x[:, 0] / self.sd
        b = (x[:, 1] - self.bend * (x[:, 0] ** 2 - self.sd**2)) / self.noise
        logp = -0.5 * (a**2 + b**2 + (x[:, 2:] ** 2).sum(axis=1))
        logp -= np.log(self.sd * self.noise) + 0.5 * self.dim * np.log(2 * np.pi)
        grad = -x.copy()
        grad[:, 0] = -a / self.sd + 2 * self.bend * x[:, 0] * b / self.noise
        grad[:, 1] = -b / self.noise
        return logp, grad

    def draws(self, n, rng):
        x = rng.standard_normal((n, self.dim))
        x[:, 0] *= self.sd
        x[:, 1] = self.bend * (x[:, 0] ** 2 - self.sd**2) + self.noise * x[:, 1]
        return x


class StudentT(Target):
    def __init__(self, dim, df):
        self.dim, self.df = dim, df
        self.exact = multivariate_t(np.zeros(dim), np.eye(dim), df=df)

    def __call__(self, x):
        r2 = (x**2).sum(axis=1)
        grad = -(self.df + self.dim) * x / (self.df + r2)[:, None]
        return np.atleast_1d(self.exact.logpdf(x)), grad

    def draws(self, n, rng):
        return self.exact.rvs(n, random_state=rng).reshape(n, self.dim)


class SkewNormals(Target):
    """Turned product of skew-normal densities."""

    def __init__(self, dim, skew=4.0, seed=0):
        self.dim, self.skew = dim, skew
        self.turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]

    def __call__(self, x):
        y = x @ self.turn
        tail = log_ndtr(self.skew * y)
        logp = np.log(2.0) - 0.5 * np.log(2 * np.pi) - 0.5 * y**2 + tail
        hazard = np.exp(-0.5 * (self.skew * y) ** 2 - 0.5 * np.log(2 * np.pi) - tail)
        return logp.sum(axis=1), (-y + self.skew * hazard) @ self.turn.T

    def draws(self, n, rng):
        share = self.skew / np.hypot(1.0, self.skew)
        first, second = rng.standard_normal((2, n, self.dim))
        return (share * np.abs(first) + np.sqrt(1 - share**2) * second) @ self.turn.T


class Ring(Target):
    """A circular ridge in the plane: one mode, without a highest point."""

    dim = 2

    def __init__(self, radius=3.0, width=0.3):
        self.radius, self.width = radius, width

    def __call__(self, x):
        r = np.maximum(np.hypot(x[:, 0], x[:, 1]), 1e-12)
        off = (r - self.radius) / self.width
        return -0.5 * off**2, -(off / self.width / r)[:, None] * x


def exchangeable(light=0.4):
    """Six modes at the permutations of (-4, 0, 5), three at those of (3, 3, -4): nine in all."""
    first = [np.array(p) for p in permutations((-4.0, 0.0, 5.0))]
    second = [np.array(p) for p in sorted(set(permutations((3.0, 3.0, -4.0))))]
    sd = {-4.0: 0.5, 0.0: 1.0, 5.0: 0.7, 3.0: 0.4}
    means = np.array(first + second)
    covariances = [np.diag([sd[v] ** 2 for v in mean]) for mean in means]
    weights = np.array([(1 - light) / 6] * 6 + [light / 3] * 3)
    return Mixture(means, covariances, weights, log_z=2.5)


class VonMises(Target):
    """Mixture of von Mises densities in the first, a standard normal in the second coordinate."""

    dim = 2
    period = (2 * np.pi, np.inf)

    def __init__(self, means, kappas, weights):
        self.means, self.kappas = np.asarray(means, float), np.asarray(kappas, float)
        self.weights = np.asarray(weights, float)

    def __call__(self, x):
        step = x[:, :1] - self.means
        # i0e is the Bessel function times exp(-kappa).
        norm = np.log(2 * np.pi * i0e(self.kappas))
        logs = np.log(self.weights) + self.kappas * (np.cos(step) - 1) - norm
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        slope = -(share * self.kappas * np.sin(step)).sum(axis=1)
        logp = total - 0.5 * x[:, 1] ** 2 - 0.5 * np.log(2 * np.pi)
        return logp, np.stack([slope, -x[:, 1]], axis=1)

    def draws(self, n, rng):
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        return np.stack([rng.vonmises(self.means[k], self.kappas[k]), rng.standard_normal(n)], 1)


class Shoulder(Target):
    """Two equal summits 4 nats above the saddles, between them a shoulder 1 nat above them."""

    dim = 2

    def __init__(self):
        knots, values = [-8, -4, -2, 0, 2, 4, 8], [-40, 0, -4, -3, -4, 0, -40]
        self.curve = CubicHermiteSpline(knots, values, [20, 0, 0, 0, 0, 0, -20])
        self.slope = self.curve.derivative()
        grid = np.linspace(-12, 12, 240_001)
        logp = self(np.stack([grid, 0.0 * grid], axis=1))[0]
        self.log_z = logsumexp(logp) + np.log(grid[1] - grid[0]) + 0.5 * np.log(2 * np.pi)

    def __call__(self, x):
        inside = np.clip(x[:, 0], -8, 8)
        beyond = np.abs(x[:, 0] - inside)
        logp = self.curve(inside) - 20 * beyond - 0.5 * x[:, 1] ** 2
        return logp, np.stack([self.slope(inside), -x[:, 1]], axis=1)


class Plateau(Target):
    """A Gaussian on a floor that is flat far out."""

    dim = 2

    def __init__(self, floor=-12.0):
        self.floor = floor

    def __call__(self, x):
        peak = -0.5 * (x**2).sum(axis=1)
        logp = np.logaddexp(peak, self.floor)
        return logp, -x * np.exp(peak - logp)[:, None]


class Funnel(Target):
    """Group effects given the log of their scale, which has a half-Cauchy prior.

    The density grows without end where the effects and their scale shrink together, as that
    of a centred hierarchical model does.
    """

    def __init__(self, groups=5):
        self.dim = groups + 1

    def __call__(self, x):
        v, effects = x[:, 0], x[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = (effects**2).sum(axis=1) * np.exp(-2 * v)
            logp = v - np.log1p(np.exp(2 * v)) - effects.shape[1] * v - 0.5 * squares
            slope = 1 - 2 / (1 + np.exp(-2 * v)) - effects.shape[1] + squares
            return logp, np.column_stack([slope, -effects * np.exp(-2 * v)[:, None]])


# ------------------------------------------------------------------ what several files need


class HalfSpace:
    """Region 1 where a coordinate exceeds a border, region 0 elsewhere."""

    n_regions = 2
    statuses = ()

    def __init__(self, border=0.0, coordinate=0):
        self.border, self.coordinate = border, coordinate

    def label(self, x):
        return (x[:, self.coordinate] > self.border).astype(int)


class Everywhere:
    """The trivial partition."""

    n_regions = 1
    statuses = ()

    def label(self, x):
        return np.zeros(len(x), dtype=int)


def exact_local(target, label, n_regions, rng, *, chains=16, draws=100):
    """`RegionDraws` made of independent exact draws of the target in each region."""
    need = chains * draws
    pools = [[] for _ in range(n_regions)]
    while min(sum(map(len, p)) for p in pools) < need:
        x = target.draws(4 * need, rng)
        for k, pool in enumerate(pools):
            pool.append(x[label(x) == k])
    x = [np.concatenate(p)[:need] for p in pools]
    both = [target(part) for part in x]
    d = target.dim
    ones = np.ones(n_regions)
    return RegionDraws(
        x=tuple(part.reshape(chains, draws, d) for part in x),
        logp=tuple(logp.reshape(chains, draws) for logp, _ in both),
        grad=tuple(grad.reshape(chains, draws, d) for _, grad in both),
        centre=np.stack([part[np.argmax(logp)] for part, (logp, _) in zip(x, both, strict=True)]),
        ess=need * ones,
    )


def z_scores(values, expected):
    """Deviation of the column means of independent rows from `expected`, in standard errors."""
    values = np.asarray(values, dtype=float)
    return (values.mean(axis=0) - expected) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def two_sample_z(a, b):
    """Difference of the column means of two independent samples, in standard errors."""
    error = np.sqrt(np.var(a, axis=0, ddof=1) / len(a) + np.var(b, axis=0, ddof=1) / len(b))
    return (a.mean(axis=0) - b.mean(axis=0)) / error


def moments(x):
    """First and second moments as columns."""
    i, j = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, i] * x[:, j]], axis=1)


def assert_covers(target, propose, log_q, rng, *, n=40_000):
    r"""E_q[W / (W + Z)] = Z E_pi[1 / (W + Z)] with W = gamma / q, also times indicators.

    Both sides are bounded, so that their standard errors exist whatever the tails. Shifting
    log q by a constant breaks it, so it says as well that q is normalised. `propose` returns
    points, or points with their log q where that depends on how they were drawn.
    """
    drawn, exact = propose(n, rng), target.draws(n, rng)
    proposed, known = drawn if isinstance(drawn, tuple) else (drawn, None)
    inside = np.isfinite(proposed).all(axis=1)
    at_inside = log_q(proposed[inside]) if known is None else known[inside]
    w = np.zeros(n)
    w[inside] = np.exp(target.logp(proposed[inside]) - at_inside)
    at_q = w / (w + 1.0)
    at_pi = 1.0 / (np.exp(target.logp(exact) - log_q(exact)) + 1.0)
    for low, high in ((-np.inf, np.inf), (-np.inf, 0.5), (0.5, np.inf)):
        a = at_q * inside * ((proposed[:, 0] > low) & (proposed[:, 0] <= high))
        b = at_pi * ((exact[:, 0] > low) & (exact[:, 0] <= high))
        error = np.hypot(a.std(), b.std()) / np.sqrt(n)
        assert error < 0.03 * b.mean(), "the proposal is too poor for the test to see anything"
        assert abs(a.mean() - b.mean()) < 4 * error


def random_layer(d, rng, *, hidden=(8, 8), size=1.0, order=None, idle=False):
    """An untrained autoregressive layer of random order and weights.

    Unit h sees the coordinates up to position `reach[h]`; idle ones see none at all.
    """
    order = rng.permutation(d) if order is None else np.asarray(order)
    weights, biases, before = [], [], order
    for width in hidden:
        reach = rng.integers(-1 if idle else before.min(), d - 1, size=width)
        mask = before <= reach[:, None]
        weights.append(mask * rng.standard_normal(mask.shape) / np.sqrt(len(before)))
        biases.append(rng.standard_normal(width))
        before = reach
    mask = np.repeat(before < order[:, None], 2, axis=0)
    weights.append(size * mask * rng.standard_normal(mask.shape) / np.sqrt(len(before)))
    biases.append(0.3 * size * rng.standard_normal(2 * d))
    return AutoregressiveLayer(order, weights, biases)
