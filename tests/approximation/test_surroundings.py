"""A wide mode below a narrow one is seen by a few draws of all widths between modes and starts."""

import numpy as np
from densities import Mixture, VonMises
from searches import settled_search

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.approximation.sample import draw_sample
from pymc_multimodal.approximation.surroundings import with_surroundings
from pymc_multimodal.search import ModeSearch, modes_of

SLAB = np.eye(20)
# A spike that holds 0.6 of the mass and a slab ten times as wide at the same place; starts are
# thirty times as wide as the slab.
SPIKE = Mixture(np.zeros((2, 20)), [1e-2 * SLAB, SLAB], [0.6, 0.4])


def mixtures(target, rng):
    """The mixture of Laplace's approximations, without and with densities between."""
    density, settings = target.density(), ModeSearch(starts=64)
    search = settled_search(density, settings, rng)
    modes = modes_of(density, search, settings)
    plain = first_mixture(modes, modes.log_mass, search.distribution, density.period)
    return density, plain, with_surroundings(plain, modes, modes.log_mass, search.distribution)


def largest_ratio(density, mixture, rng):
    counts = np.ceil(2000 * mixture.shares).astype(int)
    ratio = draw_sample(density, mixture, counts, rng).ratio
    return ratio.max() / ratio.mean()


def test_a_wide_mode_below_a_narrow_one_speaks_against_a_mixture(rng):
    density, plain, wider = mixtures(SPIKE, rng)
    assert wider.n_modes == plain.n_modes == 1
    assert largest_ratio(density, wider, rng) > 20


def test_the_mixture_stays_normalised(rng):
    _, plain, wider = mixtures(SPIKE, rng)
    assert len(wider.densities[-1].df) > len(plain.densities[-1].df)
    np.testing.assert_allclose(wider.shares.sum(), 1.0)
    np.testing.assert_allclose(wider.densities[-1].weights.sum(), 1.0)
    # The mean of plain / wider under draws of the wider one is the integral of the plain one.
    x = wider.sample(50_000, rng)
    ratio = np.exp(plain.log_density(x) - wider.log_density(x))
    assert ratio.max() < 1.1
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / np.sqrt(len(x))


def test_densities_on_a_circle_are_inside_of_its_window(rng):
    _, plain, wider = mixtures(VonMises([np.pi, 0.3], [200.0, 100.0], [0.6, 0.4]), rng)
    wide = wider.densities[-1]
    assert len(wide.df) > len(plain.densities[-1].df)
    assert np.all(np.abs(wide.means - wide.centre) <= wide.period / 2)


def test_a_mode_as_wide_as_the_starts_has_no_surroundings(rng):
    _, plain, wider = mixtures(Mixture(np.zeros((1, 3)), [np.eye(3)], [1.0]), rng)
    assert (wider is plain) == (len(wider.densities[-1].df) == len(plain.densities[-1].df))
