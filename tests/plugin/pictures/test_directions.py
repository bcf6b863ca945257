"""Which elements of the variables tell the modes apart."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.plugin.pictures.directions import separating, what_separates
from pymc_multimodal.plugin.pictures.elements import Element


def made(columns, mode, n_modes, places=None):
    nowhere = np.full(n_modes, np.nan)
    return [Element(n, n, {}, v, (places or {}).get(n, nowhere)) for n, v in columns.items()]


def chosen(columns, mode, least, most, places=None):
    n_modes = int(mode.max()) + 1 if places is None else len(next(iter(places.values())))
    found = separating(made(columns, mode, n_modes, places), mode, n_modes, least, most)
    return [e.label for e in found]


def test_noise_and_copies_are_not_chosen(rng):
    mode = np.repeat([0, 1, 2, 3], 100)
    noise = {f"a[{i}]": rng.standard_normal(400) for i in range(10)}
    f, g = np.array([-3, -1, 1, 3])[mode], np.array([1, -1, -1, 1])[mode]
    f, g = (v + 0.1 * rng.standard_normal(400) for v in (f, g))
    columns = {**noise, "f": f, "copy": 2 * f + 1, "g": g}
    assert chosen(columns, mode, 2, 2) == ["f", "g"]
    assert chosen(columns, mode, 2, 6) == ["f", "g"]
    assert len(chosen(columns, mode, 5, 6)) == 5
    assert chosen(columns, mode, 2, 20) == list(columns)


def test_constants_and_whole_numbers_come_last(rng):
    """Indicators of components stand before their means in many models."""
    whole = {f"z[{i}]": rng.integers(0, 2, 400) for i in range(3)} | {"z[3]": np.ones(400, int)}
    columns = {"fixed": np.zeros(400), **whole, "mu": rng.standard_normal(400)}
    one, two = np.zeros(400, dtype=int), rng.integers(0, 2, 400)
    for mode in (one, two):
        assert chosen(columns, mode, 2, 2)[-1] == "mu"
        assert set(chosen(columns, mode, 4, 4)) == {"z[0]", "z[1]", "z[2]", "mu"}


def test_a_light_mode_counts_like_a_heavy_one(rng):
    """One draw in a thousand belongs to the second mode, apart in the last element alone."""
    mode = np.zeros(10_000, dtype=int)
    mode[::1000] = 1
    columns = {f"a[{i}]": rng.standard_normal(10_000) for i in range(8)}
    columns["b"] = 4.0 * mode + rng.standard_normal(10_000)
    assert "b" in chosen(columns, mode, 2, 2)


def test_a_mode_without_draws_counts_by_its_place(rng):
    columns = {f"a[{i}]": rng.standard_normal(500) for i in range(8)}
    places = {n: np.zeros(2) for n in columns} | {"a[5]": np.array([0.0, 9.0])}
    assert "a[5]" in chosen(columns, np.zeros(500, dtype=int), 2, 2, places)


def test_modes_apart_in_a_pair_alone_are_found(rng):
    """Neither of two correlated elements separates the modes by itself; together they do."""
    mode = np.arange(4000) % 2
    common = 3.0 * rng.standard_normal(4000)
    apart = np.where(mode, 0.6, -0.6)
    columns = {f"a[{i}]": rng.standard_normal(4000) for i in range(5)}
    columns["u"] = common + apart + 0.1 * rng.standard_normal(4000)
    columns["v"] = common - apart + 0.1 * rng.standard_normal(4000)
    assert chosen(columns, mode, 2, 2) == ["u", "v"]


@pytest.mark.parametrize("n", [1, 2, 30])
def test_of_one_mode_the_first_elements_are_taken(rng, n):
    columns = {f"a[{i}]": rng.standard_normal(50) for i in range(n)}
    assert chosen(columns, np.zeros(50, dtype=int), 2, 4) == list(columns)[:4]


def test_constant_elements_are_no_reason_to_fail(rng):
    columns = {"c": np.ones(60), "d": np.zeros(60), "e": rng.standard_normal(60)}
    assert len(chosen(columns, np.arange(60) % 2, 2, 2)) == 2


def test_the_title_names_the_elements_that_separate(rng):
    mode = np.repeat([0, 1], 500)
    noise = {f"a[{i}]": rng.standard_normal(1000) for i in range(4)}
    apart = {"b": 6.0 * mode + rng.standard_normal(1000)}
    wide = rng.standard_normal(1000) * 10
    pair = {"c": wide, "d": wide + 0.5 * (2 * mode - 1) + 0.1 * rng.standard_normal(1000)}

    def said(columns, n_all=30):
        return what_separates(made(columns, mode, 2), n_all, mode, 2)

    assert said(apart | noise) == "5 of 30 elements: b separates the modes"
    # A second one that tells no more than the first.
    also = {"e": 5.0 * mode + rng.standard_normal(1000)}
    assert said(apart | also) == "2 of 30 elements: these separate the modes best"
    assert said(apart | also | noise) == "6 of 30 elements: b, e separate the modes"
    assert said(pair | noise) == "6 of 30 elements: c, d separate the modes"
    assert said(pair) == "2 of 30 elements: these separate the modes best"
    assert said(noise) == "4 of 30 elements"
    assert said(apart, n_all=1) is None
