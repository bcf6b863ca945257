"""Functions of points that give more than the log density: a simulator's outputs, or terms."""

from __future__ import annotations

import logging

import numpy as np

from pymc_multimodal.target.protocol import OutputModel, TermModel

__all__ = ["SplitFunction", "TermFunction", "same_outputs"]

_log = logging.getLogger("pymc.multimodal")

# Relative difference up to which outputs of a simulator are the same. Conventional: half of the
# digits.
SAME = 1e-8


class SplitFunction:
    """A function of points that returns the log density, and the outputs of its simulator.

    Parameters
    ----------
    model : OutputModel
    """

    def __init__(self, model: OutputModel) -> None:
        self.model = model

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate rows of shape (n, d): log densities (n,) and outputs (n, m)."""
        outputs = self.model.outputs(x)
        logp = np.full(len(x), np.nan)
        fine = np.isfinite(outputs).all(axis=1)
        if fine.any():
            logp[fine] = self.model.log_density(x[fine], outputs[fine])
        return logp, outputs


def same_outputs(now: np.ndarray, then: np.ndarray) -> bool:
    """Tell whether the outputs of a simulator at a point, arrays (m,), are equal but for rounding.

    Those of the compiled model may be rounded otherwise in another process.
    """
    return now.shape == then.shape and np.allclose(now, then, rtol=SAME, atol=0.0, equal_nan=True)


class TermFunction:
    """A function of points that returns the log density, and its terms.

    Parameters
    ----------
    model : TermModel
    """

    def __init__(self, model: TermModel) -> None:
        self.model = model

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate rows of shape (n, d): log densities (n,) and terms (n, T).

        Where the model raises, the log density is NaN and all terms are -inf.
        """
        try:
            terms = self.model(x)
            return terms.sum(axis=1), terms
        except (Exception, SystemExit):
            _log.debug("The terms of the log density raised.", exc_info=True)
        if len(x) == 1:
            return np.array([np.nan]), np.full((1, len(self.model.depends)), -np.inf)
        rows = [self(row[None]) for row in x]
        return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
