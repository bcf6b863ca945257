"""What the tests of the evidence, of the challenge and of connected regions share."""

from __future__ import annotations

import numpy as np
from densities import Mixture
from scipy.stats import norm

from pymc_multimodal.evidence import begin_samples, extend_samples
from pymc_multimodal.proposals import EllipticalMixture
from pymc_multimodal.proposals.base import RegionFit


def elliptical(mean, df=np.inf, size=1.0):
    """Return a Gaussian or Student-t density on the plane."""
    line = np.full(2, np.inf)
    return EllipticalMixture.single(np.asarray(mean), size * np.eye(2), df, line, np.zeros(2))


def regional(means, sizes):
    """One Student-t density for each region."""
    return RegionFit(
        tuple(elliptical(m, 6.0, s) for m, s in zip(np.asarray(means), sizes, strict=True))
    )


def bridge_samples(target, partition, fitted, counts, rng):
    """Return samples with ``counts[k]`` proposals of region k."""
    samples = begin_samples(fitted, target.dim)
    return extend_samples(samples, target, partition, np.array(counts), rng)


# ------------------------------------------------------------------ a sliver that a border cuts off

# Region 0 holds 0.6, region 1 0.4, a thousandth of each beyond the border between.
PAIR = Mixture([[-3.0, 0.0], [3.0, 0.0]], [np.eye(2), np.eye(2)], [0.6, 0.4], log_z=1.0)
# What Gaussian modes are fitted by; the tails keep all the ratios bounded.
SHAPES = (elliptical(PAIR.means[0], 8.0), elliptical(PAIR.means[1], 8.0))


class Sliver:
    """Halves of the plane, but what lies above a height of the left one belongs to the right."""

    n_regions = 2
    statuses = ()

    def __init__(self, height):
        self.height = height

    def cut(self, x):
        return (x[:, 0] <= 0) & (x[:, 1] > self.height)

    def label(self, x):
        return ((x[:, 0] > 0) | self.cut(x)).astype(int)

    def without(self, x):
        """Labels as the chains see them: -1 in the sliver, where none of them goes."""
        return np.where(self.cut(x), -1, self.label(x))


def exact_masses(partition):
    """Exact masses of the two regions and of the sliver: products of normal probabilities."""
    left, above = norm.cdf(-PAIR.means[:, 0]), norm.sf(partition.height - PAIR.means[:, 1])
    sliver = PAIR.weights @ (left * above)
    second = PAIR.weights @ (1 - left) + sliver
    return np.array([1 - second, second]), sliver
