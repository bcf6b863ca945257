"""What is derived from the state of a fit."""

import numpy as np
import pytest
from densities import Mixture, exact_local

from pymc_multimodal.fit.state import Division
from pymc_multimodal.proposals import RegionalFamilies, hidden_modes
from pymc_multimodal.search import Modes
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.group import Symmetry
from pymc_multimodal.target.target import Target

D, SHARE, WIDTH = 10, 0.2, 0.1
# Reflections of two blocks of coordinates: four images of each mode.
FOUR = Symmetry((np.diag(np.repeat([-1.0, 1.0], D // 2)), -np.eye(D)))
CENTRE = np.full(D, 8.0)


def spikes_in_slabs():
    """Four standard normals, each with a spike at its centre that holds a fifth of the mass."""
    means = np.repeat(FOUR.elements @ CENTRE, 2, axis=0)
    covariances = [WIDTH**2 * np.eye(D), np.eye(D)] * 4
    return Mixture(means, covariances, np.tile([SHARE, 1.0 - SHARE], 4) / 4)


def one_division(cells, modes):
    return Division(cells, modes, modes, np.zeros(1, dtype=int), None, None)


def test_modes_of_a_folded_density_count_their_images(rng):
    """A spike that no draw has met is known by its mass, whatever the number of images."""
    target = spikes_in_slabs()
    scale = WIDTH * np.eye(D)[None]
    modes = Modes.described(CENTRE[None], target(CENTRE[None])[0], scale)
    cells = Cells(FOUR, CENTRE[None], np.eye(D)[None])
    folded, division = Target(target.density(), cells), one_division(cells, modes)
    assert cells.images.tolist() == [4]
    np.testing.assert_allclose(division.folded_modes.log_density, folded.logp(CENTRE[None]))
    # Draws of the slab alone, as of chains that went around the spike.
    slab = Mixture(CENTRE[None], [np.eye(D)], [1.0])
    draws = exact_local(slab, lambda x: np.zeros(len(x), int), 1, rng)
    logp = tuple(folded.logp(x.reshape(-1, D)).reshape(x.shape[:2]) for x in draws.x)
    draws = type(draws)(draws.x, logp, draws.grad, draws.centre, draws.ess)
    fit = RegionalFamilies().without_network().fit_regions(draws, np.full(D, np.inf), rng)
    [mode] = hidden_modes(fit.densities, draws, division.folded_modes, division.region_of_mode)
    assert mode.share == pytest.approx(SHARE / (1.0 - SHARE), rel=0.1)


def test_without_cells_modes_have_the_density_itself():
    target = spikes_in_slabs()
    modes = Modes.described(CENTRE[None], target(CENTRE[None])[0], np.eye(D)[None])
    assert one_division(None, modes).folded_modes is modes
