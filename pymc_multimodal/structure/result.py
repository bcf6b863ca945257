"""What a fit says of each unit: its explanations, their weights, and how they combine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.structure.borders import Borders
    from pymc_multimodal.structure.extended import UnitProposals
    from pymc_multimodal.structure.integration import UnitSample
    from pymc_multimodal.target.units import Units

__all__ = ["UnitModes", "shares", "unit_modes"]

# Share of the posterior from which on a combination of explanations is listed, and draws at which
# combinations are looked for. Conventional.
LISTED_SHARE, LOOKED_AT = 0.01, 500
# Explanations of a smaller weight are not counted. Conventional.
COUNTED_WEIGHT = 1e-3
# Errors of probabilities that are rounding. Conventional.
ROUNDING = 1e-12
# Decimal digits of a number of combinations that is written in full. Conventional.
MAX_DIGITS = 6


@dataclass(frozen=True, eq=False)
class UnitModes:
    """The explanations of each of N units.

    Attributes
    ----------
    units : Units
    location : array of shape (N, K, b)
        Each explanation at the most probable of the hubs that were looked at (unconstrained); NaN
        where there is none. The explanation of largest weight is the first.
    weight, weight_se : arrays of shape (N, K)
        Posterior probability of each explanation of the unit, and its standard error.
    combinations : array of int, shape (J, N)
        Combinations of explanations that hold more than a hundredth of the posterior.
    probability, probability_se : arrays of shape (J,)
        Of the combinations, the largest first.
    order : array of int, shape (N, K)
        Place in the proposals of each explanation.
    """

    units: Units
    location: np.ndarray
    weight: np.ndarray
    weight_se: np.ndarray
    combinations: np.ndarray
    probability: np.ndarray
    probability_se: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def __repr__(self) -> str:
        """Say how many there are; the arrays are in the attributes."""
        return f"<UnitModes: {self.found}>"

    @property
    def n_explanations(self) -> np.ndarray:
        """Explanations of each unit that hold a thousandth of its probability, shape (N,)."""
        out: np.ndarray = (self.weight > COUNTED_WEIGHT).sum(axis=1)
        return out

    @property
    def log10_combinations(self) -> float:
        """Decimal logarithm of the number of combinations of explanations: of joint modes."""
        return float(np.log10(np.maximum(self.n_explanations, 1)).sum())

    @property
    def described(self) -> str:
        """Numbers of units with several explanations, and of combinations, in words."""
        several = int((self.n_explanations > 1).sum())
        if not several:
            return "each has one explanation"
        have = "has" if several == 1 else "have"
        return f"{several} of them {have} several explanations, {self._combinations} in all"

    @property
    def found(self) -> str:
        """Numbers of units, explanations and combinations in words."""
        explanations = counted(int(self.n_explanations.sum()), "explanation")
        return f"{counted(len(self), 'unit')} with {explanations}, {self._combinations}"

    @property
    def _combinations(self) -> str:
        log10 = self.log10_combinations
        if log10 > MAX_DIGITS:
            return f"10^{log10:.0f} combinations"
        return counted(round(10**log10), "combination")


def unit_modes(
    proposals: UnitProposals,
    sample: UnitSample,
    ratio: np.ndarray | None,
    overlap: Borders,
    factor: float = 1.0,
) -> UnitModes:
    """Estimate weights of the explanations.

    Parameters
    ----------
    proposals : UnitProposals
    sample : UnitSample
    ratio : array of shape (n,), or None
        Importance ratios of the hubs; None where there are no hubs, so that the units are
        independent.
    overlap : Borders
    factor : float
        Of the errors: that of `error_factor`.

    Returns
    -------
    UnitModes
    """
    units = proposals.units
    mean, se, rows = shares(sample, ratio)
    se *= factor
    share = sample.share[rows].astype(float)
    combinations, probability, error = _combinations(mean, se, share, ratio, rows)
    error = error if ratio is None else factor * error
    known, unit = mean > 0, np.arange(len(mean))
    # Where explanations overlap, their border is elsewhere.
    weight = np.clip(mean + np.where(known, overlap.shift, 0.0), 0.0, 1.0)
    se = np.hypot(se, np.where(known, overlap.se, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        change = (weight / mean)[unit, combinations].prod(axis=1)
        relative = np.linalg.norm((overlap.se / mean)[unit, combinations], axis=1)
    error = change * np.hypot(error, probability * relative)
    order = np.argsort(-weight, axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    location = np.take_along_axis(_locations(proposals), order[:, :, None], axis=1)
    weight, se = (np.take_along_axis(v, order, axis=1) for v in (weight, se))
    location = np.where((weight > 0)[..., None] & units.inside[:, None], location, np.nan)
    combinations = rank[unit, combinations]
    return UnitModes(units, location, weight, se, combinations, change * probability, error, order)


def shares(
    sample: UnitSample, ratio: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the shares of explanations over the hubs.

    Parameters
    ----------
    sample : UnitSample
    ratio : array of shape (n,), or None
        As for `unit_modes`.

    Returns
    -------
    mean, se : arrays of shape (N, K)
        By place in the proposals, with standard errors by the delta method.
    rows : array of int
        Draws that have a weight.
    """
    if ratio is None:
        weight = np.exp(sample.log_mean - sample.log_mean.max(axis=0))
    else:
        weight = np.broadcast_to(ratio[:, None], sample.log_mean.shape)
    # Draws of no weight may hold NaN.
    rows = np.flatnonzero(np.isfinite(sample.log_marginal) & (weight.max(axis=1) > 0))
    weight, share = weight[rows], sample.share[rows].astype(float)
    total = weight.sum(axis=0)
    mean = np.einsum("nu,nuk->uk", weight, share) / total[:, None]
    deviation = (weight**2).sum(axis=0)[:, None] * mean**2
    squared = np.einsum("nu,nuk->uk", weight**2, share**2)
    cross = np.einsum("nu,nuk->uk", weight**2, share)
    se = np.sqrt(np.maximum(squared - 2 * mean * cross + deviation, 0.0)) / total[:, None]
    return mean, se, rows


def _locations(proposals: UnitProposals) -> np.ndarray:
    """Return explanations at the most probable anchors that have them, shape (N, K, b)."""
    anchors = proposals.mixtures.anchors
    best = anchors.best_hubs()
    unit, place = np.indices(best.shape)
    return anchors.z[best, unit, place]


def _combinations(
    mean: np.ndarray,
    se: np.ndarray,
    share: np.ndarray,
    ratio: np.ndarray | None,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find combinations of explanations of more than a hundredth, with their probabilities."""
    n_units = len(mean)
    unit = np.arange(n_units)
    if ratio is None:
        share, weight = mean[None], np.ones(1)
    else:
        weight = ratio[rows]
        chosen = np.argsort(-weight)[:LOOKED_AT]
    looked = share if ratio is None else share[chosen]
    found = {tuple(row) for row in looked.argmax(axis=2)}
    checked: set[tuple[int, ...]] = set()
    kept: dict[tuple[int, ...], tuple[float, float]] = {}
    total = weight.sum()
    while found:
        combination = found.pop()
        checked.add(combination)
        each = share[:, unit, combination]
        with np.errstate(divide="ignore"):
            product = np.exp(np.log(each).sum(axis=1))
        p = float(weight @ product / total)
        if p < LISTED_SHARE:
            continue
        error = float(np.sqrt(np.sum((weight * (product - p)) ** 2)) / total)
        if ratio is None:
            error = p * float(np.sqrt(np.sum((se[unit, combination] / each[0]) ** 2)))
        kept[combination] = (p, error)
        for i in unit:
            for k in np.flatnonzero(mean[i] > LISTED_SHARE):
                other = (*combination[:i], int(k), *combination[i + 1 :])
                if other not in checked:
                    found.add(other)
    ordered = sorted(kept, key=lambda c: -kept[c][0])
    values = np.array([kept[c] for c in ordered]).reshape(-1, 2)
    listed = np.array(ordered, dtype=int).reshape(-1, n_units)
    # What is left by rounding where there is one explanation is no error.
    return listed, values[:, 0], np.where(values[:, 1] > ROUNDING, values[:, 1], 0.0)
