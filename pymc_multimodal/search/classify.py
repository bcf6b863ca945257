"""What the end point of a climb is: an optimum, a saddle, a flat place, or none of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pymc_multimodal.search.curvature import (
    FLAT_CURVATURE,
    inverse_scale,
    negative_hessian,
    refined,
)
from pymc_multimodal.search.distant import DistantOptimum, width_of_distant
from pymc_multimodal.search.lbfgs import climb
from pymc_multimodal.search.quadratic import Evaluated, fit_quadratic
from pymc_multimodal.search.trust_region import climb_by_trust_region
from pymc_multimodal.status import LimitReached, SymmetryBroken
from pymc_multimodal.target.errors import same_density

if TYPE_CHECKING:
    from pymc_multimodal.search.lbfgs import Climbs
    from pymc_multimodal.search.optima import OptimumSet
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["ClimbEnd", "EndPoint", "classify", "identify", "identify_all"]

# The point is a saddle if the smallest eigenvalue is below minus this part of the largest (of 1
# nat, if that is more): differences err by less. Measured: examples/benchmarks/constants.py
SADDLE_CURVATURE = 1e-3
# Predicted gain of a Newton step (nats) from which on it is taken. Conventional: a tenth of the
# gain at which a climb ends (`lbfgs.TOLERANCE`).
NEWTON_GAIN = 1e-6
# The climb is a runaway if the slope along directions without curvature is larger than this (nats
# per spread), or if a climb that has not converged would gain more than this by a Newton step
# (nats). Measured: examples/benchmarks/constants.py
MAX_SLOPE, MAX_GAIN = 0.5, 1.0
# Distance of the point at which a step is looked for (spreads of the starts), the most that the
# log density may grow to there by its gradient, and the fall that shows a step (nats). Measured on
# the ends of climbs: coal-mining disasters with a hard switch fall by 3 nats at any distance. A
# centred funnel, with gradients up to 1e5, falls in one of ten at 1e-6, and in none at 1e-8.
STEP_PROBE, PROBE_GAIN, MIN_FALL = 1e-8, 1e-6, 0.01
# Where a density grows without bound (the neck of a funnel), rounding ends climbs at points whose
# curvature is that of an optimum. So points one standard deviation away are looked at from this
# width on (spreads of the starts), and nothing narrower than the second width is an optimum.
# Measured: of 17,000 climbs into the neck of a centred hierarchy 113 ended with a curvature that
# these points do not refute, none wider than 6e-11.
NARROW, LEAST_WIDTH = 1e-6, 1e-10
# Length of the step that leaves a saddle (spreads of the starts).
# Measured: examples/benchmarks/constants.py
ESCAPE_STEP = 0.05
# Distance of an optimum (in its standard deviations) to which a climb without gradient may have
# been on its way when it ended. Conventional.
NEAR_SDS = 4.0
# A climb without gradient goes on, once, where Newton steps say that it would gain more than this
# (nats) but do not lead there; first radius (spreads of the starts). Conventional.
RESUMED_GAIN, RESUMED_RADIUS = 0.02, 0.1
# Largest error of a quadratic function (`QuadraticFit.error`) whose curvature is taken for that of
# the optimum. Conventional: widths then err by some hundredths.
HESSIAN_ERROR = 0.3
# Saddles in a row that one climb may leave, and saddles that the climbs of one batch leave in all.
# A rough density looks like a saddle wherever a climb ends, and every escape costs two climbs.
# Measured: examples/benchmarks/constants.py
MAX_DEPTH, MAX_ESCAPES = 2, 24

Kind = Literal["optimum", "saddle", "flat", "runaway", "step", "none"]


@dataclass(frozen=True)
class ClimbEnd:
    """Where one climb ended.

    Attributes
    ----------
    x : array of shape (d,)
    logp : float
    converged : bool
    hessian : array of shape (d, d), optional
        Negative Hessian there, where it is known.
    """

    x: np.ndarray
    logp: float
    converged: bool
    hessian: np.ndarray | None = None


@dataclass(frozen=True)
class EndPoint:
    """What the end of a climb is.

    Attributes
    ----------
    kind : {"optimum", "saddle", "flat", "runaway", "step", "none"}
        "step" is a place where the log density falls at once although its gradient is not zero;
        "saddle" is a saddle to be left along `direction`; "none" is a saddle that is not left, or
        a point outside of the support.
    x : array of shape (d,)
        The point, improved by a Newton step where that helps.
    logp : float
    hessian : array of shape (d, d), optional
        Negative Hessian there, of an optimum.
    direction : array of shape (d,), optional
        Direction of least curvature, of a saddle, one spread of the starts long.
    gain : float
        Nats that a climb without gradient may still gain, by its own curvature.
    """

    kind: Kind
    x: np.ndarray
    logp: float
    hessian: np.ndarray | None = None
    direction: np.ndarray | None = None
    gain: float = 0.0


def classify(
    density: Density, optima: OptimumSet, end: ClimbEnd, *, may_escape: bool = True
) -> EndPoint:
    """Decide what the end of a climb is.

    Parameters
    ----------
    density : Density
    optima : OptimumSet
        Its symmetry is checked at the point, and the canonical image of the point is used.
    end : ClimbEnd
    may_escape : bool
        Whether a saddle may be left.

    Returns
    -------
    EndPoint

    Raises
    ------
    SymmetryBroken
        If an image of the point has another log density.
    """
    x, logp, spread = end.x, end.logp, optima.spread
    if not np.isfinite(logp):
        return EndPoint("none", x, logp)
    x = _checked_image(density, optima, x, logp)
    hessian = end.hessian if np.array_equal(x, end.x) else None
    if hessian is None:
        hessian = negative_hessian(density, x, spread)
    values, vectors = np.linalg.eigh(hessian * np.outer(spread, spread))
    largest = np.abs(values).max()
    if largest < FLAT_CURVATURE:
        return EndPoint("flat", x, logp)
    if not density.has_gradient:
        x, logp, gain = refined(density, x, logp, inverse_scale(hessian[None], spread)[0])
        return EndPoint("optimum", x, logp, hessian, gain=gain)
    saddle = values.min() < -SADDLE_CURVATURE * max(1.0, largest)
    curved = values > FLAT_CURVATURE
    slope, gain, newton = _newton(density, x, spread, values, vectors)
    steep = not end.converged and float(np.linalg.norm(slope)) > MAX_SLOPE
    if steep and _falls_uphill(density, x, logp, vectors @ slope, spread):
        return EndPoint("step", x, logp)
    if saddle and may_escape:
        return EndPoint("saddle", x, logp, direction=spread * vectors[:, 0])
    if gain > NEWTON_GAIN and end.converged:
        better = density.wrap(x + newton)[None]
        value = density.logp(better)[0]
        if value >= logp:
            x, logp = better[0], float(value)
            if gain > MAX_GAIN:
                slope, gain, _ = _newton(density, x, spread, values, vectors)
    if np.linalg.norm(slope[~curved]) > MAX_SLOPE or gain > MAX_GAIN:
        return EndPoint("runaway", x, logp)
    if largest > NARROW**-2 and not saddle:
        axes = spread * vectors.T
        if largest > LEAST_WIDTH**-2 or not _is_summit(density, x, logp, axes, values):
            return EndPoint("runaway", x, logp)
    return EndPoint("none", x, logp) if saddle else EndPoint("optimum", x, logp, hessian)


def _newton(
    density: Density, x: np.ndarray, spread: np.ndarray, values: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Slope along the eigenvectors (nats per spread), gain and step by the curved directions."""
    slope = vectors.T @ (density.logp_and_grad(x[None])[1][0] * spread)
    curved = values > FLAT_CURVATURE
    step = slope[curved] / values[curved]
    return slope, float(slope[curved] @ step), spread * (vectors[:, curved] @ step)


def _is_summit(
    density: Density, x: np.ndarray, logp: float, axes: np.ndarray, values: np.ndarray
) -> bool:
    """Tell whether no point one standard deviation away, along an axis (rows), is higher."""
    steps = axes / np.sqrt(np.maximum(np.abs(values), FLAT_CURVATURE))[:, None]
    around = density.logp(density.wrap(np.concatenate([x + steps, x - steps])))
    return bool(np.all(around < logp + MIN_FALL))


def _falls_uphill(
    density: Density, x: np.ndarray, logp: float, slope: np.ndarray, spread: np.ndarray
) -> bool:
    """Tell whether the density falls at once where it grows by its gradient (nats per spread)."""
    steepness = float(np.linalg.norm(slope))
    probe = min(STEP_PROBE, PROBE_GAIN / steepness) / steepness
    beyond = density.logp(density.wrap(x + spread * slope * probe)[None])[0]
    return bool(beyond < logp - MIN_FALL)


def _checked_image(density: Density, optima: OptimumSet, x: np.ndarray, logp: float) -> np.ndarray:
    """Return the canonical image of a point whose images have to have its log density."""
    if optima.symmetry is None:
        return x
    images = np.stack(optima.symmetry.generators) @ x
    if not same_density(density.logp(images), np.full(len(images), logp), density.resolution):
        raise SymmetryBroken
    return optima.canonical_image(x)


def identify(
    density: Density, search: Search, end: ClimbEnd, max_iter: int, depth: int = 0
) -> tuple[Search, int]:
    """Find out which optimum a climb has ended at; a new one is added.

    A saddle is left on both sides, and the higher of the two optima that are reached counts.

    Parameters
    ----------
    density : Density
    search : Search
    end : ClimbEnd
    max_iter : int
        Most iterations of a climb that leaves a saddle.
    depth : int
        Saddles that the climb has left already.

    Returns
    -------
    search : Search
    index : int
        Index of the optimum, or -1.

    Raises
    ------
    SymmetryBroken
        If an image of the point has another log density.
    """
    known = _refined_to_known(density, search.optima, end)
    if known >= 0:
        return search, known
    may_escape = depth < MAX_DEPTH and search.counts.escapes < MAX_ESCAPES
    point = classify(density, search.optima, end, may_escape=may_escape)
    counts = search.counts
    if point.kind == "saddle":
        assert point.direction is not None
        search = replace(search, counts=replace(counts, escapes=counts.escapes + 1))
        ends = []
        for side in (1, -1):
            start = density.wrap(point.x + ESCAPE_STEP * (point.direction * side))
            search, index = _climb_away(density, search, start, max_iter, depth)
            ends.append(index)
        return search, max(ends, key=lambda k: search.optima.logp[k] if k >= 0 else -np.inf)
    if point.kind == "flat":
        return replace(search, counts=replace(counts, flat=counts.flat + 1)), -1
    if point.kind == "runaway":
        return replace(search, counts=replace(counts, runaway=counts.runaway + 1)), -1
    if point.kind == "step":
        return replace(search, counts=replace(counts, steps=counts.steps + 1)), -1
    if point.kind == "none":
        saddles = counts.saddles + bool(np.isfinite(point.logp))
        return replace(search, counts=replace(counts, saddles=saddles)), -1
    assert point.hessian is not None
    if point.gain > RESUMED_GAIN and not depth:
        return _climb_on(density, search, point, max_iter)
    known = search.optima.nearest(density, point.x[None], np.array([point.logp]))[0]
    if known >= 0:
        return search, int(known)
    optima = search.optima.add(point.x, point.logp, point.hessian)
    return replace(search, optima=optima), len(search.optima)


def _climb_on(
    density: Density, search: Search, point: EndPoint, max_iter: int
) -> tuple[Search, int]:
    """Climb on from a point on a ridge at which a climb without gradient has ended."""
    # The points around it, which seemed to have their summit there, are left out.
    nothing = Evaluated.nothing(density.dim)
    start, optima = point.x[None], search.optima
    climbs = climb_by_trust_region(
        density, start, optima, nothing, max_iter=max_iter, radius=RESUMED_RADIUS
    )
    if climbs.cut_off[0]:
        raise LimitReached
    assert climbs.evaluated is not None
    search = replace(search, evaluated=search.evaluated.joined(climbs.evaluated))
    known = max(climbs.peak[0], optima.nearest(density, climbs.x, climbs.logp)[0])
    if known >= 0:
        return search, int(known)
    end = ClimbEnd(climbs.x[0], float(climbs.logp[0]), bool(climbs.converged[0]))
    return identify(density, search, end, max_iter, 1)


def _refined_to_known(density: Density, optima: OptimumSet, end: ClimbEnd) -> int:
    """Return the optimum to which Newton steps with its own curvature lead, or -1.

    It is looked for where the curvature at the end, which costs d times as much as a step, is not
    known, and the end is only a few standard deviations away from the optimum.
    """
    if density.has_gradient or end.hessian is not None or optima.symmetry is not None:
        return -1
    step = density.unroll(np.broadcast_to(end.x, optima.x.shape), optima.x) - optima.x
    squared = np.einsum("ki,kij,kj->k", step, optima.hessian, step)
    near = np.flatnonzero((squared < NEAR_SDS**2) & (end.logp < optima.logp))
    if not len(near):
        return -1
    own = [step[k] @ optima.curvature(int(k)) @ step[k] for k in near]
    k = near[np.argmin(own)]
    x, logp, _ = refined(density, end.x, end.logp, optima.scale[k])
    return int(optima.nearest(density, x[None], np.array([logp]))[0])


def identify_all(
    density: Density, search: Search, climbs: Climbs, max_iter: int, *, may_widen: bool
) -> tuple[Search, np.ndarray, np.ndarray]:
    """Assign the end of each climb to an optimum; new optima are added.

    Parameters
    ----------
    density : Density
    search : Search
    climbs : Climbs
    max_iter : int
        Most iterations of a climb that leaves a saddle.
    may_widen : bool
        Whether `DistantOptimum` may be raised.

    Returns
    -------
    search : Search
    labels : array of int, shape (n,)
        Index of each climb's optimum, or -1.
    cut_off : array of bool, shape (n,)
        Which ends are not known because of a limit of the fit.

    Raises
    ------
    DistantOptimum
        If a climb has ended on the slope of an optimum many spreads of the starts away. It is not
        looked for without a gradient, nor under a symmetry.
    SymmetryBroken
        If an image of an end has another log density.
    """
    labels = climbs.peak.copy()
    rows = np.flatnonzero(labels < 0)
    labels[rows] = search.optima.nearest(density, climbs.x[rows], climbs.logp[rows])
    cut_off = climbs.cut_off.copy()
    labels[cut_off] = -1
    leader = np.arange(len(labels)) if climbs.leader is None else climbs.leader
    # The highest come first, so that an unfinished climb is compared with the optimum it nears.
    for i in np.argsort(-climbs.logp):
        if labels[i] >= 0 or cut_off[i] or leader[i] != i:
            continue
        x, logp = climbs.x[i : i + 1], climbs.logp[i : i + 1]
        labels[i] = search.optima.nearest(density, x, logp)[0]
        if labels[i] < 0:
            end = ClimbEnd(x[0], float(logp[0]), bool(climbs.converged[i]))
            try:
                end = _with_hessian(density, search, end, may_widen)
                search, labels[i] = identify(density, search, end, max_iter)
            except LimitReached:
                cut_off[i] = True
    return search, labels[leader], cut_off | cut_off[leader]


def _with_hessian(density: Density, search: Search, end: ClimbEnd, may_widen: bool) -> ClimbEnd:
    """Add the negative Hessian where it is known; by regression, where there is no gradient.

    `DistantOptimum` may be raised instead.
    """
    x, logp, spread = end.x, end.logp, search.spread
    if not density.has_gradient:
        fit = fit_quadratic(search.evaluated, x, logp, spread, density.unroll)
        good = fit is not None and fit.error <= HESSIAN_ERROR
        return replace(end, hessian=fit.hessian) if fit is not None and good else end
    # Under a symmetry another image of the point is looked at.
    if not (may_widen and end.converged and np.isfinite(logp)) or search.symmetry is not None:
        return end
    hessian = negative_hessian(density, x, spread)
    width = width_of_distant(density, x, logp, hessian, spread)
    if width is not None:
        raise DistantOptimum(width)
    return replace(end, hessian=hessian)


def _climb_away(
    density: Density, search: Search, start: np.ndarray, max_iter: int, depth: int
) -> tuple[Search, int]:
    """Climb from beside a saddle; returns the search and the index of the optimum, or -1."""
    climbs = climb(density, start[None], search.spread, max_iter=max_iter)
    if climbs.cut_off[0]:
        raise LimitReached
    known = search.optima.nearest(density, climbs.x, climbs.logp)[0]
    if known >= 0:
        return search, int(known)
    end = ClimbEnd(climbs.x[0], float(climbs.logp[0]), bool(climbs.converged[0]))
    return identify(density, search, end, max_iter, depth + 1)
