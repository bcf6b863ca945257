"""Symmetries are found from names of coordinates and from optima, and no others are."""

import numpy as np
import pytest
from densities import Mixture, exchangeable
from searches import settled_search

from pymc_multimodal.search import ModeSearch, climb_from, modes_of
from pymc_multimodal.search.candidates import (
    MAX_NUMBERS,
    Variable,
    coordinates_of,
    named_families,
)
from pymc_multimodal.search.symmetries import check_symmetry, find_symmetry
from pymc_multimodal.status import SymmetryBroken
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.group import Symmetry
from pymc_multimodal.target.limits import Limits
from pymc_multimodal.target.target import Target

EXCHANGE_TWO = Symmetry((np.eye(2)[::-1],))


def test_exchanging_entries_of_a_simplex_is_linear_in_its_coordinates(rng):
    x = rng.dirichlet(np.ones(4), size=3)
    log = np.log(x)
    y = (log - log.mean(axis=1, keepdims=True))[:, :-1]
    block = Variable("w_simplex__", np.arange(9).reshape(3, 3), 1, 4, True)
    moved = (block.exchanged(9, 1, 3) @ y.ravel()).reshape(3, 3)
    log = np.log(x[:, [0, 3, 2, 1]])
    np.testing.assert_allclose(moved, (log - log.mean(axis=1, keepdims=True))[:, :-1], atol=1e-12)


def find(density, rng, optima):
    starts = density.prior_draws(30, rng)
    optima, spread = np.array(optima), np.full(density.dim, 5.0)
    return find_symmetry(density, optima, density.logp(optima), starts, spread, rng)


def test_variables_are_read_from_the_names_of_coordinates():
    found = coordinates_of(("mu[0]", "mu[1]", "tau", "L[0,0]", "L[0,1]", "L[1,0]", "L[1,1]"))
    assert {name: where.tolist() for name, where in found.items()} == {
        "mu": [0, 1],
        "tau": 2,
        "L": [[3, 4], [5, 6]],
    }


def test_exchangeable_coordinates_are_found(rng):
    density = exchangeable().density()
    found = find(density, rng, [[-4.0, 0.0, 5.0]])
    assert len(found.elements) == 6
    assert density.n_logp_evals < 200


def test_signs_and_exchange_are_found_together(rng):
    means = [[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]]
    density = Mixture(means, [np.eye(2)] * 4, np.full(4, 0.25)).density()
    assert len(find(density, rng, means).elements) in (4, 8)


def test_optima_tell_of_signs_and_exchanges_that_names_do_not(rng):
    """Loadings as a vector: a column's sign is that of some of its entries."""
    names = [f"v[{i}]" for i in range(5)]
    one = np.array([3.0, -2.0, 1.5, 2.5, -3.5])
    column = np.diag([1.0, -1.0, 1.0, -1.0, 1.0])
    # A second symmetry exchanges entries of unlike place: 0 with 2, and 4 with the other sign.
    swap = np.eye(5)[[2, 1, 0, 3, 4]]
    swap[4, 4] = -1.0
    maps = [np.eye(5), column, swap, column @ swap]
    spread = np.diag([0.1, 0.2, 0.3, 0.4, 0.5])
    target = Mixture([m @ one for m in maps], [m @ spread @ m.T for m in maps], np.full(4, 0.25))
    # As optimisers leave them.
    optima = target.means + 1e-3 * rng.standard_normal((4, 5))
    found = find(target.density(names=names), rng, optima)
    keys = {tuple(e.ravel()) for e in np.round(found.elements, 6) + 0.0}
    assert keys == {tuple(m.ravel() + 0.0) for m in maps}
    assert found.descriptions == ("sign of v[1], v[3]", "exchange among v[0], v[2], v[4]")


def test_scalars_of_their_own_are_components(rng):
    names = ["a", "b", "sa", "sb", "c"]
    means = np.array([[-3.0, 2.0, 0.5, 1.5, 1.0], [2.0, -3.0, 1.5, 0.5, 1.0]])
    cov = np.diag([0.1, 0.2, 0.3, 0.4, 0.5])
    swap = np.eye(5)[[1, 0, 3, 2, 4]]
    target = Mixture(means, [cov, swap @ cov @ swap.T], [0.5, 0.5])
    found = find(target.density(names=names), rng, means)
    np.testing.assert_array_equal(found.elements[1], swap)
    # Nearly the same optima, of nearly the same height, are no proof.
    unlike = Mixture(means, [cov, 1.001 * swap @ cov @ swap.T], [0.5, 0.5])
    assert find(unlike.density(names=names), rng, means) is None


def test_long_vectors_do_not_hold_up_the_search(rng):
    """A thousand exchangeable coordinates have half a million pairs, each a matrix."""
    d = 400
    names = [f"v[{i}]" for i in range(d - 4)] + ["a[0]", "a[1]", "b[0]", "b[1]"]
    described = [c.description for family in named_families(names) for c in family]
    assert len(described) * d**2 <= MAX_NUMBERS
    # Components, which are few, come first.
    assert any("exchange of 0 and 1 in a axis 0, b axis 0" in text for text in described)
    density = Density(lambda x: (np.zeros(len(x)), np.zeros_like(x)), d, names=names)
    density.limits = Limits(early_evals=0)
    one, two = rng.standard_normal((1, d)), rng.standard_normal((9, d))
    assert find_symmetry(density, one, np.zeros(1), two, np.ones(d), rng) is None
    assert density.n_logp_evals <= 8


def test_families_that_move_no_optimum_are_left_out():
    """What is left is what moves an optimum; a simplex has one component without a coordinate."""
    names = [f"v[{i}]" for i in range(5)] + [f"w_simplex__[{i}]" for i in range(2)] + ["s"]
    optima = np.array([[1.0, 1.0, 1.0, 2.0, 0.0, 0.5, -0.25, 0.0]])
    every = [c for family in named_families(names) for c in family]
    moving = [c for family in named_families(names, optima, 1e-6) for c in family]
    moved = {c.description for c in every if np.abs(optima @ c.element.T - optima).max() > 1e-6}
    assert moved <= {c.description for c in moving}
    assert len(moving) < len(every)
    # Three equal entries of v have no exchange among them, and the last no sign.
    assert not any("exchange of 0 and 1 in v" in c.description for c in moving)
    assert "sign of component 4 of v axis 0" not in {c.description for c in moving}
    assert "exchange of 1 and 2 in w_simplex__ axis 0" not in moved
    # A vector has a sign for each entry; none of its 19,900 exchanges is made.
    vector = [f"v[{i}]" for i in range(200)]
    families = named_families(vector, np.ones((3, 200)), 1e-6)
    assert {family[0].description[:4] for family in families} == {"sign"}
    assert list(named_families(vector, np.zeros((3, 200)), 1e-6)) == []


def test_components_move_together_in_all_their_variables(rng):
    # Means in a, standard deviations in b: neither may be exchanged alone.
    target = Mixture(
        [[-3.0, 3.0, 0.5, 2.0], [3.0, -3.0, 2.0, 0.5]],
        [np.diag([0.1, 0.2, 0.3, 0.4]), np.diag([0.2, 0.1, 0.4, 0.3])],
        [0.5, 0.5],
    )
    found = find(target.density(names=["a[0]", "a[1]", "b[0]", "b[1]"]), rng, target.means)
    assert len(found.elements) == 2
    np.testing.assert_array_equal(found.elements[1], np.eye(4)[[1, 0, 3, 2]])


@pytest.mark.parametrize("off", [1e-3, 1e-6])
def test_nearly_symmetric_is_not_symmetric(off, rng):
    means = [[-3.0, 3.0], [3.0, -3.0 + off]]
    density = Mixture(means, [np.eye(2)] * 2, [0.5, 0.5]).density()
    assert find(density, rng, means) is None


def test_what_moves_no_optimum_is_of_no_use(rng):
    density = Mixture([[0.0, 0.0]], [np.eye(2)], [1.0]).density()
    assert find(density, rng, [[0.0, 0.0]]) is None


def test_starts_on_a_mirror_do_not_deceive(rng):
    target = Mixture([[-3.0, 3.0], [3.0, -3.0]], [np.eye(2)] * 2, [0.6, 0.4])
    on = np.zeros((30, 2)) + rng.standard_normal((30, 1))
    level = np.zeros(2)
    assert find_symmetry(target.density(), target.means, level, on, np.ones(2), rng) is None


def test_a_needle_that_breaks_the_symmetry_is_not_copied():
    """The starts see two mirrored modes; the needle, of 0.4 of the mass, has no mirror image."""
    target = Mixture(
        [[-4.0, 4.0], [4.0, -4.0], [5.0, 3.0]],
        [np.eye(2), np.eye(2), 1e-3 * np.eye(2)],
        [0.3, 0.3, 0.4],
    )
    # Starts that find these two alone.
    starts = np.repeat(target.means[:2], 40, axis=0)
    starts = starts + np.random.default_rng(0).standard_normal(starts.shape)
    density = target.density()
    search = ModeSearch(starts=starts)
    assert (
        find_symmetry(
            density, target.means[:2], np.zeros(2), starts, np.ones(2), np.random.default_rng(0)
        )
        is not None
    )
    found = settled_search(density, search, np.random.default_rng(0), True)
    assert len(modes_of(density, found, search)) == 1
    with pytest.raises(SymmetryBroken):
        climb_from(density, found, search, target.means[2:] + 0.01)
    # Handed to a fit by the challenge or by its chains, it ends the symmetry.
    broken = Target(density, Cells(EXCHANGE_TWO, target.means[:1], np.eye(2)[None]))
    with pytest.raises(SymmetryBroken):
        broken.confirm(broken.fold(target.means[2:]), target.logp(target.means[2:]))


def test_a_given_symmetry_is_checked(rng):
    density = exchangeable().density()
    x = density.prior_draws(20, rng)
    check_symmetry(Symmetry((np.eye(3)[[1, 0, 2]],)), density, x)
    assert density.n_logp_evals == 16
    with pytest.raises(ValueError, match="generator 1 changes the log density"):
        check_symmetry(Symmetry((np.eye(3)[[1, 0, 2]], -np.eye(3))), density, x)
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*shape \(3, 3\)"):
        check_symmetry(EXCHANGE_TWO, density, x)
    circular = Density(exchangeable(), 3, period=np.array([np.inf, np.inf, 1.0]))
    with pytest.raises(ValueError, match="circular"):
        check_symmetry(Symmetry((np.eye(3)[[1, 0, 2]],)), circular, x)
