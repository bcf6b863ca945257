"""Posteriors that took millions of evaluations, or came to no end, each with its truth.

Shares of posterior mass are stated for functions of the unconstrained coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
import pymc as pm
from scipy.special import gammaln, i0e, logit, logsumexp
from scipy.stats import halfnorm, multivariate_normal, multivariate_t, norm

from pymc_multimodal.model.build import density_of
from pymc_multimodal.target.density import Density

# ``inside(x, names)`` gives for points (n, d) and names of coordinates the probability, shape (n,),
# that an event holds; in most cases it is 0 or 1.
Event = Callable[[np.ndarray, tuple[str, ...]], np.ndarray]


@dataclass(frozen=True)
class HardModel:
    """A density and what is known of it.

    Attributes
    ----------
    density : callable
        ``density()`` returns a `Density`.
    log_evidence : float
    shares : dict
        For each name an event and its posterior probability.
    truth_se : float
        Standard error of the log evidence and of the shares where these are not exact.
    settings : dict
        Settings of the fit that differ from the defaults.
    most_evals : float
        Evaluations within which the fit is asked to end.
    model : callable or None
        ``model()`` builds the PyMC model, where other methods are asked for it too.
    """

    density: Callable[[], Density]
    log_evidence: float
    shares: dict[str, tuple[Event, float]] = field(default_factory=dict)
    truth_se: float = 0.0
    settings: dict[str, object] = field(default_factory=dict)
    most_evals: float = 500_000
    model: Callable[[], pm.Model] | None = None


def between(name: str, low: float = -np.inf, high: float = np.inf) -> Event:
    """Return the event that a coordinate lies between two values."""
    return lambda x, names: (x[:, names.index(name)] > low) & (x[:, names.index(name)] < high)


def spike_and_slab(p: int) -> HardModel:
    """Regression with a marginalised spike-and-slab prior on correlated predictors.

    There are up to 2^p modes, some of them very thin. The truth is the sum over all choices of
    spike or slab, each of which is a normal density.
    """
    rng, n, spike, slab = np.random.default_rng(3), 40, 0.02, 1.5
    design = 0.85 * rng.standard_normal((n, 1))
    design = design + np.sqrt(1 - 0.85**2) * rng.standard_normal((n, p))
    coefficient = np.zeros(p)
    coefficient[[0, 3]] = 0.8, -0.6
    y = design @ coefficient + rng.standard_normal(n)
    with pm.Model(coords={"predictor": range(p)}) as model:
        parts = [pm.Normal.dist(0, spike), pm.Normal.dist(0, slab)]
        beta = pm.Mixture("beta", w=np.array([0.7, 0.3]), comp_dists=parts, dims="predictor")
        pm.Normal("y", design @ beta, 1.0, observed=y)
    choices = np.array(list(product([0, 1], repeat=p)))
    logs = []
    for choice in choices:
        scaled = design * np.where(choice == 1, slab, spike)
        logs.append(multivariate_normal.logpdf(y, np.zeros(n), np.eye(n) + scaled @ scaled.T))
    logs = np.array(logs) + choices.sum(1) * np.log(0.3) + (p - choices.sum(1)) * np.log(0.7)
    total = float(logsumexp(logs))
    share = np.exp(logs - total) @ choices

    def of_slab(j: int, x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        beta = x[:, names.index(f"beta[{j}]")]
        odds = np.log(0.3) + norm.logpdf(beta, 0, slab)
        return 1.0 / (1.0 + np.exp(np.log(0.7) + norm.logpdf(beta, 0, spike) - odds))

    shares = {f"beta[{j}] of the slab": (partial(of_slab, j), share[j]) for j in range(p)}
    most = 500_000 if p <= 4 else 1_000_000
    return HardModel(lambda: density_of(model), total, shares, most_evals=most)


# Coal-mining disasters in Britain in each year from 1851 on (Jarrett 1979); -1 is not known.
DISASTERS = """4 5 4 0 1 4 3 4 0 6 3 3 4 0 2 6 3 3 5 4 5 3 1 4 4 1 5 5 3 4 2 5 2 2 3 4 2 1 3 -1
2 1 1 1 1 3 0 0 1 0 1 1 0 0 3 1 0 3 2 2 0 1 1 1 0 1 0 1 0 0 0 2 1 0 0 0 1 1 0 2
3 3 1 -1 2 1 1 1 1 2 4 2 0 0 1 4 0 0 0 1 0 0 0 0 0 1 0 0 1 0 1"""


def coal_switch() -> HardModel:
    """Disasters with a switch between two rates: the density has steps in the year.

    The truth is an exact sum over the years.
    """
    seen = np.array(DISASTERS.split(), dtype=int)
    year, ok = np.arange(1851, 1962), seen >= 0
    with pm.Model() as model:
        tau = pm.Uniform("tau", 1851.0, 1961.0)
        rate = pm.Exponential("rate", 1.0, shape=2)
        rates = pm.math.switch(year[ok] <= tau, rate[0], rate[1])
        pm.Poisson("y", rates, observed=seen[ok])
    s, n, c = (np.r_[0, np.cumsum(v)] for v in (seen * ok, ok, gammaln(seen * ok + 1)))

    def part(i: int, j: int) -> float:
        a = 1 + s[j] - s[i]
        return float(gammaln(a) - a * np.log(1 + n[j] - n[i]) - (c[j] - c[i]))

    logs = np.array([part(0, k) + part(k, 111) for k in range(1, 111)])
    total = float(logsumexp(logs))
    p, last = np.exp(logs - total), np.arange(1851, 1961)

    def year_at(value: float) -> float:
        return float(logit((value - 1851) / 110))

    name = "tau_interval__"
    shares = {
        "tau < 1889": (between(name, high=year_at(1889)), p[last < 1889].sum()),
        "tau > 1895": (between(name, low=year_at(1895)), p[last >= 1895].sum()),
    }
    return HardModel(lambda: density_of(model), total - np.log(110), shares)


def rv_velocities() -> tuple[np.ndarray, np.ndarray, float]:
    """Return times, velocities and the standard deviation of their noise."""
    rng, n, sd = np.random.default_rng(5), 36, 3.0
    t = np.sort(rng.choice(300, n, replace=False)) + 0.035 * rng.standard_normal(n)
    t -= t.mean()
    return t, 4.0 * np.cos(2 * np.pi * t / 3.37 + 0.9) + 3.1 + sd * rng.standard_normal(n), sd


def rv_aliases() -> HardModel:
    """Velocities taken at nearly the same hour each night: about a hundred day aliases of a period.

    Given the frequency the model is linear and normal (amplitude and uniform phase are two normal
    coefficients); the truth is quadrature over the frequency.
    """
    t, v, sd = rv_velocities()
    n, low, high = len(t), 0.03, 1.6
    with pm.Model() as model:
        f, k = pm.Uniform("f", low, high), pm.Weibull("K", 2.0, np.sqrt(2) * 4.0)
        phase, offset = pm.VonMises("phase", 0, 1e-4), pm.Normal("offset", 0, 10.0)
        pm.Normal("v", offset + k * pm.math.cos(2 * np.pi * f * t + phase), sd, observed=v)
    grid, variance = np.linspace(low, high, 100_001), np.array([16.0, 16.0, 100.0])
    logs = []
    for some in np.array_split(grid, 50):
        angle = 2 * np.pi * some[:, None] * t
        design = np.stack([np.cos(angle), -np.sin(angle), np.ones_like(angle)], -1)
        a = np.einsum("nki,nkj->nij", design, design) / sd**2 + np.diag(1 / variance)
        h = np.einsum("nki,k->ni", design, v) / sd**2
        fit = np.einsum("ni,ni->n", h, np.linalg.solve(a, h[..., None])[..., 0])
        logs.append(0.5 * fit - 0.5 * np.linalg.slogdet(a)[1])
    constant = -0.5 * (v @ v) / sd**2 - 0.5 * np.log(variance).sum()
    log_p = np.concatenate(logs) + constant - n * np.log(sd * np.sqrt(2 * np.pi))
    total = float(logsumexp(log_p))
    p = np.exp(log_p - total)

    def share(a: float, b: float) -> tuple[Event, float]:
        ends = logit((np.array([a, b]) - low) / (high - low))
        return between("f_interval__", *ends), float(p[(grid > a) & (grid < b)].sum())

    shares = {
        "f < 0.5": share(low, 0.5),
        "0.5 < f < 1": share(0.5, 1.0),
        "f > 1": share(1.0, high),
    }
    log_z = total + np.log((grid[1] - grid[0]) / (high - low))
    return HardModel(lambda: density_of(model), float(log_z), shares, model=lambda: model)


def two_frequencies() -> HardModel:
    """Two sinusoids of unknown frequencies and amplitudes, seen at few times: many aliases.

    Given both frequencies the amplitudes are normal; the truth is quadrature over both.
    """
    rng = np.random.default_rng(11)
    n, low, high, sd, sa = 24, 0.02, 0.5, 1.0, 2.0
    t = np.sort(rng.uniform(0, 80, n))
    y = 1.6 * np.sin(2 * np.pi * 0.11 * t) + 1.2 * np.sin(2 * np.pi * 0.31 * t)
    y = y + sd * rng.standard_normal(n)
    with pm.Model() as model:
        f, a = pm.Uniform("f", low, high, shape=2), pm.Normal("a", 0, sa, shape=2)
        waves = [a[k] * pm.math.sin(2 * np.pi * f[k] * t) for k in range(2)]
        pm.Normal("y", waves[0] + waves[1], sd, observed=y)
    m = 2400
    grid = low + (high - low) * (np.arange(m) + 0.5) / m
    wave = np.sin(2 * np.pi * grid[:, None] * t)
    h, gram = wave @ y / sd**2, wave @ wave.T / sd**2
    own = np.diag(gram) + 1 / sa**2
    det = own[:, None] * own - gram**2
    fit = (h[:, None] ** 2 * own + h**2 * own[:, None] - 2 * h[:, None] * h * gram) / det
    log_p = 0.5 * fit - 0.5 * np.log(det) - 2 * np.log(sa)
    log_p += -0.5 * (y @ y) / sd**2 - n * np.log(sd * np.sqrt(2 * np.pi))
    total = float(logsumexp(log_p))
    p = np.exp(log_p - total)

    def share(a: float, b: float) -> tuple[Event, float]:
        """Return the event that either frequency lies in an interval."""
        ends = logit((np.array([a, b]) - low) / (high - low))

        def event(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
            each = [between(f"f_interval__[{k}]", *ends)(x, names) for k in range(2)]
            return each[0] | each[1]

        inside = (grid > a) & (grid < b)
        return event, float(p[inside[:, None] | inside].sum())

    shares = {f"f in {a}-{b}": share(a, b) for a, b in ((0.1, 0.12), (0.3, 0.32), (0.02, 0.1))}
    return HardModel(lambda: density_of(model), float(total - 2 * np.log(m)), shares)


# Tak, Meng and van Dyk (2018, doi:10.1080/10618600.2017.1415911): two sensors at known places, and
# the distances that were observed. Others were not, which has a probability too.
KNOWN = np.array([[0.5, 0.3], [0.3, 0.7]])
RANGE, NOISE, PRIOR_SD = 0.3, 0.02, 10.0
TO_KNOWN = {(0, 0): 0.6103, (0, 1): 0.3631, (2, 0): 0.2995, (2, 1): 0.5656}
AMONG = {(0, 3): 0.9266, (1, 2): 0.2970, (1, 3): 0.8524}


def sensors() -> HardModel:
    """Places of four sensors from noisy distances, eight coordinates.

    The truth is importance sampling with 4 * 10^7 draws: sensors 1 and 3 from their two distances
    to known places, sensors 4 and 2 on rings around them (`sensor_truth`).
    """

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = x.reshape(-1, 4, 2)
        logp = -0.5 * (x**2).sum(1) / PRIOR_SD**2 - 8 * np.log(PRIOR_SD * np.sqrt(2 * np.pi))
        grad = -place / PRIOR_SD**2
        pairs = [(i, j, TO_KNOWN.get((i, j)), True) for i in range(4) for j in range(2)]
        pairs += [(i, j, AMONG.get((i, j)), False) for i in range(4) for j in range(i + 1, 4)]
        for i, j, seen, to_known in pairs:
            step = place[:, i] - (KNOWN[j] if to_known else place[:, j])
            square = (step**2).sum(1)
            if seen is None:
                slope = 1.0 / np.expm1(square / (2 * RANGE**2)) / RANGE**2
                logp = logp + np.log(-np.expm1(-square / (2 * RANGE**2)))
                pull = slope[:, None] * step
            else:
                distance = np.sqrt(square)
                z = (distance - seen) / NOISE
                logp = logp - square / (2 * RANGE**2) - 0.5 * z**2
                logp = logp - np.log(NOISE * np.sqrt(2 * np.pi))
                pull = -(1 / RANGE**2 + z / NOISE / distance)[:, None] * step
            grad[:, i] += pull
            if not to_known:
                grad[:, j] -= pull
        return logp, grad.reshape(len(x), 8)

    names = tuple(f"sensor {i + 1} {axis}" for i in range(4) for axis in "xy")

    def density() -> Density:
        return Density(
            function,
            8,
            names=names,
            prior=lambda n, rng: PRIOR_SD * rng.standard_normal((n, 8)),
        )

    shares = {name: (between(coordinate, low), share)
              for name, coordinate, low, share in SENSOR_SHARES}  # fmt: skip
    return HardModel(density, SENSOR_LOG_Z, shares, truth_se=SENSOR_SE)


# What `sensor_truth` gave with 40 blocks of a million draws and seed 0, and the largest standard
# error of the log evidence and of the shares: events are that a coordinate is larger than a value.
SENSOR_LOG_Z, SENSOR_SE = -37.9273, 0.0011
SENSOR_SHARES = (
    ("sensor 1 high", "sensor 1 y", 0.6, 0.6440),
    ("sensor 2 right", "sensor 2 x", 0.4, 0.5828),
    ("sensor 4 right", "sensor 4 x", 0.0, 0.6679),
    ("sensor 4 high", "sensor 4 y", 0.4, 0.4871),
)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


def sensor_truth(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weighted draws of the sensors: places of shape (n, 8), and log weights, shape (n,)."""
    place, log_w = np.empty((n, 4, 2)), np.zeros(n)
    base = _distances(*KNOWN)
    along = (KNOWN[1] - KNOWN[0]) / base
    across = np.array([-along[1], along[0]])
    for i in (0, 2):
        r, s = (TO_KNOWN[i, j] + NOISE * rng.standard_normal(n) for j in range(2))
        u = (r**2 - s**2 + base**2) / (2 * base)
        height = np.sqrt(np.maximum(r**2 - u**2, 0.0))
        side = rng.choice([-1.0, 1.0], n)
        place[:, i] = KNOWN[0] + u[:, None] * along + (side * height)[:, None] * across
        # d(r, s) / d(place) is height * base / (r s); each side has half of the draws.
        with np.errstate(divide="ignore"):
            log_w += np.log(2.0) + np.log(r * s) - np.log(height * base)
        log_w[height == 0] = -np.inf
    for i, centre, pair in ((1, 2, (1, 2)), (3, 0, (0, 3))):
        r, angle = AMONG[pair] + NOISE * rng.standard_normal(n), rng.uniform(0, 2 * np.pi, n)
        step = r[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        place[:, i] = place[:, centre] + step
        log_w += np.log(2 * np.pi * np.abs(r))
    x = place.reshape(n, 8)
    log_w += -0.5 * (x**2).sum(1) / PRIOR_SD**2 - 8 * np.log(PRIOR_SD * np.sqrt(2 * np.pi))
    for i in range(4):
        for j in range(2):
            square = ((place[:, i] - KNOWN[j]) ** 2).sum(1) / (2 * RANGE**2)
            log_w += -square if (i, j) in TO_KNOWN else np.log(-np.expm1(-square))
        for j in range(i + 1, 4):
            square = ((place[:, i] - place[:, j]) ** 2).sum(1) / (2 * RANGE**2)
            log_w += -square if (i, j) in AMONG else np.log(-np.expm1(-square))
    log_w += norm.logpdf(_distances(place[:, 1], place[:, 3]), AMONG[1, 3], NOISE)
    return x, log_w


def _mixture(means: np.ndarray, covariances: np.ndarray, weights: np.ndarray) -> Callable:
    """Log density and gradient of a normal mixture."""
    factors = np.linalg.cholesky(covariances)
    precision = np.linalg.inv(covariances)
    log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    constant = np.log(weights) - log_det - 0.5 * means.shape[1] * np.log(2 * np.pi)

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = x[:, None] - means
        pull = np.einsum("kij,nkj->nki", precision, step)
        logs = constant - 0.5 * np.einsum("nki,nki->nk", step, pull)
        total = logsumexp(logs, axis=1)
        return total, -np.einsum("nk,nki->ni", np.exp(logs - total[:, None]), pull)

    return function


def _wide(dim: int, sd: float) -> Callable:
    return lambda n, rng: sd * rng.standard_normal((n, dim))


def tangents() -> HardModel:
    """24 thin ridges along the tangents of a circle, 50 times as long as wide; exact."""
    k, radius, long, thin = 24, 4.0, 0.5, 0.01
    rng = np.random.default_rng(2)
    weights, angle = rng.dirichlet(np.full(k, 2.0)), 2 * np.pi * np.arange(k) / k
    out = np.stack([np.cos(angle), np.sin(angle)], 1)
    along = np.stack([-out[:, 1], out[:, 0]], 1)
    covariances = thin**2 * out[:, :, None] * out[:, None] + long**2 * (
        along[:, :, None] * along[:, None]
    )
    function = _mixture(radius * out, covariances, weights)
    exact = rng.choice(k, 1_000_000, p=weights)
    draws = radius * out[exact] + thin * rng.standard_normal((1_000_000, 1)) * out[exact]
    draws += long * rng.standard_normal((1_000_000, 1)) * along[exact]

    def above(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return x[:, 1] > 0

    def right(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return x[:, 0] > 2.0

    shares = {name: (event, event(draws, ()).mean())
              for name, event in (("above", above), ("right", right))}  # fmt: skip
    return HardModel(lambda: Density(function, 2, prior=_wide(2, 5.0)), 0.0, shares, 0.0005)


def arcs() -> HardModel:
    """Seven bent ridges round a circle; the density is a product in polar coordinates; exact."""
    radius, thin, concentration = 4.0, 0.03, 25.0
    rng = np.random.default_rng(4)
    weights = rng.dirichlet(np.full(7, 2.0))
    centre = -np.pi + 2 * np.pi * (np.arange(7) + 0.5) / 7
    log_constant = np.log(weights) - np.log(2 * np.pi * i0e(concentration)) - concentration

    def angular(angle: np.ndarray) -> np.ndarray:
        return log_constant + concentration * np.cos(angle[:, None] - centre)

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, angle = np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])
        logs = angular(angle)
        total = logsumexp(logs, axis=1)
        slope = np.sin(angle[:, None] - centre)
        slope = -concentration * (np.exp(logs - total[:, None]) * slope).sum(1)
        z = (r - radius) / thin
        out = np.stack([x[:, 0], x[:, 1]], 1) / r[:, None]
        along = np.stack([-out[:, 1], out[:, 0]], 1)
        logp = total - 0.5 * z**2 - np.log(thin * np.sqrt(2 * np.pi)) - np.log(r)
        grad = (-z / thin - 1 / r)[:, None] * out + (slope / r)[:, None] * along
        return logp, grad

    grid = np.linspace(-np.pi, np.pi, 400_001)[:-1]
    p = np.exp(logsumexp(angular(grid), axis=1)) * 2 * np.pi / 400_000

    def above(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return x[:, 1] > 0

    def right(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return x[:, 0] > 0

    shares = {"above": (above, p[grid > 0].sum()), "right": (right, p[np.cos(grid) > 0].sum())}
    return HardModel(lambda: Density(function, 2, prior=_wide(2, 5.0)), 0.0, shares)


def _student_modes(dim: int, means: np.ndarray, scales: np.ndarray, weights: np.ndarray, df: float):
    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = (x[:, None] - means) / scales[:, None]
        square = (step**2).sum(2)
        constant = gammaln(0.5 * (df + dim)) - gammaln(0.5 * df) - 0.5 * dim * np.log(df * np.pi)
        logs = np.log(weights) + constant - dim * np.log(scales)
        logs = logs - 0.5 * (df + dim) * np.log1p(square / df)
        total = logsumexp(logs, axis=1)
        factor = np.exp(logs - total[:, None]) * (df + dim) / (df + square) / scales
        return total, -np.einsum("nk,nki->ni", factor, step)

    return function


def student_50() -> HardModel:
    """Two Student-t modes (5 degrees of freedom) in 50 dimensions, one a tenth as wide; exact."""
    dim, scales, weights, df = 50, np.array([1.0, 0.1]), np.array([0.4, 0.6]), 5.0
    means = np.zeros((2, dim))
    means[:, 0] = -8.0, 8.0
    function = _student_modes(dim, means, scales, weights, df)
    rng = np.random.default_rng(0)
    parts = [multivariate_t(means[k], scales[k] ** 2 * np.eye(dim), df, seed=rng) for k in range(2)]
    right = [float(np.mean(part.rvs(400_000)[:, 0] > 4.0)) for part in parts]

    def event(x: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return x[:, 0] > 4.0

    shares = {"x[0] > 4": (event, float(weights @ right))}
    return HardModel(lambda: Density(function, dim, prior=_wide(dim, 10.0)), 0.0, shares, 0.0002)


def cauchy_by_chains() -> HardModel:
    """Two independent Cauchy variables, without the first answer; exact."""

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -np.log1p(x**2).sum(1) - 2 * np.log(np.pi), -2 * x / (1 + x**2)

    return HardModel(
        lambda: Density(function, 2, prior=_wide(2, 5.0)), 0.0, settings={"first_answer": False}
    )


def mixture_regression_missing() -> HardModel:
    """Two regression lines with four missing covariates and two missing responses.

    The truth is importance sampling, to 0.002: the missing responses integrate to one, and each
    missing covariate is integrated over both lines in closed form; four line parameters, the noise
    and the share of the first line are left.
    """
    rng = np.random.default_rng(4)
    n = 40
    x, first = rng.normal(0, 1, n), rng.random(n) < 0.55
    y = np.where(first, 2.0 + 1.8 * x, -0.5 - 1.2 * x) + 0.4 * rng.standard_normal(n)
    no_x = rng.choice(n, 4, False)
    no_y = rng.choice(np.setdiff1d(np.arange(n), no_x), 2, False)
    rows = np.arange(n)
    with pm.Model(coords={"line": ["a", "b"], "row": rows}) as model:
        w = pm.Dirichlet("w", np.ones(2), dims="line")
        a, b = pm.Normal("a", 0, 3, dims="line"), pm.Normal("b", 0, 2, dims="line")
        s = pm.HalfNormal("s", 1.0)
        seen = pm.Normal("x", 0, 1, observed=np.ma.masked_array(x, np.isin(rows, no_x)))
        mu = a[None, :] + b[None, :] * seen[:, None]
        kept = np.ma.masked_array(y, np.isin(rows, no_y))
        pm.NormalMixture("y", w=w, mu=mu, sigma=s, observed=kept)
    shares = {
        f"x_unobserved[{j}] > 0.5": (between(f"x_unobserved[{j}]", 0.5), share)
        for j, share in ((2, 0.4102), (3, 0.6690))
    }
    return HardModel(lambda: density_of(model), -110.9689, shares, truth_se=0.002)


def funnel_two_modes(*, centred: bool) -> HardModel:
    """Return a hierarchy of 30 groups whose mean is g^2 / 2, so that g has two signs.

    The truth is quadrature over g and the spread: the groups are normal given both.
    """
    rng, groups = np.random.default_rng(5), 30
    sd = rng.uniform(1.0, 2.5, groups)
    y = 2.0 + rng.normal(0, 0.5, groups) + sd * rng.standard_normal(groups)
    with pm.Model(coords={"group": range(groups)}) as model:
        g, tau = pm.Normal("g", 0.3, 2.0), pm.HalfNormal("tau", 2.0)
        if centred:
            theta = pm.Normal("theta", g**2 / 2, tau, dims="group")
        else:
            theta = g**2 / 2 + tau * pm.Normal("z", 0, 1, dims="group")
        pm.Normal("y", theta, sd, observed=y, dims="group")
    log_tau, mean = np.linspace(-14, 3, 1201), np.linspace(-6, 6, 2401)
    logs = norm.logpdf(mean, 0.3, 2.0)[None] + log_tau[:, None]
    logs = logs + halfnorm.logpdf(np.exp(log_tau), scale=2.0)[:, None]
    for j in range(groups):
        spread = np.sqrt(sd[j] ** 2 + np.exp(2 * log_tau))[:, None]
        logs = logs + norm.logpdf(y[j], mean**2 / 2, spread)
    total = logsumexp(logs)
    share = float(np.exp(logsumexp(logs[:, mean > 0]) - total))
    log_z = float(total + np.log((log_tau[1] - log_tau[0]) * (mean[1] - mean[0])))
    return HardModel(lambda: density_of(model), log_z, {"g > 0": (between("g", 0.0), share)})


MODELS: dict[str, Callable[[], HardModel]] = {
    "cauchy_by_chains": cauchy_by_chains,
    "arcs": arcs,
    "tangents": tangents,
    "coal_switch": coal_switch,
    "spike_and_slab_4": partial(spike_and_slab, 4),
    "rv_aliases": rv_aliases,
    "two_frequencies": two_frequencies,
    "student_50": student_50,
    "sensors": sensors,
    "funnel_centred": partial(funnel_two_modes, centred=True),
    "funnel_non_centred": partial(funnel_two_modes, centred=False),
    "mixture_regression_missing": mixture_regression_missing,
    "spike_and_slab_8": partial(spike_and_slab, 8),
}
