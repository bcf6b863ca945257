"""Truths of simulators: weighted samples of their posteriors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammaln
from simulator_models import Simulator

# Kernels of the truth's mixture, resampled points that give each its covariance, degrees of
# freedom, and the share of prior draws. Conventional.
KERNELS, NEIGHBOURS, FREEDOM, PRIOR_SHARE = 200, 200, 5.0, 0.2


@dataclass(frozen=True)
class Truth:
    """A weighted sample of a posterior.

    Attributes
    ----------
    x : array of shape (n, d)
    weight : array of shape (n,)
        Their sum is one.
    log_z, log_z_se : float
    """

    x: np.ndarray
    weight: np.ndarray
    log_z: float
    log_z_se: float

    def share(self, inside: np.ndarray) -> tuple[float, float]:
        """Posterior mass of the points inside, shape (n,), and its standard error."""
        p = float(self.weight @ inside)
        return p, float(np.sqrt(np.sum((self.weight * (inside - p)) ** 2)))


def truth_of(simulator: Simulator, n: int, seed: int = 0) -> Truth:
    """Sample from a mixture of Student densities, which three earlier samples give, with weights.

    Where the posterior has exact draws, these, and the log evidence that is written.
    """
    rng = np.random.default_rng([seed, 31])
    if simulator.exact_draws is not None:
        return Truth(simulator.exact_draws(n, rng), np.full(n, 1 / n), simulator.log_z, 0.0)
    x = simulator.prior_draws(simulator.first_points[0], rng)
    log_w = simulator.logp(x) - simulator.log_prior(x)
    for size in (simulator.first_points[1], simulator.first_points[1], n):
        mixture = Mixture.around(x, log_w, rng)
        x, log_q = mixture.sample(simulator, size, rng)
        log_w = simulator.logp(x) - log_q
    high = log_w.max()
    w = np.exp(log_w - high)
    se = w.std() / w.mean() / np.sqrt(n)
    return Truth(x, w / w.sum(), float(high + np.log(w.mean())), float(se))


@dataclass(frozen=True)
class Mixture:
    """Student densities with equal weights, of centres (K, d) and factors (K, d, d)."""

    centres: np.ndarray
    factors: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, log_w: np.ndarray, rng: np.random.Generator) -> Mixture:
        """Resample a weighted sample; each centre's covariance is that of its neighbours."""
        w = np.exp(log_w - log_w.max())
        own = x[rng.choice(len(x), size=20 * NEIGHBOURS, p=w / w.sum())]
        spread = np.maximum(own.std(axis=0), 1e-9)
        centres = own[rng.choice(len(own), size=KERNELS)]
        near = cKDTree(own / spread).query(centres / spread, NEIGHBOURS)[1]
        d, factors = x.shape[1], []
        for rows in near:
            part = own[rows]
            cov = np.cov(part, rowvar=False).reshape(d, d) + 0.01 * np.diag(spread**2)
            factors.append(np.linalg.cholesky(cov))
        return cls(centres, np.stack(factors))

    def sample(
        self, simulator: Simulator, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw points (n, d), some of the prior, and their log densities (n,)."""
        k, d = rng.integers(len(self.centres), size=n), self.centres.shape[1]
        z = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(FREEDOM, n) / FREEDOM)[:, None]
        x = self.centres[k] + np.einsum("nij,nj->ni", self.factors[k], z)
        prior = np.flatnonzero(rng.random(n) < PRIOR_SHARE)
        x[prior] = simulator.prior_draws(len(prior), rng)
        own = np.log1p(-PRIOR_SHARE) + self.log_density(x)
        return x, np.logaddexp(own, np.log(PRIOR_SHARE) + simulator.log_prior(x))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points (n, d), shape (n,)."""
        d, total = x.shape[1], np.full(len(x), -np.inf)
        for centre, factor in zip(self.centres, self.factors, strict=True):
            inverse = np.linalg.inv(factor)
            z = (x - centre) @ inverse.T
            tail = -0.5 * (FREEDOM + d) * np.log1p((z**2).sum(axis=1) / FREEDOM)
            total = np.logaddexp(total, tail - np.log(np.diag(factor)).sum())
        constant = gammaln(0.5 * (FREEDOM + d)) - gammaln(0.5 * FREEDOM)
        return total + constant - 0.5 * d * np.log(FREEDOM * np.pi) - np.log(len(self.centres))
