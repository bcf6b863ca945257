"""Optima that lie many spreads of the starts away."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture, WideNormal, gaussian

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.search import ModeSearch, begin_search, find_modes
from pymc_multimodal.search.distant import width_of_distant
from pymc_multimodal.target.density import Density

# Standard deviations of the coordinates of a mode whose starts are one wide.
SD = np.array([0.5, 1e3, 1e8])
MEANS = np.array([[-3.0, -3.0, -3.0], [3.0, 3.0, 3.0]])


class Stretched:
    """Two normals of weights 0.4 and 0.6, ten standard deviations apart, in other units."""

    target = Mixture(MEANS, [np.eye(3)] * 2, [0.4, 0.6])

    def __call__(self, x):
        logp, grad = self.target(x / SD)
        return logp - np.log(SD).sum(), grad / SD


def search_of(function, rng, **settings):
    density = Density(function, 3, prior=WideNormal(3, 1.0))
    settings = ModeSearch(**settings)
    search = begin_search(density, settings, False, rng)
    return find_modes(density, search, settings, rng)


def test_starts_in_a_small_part_of_a_mode_lead_to_its_optimum(rng):
    """Before, climbs ended nats below the optima, each at a place of its own."""
    search = search_of(Stretched(), rng)
    summits = search.optima.summits(20.0)
    assert len(summits) == 2
    reached = search.optima.x[summits] / SD
    np.testing.assert_allclose(reached[np.argsort(reached[:, 0])], MEANS, atol=1e-3)


def test_units_are_then_those_of_the_modes(rng):
    search = search_of(Stretched(), rng)
    np.testing.assert_allclose(search.spread[1:], SD[1:], rtol=1e-3)
    np.testing.assert_array_equal(search.optima.spread, search.spread)
    # The starts are as wide as a mode in the first coordinate.
    assert 0.7 < search.spread[0] < 1.4


@pytest.mark.parametrize("seed", [1, 2])
def test_such_a_fit_is_right(seed):
    density = Density(Stretched(), 3, prior=WideNormal(3, 1.0))
    fit = fit_density(density, FitConfig(random_seed=seed, modes=ModeSearch(screening=0)))
    assert fit.n_modes == 2
    assert np.all(np.abs(fit.weights.weight - [0.6, 0.4]) < 4 * fit.weights.weight_se)
    assert not [s for s in fit.statuses if s.level == "warning"]


def width_at(target, x, hessian, spread):
    density = target if isinstance(target, Density) else target.density()
    x = np.array(x)
    logp = float(density.logp(x[None])[0])
    return width_of_distant(density, x, logp, np.asarray(hessian), np.array(spread))


def test_a_point_near_its_optimum_is_not_on_the_slope_of_a_distant_one():
    wide = gaussian(np.zeros(2), np.diag([1.0, 1e6]))
    hessian = np.diag([1.0, 1e-6])
    np.testing.assert_allclose(width_at(wide, [0.0, 3e3], hessian, [1.0, 1.0]), [1.0, 1e3])
    # Half a nat below the optimum; and starts that are as wide as the mode.
    assert width_at(wide, [0.0, 1e3], hessian, [1.0, 1.0]) is None
    assert width_at(wide, [0.0, 3e3], hessian, [1.0, 1e3]) is None


def test_a_slope_that_does_not_keep_its_promise_is_none():
    """Curvature by rounding errors, along a ridge that has none: Newton's step leads nowhere."""

    def ridge(x):
        slope = np.where(np.abs(x[:, 1]) < 1.0, 1e-6, 0.0)
        logp = -0.5 * x[:, 0] ** 2 + 1e-6 * np.clip(x[:, 1], -1.0, 1.0)
        return logp, np.stack([-x[:, 0], slope], axis=1)

    density = Density(ridge, 2)
    assert width_at(density, [0.0, 0.0], np.diag([1.0, 1e-13]), [1.0, 1.0]) is None
