"""What the scripts on arXiv 2410.19449 share: densities of the gallery, errors of weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import numpy as np

from pymc_multimodal.gallery import GalleryTarget
from pymc_multimodal.model import build
from pymc_multimodal.target.density import Density

# Density evaluations of one training run in the paper: 4096 iterations of 1024 paths.
PUBLISHED_EVALS = 4096 * 1024
# What a fit costs and what is said of its errors are those of the fit alone; the challenge that
# follows by default adds a fifth, and 10,000 evaluations at least.
CHALLENGE = False


def density_of(target: GalleryTarget, gradient: bool = True) -> Density:
    """Density of a target: its model's, or, without a gradient, the function itself."""
    model = build.density_of(target.model)
    if gradient:
        return model
    return Density(
        lambda x: (target.log_density(x), None),
        target.dim,
        has_gradient=False,
        prior=model.prior_draws,
    )


def component_weights(target: GalleryTarget, fit, means: np.ndarray) -> np.ndarray:
    """Weights of a fit by component, shape (K,): those of the regions that means lie in.

    Components that share a region share its weight as their true weights do; a component whose
    mean lies in no region that has weight is forgotten.
    """
    region = fit.label(means)
    together = np.zeros(fit.n_modes)
    np.add.at(together, region, target.weights)
    return fit.weights.weight[region] * target.weights / together[region]


def options(
    description: str, script: str, seeds: int, flags: tuple[tuple[str, str], ...] = ()
) -> argparse.Namespace:
    """Command line of a script with several seeds: --quick, --seeds, --out and flags of its own."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"{seeds} by default")
    parser.add_argument("--out", type=Path, help="JSON lines to write to, and to take up again")
    for flag, meaning in flags:
        parser.add_argument(flag, action="store_true", help=meaning)
    found = parser.parse_args()
    found.stem = Path(script).stem + ("_quick" if found.quick else "")
    found.seeds = 1 if found.quick else found.seeds
    found.out = found.out or common.OUTPUT / f"{found.stem}.jsonl"
    return found


def warnings_of(fit) -> str:
    """Codes of a fit's warnings, for one cell of a table."""
    return ", ".join(sorted({s.code for s in fit.statuses if s.level == "warning"}))
