"""Groups, cells, the search for symmetries, and fits of one image for all."""

from itertools import permutations

import numpy as np
import pytest
from densities import Mixture, Ring
from scipy.special import logsumexp

from pymc_multimodal import Hybrid, ModeSearch
from pymc_multimodal import kernel as _kernel
from pymc_multimodal.fit.pipeline import fit_density
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.plugin.inference_data import total_error
from pymc_multimodal.search.finder import ModeFinder
from pymc_multimodal.search.symmetries import (
    MAX_NUMBERS,
    Block,
    _within,
    candidates,
    find_symmetry,
    variables,
)
from pymc_multimodal.status import SymmetryBroken
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.group import Symmetry
from pymc_multimodal.target.target import Target

SWAP = np.eye(3)[[1, 0, 2]]
CYCLE = np.eye(3)[[1, 2, 0]]
EXCHANGE = Symmetry((SWAP, CYCLE))
EXCHANGE_TWO = Symmetry((np.eye(2)[::-1],))


def exchangeable(light=0.4):
    """Six modes at the permutations of (-4, 0, 5), three at those of (3, 3, -4): nine in all."""
    first = [np.array(p) for p in permutations((-4.0, 0.0, 5.0))]
    second = [np.array(p) for p in sorted(set(permutations((3.0, 3.0, -4.0))))]
    sd = {-4.0: 0.5, 0.0: 1.0, 5.0: 0.7, 3.0: 0.4}
    means = np.array(first + second)
    covariances = [np.diag([sd[v] ** 2 for v in mean]) for mean in means]
    weights = np.array([(1 - light) / 6] * 6 + [light / 3] * 3)
    return Mixture(means, covariances, weights, log_z=2.5)


# ---------------------------------------------------------------------- groups and cells


def test_generators_make_the_whole_group():
    assert len(EXCHANGE.elements) == 6
    assert len(Symmetry((-np.eye(2), np.diag([1.0, -1.0]))).elements) == 4
    np.testing.assert_array_equal(EXCHANGE.elements[0], np.eye(3))


def test_a_group_that_is_not_finite_is_refused():
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    with pytest.raises(ValueError, match="more than 1024 elements"):
        Symmetry((turn,))
    with pytest.raises(ValueError, match="shapes"):
        Symmetry((np.eye(2), np.eye(3)))


def test_exchanging_entries_of_a_simplex_is_linear_in_its_coordinates(rng):
    x = rng.dirichlet(np.ones(4), size=3)
    log = np.log(x)
    y = (log - log.mean(axis=1, keepdims=True))[:, :-1]
    block = Block("w_simplex__", np.arange(9).reshape(3, 3), 1, 4, True)
    moved = (block.exchanged(9, 1, 3) @ y.ravel()).reshape(3, 3)
    log = np.log(x[:, [0, 3, 2, 1]])
    np.testing.assert_allclose(moved, (log - log.mean(axis=1, keepdims=True))[:, :-1], atol=1e-12)


@pytest.mark.parametrize(
    "centres", [[[-4.0, 0.0, 5.0]], [[1.0, 1.0, 1.0]], [[-4.0, 0.0, 5.0], [3.0, 3.0, -4.0]]]
)
def test_cells_hold_every_orbit_equally_often(centres, rng):
    # The mean over the group of 1_C m is one at every point: the identity behind exactness.
    scale = np.stack([np.diag([0.3, 0.5, 0.9])] * len(centres))
    cells = Cells(EXCHANGE, np.array(centres), scale)
    x = 4 * rng.standard_normal((500, 3))
    total = np.zeros(500)
    for element in EXCHANGE.elements:
        total += np.exp(cells.log_multiplicity(x @ element.T)) / 6
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    y = cells.fold(x)
    assert np.isfinite(cells.log_multiplicity(y)).all()
    np.testing.assert_allclose(np.sort(y, axis=1), np.sort(x, axis=1))
    np.testing.assert_array_equal(cells.fold(y), y)


def test_a_mode_that_elements_fix_has_one_cell_for_them():
    cells = Cells(EXCHANGE, np.array([[3.0, 3.0 + 1e-4, -4.0]]), np.eye(3)[None] * 0.5)
    assert cells.images.tolist() == [3]
    np.testing.assert_allclose(cells.orbits[0].points[0], [3.00005, 3.00005, -4.0])
    assert len(cells.orbits[0].fixing) == 2


def test_the_folded_density_counts_evaluations_inside_only(rng):
    density = exchangeable().density()
    cells = Cells(EXCHANGE, np.array([[-4.0, 0.0, 5.0]]), np.eye(3)[None])
    folded = Target(density, cells)
    x = exchangeable().draws(600, rng)
    logp = folded.logp(x)
    inside = np.isfinite(logp)
    assert folded.spent() == density.spent() == inside.sum() < 200
    np.testing.assert_allclose(logp[inside], exchangeable().logp(x[inside]) + np.log(6))


# ---------------------------------------------------------------------- the search


def find(density, rng, optima):
    starts = density.prior_draws(30, rng)
    optima, spread = np.array(optima), np.full(density.dim, 5.0)
    return find_symmetry(density, optima, density.logp(optima), starts, spread, rng)


def test_variables_are_read_from_the_names_of_coordinates():
    found = variables(("mu[0]", "mu[1]", "tau", "L[0,0]", "L[0,1]", "L[1,0]", "L[1,1]"))
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
    tried = list(_within(candidates(tuple(names)), d))
    assert sum(map(len, tried)) * d**2 <= MAX_NUMBERS
    # Components, which are few, come first.
    assert any("exchange of 0 and 1 in a axis 0, b axis 0" in c[2] for f in tried for c in f)
    density = Density(lambda x: (np.zeros(len(x)), np.zeros_like(x)), d, names=names)
    density.limit = lambda: True
    one, two = rng.standard_normal((1, d)), rng.standard_normal((9, d))
    assert find_symmetry(density, one, np.zeros(1), two, np.ones(d), rng) is None
    assert density.n_logp_evals <= 8


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


# ---------------------------------------------------------------------- fits


@pytest.fixture(scope="module")
def nine():
    return fit_density(exchangeable().density(), FitConfig(random_seed=1))


def test_images_have_exactly_equal_weights(nine):
    assert nine.n_modes == 9
    w = nine.weights
    assert len(np.unique(w.weight[:3])) == 1
    assert len(np.unique(w.weight[3:])) == 1
    assert abs(w.weight[:3].sum() - 0.4) < 4 * 3 * w.weight_se[0]
    assert abs(w.total - 2.5) < 4 * w.total_se
    np.testing.assert_allclose(logsumexp(w.log_evidence), w.total)
    np.testing.assert_allclose(w.weight.sum(), 1.0)
    assert w.total_se < 0.02


def test_images_have_one_error_in_common(nine):
    w = nine.weights
    columns = (w.weight, w.weight_se, w.log_evidence, w.log_evidence_se)
    assert total_error(*columns) == pytest.approx(w.total_se, rel=1e-6)


def test_every_image_is_labelled_as_its_own(nine, rng):
    assert sorted(nine.label(nine.modes.locations)) == list(range(9))
    for k in range(9):
        assert np.mean(nine.label(nine.draws_draws(k)) == k) > 0.999
    target = exchangeable()
    x = target.draws(2000, rng)
    # Labels of the images of a point are images of one another.
    assert (nine.label(x) < 3).tolist() == (nine.label(x @ CYCLE.T) < 3).tolist()


def test_images_are_shown_with_their_own_draws_and_densities(nine):
    density = exchangeable().density()
    nine.check_density(density)
    for k in (0, 2, 4, 8):
        x = nine.draws_draws(k)[::50]
        np.testing.assert_allclose(density.logp(x), nine.draws.logp[k].ravel()[::50], atol=1e-8)
        gradient = density.logp_and_grad(x)[1]
        np.testing.assert_allclose(gradient, nine.draws.grad[k].reshape(-1, 3)[::50], atol=1e-6)


def test_draws_are_exact(nine, rng):
    density = exchangeable().density()
    folded = nine.target(density)
    state = _kernel.init(folded, nine.kernel, nine.starts(200, rng), rng)
    draws, labels = [], []
    for i in range(60):
        offered = _kernel.propose(folded, nine.kernel, 200 * nine.kernel.jumps, rng)
        state, _ = _kernel.step(folded, nine.kernel, state, offered, rng, i)
        shown = nine.shown(state.cloud, rng)
        draws.append(shown.x)
        labels.append(shown.region)
    np.testing.assert_allclose(shown.logp, density.logp(shown.x), atol=1e-8)
    np.testing.assert_array_equal(shown.region, nine.label(shown.x))
    draws, labels = np.array(draws), np.array(labels)
    exact = exchangeable().draws(200_000, rng)
    true = nine.label(exact)
    for k in range(9):
        # Chains are independent of one another.
        share = (labels == k).mean(axis=0)
        error = share.std(ddof=1) / np.sqrt(200)
        assert abs(share.mean() - np.mean(true == k)) < 4 * error + 0.003
    for f in (lambda x: x[..., 0], lambda x: x[..., 1] ** 2, lambda x: x[..., 0] * x[..., 2]):
        means = f(draws).mean(axis=0)
        error = means.std(ddof=1) / np.sqrt(200)
        assert abs(means.mean() - f(exact).mean()) < 4.5 * error


@pytest.mark.slow
def test_symmetry_is_cheaper_and_agrees(nine):
    alone = fit_density(exchangeable().density(), FitConfig(random_seed=1, symmetry=False))
    assert alone.orbits is None
    assert alone.n_modes == 9
    assert nine.n_logp_evals < 0.7 * alone.n_logp_evals
    error = np.hypot(alone.weights.weight_se, nine.weights.weight_se)
    assert (np.abs(alone.weights.weight - nine.weights.weight) < 4 * error + 1e-4).all()


@pytest.mark.parametrize("apart", [0.3, 1.0, 1.6, 2.5])
def test_labels_that_overlap_are_not_cut_wrongly(apart, rng):
    # From one mode on the mirror to two that just part.
    means = [[-apart, apart], [apart, -apart]]
    target = Mixture(means, [np.diag([1.0, 0.7]), np.diag([0.7, 1.0])], [0.5, 0.5])
    density = target.density()
    fit = fit_density(density, FitConfig(random_seed=2, challenge=False))
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    folded = fit.target(density)
    state = _kernel.init(folded, fit.kernel, fit.starts(200, rng), rng)
    first = []
    for i in range(40):
        offered = _kernel.propose(folded, fit.kernel, 200 * fit.kernel.jumps, rng)
        state, _ = _kernel.step(folded, fit.kernel, state, offered, rng, i)
        first.append(fit.shown(state.cloud, rng).x[:, 0])
    square = np.square(first).mean(axis=0)
    truth = apart**2 + 0.85
    assert abs(square.mean() - truth) < 4.5 * square.std(ddof=1) / np.sqrt(200)


def test_more_images_than_are_listed_are_one_row():
    means = [np.array(p) for p in permutations((-6.0, -2.0, 2.0, 6.0))]
    target = Mixture(means, [0.25 * np.eye(4)] * 24, np.full(24, 1 / 24))
    fit = fit_density(target.density(), FitConfig(random_seed=1))
    assert fit.n_modes == 1
    assert fit.images.tolist() == [24]
    assert fit.weights.weight.tolist() == [1.0]
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    x = fit.generate(500, np.random.default_rng(0))
    assert len(np.unique(np.argsort(x, axis=1), axis=0)) == 24


def test_a_given_symmetry_is_used_and_a_wrong_one_refused():
    density = exchangeable().density()
    fit = fit_density(density, FitConfig(symmetry=EXCHANGE, challenge=False))
    assert fit.n_modes == 9
    with pytest.raises(ValueError, match="generator 0 changes the log density"):
        fit_density(density, FitConfig(symmetry=Symmetry((-np.eye(3),))))
    with pytest.raises(TypeError, match="symmetry="):
        FitConfig(symmetry="yes")


def test_a_ring_is_one_region():
    generator = Hybrid(families=("gaussian", "mixture"))
    fit = fit_density(
        Ring().density(), FitConfig(generator=generator, random_seed=1, challenge=False)
    )
    assert fit.n_modes == 1
    # The integral of 2 pi r times the profile, which hardly reaches the centre.
    truth = np.log(2 * np.pi * 3.0 * 0.3 * np.sqrt(2 * np.pi))
    assert abs(fit.weights.total - truth) < 4 * fit.weights.total_se


def test_the_function_of_a_density_without_names_may_have_no_prior():
    density = Density(exchangeable(), 3)
    starts = np.random.default_rng(0).normal(0, 4, (60, 3))
    fit = fit_density(density, FitConfig(modes=ModeSearch(starts=starts), challenge=False))
    assert fit.n_modes == 9


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
    finder = ModeFinder(density, search, np.random.default_rng(0), True)
    assert len(finder.search()) == 1
    finder.extend(target.means[2:] + 0.01)
    assert finder.broken
    # Handed to a fit by the challenge or by its chains, it ends the symmetry.
    broken = Target(density, Cells(EXCHANGE_TWO, target.means[:1], np.eye(2)[None]))
    with pytest.raises(SymmetryBroken):
        broken.confirm(broken.fold(target.means[2:]), target.logp(target.means[2:]))


@pytest.mark.slow
def test_a_fit_gives_up_a_symmetry_that_its_chains_or_challenge_break():
    target = Mixture(
        [[-4.0, 4.0], [4.0, -4.0], [4.5, 1.0]],
        [4.0 * np.eye(2), 4.0 * np.eye(2), 0.02 * np.eye(2)],
        [0.3, 0.3, 0.4],
    )
    starts = np.repeat(target.means[:2], 40, axis=0)
    starts = starts + 0.3 * np.random.default_rng(0).standard_normal(starts.shape)
    fit = fit_density(target.density(), FitConfig(modes=ModeSearch(starts=starts)))
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    assert fit.orbits is None
    assert "again without symmetry" in fit.statuses[0].cause
