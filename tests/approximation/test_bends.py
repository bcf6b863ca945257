"""Triangular maps along the axes of a mode, for densities whose dependences are known."""

import numpy as np
import pytest
from densities import Banana, Target
from scipy.stats import norm, ortho_group

from pymc_multimodal.approximation.bends import AxisPoints, most_for_map, triangular_map
from pymc_multimodal.approximation.products import KNOTS
from pymc_multimodal.proposals import Margins

INSIDE = np.abs(KNOTS) < 4.0


class Scaled(Target):
    """Coordinate 0 is normal, the others are normal with the scale exp(v / 2) of it."""

    def __init__(self, dim=4):
        self.dim = dim

    def __call__(self, x):
        v, z = x[:, 0], x[:, 1:] * np.exp(-0.5 * x[:, :1])
        n = z.shape[1]
        logp = norm.logpdf(v) + norm.logpdf(z).sum(axis=1) - 0.5 * n * v
        slope = -v + 0.5 * (z**2).sum(axis=1) - 0.5 * n
        return logp, np.column_stack([slope, -z * np.exp(-0.5 * x[:, :1])])


def points(target, mean, axes, *, reach=1e6, gradient=True):
    density, d = target.density(gradient=gradient), target.dim
    return AxisPoints(density, mean, axes, KNOTS, np.zeros(d), np.full(d, reach))


def ridge(dim=4):
    """Return a bent ridge with the points along the axes of its mode."""
    target = Banana(dim=dim, bend=1.5, noise=0.4)
    mean = np.zeros(dim)
    mean[1] = -1.5
    return target, points(target, mean, np.diag([1.0, 0.4, *np.ones(dim - 2)]))


@pytest.mark.parametrize("scales", [False, True])
def test_a_bent_ridge_has_one_shift_which_is_its_parabola(scales, rng):
    target, along = ridge()
    found = triangular_map(along, rng, scales=scales)
    (one,) = found.dependences
    assert one.source == 0
    np.testing.assert_array_equal(one.others, [1])
    y = np.linspace(-3.0, 3.0, 13)
    np.testing.assert_allclose(one.at(y)[:, 0, 0], 1.5 * y**2 / 0.4, atol=0.05)
    np.testing.assert_allclose(one.at(y)[:, 1, 0], 0.0, atol=0.05)
    # With the map, the log densities along the axes are those of standard normals.
    heights = along.heights(found)[:, INSIDE]
    top = norm.logpdf(KNOTS[INSIDE])
    np.testing.assert_allclose(
        heights - heights.max(axis=1)[:, None], [top - top.max()] * 4, atol=0.05
    )
    margins = Margins.through(KNOTS, along.heights(found), np.eye(4), found)
    x = target.draws(2_000, rng)
    log_q = margins.log_density(np.linalg.solve(along.axes, (x - along.mean).T).T) - np.log(0.4)
    # Where the knots along the first axis are a standard deviation apart, a spline is not exact.
    gap = np.abs(target.logp(x) - log_q)
    assert np.mean(gap < 0.15) > 0.95


def test_scales_depend_on_a_coordinate_where_the_curvature_does(rng):
    dim = 4
    target, mode = Scaled(dim), np.zeros(dim)
    # The mode in v is that of -v^2 / 2 - 3 v / 2.
    mode[0] = -0.5 * (dim - 1)
    along = points(target, mode, np.diag([1.0, *np.full(dim - 1, np.exp(0.5 * mode[0]))]))
    (one,) = triangular_map(along, rng, scales=True).dependences
    assert one.source == 0
    np.testing.assert_array_equal(one.others, [1, 2, 3])
    y = np.linspace(-2.0, 3.0, 11)
    np.testing.assert_allclose(one.at(y)[:, 1], np.tile(0.5 * y[:, None], 3), atol=0.02)
    np.testing.assert_allclose(one.at(y)[:, 0], 0.0, atol=1e-6)


def test_independent_coordinates_have_no_map(rng):
    target = Banana(dim=3, bend=0.0)
    along = points(target, np.zeros(3), np.diag([1.0, 0.5, 1.0]))
    for scales in (False, True):
        assert triangular_map(along, rng, scales=scales) is None


def test_no_dependence_closes_a_circle(rng):
    """A bent ridge whose axes are turned: every coordinate depends on every other one."""
    target = Banana(dim=3, bend=0.8, noise=0.6)
    turned = ortho_group.rvs(3, random_state=rng)
    curvature = np.diag([1.0, 1 / 0.36, 1.0])
    axes = turned @ np.linalg.inv(np.linalg.cholesky(turned.T @ curvature @ turned)).T
    along = points(target, np.array([0.0, -0.8, 0.0]), axes)
    found = triangular_map(along, rng, scales=True)
    seen = set()
    for one in found.dependences:
        assert not seen & set(one.others.tolist())
        seen.add(one.source)
    z = rng.standard_normal((50, 3))
    back, _ = found.inverse(found.forward(z))
    np.testing.assert_allclose(back, z, atol=1e-8)


@pytest.mark.parametrize("scales", [False, True])
def test_evaluations_are_at_most_those_foretold(scales, rng):
    _, along = ridge(6)
    before = along.density.n_logp_evals
    assert along.on_axes[0].shape == (6, 25)
    on_axes = along.density.n_logp_evals - before
    assert on_axes == 6 * 25
    along.heights(triangular_map(along, rng, scales=scales))
    spent = along.density.n_logp_evals - before - on_axes
    assert spent <= most_for_map(on_axes, scales=scales)


def test_nothing_out_of_reach_is_evaluated_and_no_gradient_is_needed_on_the_axes():
    target = Banana(dim=2)
    along = points(target, np.zeros(2), np.eye(2), reach=2.0, gradient=False)
    values, grad = along.on_axes
    np.testing.assert_array_equal(np.isfinite(values), np.abs(KNOTS)[None].repeat(2, axis=0) <= 2.0)
    assert along.density.n_logp_evals == np.isfinite(values).sum()
    assert not grad.any()


class Cliff(Target):
    """A normal with a wall that rises beyond all bounds along both coordinates."""

    dim = 2

    def __call__(self, x):
        with np.errstate(over="ignore", invalid="ignore"):
            wall = np.exp(60.0 * (x[:, 0] + x[:, 1] - 3.0))
            grad = -x - 60.0 * wall[:, None]
        return -0.5 * (x**2).sum(axis=1) - wall, grad


@pytest.mark.parametrize("scales", [False, True])
def test_gradients_beyond_all_bounds_do_no_harm(scales, rng):
    along = points(Cliff(), np.zeros(2), np.eye(2))
    found = triangular_map(along, rng, scales=scales)
    heights = along.on_axes[0] if found is None else along.heights(found)
    margins = Margins.through(KNOTS, heights, np.eye(2), found)
    x = margins.sample(500, rng)
    assert np.isfinite(margins.log_density(x)).all()
