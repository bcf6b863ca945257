"""The Gaussian rungs: elliptical densities and small mixtures of them."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from pymc_multimodal.moves.adaptation import fit_metric
from pymc_multimodal.target.circle import into_window, unroll

__all__ = [
    "EllipticalMixture",
    "fit_gaussian",
    "fit_mixture",
    "heavy_tailed",
    "laplace",
    "with_defence",
]

# Draws that expectation maximisation works on at most.
MAX_EM_DRAWS = 4000


class EllipticalMixture:
    """Mixture of Gaussian and Student-t densities with full scale matrices.

    Parameters
    ----------
    means : array of shape (J, d)
    scales : array of shape (J, d, d)
        Lower-triangular factors.
    weights : array of shape (J,)
    df : array of shape (J,)
        Degrees of freedom, ``inf`` for a Gaussian.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    centre : array of shape (d,)
        Middle of the window on circular coordinates.
    rung : str
    """

    def __init__(
        self,
        means: np.ndarray,
        scales: np.ndarray,
        weights: np.ndarray,
        df: np.ndarray,
        period: np.ndarray,
        centre: np.ndarray,
        rung: str,
    ) -> None:
        self.means, self.scales = np.asarray(means), np.asarray(scales)
        self.weights, self.df = np.asarray(weights), np.asarray(df, dtype=float)
        self.period, self.centre, self.rung = period, centre, rung
        self._core: EllipticalMixture | None = None
        d = self.means.shape[1]
        self._inverse = np.stack([solve_triangular(s, np.eye(d), lower=True) for s in self.scales])
        log_det = np.log(np.abs(np.diagonal(self.scales, axis1=1, axis2=2))).sum(axis=1)
        with np.errstate(invalid="ignore"):
            heavy = gammaln(0.5 * (self.df + d)) - gammaln(0.5 * self.df)
            heavy -= 0.5 * d * np.log(self.df * np.pi)
        norm = np.where(np.isfinite(self.df), heavy, -0.5 * d * np.log(2 * np.pi))
        self._constant = np.log(self.weights) + norm - log_det

    @property
    def core(self) -> EllipticalMixture:
        """The mixture without its defence, if it has one."""
        return self if self._core is None else self._core

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped; rows outside the window are NaN."""
        d = self.means.shape[1]
        counts = rng.multinomial(n, self.weights / self.weights.sum())
        out, at = np.empty((n, d)), 0
        for j, c in enumerate(counts):
            if not c:
                continue
            step = rng.standard_normal((c, d)) @ self.scales[j].T
            if np.isfinite(self.df[j]):
                step /= np.sqrt(rng.chisquare(self.df[j], c) / self.df[j])[:, None]
            out[at : at + c] = self.means[j] + step
            at += c
        # Rows must be exchangeable: callers hand row i to chain i.
        return into_window(rng.permutation(out), self.centre, self.period)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the copy of each row inside the window, shape (n,)."""
        x = unroll(x, self.centre, self.period)
        d = self.means.shape[1]
        logs = np.empty((len(self.means), len(x)))
        for j, (mean, inverse, df) in enumerate(
            zip(self.means, self._inverse, self.df, strict=True)
        ):
            z = (x - mean) @ inverse.T
            r2 = np.einsum("ni,ni->n", z, z)
            logs[j] = -0.5 * (df + d) * np.log1p(r2 / df) if np.isfinite(df) else -0.5 * r2
        # Two orders of magnitude quicker than SciPy's logsumexp on the few rows of a chain's step.
        return np.logaddexp.reduce(logs + self._constant[:, None], axis=0)


def fit_gaussian(
    x: np.ndarray,
    grad: np.ndarray | None,
    held_out: np.ndarray,
    period: np.ndarray,
    centre: np.ndarray,
) -> EllipticalMixture:
    """Fit one elliptical density to draws and their gradients; held-out draws choose how.

    Candidates are the sample covariance, the Fisher-divergence fit (geometric mean of the
    draws' covariance and the inverse of the gradients'; exact for a Gaussian from as many
    draws as dimensions), and Student-t densities where the draws look heavy-tailed.

    Parameters
    ----------
    x, grad : arrays of shape (n, d)
        Unrolled draws and gradients there; grad may be None.
    held_out : array of shape (m, d)
        Unrolled draws of other chains.
    period, centre : arrays of shape (d,)
    """
    d = x.shape[1]
    mean = x.mean(axis=0)
    covariance = np.atleast_2d(np.cov(x.T)) if len(x) > 1 else np.eye(d)
    variance = np.maximum(np.diag(covariance), 1e-300)
    weight = min(0.5, d / (2.0 * len(x)))
    sample = np.linalg.cholesky((1 - weight) * covariance + (weight + 1e-9) * np.diag(variance))
    pairs = [(mean, sample)]
    if grad is not None and len(x) > d:
        fisher = fit_metric(x, grad, sample)
        pairs.append((mean + fisher @ (fisher.T @ grad.mean(axis=0)), fisher))
    candidates = [_single(m, s, np.inf, period, centre) for m, s in pairs]
    z = np.linalg.solve(sample, (x - mean).T)
    r2 = np.einsum("in,in->n", z, z)
    if np.mean(r2**2) > 1.15 * d * (d + 2) * (np.mean(r2) / d) ** 2:
        candidates += [
            _single(*_student(x, mean, sample, df), df, period, centre) for df in (3.0, 5.0, 12.0)
        ]
    scores = [float(np.mean(c.log_density(held_out))) for c in candidates]
    return candidates[int(np.argmax(scores))]


def _single(
    mean: np.ndarray, scale: np.ndarray, df: float, period: np.ndarray, centre: np.ndarray
) -> EllipticalMixture:
    return EllipticalMixture(
        mean[None], scale[None], np.ones(1), np.array([df]), period, centre, "gaussian"
    )


def _student(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, df: float, iterations: int = 15
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of a multivariate t of given df, by EM."""
    d = x.shape[1]
    x = x[:: max(1, len(x) // MAX_EM_DRAWS)]
    for _ in range(iterations):
        z = solve_triangular(scale, (x - mean).T, lower=True)
        u = (df + d) / (df + np.einsum("in,in->n", z, z))
        mean = u @ x / u.sum()
        step = (x - mean) * np.sqrt(u)[:, None]
        covariance = step.T @ step / len(x)
        scale = factor(covariance)
    return mean, scale


def fit_mixture(
    x: np.ndarray,
    held_out: np.ndarray,
    base: EllipticalMixture,
    rng: np.random.Generator,
    max_components: int,
) -> EllipticalMixture | None:
    """Fit Gaussian mixtures of growing size; return the one best on held-out draws.

    Parameters
    ----------
    x, held_out : arrays of shape (n, d) and (m, d)
        Unrolled draws of different chains.
    base : EllipticalMixture
        The single density; its scale whitens the draws.
    rng : numpy.random.Generator
    max_components : int

    Returns
    -------
    EllipticalMixture or None
        None if no mixture beats the single density, or there are too few draws for one.
    """
    # EM's cost grows with the draws and its gain does not: keep evenly spaced ones.
    x = x[:: max(1, len(x) // MAX_EM_DRAWS)]
    held_out = held_out[:: max(1, len(held_out) // MAX_EM_DRAWS)]
    n, d = x.shape
    mean, scale = base.means[0], base.scales[0]
    z = solve_triangular(scale, (x - mean).T, lower=True).T
    best, j = None, 2
    best_score = float(np.mean(base.log_density(held_out)))
    while j <= max_components and n >= 4 * j * (d + 1):
        model = GaussianMixture(
            j,
            reg_covar=1e-4,
            max_iter=100,
            init_params="k-means++",
            random_state=int(rng.integers(2**31)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                model.fit(z)
            except ValueError:
                break
        factors = np.linalg.cholesky(model.covariances_)
        trial = EllipticalMixture(
            mean + model.means_ @ scale.T,
            scale @ factors,
            model.weights_,
            np.full(j, np.inf),
            base.period,
            base.centre,
            "mixture",
        )
        score = float(np.mean(trial.log_density(held_out)))
        if score <= best_score:
            break
        best, best_score, j = trial, score, 2 * j
    return best


def laplace(location: np.ndarray, scale: np.ndarray, period: np.ndarray) -> EllipticalMixture:
    """Laplace's approximation at a mode, with a defence."""
    density = _single(location, scale, np.inf, period, location)
    return with_defence(density, 0.05, 4.0, widen=1.2)


def factor(covariance: np.ndarray) -> np.ndarray:
    """Lower-triangular factor of a covariance, a flat coordinate included."""
    variance = np.maximum(np.diag(covariance), 1e-290)
    return np.linalg.cholesky(covariance + 1e-9 * np.diag(variance))


def heavy_tailed(
    x: np.ndarray, period: np.ndarray, centre: np.ndarray, df: float, widen: float
) -> EllipticalMixture:
    """One Student-t density with the widened covariance of unrolled draws x, shape (n, d)."""
    scale = widen * factor(np.atleast_2d(np.cov(x.T)))
    return _single(x.mean(axis=0), scale, df, period, centre)


def with_defence(
    density: EllipticalMixture, share: float, df: float, widen: float
) -> EllipticalMixture:
    """Add a heavy-tailed component with the density's own covariance.

    Its tails bound the ratio of target to proposal wherever the target decays like a
    Student-t of more degrees of freedom, or faster.
    """
    mean = density.weights @ density.means
    step = density.means - mean
    covariance = np.einsum("j,jik,jlk->il", density.weights, density.scales, density.scales)
    covariance += np.einsum("j,ji,jk->ik", density.weights, step, step)
    scale = widen * factor(covariance)
    defended = EllipticalMixture(
        np.vstack([density.means, mean]),
        np.concatenate([density.scales, scale[None]]),
        np.append((1 - share) * density.weights, share),
        np.append(density.df, df),
        density.period,
        density.centre,
        density.rung,
    )
    defended._core = density
    return defended
