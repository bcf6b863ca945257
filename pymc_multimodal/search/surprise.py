"""Which points have a higher log density than the known modes explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from pymc_multimodal.search.optima import OptimumSet
    from pymc_multimodal.target.density import Density

__all__ = ["FEW_DIMENSIONS", "Candidates", "KnownModes", "surprises"]

# Dimensions up to which the regression has products of coordinates, and beyond which only their
# squares: there are fewer points than products. Measured with pairs in 16 to 64 dimensions, 2^16
# points: with squares all basins that were entered are among the first 16 points; without, one in
# ten is not.
FEW_DIMENSIONS = 12

# Points for each coefficient of the regression in a band, and the most bands. Of three rankings
# measured (raw, by neighbours in radius, by this regression) it alone found every mode that could
# be found beside Student-t and curved ones.
POINTS_PER_COEFFICIENT, MAX_BANDS = 20, 40
# Parts of the residuals that the regression leaves out, lowest and highest, and how often
# it is repeated. Conventional: a mode that holds a tenth of a band has been found by climbs.
TRIMMED, PASSES = 0.1, 2
# Nats that are added to the median absolute deviation: smaller residuals are no sign of a mode.
# Conventional.
LEAST_DEVIATION = 0.5
# Low values are moved up to this many times the distance between the median and the fifth
# percentile below the median. Conventional.
LOW_PERCENTILE, LOW_FACTOR = 5, 20.0
# Ridge of the regression, relative to the mean square of a feature: far above rounding errors.
# Conventional.
RIDGE = 1e-10


@dataclass(frozen=True)
class KnownModes:
    """Normal approximations of the known modes, which divide the space among them.

    Attributes
    ----------
    locations : array of shape (K, d)
    inverse : array of shape (K, d, d)
        Inverses of the lower-triangular factors of the covariances.
    log_peak : array of shape (K,)
        Log densities at the modes.
    """

    locations: np.ndarray
    inverse: np.ndarray
    log_peak: np.ndarray

    @classmethod
    def of(cls, optima: OptimumSet, negligible: float) -> KnownModes:
        """Take the highest optimum of each mode.

        Parameters
        ----------
        optima : OptimumSet
        negligible : float
            See `OptimumSet.summits`.
        """
        best = optima.summits(negligible)
        unit = np.eye(optima.x.shape[1])
        inverse = [solve_triangular(scale, unit, lower=True) for scale in optima.scale[best]]
        return cls(optima.x[best], np.stack(inverse), optima.logp[best])

    def standardised(self, density: Density, x: np.ndarray, k: int) -> np.ndarray:
        """Return points in the coordinates in which mode k is standard normal, shape (n, d)."""
        out: np.ndarray = (density.unroll(x, self.locations[k]) - self.locations[k]) @ (
            self.inverse[k].T
        )
        return out

    def nearest(self, density: Density, x: np.ndarray) -> np.ndarray:
        """Return the mode whose normal approximation is highest at each point, shape (n,)."""
        if len(self.locations) == 1:
            return np.zeros(len(x), dtype=int)
        return self._highest(density, x)[0]

    def height(self, density: Density, x: np.ndarray) -> np.ndarray:
        """Return the log density that the highest normal approximation predicts, shape (n,)."""
        return self._highest(density, x)[1]

    def _highest(self, density: Density, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the highest normal approximation at each point, and its log density there."""
        label, highest = np.zeros(len(x), dtype=int), np.full(len(x), -np.inf)
        for k, log_peak in enumerate(self.log_peak):
            z = self.standardised(density, x, k)
            height = log_peak - 0.5 * np.einsum("ni,ni->n", z, z)
            higher = height > highest
            label[higher], highest[higher] = k, height[higher]
        return label, highest


@dataclass(frozen=True)
class Candidates:
    """Points that may lie in the basin of an unknown mode, the most surprising first.

    Attributes
    ----------
    x, logp, score : arrays of shape (n, d), (n,) and (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def empty(cls, dim: int) -> Candidates:
        """Return no candidates."""
        return cls(np.empty((0, dim)), np.empty(0), np.empty(0))

    def with_more(
        self, x: np.ndarray, logp: np.ndarray, score: np.ndarray, most: int
    ) -> Candidates:
        """Add points, and keep at most so many: those of the highest scores."""
        few = np.argsort(-score, kind="stable")[:most]
        x, logp, score = (
            np.concatenate(pair)
            for pair in ((self.x, x[few]), (self.logp, logp[few]), (self.score, score[few]))
        )
        best = np.argsort(-score, kind="stable")[:most]
        return Candidates(x[best], logp[best], score[best])

    def take(self, rows: np.ndarray) -> Candidates:
        """Return some of the candidates."""
        return Candidates(self.x[rows], self.logp[rows], self.score[rows])


def surprises(
    density: Density, known: KnownModes, x: np.ndarray, logp: np.ndarray, log_q: np.ndarray
) -> np.ndarray:
    """Score points by how far their log density lies above what the known modes explain.

    The points are divided by the known mode that is nearest, and by the radius around it into bands
    of equally many. In each band ``log p - log q`` is regressed on a quadratic function of the
    point, in more than 12 dimensions without products of coordinates, and on ``log q``, without
    its largest and smallest residuals. The score is the residual in units of the median absolute
    deviation plus half a nat. The raw difference would rank first what lies far out, because no q
    has the tails of p.

    Parameters
    ----------
    density : Density
        Its periods are used; it is not evaluated.
    known : KnownModes
    x : array of shape (n, d)
    logp, log_q : arrays of shape (n,)
        Log densities of the target, and of the mixture that describes the known modes.

    Returns
    -------
    array of shape (n,)
        ``-inf`` where a log density is not finite.
    """
    score = np.full(len(x), -np.inf)
    finite = np.flatnonzero(np.isfinite(logp) & np.isfinite(log_q))
    if not len(finite):
        return score
    d = x.shape[1]
    few = d <= FEW_DIMENSIONS
    least = POINTS_PER_COEFFICIENT * (2 + d + (d * (d + 1) // 2 if few else d))
    label = known.nearest(density, x[finite])
    rest = []
    for k in range(len(known.locations)):
        rows = finite[label == k]
        if len(rows) < least:
            rest.append(rows)
            continue
        z = known.standardised(density, x[rows], k)
        radius = np.einsum("ni,ni->n", z, z)
        order = np.argsort(radius)
        bands = np.array_split(order, min(MAX_BANDS, len(rows) // least))
        for band in bands:
            size = np.sqrt(max(radius[band[-1]], np.finfo(float).tiny))
            own, unit = rows[band], z[band] / size
            features = _quadratic(unit) if few else _squares(unit)
            score[own] = _scores(features, logp[own], log_q[own])
    rows = np.concatenate([*rest, np.empty(0, dtype=int)])
    if len(rows):
        # Too few for a quadratic function.
        score[rows] = _scores(np.ones((len(rows), 1)), logp[rows], log_q[rows])
    return score


def _quadratic(z: np.ndarray) -> np.ndarray:
    """Return 1, the coordinates and their products, for each row."""
    n, d = z.shape
    out = np.empty((n, 1 + d + d * (d + 1) // 2))
    out[:, 0], out[:, 1 : d + 1] = 1.0, z
    at = d + 1
    for i in range(d):
        np.multiply(z[:, i:], z[:, i : i + 1], out=out[:, at : at + d - i])
        at += d - i
    return out


def _squares(z: np.ndarray) -> np.ndarray:
    """Return one, the coordinates and their squares, shape (n, 1 + 2 d)."""
    return np.column_stack([np.ones(len(z)), z, z**2])


def _scores(features: np.ndarray, logp: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Return the residuals of a trimmed regression, in units of their deviation."""
    y = logp - log_q
    low, middle = np.percentile(y, (LOW_PERCENTILE, 50))
    y = np.maximum(y, middle - LOW_FACTOR * (middle - low + LEAST_DEVIATION))
    scale = log_q.std()
    if scale > 0:
        features = np.column_stack([features, (log_q - log_q.mean()) / scale])
    # In few dimensions a part of the points is enough. They are in the order of their radius.
    few = slice(None, None, max(1, len(y) // (POINTS_PER_COEFFICIENT * features.shape[1])))
    own = features[few]
    weights = _trimmed_fit(own, y[few])
    residual = y - features @ weights
    residual -= np.median(residual[few])
    scores: np.ndarray = residual / (np.median(np.abs(residual[few])) + LEAST_DEVIATION)
    return scores


def _trimmed_fit(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients of a regression without its largest and smallest residuals."""
    n, width = features.shape
    cut = int(TRIMMED * n)
    gram, moment = features.T @ features, features.T @ y
    weights = _solved(gram, moment)
    for _ in range(PASSES if n - 2 * cut >= width else 0):
        order = np.argpartition(y - features @ weights, (cut, n - cut - 1))
        out = np.concatenate([order[:cut], order[n - cut :]])
        own = features[out]
        weights = _solved(gram - own.T @ own, moment - own.T @ y[out])
    return weights


def _solved(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Solve the normal equations of a regression with a small ridge."""
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, moment)
