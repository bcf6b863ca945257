"""Draws that belong to another mode's tail are told from draws that are merely far away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import Banana, Funnel, Mixture, SkewNormals, StudentT, WideNormal, exact_local

from pymc_multimodal.regions import draws_away


def away(target, draws, optimum, width):
    scale = np.eye(target.dim) * width
    return draws_away(target.density(), np.array([optimum]), scale[None], draws)


def draws_of(target, keep, rng):
    return exact_local(target, lambda x: np.where(keep(x), 0, -1), 1, rng)


def test_the_tail_of_a_neighbour_is_not_the_mode_that_it_is_listed_under(rng):
    """The mode at 3 has a weight of 1e-6: its region holds the right tail of that at 0."""
    target = Mixture([[0.0, 0.0], [6.0, 0.0]], [np.eye(2), 0.01 * np.eye(2)], [1 - 1e-6, 1e-6])
    tail = draws_of(target, lambda x: (x[:, 0] > 1.0) & (x[:, 0] < 4.5), rng)
    [status] = away(target, tail, [6.0, 0.0], 0.1)
    assert (status.code, status.stage, status.mode) == ("away", "regions", 0)
    assert not away(target, tail, [0.0, 0.0], 1.0)


def test_a_region_with_draws_of_its_own_mode_and_of_a_tail_is_left_alone(rng):
    target = Mixture([[0.0, 0.0], [6.0, 0.0]], [np.eye(2), 0.01 * np.eye(2)], [0.9, 0.1])
    both = draws_of(target, lambda x: x[:, 0] > 1.0, rng)
    assert not away(target, both, [6.0, 0.0], 0.1)


@pytest.mark.parametrize(
    ("target", "width"),
    [
        (Mixture(np.zeros((1, 100)), [np.eye(100)], [1.0]), 1.0),
        (StudentT(50, 3.0), 1.0),
        (SkewNormals(10, 8.0), 0.5),
        (Banana(4, sd=2.0, bend=1.0, noise=0.3), 0.3),
    ],
    ids=["100-D", "heavy tails", "skew", "banana"],
)
def test_draws_that_are_far_from_an_optimum_are_its_own(target, width, rng):
    draws = draws_of(target, lambda x: np.ones(len(x), dtype=bool), rng)
    top = draws.x[0].reshape(-1, target.dim)
    optimum = top[np.argmax(draws.logp[0])]
    assert not away(target, draws, optimum, width)


def test_a_funnel_is_left_alone(rng):
    """Draws are far up, and the optimum of the neck is far down."""
    target = Funnel(5)
    v = rng.normal(0.0, 1.0, (8, 100, 1))
    x = np.concatenate([v, np.exp(v) * rng.standard_normal((8, 100, 5))], axis=2)
    logp = target(x.reshape(-1, 6))[0].reshape(8, 100)
    local = exact_local(StudentT(6, 5.0), lambda x: np.zeros(len(x), int), 1, rng, chains=8)
    draws = replace(local, x=(x,), logp=(logp,))
    neck = np.array([[-4.0, 0, 0, 0, 0, 0]])
    density = target.density(prior=WideNormal(6))
    assert not draws_away(density, neck, np.eye(6)[None], draws)
