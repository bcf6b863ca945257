"""The terms sum to the log density, and depend on what the graph says."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import structured as s
from models import Square, black_box, circular, four_modes, tilted_signs, unequal
from pymc.exceptions import ImputationWarning
from simulators import QUICK, Simulator, model_logp, plain

from pymc_multimodal.model import layout, terms_of
from pymc_multimodal.status import ModelError
from pymc_multimodal.target import Density, Structure, chosen_units, find_units

EXACT = (
    s.wells, s.centred, s.grouped, s.one_hot, s.mixture, s.scales, s.missing, s.planes, s.simplexes,
    s.hyperprior, s.products, s.walk, s.regression, four_modes, tilted_signs, unequal, circular,
)  # fmt: skip
OPAQUE = (s.field, s.zero_sum, black_box)
UNITS = {
    s.wells: ("10 units of 1 coordinate, no hubs", "d[0]"),
    s.centred: ("5 units of 1 coordinate (dim unit), hubs mu, tau", "unit=a"),
    s.grouped: ("5 units of 2 coordinates (dim unit), hubs mu, nu", "unit=a"),
    s.one_hot: ("5 units of 1 coordinate (dim unit), hubs mu", "unit=a"),
    s.scales: ("5 units of 2 coordinates (dim unit), hubs mu", "unit=a"),
    s.mixture: ("5 units of 1 coordinate (dim unit), hubs w, s", "unit=a"),
    s.missing: ("5 units of 1 coordinate (dim row), hubs a, b, s", "row=1"),
    s.planes: ("5 units of 2 coordinates (dim unit), hubs mu", "unit=a"),
    s.simplexes: ("5 units of 4 coordinates (dim unit), hubs mu", "unit=a"),
    s.hyperprior: ("5 units of 1 coordinate (dim unit), hubs m, mu, tau", "unit=a"),
    s.products: ("5 units of 1 coordinate, hubs t", "z[0]"),
    tilted_signs: ("6 units of 1 coordinate, no hubs", "p[0,0]"),
    s.walk: (None, ""),
    s.regression: (None, ""),
    s.field: (None, ""),
    s.zero_sum: (None, ""),
    four_modes: (None, ""),
    black_box: (None, ""),
}


def built(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImputationWarning)
        return make()


def terms(model, kwargs=QUICK):
    return terms_of(model, layout(model), kwargs)


def points(model, n, rng):
    start = np.concatenate([np.ravel(v) for v in layout(model).values()])
    return start + rng.normal(size=(n, len(start)))


@pytest.mark.parametrize("make", [*EXACT, *OPAQUE], ids=lambda make: make.__name__)
def test_terms_sum_to_the_log_density_and_depend_as_told(make, rng):
    model = built(make)
    out = terms(model)
    x = points(model, 6, rng)
    values = out(x)
    assert values.shape == (6, len(out.depends))
    assert out.depends.shape == (len(values[0]), x.shape[1])
    assert out.names == tuple(map(str, out.places))
    logp = model_logp(model, x)
    assert np.isfinite(logp).any()
    np.testing.assert_allclose(values.sum(axis=1), logp, rtol=1e-10)
    changes = np.zeros_like(out.depends)
    for i in range(x.shape[1]):
        moved = x.copy()
        moved[:, i] += rng.normal(size=len(x))
        changes[:, i] = (out(moved) != values).any(axis=0)
    assert not (changes & ~out.depends).any()
    if make in EXACT:
        # What is told and not seen: conditions that the points do not reach.
        assert not (out.depends & ~changes)[changes.any(axis=1)].any()


@pytest.mark.parametrize("make", UNITS, ids=lambda make: make.__name__)
def test_units_of_models_are_found_and_named(make):
    out = terms(built(make))
    units = find_units(out.depends, out.places)
    text, first = UNITS[make]
    assert (units and str(units)) == text
    if units is not None:
        assert units.names[0] == first
        assert units.n_units * units.members.shape[1] >= units.sizes.sum()


def test_compiled_for_numba_and_copied(rng):
    model = s.grouped()
    x = points(model, 9, rng)
    out = terms(model, {})
    values = pickle.loads(pickle.dumps(out))(x)
    np.testing.assert_allclose(values, terms(model)(x), rtol=1e-12)
    np.testing.assert_allclose(out(x), values, rtol=1e-12)
    assert out(x[:0]).shape == (0, out.n_terms)


def test_where_the_log_density_is_not_finite():
    with pm.Model() as model:
        z = pm.Normal("z", 0, 1, shape=3)
        pm.Potential("p", pt.log(z))
        pm.Normal("y", 0, z, observed=np.ones(3))
    out = terms(model)
    x = np.array([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]])
    values = out(x)
    assert np.isfinite(values[0]).all()
    assert np.isneginf(values[1]).any()
    assert not np.isnan(values).any()
    # A scale for each unit is checked unit by unit.
    assert find_units(out.depends, out.places).n_units == 3
    alone = out.depends[np.isneginf(values[1])]
    np.testing.assert_array_equal(alone, np.tile([False, True, False], (len(alone), 1)))


def test_units_that_the_graph_contradicts():
    def chosen(make, setting):
        out = terms(built(make))
        function = Density(np.sum, out.depends.shape[1], terms=lambda: out)
        return chosen_units(function, setting)

    assert str(chosen(s.walk, Structure(units=[[0, 1, 2], [4, 5], [7, 8]]))).startswith("3 units")
    with pytest.raises(ModelError, match=r"z\[0\] and z\[1\] together.*Make one unit"):
        chosen(s.walk, Structure(units="z"))
    with pytest.raises(ModelError, match=r"unit=a and unit=b together.*through z"):
        chosen(s.field, Structure(units="unit"))
    with pytest.raises(ModelError, match="black box"):
        chosen(opaque_sum, Structure(units="x"))


def opaque_sum():
    """A black box that returns one number."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=4)
        pm.Potential("p", pt.sum(pt.sort(Square()(x)) * np.arange(4)))
    return model


def test_outputs_of_unknown_length():
    assert terms(plain(Simulator())) is None


def test_an_if_is_evaluated_row_by_row(rng):
    try:
        from pytensor.conditional.op import ifelse
    except ModuleNotFoundError:
        from pytensor.ifelse import ifelse

    with pm.Model() as model:
        t, z = pm.Normal("t", 0, 1), pm.Normal("z", 0, 1, shape=3)
        pm.Potential("p", ifelse(t > 0, pt.sum(z), pt.sum(z**2)))
    out = terms(model)
    x = points(model, 5, rng)
    np.testing.assert_allclose(out(x).sum(axis=1), model_logp(model, x), rtol=1e-10)
