"""The reverse chain in the coordinates of the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import VonMises, two_sample_z

from pymc_multimodal.proposals.lrds import AffineMap, ReverseChain, Windows, geometric
from pymc_multimodal.proposals.lrds.evaluated import evaluate_chain

CIRCLE = np.array([2 * np.pi, np.inf])
TARGET = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])


@pytest.fixture
def chain(make_reference):
    """Ends about (0.3, -0.2), with a spread of two: many lie outside of the one window."""
    coordinates = AffineMap(np.array([0.3, -0.2]), np.array([[1.5, 0.0], [0.4, 0.8]]))
    windows = Windows(np.array([[1.0, 0.0]]), CIRCLE)
    return ReverseChain(make_reference(geometric(4, 0.3, 3.0)), coordinates, windows)


def test_ends_outside_of_all_windows_have_log_ratio_minus_infinity(chain, rng):
    """On circles the chain may end where no copy is drawn from; that is no warning."""
    paths = evaluate_chain(chain, TARGET.density(gradient=False), 4000, rng)
    outside = ~np.isfinite(paths.log_ratio)
    assert outside.any()
    assert (paths.log_ratio[outside] == -np.inf).all()
    assert paths.path.shape[1] == len(paths.logp) == (~outside).sum()


def test_points_are_ends_of_paths_inside_the_windows(chain, rng):
    points = chain.draw_points(20_000, rng)
    drawn = chain.draw(20_000, rng)
    assert len(points) < 20_000
    values = [
        np.column_stack([np.cos(x[:, 0]), np.sin(x[:, 0]), np.tanh(x[:, 1])])
        for x in (points, drawn.x[drawn.inside])
    ]
    assert np.abs(two_sample_z(*values)).max() < 4


def test_densities_do_not_depend_on_the_copy(chain, rng):
    x = rng.uniform(-3, 3, (50, 2))
    wide = replace(chain, windows=Windows(np.array([[1.0, 0.0], [1.0, 3.0]]), CIRCLE))
    expected = chain.log_density(x, rng)
    np.testing.assert_allclose(wide.log_density(x, rng), expected)
    turned = x + np.array([2 * np.pi, 0.0])
    np.testing.assert_allclose(chain.log_density(turned, rng), expected)


def test_no_draws_are_asked_for(chain, rng):
    assert chain.draw(0, rng).x.shape == (0, 2)
    assert chain.log_density(np.empty((0, 2)), rng).shape == (0,)


@pytest.mark.parametrize("exact", [False, True])
def test_paths_go_from_noise_to_points_as_they_are_drawn(chain, exact, rng, monkeypatch):
    """An exact reference is drawn from at once; its paths have the law of the reverse chain."""
    monkeypatch.setattr(type(chain.reference), "exact", exact)
    assert chain.auxiliary != exact
    paths = chain.draw_paths(20_000, rng)
    assert paths.shape == (5, 20_000, 2)
    drawn = chain.draw(20_000, rng).x
    values = [
        np.column_stack([np.cos(x[:, 0]), np.sin(x[:, 0]), np.tanh(x[:, 1])])
        for x in (paths[-1], drawn)
    ]
    assert np.abs(two_sample_z(*values)).max() < 4
    first, second = (chain.coordinates.to_z(x) for x in paths[:2])
    # The last step of the noising adds two independent normal numbers of this variance.
    added = chain.reference.noising.added[-1]
    assert np.mean(np.square(first - second).sum(axis=1)) == pytest.approx(2 * added, rel=0.05)
