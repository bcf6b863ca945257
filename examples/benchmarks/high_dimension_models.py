"""Models of many coordinates, a few of which separate the modes, with what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from growth import target
from scipy.special import expit, logsumexp
from scipy.stats import halfnorm, norm

from pymc_multimodal.model.build import density_of
from pymc_multimodal.target.density import Density

__all__ = ["MODELS", "REFERENCES", "Known", "regression_model"]

# Coefficients and observations of the regressions.
PREDICTORS, OBSERVATIONS = 2000, 1000
# Seed of the data: none that fits use, whose random vectors would be the predictors.
DATA_SEED = 20260
# Mean and standard deviation of the prior of the signed effect, of which the data see the square.
EFFECT_MEAN, EFFECT_SD = 0.5, 1.0
# Standard deviations of the priors of the coefficients' spread and of the noise.
SPREAD_SD, NOISE_SD = 1.0, 1.0
# Degrees of freedom of the noise with outliers.
NOISE_DF = 4.0
# Shares of the positive effect that have no closed form, with standard errors.
# Measured: `high_dimension.py --reference`
REFERENCES: dict[str, tuple[float, float]] = {}


@dataclass(frozen=True)
class Known:
    """A density and what is known of it.

    Attributes
    ----------
    density : Density
    share : float
        Posterior mass of the modes at which `upper` is true.
    share_se : float
        Its standard error: zero where it is exact.
    log_z : float
        Log evidence; NaN where it is not known.
    upper : callable
        ``upper(x)`` tells for points of shape (n, d) on which side they are.
    """

    density: Density
    share: float
    share_se: float
    log_z: float
    upper: Callable[[np.ndarray], np.ndarray]


def plain(name: str) -> Known:
    """Two normals, or the lattice: densities without a model's graph."""
    function, scale = target(name)
    dim = function.dim
    density = Density(function, dim, prior=lambda n, rng: scale * rng.standard_normal((n, dim)))
    log_z = float("nan") if name.startswith("phi4") else 0.0
    return Known(
        density, float(function.weights[0]), 0.0, log_z, lambda x: function.component(x) == 0
    )


def _data(kind: str, p: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictors (n, p), what the square of the effect multiplies (n,), observations (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) / np.sqrt(p)
    w = 1.0 + 0.5 * rng.standard_normal(n)
    # The spread of the linear predictor is that of the coefficients.
    mean = 0.7**2 * w + x @ rng.standard_normal(p)
    if kind == "logistic":
        return x, w, (rng.random(n) < expit(mean)).astype(float)
    noise = rng.standard_normal(n) if kind == "normal" else rng.standard_t(NOISE_DF, n)
    return x, w, mean + 0.5 * noise


def regression_model(
    kind: str,
    p: int,
    n: int,
    *,
    centred: bool,
    folded: bool = False,
    seed: int = DATA_SEED,
) -> pm.Model:
    """Return a regression with p coefficients of a common spread, and an effect of unknown sign.

    Parameters
    ----------
    kind : {"normal", "student", "logistic"}
        Distribution of the observations.
    p, n : int
        Coefficients and observations.
    centred : bool
        Whether the coefficients themselves are the parameters, or these in units of their spread.
    folded : bool
        Whether the effect is positive, with the prior mass of both signs: one mode.
    seed : int
        Of the data.
    """
    x, w, y = _data(kind, p, n, seed)
    with pm.Model() as model:
        if folded:
            effect = pm.HalfFlat("effect")
            both = pt.logaddexp(
                pm.logp(pm.Normal.dist(EFFECT_MEAN, EFFECT_SD), effect),
                pm.logp(pm.Normal.dist(EFFECT_MEAN, EFFECT_SD), -effect),
            )
            pm.Potential("prior", both)
        else:
            effect = pm.Normal("effect", EFFECT_MEAN, EFFECT_SD)
        spread = pm.HalfNormal("spread", SPREAD_SD)
        if centred:
            beta = pm.Normal("beta", 0.0, spread, shape=p)
        else:
            beta = spread * pm.Normal("beta", 0.0, 1.0, shape=p)
        mean = effect**2 * w + pt.dot(pt.as_tensor(x), beta)
        if kind == "logistic":
            pm.Bernoulli("y", logit_p=mean, observed=y)
        elif kind == "student":
            noise = pm.HalfNormal("noise", NOISE_SD)
            pm.StudentT("y", nu=NOISE_DF, mu=mean, sigma=noise, observed=y)
        else:
            noise = pm.HalfNormal("noise", NOISE_SD)
            pm.Normal("y", mean, noise, observed=y)
    return model


def normal_evidence(p: int, n: int, seed: int = DATA_SEED) -> tuple[float, float]:
    """Log evidence, and share of the positive effect, of the regression with normal noise.

    Given spread and noise, observations are normal with the covariance ``spread^2 X X' + noise^2``,
    which is diagonal in the eigenvectors of ``X X'``. Three coordinates are left for a grid.
    """
    x, w, y = _data("normal", p, n, seed)
    values, vectors = np.linalg.eigh(x @ x.T)
    y, w = vectors.T @ y, vectors.T @ w
    log_spread, log_noise = np.linspace(-4.0, 2.0, 301), np.linspace(-4.0, 1.5, 276)
    effect = np.linspace(0.0, 3.0, 1201)
    v = np.exp(2 * log_spread)[:, None, None] * values + np.exp(2 * log_noise)[:, None]
    parts = [np.einsum("abn,n->ab", 1.0 / v, z) for z in (y * y, y * w, w * w)]
    base = -0.5 * np.log(2 * np.pi * v).sum(axis=-1)
    prior = (
        (halfnorm.logpdf(np.exp(log_spread), scale=SPREAD_SD) + log_spread)[:, None]
        + halfnorm.logpdf(np.exp(log_noise), scale=NOISE_SD)
        + log_noise
    )
    h = effect**2
    by_square = [
        logsumexp(base + prior - 0.5 * (parts[0] - 2 * a * parts[1] + a * a * parts[2])) for a in h
    ]
    cell = (log_spread[1] - log_spread[0]) * (log_noise[1] - log_noise[0])
    weight = np.full(len(effect), effect[1])
    weight[[0, -1]] *= 0.5
    sides = [
        logsumexp(by_square + norm.logpdf(sign * effect, EFFECT_MEAN, EFFECT_SD), b=weight)
        for sign in (1, -1)
    ]
    log_z = float(np.logaddexp(*sides) + np.log(cell))
    return log_z, float(expit(sides[0] - sides[1]))


def share_given_square(effect: np.ndarray) -> np.ndarray:
    """Posterior probability of the positive sign where the data have fixed the effect's size."""
    out: np.ndarray = expit(2.0 * EFFECT_MEAN * np.abs(effect) / EFFECT_SD**2)
    return out


def regression(
    kind: str, *, centred: bool, p: int = PREDICTORS, n: int = OBSERVATIONS
) -> Callable[[], Known]:
    """Return a function that makes the density of a regression."""

    def made() -> Known:
        density = density_of(regression_model(kind, p, n, centred=centred))
        if kind == "normal":
            log_z, share = normal_evidence(p, n)
            se = 0.0
        else:
            share, se = REFERENCES.get(f"{kind}_{p}", (float("nan"), float("nan")))
            log_z = float("nan")
        at = density.names.index("effect")
        return Known(density, share, se, log_z, lambda x: x[:, at] > 0)

    return made


MODELS: dict[str, Callable[[], Known]] = {
    "two_modes_300": lambda: plain("two_modes_300"),
    "two_modes_1000": lambda: plain("two_modes_1000"),
    "phi4_256": lambda: plain("phi4_256"),
    "regression_2000": regression("normal", centred=True),
    "regression_2000_scaled": regression("normal", centred=False),
    "student_500": regression("student", centred=False, p=500),
    "logistic_500": regression("logistic", centred=False, p=500),
}
