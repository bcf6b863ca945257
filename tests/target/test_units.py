"""Units of a log density: found from what its terms depend on, or given."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_multimodal.status import LimitReached, ModelError
from pymc_multimodal.target import (
    Density,
    Limits,
    Place,
    Structure,
    chosen_units,
    find_units,
    given_units,
)


class Sums:
    """Terms of a density: squares of sums of the coordinates that each depends on."""

    def __init__(self, depends, places=None):
        self.depends = np.asarray(depends, dtype=bool)
        width = self.depends.shape[1]
        self.places = tuple(places or [Place("x", "x", (i,)) for i in range(width)])

    def prepare(self):
        """There is nothing to compile."""

    def __call__(self, x):
        if (x > 90).any():
            raise FloatingPointError("too far")
        return -((x @ self.depends.T) ** 2)


def density(depends, places=None):
    terms = Sums(depends, places)
    return Density(
        lambda x: (terms(x).sum(axis=1), None),
        terms.depends.shape[1],
        has_gradient=False,
        terms=lambda: terms,
    )


def star(n_units, size, n_hubs):
    """Terms of units of some size, whose last coordinates are hubs; and their places."""
    d = n_units * size + n_hubs
    depends = np.zeros((n_units + n_hubs, d), dtype=bool)
    for k in range(n_units):
        depends[k, k * size : (k + 1) * size] = True
        depends[k, n_units * size :] = True
    for h in range(n_hubs):
        depends[n_units + h, n_units * size + h] = True
    places = [
        Place(f"z{j}", f"z{j}", (k,), (("unit", f"u{k}"),))
        for k in range(n_units)
        for j in range(size)
    ]
    return depends, places + [Place("hub", "hub", (h,)) for h in range(n_hubs)]


@settings(deadline=None)
@given(
    n_units=st.integers(3, 12),
    size=st.integers(1, 8),
    n_hubs=st.integers(0, 10),
    seed=st.integers(0, 2**16),
)
def test_units_are_found_in_any_order(n_units, size, n_hubs, seed):
    rng = np.random.default_rng(seed)
    depends, places = star(n_units, size, n_hubs)
    order = rng.permutation(depends.shape[1])
    depends, places = depends[:, order], [places[i] for i in order]
    depends = depends[rng.permutation(len(depends))]
    units = find_units(depends, places)
    assert (units.n_units, units.n_hubs) == (n_units, n_hubs)
    assert set(units.sizes.tolist()) == {size}
    assert units.hub_names == (("hub",) if n_hubs else ())
    assert (units.dim, set(units.names)) == ("unit", {f"unit=u{k}" for k in range(n_units)})
    x = rng.normal(size=(4, depends.shape[1]))
    z = units.gather(x)
    assert z.shape == (4, n_units, size)
    np.testing.assert_array_equal(units.scatter(x[:, units.hubs], z), x)
    terms = rng.normal(size=(4, len(depends)))
    by_unit = units.by_unit(terms)
    for k in range(n_units):
        np.testing.assert_allclose(by_unit[:, k], terms[:, units.unit_of_term == k].sum(axis=1))
        touched = depends[units.unit_of_term == k][:, units.members[k]]
        assert touched.any(axis=1).all()
    total = by_unit.sum(axis=1) + units.of_hubs(terms)
    np.testing.assert_allclose(total, terms.sum(axis=1))


def test_units_of_two_sizes():
    depends = np.zeros((5, 7), dtype=bool)
    depends[0, [0, 1, 6]] = depends[1, [2, 6]] = depends[2, [3, 4, 6]] = depends[3, [5, 6]] = True
    units = find_units(depends, [Place(name, name) for name in "abcdefg"])
    assert str(units) == "4 units of 1 or 2 coordinates, hubs g"
    assert units.names == ("a, b", "c", "d, e", "f")
    np.testing.assert_array_equal(units.sizes, [2, 1, 2, 1])
    x = np.arange(1.0, 8.0)[None]
    np.testing.assert_array_equal(units.gather(x)[0], [[1, 2], [3, 0], [4, 5], [6, 0]])
    # The last term depends on nothing: it is a hub's.
    assert units.unit_of_term.tolist() == [0, 1, 2, 3, -1]
    np.testing.assert_array_equal(units.by_unit(np.ones((2, 5))), np.ones((2, 4)))
    np.testing.assert_array_equal(units.of_hubs(np.full((2, 5), 2.0)), [2.0, 2.0])


@pytest.mark.parametrize("n", [5, 9, 30])
def test_a_chain_has_no_units(n):
    depends = np.eye(n - 1, n, dtype=bool) | np.eye(n - 1, n, 1, dtype=bool)
    assert find_units(depends, Sums(depends).places) is None


def test_no_units_where_all_is_coupled_or_small():
    for depends in (np.ones((1, 30)), np.ones((4, 4)), np.eye(2), np.zeros((0, 2))):
        depends = depends.astype(bool)
        assert find_units(depends, Sums(depends).places) is None
    # Pairs of coordinates that share terms: every two of them.
    pairs = np.array([np.bincount([i, j], minlength=20) for i in range(20) for j in range(i)])
    assert find_units(pairs.astype(bool), Sums(pairs).places) is None


def test_what_is_beside_the_units_of_a_dimension_is_a_hub():
    depends, places = star(5, 2, 1)
    depends = np.pad(depends, ((0, 1), (0, 1)))
    depends[-1, -2:] = True
    units = find_units(depends, [*places, Place("above", "above")])
    assert str(units) == "5 units of 2 coordinates (dim unit), hubs hub, above"


def test_terms_are_counted_and_limited(rng):
    depends, places = star(4, 1, 2)
    d = density(depends, places)
    x = rng.normal(size=(1100, 6))
    values = d.terms(x)
    np.testing.assert_allclose(values.sum(axis=1), d.logp(x), rtol=1e-12)
    assert d.n_logp_evals == 2200
    assert d.terms(x[:0]).shape == (0, 6)
    x[3] = 100.0
    with_fault = d.terms(x)
    assert np.isneginf(with_fault[3]).all()
    np.testing.assert_allclose(np.delete(with_fault, 3, 0), np.delete(values, 3, 0), atol=1e-12)
    assert d.tally.nan == 1
    with d.within(Limits(last_evals=d.n_logp_evals + 10)), pytest.raises(LimitReached):
        d.terms(x)


def test_a_density_without_terms():
    d = Density(lambda x: (-(x**2).sum(axis=1), None), 4, has_gradient=False)
    assert d.term_model is None
    assert chosen_units(d, True) is None
    with pytest.raises(TypeError, match="terms"):
        d.terms(np.zeros((1, 4)))
    with pytest.raises(ModelError, match="structure=False"):
        chosen_units(d, Structure(units="unit"))


def test_a_copy_has_no_terms():
    d = Density(np.sum, 2, terms=lambda: None)
    assert pickle.loads(pickle.dumps(d)).term_model is None


def test_settings_choose_the_units():
    depends, places = star(4, 2, 2)
    d = density(depends, places)
    assert chosen_units(d, False) is None
    found = chosen_units(d, True)
    for setting in (
        Structure(),
        Structure(units="unit"),
        Structure(units=("z0", "z1")),
        Structure(units=[[0, 1], [2, 3], (4, 5), np.array([6, 7])]),
        Structure(hubs="hub"),
        Structure(units=("z0", "z1"), hubs=["hub"]),
    ):
        units = chosen_units(d, setting)
        np.testing.assert_array_equal(units.members, found.members)
        np.testing.assert_array_equal(units.unit_of_term, found.unit_of_term)
        assert str(units) == str(found) == "4 units of 2 coordinates (dim unit), hubs hub"
    # What is in no unit is a hub, also where it need not be.
    assert chosen_units(d, Structure(units=[[0, 1], [2, 3]])).n_hubs == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (Structure(units="time"), r"'time'.*z0, z1, hub.*unit"),
        (Structure(hubs="tau"), r"hub 'tau'.*z0, z1, hub"),
        (Structure(units=("z0", "z0")), "'z0' twice"),
        (Structure(units=("z0", "unit")), r"z0\[0\] twice"),
        (Structure(units=("z0", "hub")), "different numbers"),
        (Structure(units="scalar"), "one element"),
        (Structure(units=("z0", "z1"), hubs=("hub",)), "leaves out scalar"),
        (Structure(units=("z0", "z1"), hubs=("hub", "z1")), "in a unit and among the hubs"),
        (Structure(units="z0", hubs="hub"), "leaves out scalar, z1"),
        (Structure(units=[[0], [0]]), "to the units 0 and 1"),
        (Structure(units=[[0], [99]]), "coordinate 99"),
        (Structure(units=[[0, 1]]), "1 units"),
        (Structure(units=[[0], []]), "no sequence of coordinates"),
        (Structure(units=[[0], [1.5]]), "no sequence of coordinates"),
        (Structure(units="hub"), r"contradicts.*hub\[0\] and hub\[1\]"),
        (Structure(units=[[0, 2], [1, 3]]), r"contradicts.*z0\[0\], z1\[0\]"),
    ],
)
def test_structures_that_the_graph_does_not_have_are_refused(setting, message):
    depends, places = star(4, 2, 2)
    depends = np.pad(depends, ((0, 0), (0, 1)))
    with pytest.raises(ModelError, match=message):
        chosen_units(density(depends, [*places, Place("scalar", "scalar")]), setting)


def test_given_units_take_what_the_graph_allows():
    depends, places = star(4, 2, 1)
    units = given_units(depends, places, [np.array([0, 1, 2, 3]), np.array([4, 5])])
    assert (units.n_units, units.hub_names) == (2, ("z0[3]", "z1[3]", "hub"))
