"""All samples of the rounds, as one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.sample import WeightedSample

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import ModeMixture

__all__ = ["Pool"]


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples, and the mixture that each was drawn from.

    Attributes
    ----------
    samples : tuple of WeightedSample
    mixtures : tuple of ModeMixture
        Of the same modes.
    """

    samples: tuple[WeightedSample, ...]
    mixtures: tuple[ModeMixture, ...]

    def with_sample(self, sample: WeightedSample, mixture: ModeMixture) -> Pool:
        """Return the pool with one more sample."""
        return Pool((*self.samples, sample), (*self.mixtures, mixture))

    def joint(self) -> WeightedSample:
        """Join the samples: draws of the mixture of all mixtures, by their sizes.

        Such ratios vary less than those of each sample (deterministic mixture; Owen and Zhou 2000,
        doi:10.1080/01621459.2000.10473909).
        """
        if len(self.samples) == 1:
            return self.samples[0]
        x = np.concatenate([s.x for s in self.samples])
        sizes = np.array([len(s) for s in self.samples])
        inside = np.isfinite(x).all(axis=1)
        log_q = np.full(len(x), -np.inf)
        log_q[inside] = np.logaddexp.reduce([
            q.log_density(x[inside]) + np.log(share)
            for q, share in zip(self.mixtures, sizes / sizes.sum(), strict=True)
        ])  # fmt: skip
        return WeightedSample(
            x,
            np.concatenate([s.logp for s in self.samples]),
            log_q,
            np.concatenate([s.stratum for s in self.samples]),
            np.sum([s.counts for s in self.samples], axis=0),
        )
