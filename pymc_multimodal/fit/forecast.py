"""What is known when the search for modes ends: the modes, and what the rest costs at least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.search import modes_of
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import State

__all__ = ["forecast", "preview"]

# Weights in the preview. Conventional.
MAX_WEIGHTS = 5
# Evaluations of chains in a region, with the default settings: exploration 1,000, chains 3,400,
# bridge 1,000; and of a challenge. Measured: the least over the targets of examples/pictures.py, of
# 1, 2, 6, 40 and 300 modes in 1 to 30 dimensions.
LEAST_OF_REGION, LEAST_OF_CHALLENGE = 5_400, 20_000
# Seconds below which a forecast is not worth a word. Conventional.
SHORT = 2.0


def preview(state: State, run: Run) -> str:
    """Say what the search has found: modes, with their weights by Laplace's approximation.

    The density is not evaluated. The text is empty if no climb has ended at a mode.
    """
    if not len(state.search.optima):
        return ""
    modes = modes_of(run.density, state.search, run.settings.modes)
    symmetry = state.search.symmetry
    n = len(modes)
    # What is counted once weighs as much as all of its images.
    cells = run.cells(state.search.optima, modes)
    log_mass = modes.log_mass + (0.0 if cells is None else np.log(cells.images))
    weight = np.exp(log_mass - logsumexp(log_mass))
    shown = ", ".join(f"{w:.2g}" for w in np.sort(weight)[::-1][:MAX_WEIGHTS])
    more = ", ..." if n > MAX_WEIGHTS else ""
    each = " (symmetric ones counted once)" if symmetry is not None else ""
    weights = f", with weights near {shown}{more} by Laplace's approximation" if n > 1 else ""
    climbs = counted(state.search.counts.starts, "climb")
    return (
        f"the search has found {counted(n, 'mode')}{each} by {climbs}{weights}. Further steps look "
        "for more modes, and weigh them"
    )


def forecast(state: State, run: Run) -> str:
    """Say what the fit costs at least if the first answer is not precise; empty if not known.

    A fit that ends with its first answer costs less. Chains that mix slowly, and regions that are
    hard to describe, cost more.
    """
    density, n = run.density, len(state.search.optima.summits(run.settings.modes.negligible))
    evaluations = density.n_logp_evals - density.n_values
    if not n or not evaluations or density.history is not None:
        return ""
    least = LEAST_OF_REGION * n + (LEAST_OF_CHALLENGE if run.settings.challenge else 0)
    seconds = least * (density.seconds - density.value_seconds) / evaluations
    if seconds < SHORT:
        return ""
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    least = round(least + run.evals, -3)
    return (
        f"{counted(n, 'region')}: at least {least:,} evaluations in all, the rest in {time}, "
        "if the first answer is not precise"
    )
