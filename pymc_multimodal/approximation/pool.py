"""All samples of the rounds, as one sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.sample import WeightedSample, log_density_at

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import ModeMixture

__all__ = ["Pool"]

# Samples at most. Measured: examples/benchmarks/hard_kinds.py; with all samples half of the time of
# a fit of 26 modes in 12 dimensions goes into densities of old mixtures.
MAX_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples, and the mixture that each was drawn from.

    Attributes
    ----------
    samples : tuple of WeightedSample
        At most the last four: those of earlier mixtures, which described the modes worse, add
        next to nothing, and each mixture is evaluated at all draws.
    mixtures : tuple of ModeMixture
        Of the same modes.
    before : Pool or None
        The pool without the last sample.
    """

    samples: tuple[WeightedSample, ...]
    mixtures: tuple[ModeMixture, ...]
    before: Pool | None = None

    @classmethod
    def begun(cls, sample: WeightedSample, mixture: ModeMixture) -> Pool:
        """Return the pool of one sample."""
        return cls((sample,), (mixture,))

    def with_sample(self, sample: WeightedSample, mixture: ModeMixture) -> Pool:
        """Return the pool with one more sample."""
        samples, mixtures = (*self.samples, sample), (*self.mixtures, mixture)
        return Pool(samples[-MAX_SAMPLES:], mixtures[-MAX_SAMPLES:], self)

    @cached_property
    def log_q(self) -> np.ndarray:
        """Log density, at all draws, of the mixture of all mixtures by the sizes of their samples.

        It is computed when it is asked for: each density is then evaluated once at each draw.
        """
        sizes = np.array([len(s) for s in self.samples])
        logs = [np.concatenate(row) + np.log(share)
                for row, share in zip(self._logs, sizes / sizes.sum(), strict=True)]  # fmt: skip
        out: np.ndarray = np.logaddexp.reduce(logs, axis=0)
        return out

    @cached_property
    def _logs(self) -> list[list[np.ndarray]]:
        """Log densities of each mixture at each sample."""
        sample, mixture, before = self.samples[-1], self.mixtures[-1], self.before
        if before is None:
            return [[sample.log_q]]
        kept = len(self.samples) - 1
        rows = [row[len(row) - kept :] for row in before._logs[len(before._logs) - kept :]]
        rows = [[*row, log_density_at(q, sample.x)]
                for row, q in zip(rows, self.mixtures[:-1], strict=True)]  # fmt: skip
        own = [log_density_at(mixture, s.x) for s in self.samples[:-1]]
        return [*rows, [*own, sample.log_q]]

    def joint(self) -> WeightedSample:
        """Join the samples: draws of the mixture of all mixtures.

        Such ratios vary less than those of each sample (deterministic mixture; Owen and Zhou 2000,
        doi:10.1080/01621459.2000.10473909).
        """
        return WeightedSample(
            np.concatenate([s.x for s in self.samples]),
            np.concatenate([s.logp for s in self.samples]),
            self.log_q,
            np.concatenate([s.stratum for s in self.samples]),
            np.sum([s.counts for s in self.samples], axis=0),
        )
