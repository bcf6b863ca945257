"""What the user has to know of generated draws: statuses of the run, and a report in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import Status, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.score.clusters import ClusterAnalysis
    from pymc_multimodal.proposals.score.stored import StoredDraws
    from pymc_multimodal.proposals.score.trial_run import TrialRun

__all__ = ["bound_statuses", "describe_run", "run_statuses"]

# The level at which the run can be told from held-out draws. Conventional.
SHAPE_LEVEL = 0.01
# Correlation with the start, and distance to the nearest stored draw relative to fresh draws',
# beyond which the points of a run are copies of their starts; and the same distance beyond which
# the shape is smeared. Measured: examples/benchmarks/constants.py.
MAX_START_CORRELATION, MIN_NEAREST_RATIO, MAX_NEAREST_RATIO = 0.15, 0.7, 1.4


def run_statuses(trial: TrialRun, clusters: ClusterAnalysis) -> list[Status]:
    """Statuses of what the trial run showed at its stop."""
    found = []
    if (p_value := trial.at_stop(trial.p_value)) < SHAPE_LEVEL:
        found.append(
            Status("shape", "proposals",
                   f"the run can be told from held-out draws at its stop (p = {p_value:.3f}): the "
                   "learned score is not good enough.", "Store more draws.")
        )  # fmt: skip
    correlation = trial.at_stop(trial.start_correlation)
    nearest = trial.at_stop(trial.nearest_ratio)
    if nearest > MAX_NEAREST_RATIO:
        found.append(
            Status("smeared", "proposals",
                   f"points of the run are {nearest:.1f} times as far from the nearest stored "
                   "draw as fresh draws are: thin shapes, or many modes, are smeared.",
                   "Raise max_components, or store more draws.")
        )  # fmt: skip
    if correlation > MAX_START_CORRELATION or nearest < MIN_NEAREST_RATIO:
        found.append(
            Status("copies", "proposals",
                   f"the run stops at {trial.stop_time:.3g} before it forgot its start "
                   f"(correlation {correlation:.2f}, distance to the nearest stored draw "
                   f"{nearest:.2f} of a fresh one's): generated draws say little more than the "
                   "stored ones.",
                   "Leave stop_time to be chosen, or store more draws, so that a longer run keeps "
                   "the shape.")
        )  # fmt: skip
    if len(clusters) == 1:
        found.append(
            Status("one_cluster", "proposals",
                   "all draws lie in one cluster: whether there are modes that no draw came "
                   "from cannot be known from them.", "", level="info")
        )  # fmt: skip
    elif "mixes" in clusters.pair_mixing(trial.stop_time).values():
        found.append(
            Status("mixing", "proposals",
                   "some clusters mix within the run: their shares are those of the learned "
                   "score.", "See clusters.describe(time).", level="info")
        )  # fmt: skip
    return found


def bound_statuses(stored: StoredDraws, generated: np.ndarray) -> list[Status]:
    """Statuses of variables whose stored draws keep a bound that generated draws pass.

    Parameters
    ----------
    stored : StoredDraws
    generated : array of shape (n, d)
    """
    found = []
    for name, columns in stored.columns:
        old, new = stored.x[:, columns], generated[:, columns]
        if name in stored.transforms or not old.size or not np.all(old > 0):
            continue
        below_one = bool(np.all(old < 1))
        outside = np.mean((new <= 0) | (new >= 1) if below_one else new <= 0)
        if outside:
            kind = "logit" if below_one else "log"
            found.append(
                Status("bounds", "proposals",
                       f"{outside:.1%} of the generated values of {name} lie beyond a bound "
                       "that its draws keep.", f"Give transforms={{{name!r}: {kind!r}}}.")
            )  # fmt: skip
    return found


def describe_run(
    stored: StoredDraws,
    clusters: ClusterAnalysis,
    trial: TrialRun,
    step_size: float,
    warnings: Sequence[str],
) -> str:
    """Say in words what is and what is not guaranteed of generated draws."""
    n, d = stored.x.shape
    weights = ", ".join(
        f"{w:.3f}±{e:.3f}" for w, e in zip(clusters.weights, clusters.weights_se, strict=True)
    )
    bounds = ", ".join(f"{b:.3g}" for b in clusters.log_sobolev)
    apart = clusters.cluster[:, None] != clusters.cluster
    largest_overlap = float(clusters.overlap[apart].max()) if apart.any() else 0.0
    lines = [
        f"{counted(n, 'stored draw')} of {counted(d, 'coordinate')}; "
        f"{counted(len(clusters), 'cluster')} of {counted(len(clusters.cluster), 'component')}.",
        f"Run: {counted(round(trial.stop_time / step_size), 'step')} of {step_size:.3g}, to time "
        f"{trial.stop_time:.3g}, from the draws themselves.",
        "",
        "Guaranteed: nothing beyond the stored draws. No density corrects these draws.",
        f"- The weights are those of the stored draws, {weights} (sampling error).",
        "- A mode that no stored draw came from is not generated, and not known of.",
        "",
        "Measured on held-out draws:",
        f"- energy distance {trial.at_stop(trial.energy_distance):.2g}, two-sample test "
        f"p = {trial.at_stop(trial.p_value):.2f};",
        f"- correlation with the start {trial.at_stop(trial.start_correlation):.3f}, distance to "
        f"the nearest stored draw {trial.at_stop(trial.nearest_ratio):.2f} of that of fresh draws;",
        f"- {trial.at_stop(trial.crossed):.1%} of the points ended in another cluster than they "
        "started in.",
        "",
        "By theory, as far as the fitted components are right (arXiv 2310.01762, Theorem 2):",
        f"- log-Sobolev constant of each cluster at most {bounds}; of the whole at most "
        f"{clusters.log_sobolev_all:.3g}.",
        f"- largest overlap between clusters {largest_overlap:.2g}.",
        *[f"- {line}" for line in clusters.describe(trial.stop_time).splitlines()],
    ]
    if warnings:
        lines += ["", "Warnings:", *[f"- {warning}" for warning in warnings]]
    return "\n".join(lines)
