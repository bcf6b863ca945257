"""Climbs by COBYQA: they end at summits, side by side, and lose no point that was evaluated."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from densities import Banana, Mixture, StudentT, WithoutGradient, gaussian, two_modes
from engines import Here
from searches import match, modes_found

from pymc_multimodal.search import OptimumSet
from pymc_multimodal.search.quadratic import Evaluated
from pymc_multimodal.search.trust_region import climb_by_trust_region
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits


def climbs_of(density, starts, optima=None, known=None, spread=3.0, **options):
    optima = OptimumSet.empty(np.full(density.dim, spread)) if optima is None else optima
    known = Evaluated.nothing(density.dim) if known is None else known
    return climb_by_trust_region(density, starts, optima, known, **options)


def with_optima(target, spread=3.0):
    """The optima of a mixture of normals far apart."""
    optima = OptimumSet.empty(np.full(target.dim, spread))
    for mean, cov in zip(target.means, target.covariances, strict=True):
        optima = optima.add(mean, float(target.logp(mean[None])[0]), np.linalg.inv(cov))
    return optima


class Recorded:
    """A density without gradient that keeps the points it is asked for."""

    def __init__(self, target):
        self.target, self.points = target, []

    def __call__(self, x):
        self.points += list(x)
        return self.target(x)[0], None


def recorded(target):
    function = Recorded(target)
    return Density(function, target.dim, has_gradient=False), function


@pytest.mark.parametrize("width", [1.0, 1e-3])
def test_climbs_end_at_the_summit_however_narrow_it_is(width, rng):
    mean = np.array([1.0, -2.0, 3.0])
    target = gaussian(mean, width**2 * np.diag([0.5, 1.0, 2.0]))
    climbs = climbs_of(target.density(gradient=False), 5.0 * rng.standard_normal((5, 3)))
    assert climbs.converged.all()
    finished = climbs.leader == np.arange(5)
    assert finished.any()
    np.testing.assert_allclose(climbs.x[finished], np.tile(mean, (finished.sum(), 1)), atol=width)
    assert (target.logp(mean[None]) - climbs.logp[finished] < 0.01).all()


def test_heavy_tails_do_not_mislead_climbs(rng):
    climbs = climbs_of(StudentT(4, 3.0).density(gradient=False), 5 * rng.standard_normal((6, 4)))
    assert (climbs.logp[climbs.leader] > StudentT(4, 3.0).logp(np.zeros((1, 4))) - 0.1).all()


def test_every_point_is_kept_once(rng):
    density, function = recorded(two_modes(3))
    starts = density_starts(rng, 8, 3)
    climbs = climbs_of(density, starts)
    assert len(climbs.evaluated) == density.n_logp_evals == len(function.points)
    np.testing.assert_array_equal(climbs.evaluated.x, function.points)
    np.testing.assert_array_equal(climbs.evaluated.logp, two_modes(3).logp(climbs.evaluated.x))
    # The paths are some of these points, each higher than the last.
    for i in range(8):
        assert np.all(np.diff(two_modes(3).logp(climbs.path[climbs.path_row == i])) > 0)


def density_starts(rng, n, d):
    return 5.0 * rng.standard_normal((n, d))


def test_points_that_are_known_are_not_evaluated_again(rng):
    target, starts = two_modes(3), density_starts(rng, 6, 3)
    first = climbs_of(target.density(gradient=False), starts)
    density = target.density(gradient=False)
    climbs_of(density, starts, known=Evaluated(starts, target.logp(starts)))
    assert density.n_logp_evals == len(first.evaluated) - 6


def test_a_climb_ends_where_a_known_optimum_describes_it(rng):
    target = two_modes(4)
    starts = target.draws(20, rng)
    density = target.density(gradient=False)
    climbs = climbs_of(density, starts, with_optima(target))
    np.testing.assert_array_equal(climbs.peak, target.component(starts))
    # No more than the points of the first quadratic models.
    assert density.n_logp_evals <= 20 * (2 * 4 + 1)


def test_a_climb_does_not_end_at_an_optimum_that_is_not_there(rng):
    """Near the place of a known optimum the density has another one, which is higher."""
    target = Mixture([[0.0, 0.0], [1.0, 1.0]], [np.eye(2), 0.05 * np.eye(2)], [0.5, 0.5])
    optima = OptimumSet.empty(np.full(2, 3.0)).add(
        np.zeros(2), float(gaussian(np.zeros(2), np.eye(2)).logp(np.zeros((1, 2)))[0]), np.eye(2)
    )
    climbs = climbs_of(target.density(gradient=False), np.full((1, 2), 0.9), optima)
    assert climbs.peak[0] == -1
    np.testing.assert_allclose(climbs.x[0], [1.0, 1.0], atol=0.1)


def test_climbs_are_the_same_for_any_number_of_workers(rng):
    target, starts = two_modes(3), density_starts(rng, 10, 3)
    found = []
    for workers in (1, Here(), Here(7)):
        density = target.density(gradient=False, workers=workers)
        found.append(climbs_of(density, starts))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].evaluated.x, other.evaluated.x)
        np.testing.assert_array_equal(found[0].x, other.x)
        np.testing.assert_array_equal(found[0].leader, other.leader)


class Batches(Density):
    """A density that keeps the sizes of its batches."""

    def __init__(self, target):
        self.sizes = []
        super().__init__(WithoutGradient(target), target.dim, has_gradient=False)

    def logp(self, x, *, chunk=None):
        self.sizes.append(len(x))
        return super().logp(x, chunk=chunk)


def test_points_that_a_dear_climb_will_ask_for_are_evaluated_together(rng):
    """The first models of d + 1 and of 2 d + 1 points take two batches, and the same points."""
    target, d = gaussian(np.zeros(3), np.diag([0.5, 1.0, 2.0])), 3
    start, found, sizes = 4.0 * rng.standard_normal((1, d)), [], []
    for dear in (False, True):
        density = Batches(target)
        if dear:
            density.keep_history()
        found.append(climbs_of(density, start))
        sizes.append(density.sizes)
    assert sizes[0][: 2 * d + 1] == [1] * (2 * d + 1)
    assert sizes[1][:2] == [d + 1, d + 1]
    assert len(sizes[1]) == len(sizes[0]) - 2 * d + 1
    np.testing.assert_array_equal(found[0].x, found[1].x)
    np.testing.assert_array_equal(
        np.unique(found[0].evaluated.x, axis=0), np.unique(found[1].evaluated.x, axis=0)
    )


def test_no_further_points_are_asked_for_where_a_limit_leaves_no_room(rng):
    density = Batches(two_modes(3))
    density.keep_history()
    density.limits = Limits(last_evals=10)
    climbs = climbs_of(density, density_starts(rng, 4, 3))
    assert density.n_logp_evals == len(climbs.evaluated) <= 10
    assert density.sizes[0] == 4


def test_a_limit_loses_no_point_and_is_kept(rng):
    density, function = recorded(two_modes(3))
    density.limits = Limits(last_evals=100)
    starts = density_starts(rng, 16, 3)
    climbs = climbs_of(density, starts)
    assert len(climbs.evaluated) == len(function.points) == 100
    assert climbs.cut_off.any()
    # Each climb tells its highest point, which is not below its start.
    assert (climbs.logp >= two_modes(3).logp(starts)).all()
    assert climbs.logp.max() == climbs.evaluated.logp.max()


def test_after_an_early_limit_only_the_highest_climbs_are_finished(rng):
    target = gaussian(np.zeros(2), np.eye(2))
    density = target.density(gradient=False)
    density.limits = Limits(early_evals=0)
    starts = density_starts(rng, 30, 2)
    climbs = climbs_of(density, starts)
    finished = ~climbs.cut_off
    assert 0 < finished.sum() < 30
    np.testing.assert_allclose(climbs.x[finished], 0.0, atol=0.1)


def test_a_refusal_from_the_first_point_on_leaves_the_starts(rng):
    density = two_modes(2).density(gradient=False)
    density.limits = Limits(last_evals=0)
    starts = density_starts(rng, 3, 2)
    climbs = climbs_of(density, starts)
    np.testing.assert_array_equal(climbs.x, starts)
    assert climbs.cut_off.all()
    assert np.isneginf(climbs.logp).all()


def test_an_interruption_leaves_no_thread(rng):
    class Interrupted(Recorded):
        def __call__(self, x):
            if len(self.points) > 40:
                raise KeyboardInterrupt
            return super().__call__(x)

    density = Density(Interrupted(two_modes(3)), 3, has_gradient=False)
    with pytest.raises(KeyboardInterrupt):
        climbs_of(density, density_starts(rng, 8, 3))
    assert not [t for t in threading.enumerate() if t.name == "multimodal-climb"]


def test_a_support_with_an_edge_is_climbed_along_its_inside(rng):
    """Outside of a half space the log density is -inf; its highest point lies on the edge."""

    def half(x):
        return np.where(x[:, 0] > 0, -0.5 * ((x - [-1.0, 2.0]) ** 2).sum(1), -np.inf), None

    density = Density(half, 2, has_gradient=False)
    starts = np.abs(density_starts(rng, 6, 2))
    climbs = climbs_of(density, starts)
    assert np.isfinite(climbs.logp).all()
    assert (climbs.x[:, 0] > 0).all()
    assert climbs.logp.max() > -0.6


def test_starts_outside_of_the_support_end_where_they_begin():
    density = Density(lambda x: (np.full(len(x), np.nan), None), 2, has_gradient=False)
    climbs = climbs_of(density, np.ones((3, 2)))
    assert np.isneginf(climbs.logp).all()
    assert not climbs.converged.any()
    assert density.n_logp_evals == 3


def test_a_density_with_steps_is_climbed(rng):
    """Terraces of half a nat on a hill: the top is found though no gradient leads there."""

    def terraces(x):
        return np.floor(-((x - 1.0) ** 2).sum(1) / 0.5) * 0.5, None

    density = Density(terraces, 2, has_gradient=False)
    climbs = climbs_of(density, density_starts(rng, 12, 2))
    assert climbs.logp.max() >= -1.0


def test_a_search_without_gradient_is_cheap(rng):
    target = two_modes(4)
    density = Density(WithoutGradient(target), 4, has_gradient=False, prior=target.density().prior)
    modes = modes_found(density, rng)
    assert match(modes.locations, target.means)[1] < 0.02
    assert density.n_logp_evals < 2000


def test_a_banana_has_one_summit(rng):
    """Climbs that seem to end on the way along the ridge go on."""
    target = Banana(3, bend=0.5)
    density = target.density(gradient=False)
    modes = modes_found(density, rng)
    assert len(modes) == 1
    np.testing.assert_allclose(modes.locations[0], [0.0, -0.5, 0.0], atol=0.1)
