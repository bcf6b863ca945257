"""What the tests of the evidence share."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.evidence import begin_samples, extend_samples
from pymc_multimodal.proposals import EllipticalMixture
from pymc_multimodal.proposals.base import RegionFit


def elliptical(mean, df=np.inf, size=1.0):
    """Return a Gaussian or Student-t density on the plane."""
    line = np.full(2, np.inf)
    return EllipticalMixture(
        np.array([mean]), size * np.eye(2)[None], np.ones(1), np.array([df]), line, np.zeros(2),
        "gaussian",
    )  # fmt: skip


def regional(means, sizes):
    """One Student-t density for each region."""
    return RegionFit(
        tuple(elliptical(m, 6.0, s) for m, s in zip(np.asarray(means), sizes, strict=True))
    )


def begun(target, partition, fitted, counts, rng):
    """Return samples with ``counts[k]`` proposals of region k."""
    samples = begin_samples(fitted, target.dim)
    return extend_samples(samples, target, partition, np.array(counts), rng)
