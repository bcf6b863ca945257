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


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples, and the mixture that each was drawn from.

    Attributes
    ----------
    samples : tuple of WeightedSample
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
        return Pool((*self.samples, sample), (*self.mixtures, mixture), self)

    @cached_property
    def log_q(self) -> np.ndarray:
        """Log density, at all draws, of the mixture of all mixtures by the sizes of their samples.

        It is computed when it is asked for: each density is then evaluated once at each draw.
        """
        sample, before = self.samples[-1], self.before
        if before is None:
            return sample.log_q
        n = len(before.log_q)
        share = n / (n + len(sample))
        earlier = np.concatenate([before.log_q, before._log_density(sample.x)])
        x = np.concatenate([s.x for s in before.samples])
        own = np.concatenate([log_density_at(self.mixtures[-1], x), sample.log_q])
        out: np.ndarray = np.logaddexp(earlier + np.log(share), own + np.log1p(-share))
        return out

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

    def _log_density(self, x: np.ndarray) -> np.ndarray:
        sizes = np.array([len(s) for s in self.samples])
        logs = [log_density_at(q, x) + np.log(share)
                for q, share in zip(self.mixtures, sizes / sizes.sum(), strict=True)]  # fmt: skip
        out: np.ndarray = np.logaddexp.reduce(logs, axis=0)
        return out
