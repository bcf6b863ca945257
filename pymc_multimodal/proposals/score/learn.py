"""Everything that is learned from draws: mixture, score, clusters, step size and stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._compat import ess
from pymc_multimodal.proposals.score.clusters import (
    analyse_clusters,
    cluster_covariance,
    cluster_labels,
)
from pymc_multimodal.proposals.score.components import fit_components, whiten_components
from pymc_multimodal.proposals.score.diagnostics import bound_statuses, run_statuses
from pymc_multimodal.proposals.score.generator import ScoreGenerator
from pymc_multimodal.proposals.score.langevin import largest_curvature, run_langevin
from pymc_multimodal.proposals.score.score_function import ExactScore, LearnedScore
from pymc_multimodal.proposals.score.trial_run import RunStarts, observe_run
from pymc_multimodal.status import FitError, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.proposals.mixture import GaussianMixture
    from pymc_multimodal.proposals.score.clusters import ClusterAnalysis
    from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
    from pymc_multimodal.proposals.score.langevin import Score
    from pymc_multimodal.proposals.score.settings import ScoreSettings
    from pymc_multimodal.proposals.score.stored import StoredDraws
    from pymc_multimodal.proposals.score.trial_run import TrialRun

__all__ = ["LearningData", "learn_score"]

# Draws of a trial run at most and at least, and numbers that the factors of their preconditioners
# may take (160 MB): in many dimensions there are fewer draws. Conventional.
MAX_TRIAL_DRAWS, MIN_TRIAL_DRAWS, MAX_FACTOR_NUMBERS = 1000, 100, 2e7
# Draws at which the score's curvature is estimated. Measured: examples/benchmarks/constants.py.
CURVATURE_DRAWS = 300
# Times after the start at which a trial run is compared with held-out draws. Measured:
# examples/benchmarks/constants.py.
TRIAL_LOOKS = 12
# Longest trial, in relaxation times of a Gaussian mode and in steps. A Gaussian mode forgets its
# start within 3 relaxation times: exp(-3) = 0.05. Measured: examples/papers/score_shapes.py, where
# rings take all 1,000 steps.
MAX_TRIAL_TIME, MAX_TRIAL_STEPS = 30.0, 1000
# Step size times curvature: of a step that is chosen, of one that has a status, and of one that
# diverges. The last is exact (a linear recursion z -> (1 - h c) z is stable below 2), the second is
# where steps overshoot the mode. The first: measured, examples/benchmarks/constants.py.
CHOSEN_STABILITY, MAX_STABILITY, UNSTABLE = 0.4, 1.0, 2.0
# Fewest steps of a run whose step is chosen. Conventional.
MIN_RUN_STEPS = 2
# Generated draws that are compared with the bounds of the stored ones. Conventional.
MAX_BOUND_DRAWS = 500


@dataclass(frozen=True)
class LearningData:
    """Draws to learn from, and what is known besides.

    Attributes
    ----------
    stored : StoredDraws
    held_out : bool array of shape (n,)
        Rows to judge by.
    mixture : GaussianMixture, optional
        A mixture of the draws, in their coordinates; by default one is fitted.
    gradient : array of shape (n, d), optional
        Gradients of the log density at the draws, for ``objective="exact"``.
    score : callable, optional
        The exact score, ``(n, d) -> (n, d)``; by default it is learned.
    previous : ScoreGenerator, optional
        What was learned from similar draws.
    """

    stored: StoredDraws
    held_out: np.ndarray
    mixture: GaussianMixture | None = None
    gradient: np.ndarray | None = None
    score: Callable[[np.ndarray], np.ndarray] | None = None
    previous: ScoreGenerator | None = None


def learn_score(
    settings: ScoreSettings, data: LearningData, rng: np.random.Generator
) -> ScoreGenerator:
    """Learn mixture, score and clusters from draws, and choose step size and stop.

    Parameters
    ----------
    settings : ScoreSettings
    data : LearningData
    rng : numpy.random.Generator

    Returns
    -------
    ScoreGenerator

    Raises
    ------
    FitError
        If a step size that was given makes the run diverge.
    """
    found = _learn_function(settings, data, rng)
    stored, learned, coordinates = data.stored, found.learned, found.coordinates
    mixture = learned.mixture
    clusters = analyse_clusters(mixture, rng, settings.min_overlap)
    clusters = _with_stored_weights(clusters, mixture, coordinates, stored)
    factors = np.stack(
        [
            np.linalg.cholesky(cluster_covariance(mixture, clusters.cluster == c))
            for c in range(len(clusters))
        ]
    )
    score: LearnedScore | ExactScore = learned
    objective = float(np.mean(learned.objective(found.held_out)))
    if data.score is not None:
        score, objective = ExactScore(data.score, coordinates), np.nan

    def label(points: np.ndarray) -> np.ndarray:
        return cluster_labels(clusters, mixture, points)

    starts = _trial_starts(found.train, factors, label, rng)
    trial, step, step_statuses = _trial(settings, score, starts, found.held_out, label, rng)
    generator = ScoreGenerator(
        config=settings,
        stored=stored,
        coordinates=coordinates,
        learned=score,
        mixture=mixture,
        factors=factors,
        clusters=clusters,
        trial=trial,
        step_size=step,
        objective=objective,
        statuses=(*stored.statuses, *found.statuses, *step_statuses),
    )
    generated = generator.generate(min(MAX_BOUND_DRAWS, len(stored.x)), rng.spawn(1)[0])
    statuses = (*run_statuses(trial, clusters), *bound_statuses(stored, generated))
    return replace(generator, statuses=(*generator.statuses, *statuses))


@dataclass(frozen=True)
class _LearnedFunction:
    """A learned score with its coordinates, and the draws in them."""

    learned: LearnedScore
    coordinates: AffineCoordinates
    train: np.ndarray
    held_out: np.ndarray
    statuses: tuple[Status, ...]


def _learn_function(
    settings: ScoreSettings, data: LearningData, rng: np.random.Generator
) -> _LearnedFunction:
    """Learn the mixture, and the network where no score is given."""
    train, held_out = data.stored.x[~data.held_out], data.stored.x[data.held_out]
    statuses: list[Status] = []
    if data.mixture is None:
        coordinates, mixture, statuses = fit_components(
            train, held_out, settings.max_components, rng
        )
    else:
        coordinates, mixture = whiten_components(train, data.mixture)
    z, held_out_z = coordinates.to_z(train), coordinates.to_z(held_out)
    learned, found = _choose_start(LearnedScore(mixture), coordinates, held_out_z, data.previous)
    statuses += found
    if data.score is None:
        gradient = data.gradient
        if gradient is not None:
            gradient = gradient[~data.held_out] @ coordinates.basis
        learned, found = _train(settings, learned, z, held_out_z, gradient, rng)
        statuses += found
    return _LearnedFunction(learned, coordinates, z, held_out_z, tuple(statuses))


def _choose_start(
    new: LearnedScore,
    coordinates: AffineCoordinates,
    held_out: np.ndarray,
    previous: ScoreGenerator | None,
) -> tuple[LearnedScore, list[Status]]:
    """Choose the new mixture or what was learned before, whichever held-out draws prefer."""
    if previous is None:
        return new, []
    old, before = previous.learned, previous.coordinates
    if not isinstance(old, LearnedScore) or before.basis.shape != coordinates.basis.shape:
        status = Status(
            "previous", "proposals", "previous= was not used: it has other coordinates, or no "
            "learned score.", "", level="info",
        )  # fmt: skip
        return new, [status]
    # The previous score at the same points x, and the same score moved and scaled with the draws.
    mean = before.inverse @ (coordinates.centre - before.centre)
    same_points = old.moved(mean, before.inverse @ coordinates.basis)
    candidates = {"a new mixture": new, "the previous score": same_points,
                  "the previous shape": old}  # fmt: skip
    values = {name: float(np.mean(c.objective(held_out))) for name, c in candidates.items()}
    best = min(values, key=values.__getitem__)
    status = Status(
        "previous", "proposals", f"held-out draws preferred {best} as the start.", level="info"
    )
    return candidates[best], [status]


def _train(
    settings: ScoreSettings,
    start: LearnedScore,
    z: np.ndarray,
    held_out: np.ndarray,
    gradient: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[LearnedScore, list[Status]]:
    """Add a network to a score, if there is anything to train it by."""
    if settings.objective == "exact" and gradient is None:
        status = Status(
            "score", "proposals", "objective='exact' needs gradients, which this model does not "
            "have: the score is that of a Gaussian mixture alone.",
            "Use objective='implicit' or 'denoising'.",
        )  # fmt: skip
        return start, [status]
    if not settings.training_steps:
        return start, []
    if find_spec("torch") is None:
        status = Status(
            "no_torch", "proposals", "torch is not installed: the score is that of a Gaussian "
            "mixture alone.", "Install torch.",
        )  # fmt: skip
        return start, [status]
    # Only here: torch takes a second to import.
    from pymc_multimodal.proposals.score.score_training import train_score

    return train_score(start, z, held_out, settings, rng, gradient), []


def _with_stored_weights(
    clusters: ClusterAnalysis,
    mixture: GaussianMixture,
    coordinates: AffineCoordinates,
    stored: StoredDraws,
) -> ClusterAnalysis:
    """Replace the weights and locations of the mixture by those of the stored draws."""
    label = cluster_labels(clusters, mixture, coordinates.to_z(stored.x))
    n, n_clusters = len(label), len(clusters)
    weights = np.bincount(label, minlength=n_clusters) / n
    effective = np.full(n_clusters, float(n))
    if stored.chains:
        inside = (label[:, None] == np.arange(n_clusters)).astype(float)
        known = ess(inside.reshape(stored.chains, -1, n_clusters), method="mean")
        effective = np.where(np.isfinite(known), np.minimum(known, n), n)
    locations = np.stack(
        [
            stored.x[label == c].mean(axis=0)
            if (label == c).any()
            else coordinates.to_x(location[None])[0]
            for c, location in enumerate(clusters.locations)
        ]
    )
    error = np.sqrt(weights * (1 - weights) / effective)
    return replace(clusters, weights=weights, weights_se=error, locations=locations)


def _trial_starts(
    z: np.ndarray,
    factors: np.ndarray,
    label: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> RunStarts:
    """Choose training draws at random for a trial run."""
    affordable = min(MAX_TRIAL_DRAWS, int(MAX_FACTOR_NUMBERS / z.shape[1] ** 2))
    some = z[rng.permutation(len(z))[: max(MIN_TRIAL_DRAWS, affordable)]]
    cluster = label(some)
    return RunStarts(some, factors[cluster], cluster)


def _trial(
    settings: ScoreSettings,
    score: Score,
    starts: RunStarts,
    held_out: np.ndarray,
    label: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[TrialRun, float, list[Status]]:
    """Choose the step size and the stop by a trial run."""
    some = slice(CURVATURE_DRAWS)
    curvature = largest_curvature(score, starts.z[some], starts.factors[some], rng)
    step, statuses = _step_size(settings.step_size, curvature)
    if settings.stop_time is None:
        last = max(MIN_RUN_STEPS, round(min(MAX_TRIAL_TIME, MAX_TRIAL_STEPS * step) / step))
    elif settings.step_size is None:
        # A step that was chosen is shortened, so that the steps end at the time asked for.
        last = max(MIN_RUN_STEPS, int(np.ceil(settings.stop_time / step - 1e-9)))
        step = settings.stop_time / last
    else:
        last = max(1, round(settings.stop_time / step))
    marks = [0, *np.unique(np.geomspace(1, last, TRIAL_LOOKS).round().astype(int))]
    states = run_langevin(
        score, starts.z, starts.factors, step, marks, rng,
        averaged=settings.integrator == "averaged",
    )  # fmt: skip
    trial = observe_run(
        states, step * np.array(marks, dtype=float), starts, held_out, label, rng,
        None if settings.stop_time is None else step * last,
    )  # fmt: skip
    if len(trial.time) < len(marks):
        raise FitError(
            f"The Langevin run with step_size={step:.3g} moved away from the draws at time "
            f"{trial.time[-1]:.3g} and did not return. Use a smaller step_size, or more draws."
        )
    return trial, float(step), statuses


def _step_size(given: float | None, curvature: float) -> tuple[float, list[Status]]:
    """Choose a step size by the score's curvature, or judge the given one."""
    step = given or min(CHOSEN_STABILITY, CHOSEN_STABILITY / curvature)
    if step * curvature <= MAX_STABILITY:
        return step, []
    cause = (
        f"step_size={step:.3g} is too large: the score's curvature is {curvature:.3g}, and "
        f"steps from {UNSTABLE / curvature:.3g} on diverge."
    )
    remedy = f"Use {CHOSEN_STABILITY / curvature:.2g} or less, or leave it to be chosen."
    if step * curvature > UNSTABLE:
        raise FitError(f"{cause} {remedy}")
    return step, [Status("step_size", "proposals", cause, remedy)]
