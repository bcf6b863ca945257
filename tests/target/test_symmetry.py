"""Groups, cells, and fits of one image for all."""

from itertools import permutations

import numpy as np
import pytest
from densities import Mixture, Ring, exchangeable
from scipy.special import logsumexp

from pymc_multimodal import Hybrid, ModeSearch
from pymc_multimodal import kernel as _kernel
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.moves.local import state_at, trajectory
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.group import Symmetry, generate, is_group
from pymc_multimodal.target.target import Target

SWAP = np.eye(3)[[1, 0, 2]]
CYCLE = np.eye(3)[[1, 2, 0]]
EXCHANGE = Symmetry((SWAP, CYCLE))


# ---------------------------------------------------------------------- groups and cells


def test_generators_make_the_whole_group():
    assert len(EXCHANGE.elements) == 6
    assert len(Symmetry((-np.eye(2), np.diag([1.0, -1.0]))).elements) == 4
    np.testing.assert_array_equal(EXCHANGE.elements[0], np.eye(3))


class CountedProducts(np.ndarray):
    """Matrices that count the numbers in their products."""

    counted = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(value) for value in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            CountedProducts.counted += result.size
        return result


def test_a_group_is_closed_from_its_own_elements_in_few_products():
    """S6 given by all of its 720 elements: not 720 * 720 products."""
    every = np.array([np.eye(6)[list(p)] for p in permutations(range(6))])
    order = np.random.default_rng(0).permutation(720)
    CountedProducts.counted = 0
    found = generate(tuple(e.view(CountedProducts) for e in every[order]))
    # At most log2(720) generators do anything; each closes a group of at most 720 elements, whose
    # products are told apart by where they move a point.
    assert 720 * 6 <= CountedProducts.counted <= 720 * 6 * 10 * 10 / 2
    as_set = {e.tobytes() for e in np.asarray(found)}
    assert len(found) == 720
    assert as_set == {e.tobytes() for e in every}
    np.testing.assert_array_equal(found[0], np.eye(6))


def test_a_group_that_is_not_finite_is_refused():
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    with pytest.raises(ValueError, match="more than 1024 elements"):
        Symmetry((turn,))
    with pytest.raises(ValueError, match="shapes"):
        Symmetry((np.eye(2), np.eye(3)))


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


class CountedCells(Cells):
    """Cells that count the rows that are looked for in them."""

    rows = 0

    def log_multiplicity(self, x):
        self.rows += len(x)
        return super().log_multiplicity(x)


def test_only_the_end_of_a_folded_trajectory_is_looked_for_in_the_cells(rng):
    density = exchangeable().density()
    cells = CountedCells(EXCHANGE, np.array([[-4.0, 0.0, 5.0]]), np.eye(3)[None])
    x = cells.fold(exchangeable().draws(400, rng))
    folded, region = Target(density, cells), np.zeros(400, dtype=int)
    plain, inside = state_at(density, x, region), state_at(folded, x, region)
    momentum, step = 4.0 * rng.standard_normal((400, 3)), np.full(400, 0.4)
    way = momentum, np.eye(3)[None], step, np.full(400, 9)
    cells.rows = 0
    end, p, log_ratio = trajectory(folded, inside, *way)
    assert cells.rows == 400
    same, p_same, ratio_same = trajectory(density, plain, *way)
    np.testing.assert_array_equal(end.x, same.x)
    np.testing.assert_array_equal(p, p_same)
    left = cells.log_multiplicity(same.x) == -np.inf
    assert 0 < left.sum() < 400
    np.testing.assert_array_equal(np.isneginf(log_ratio), left)
    np.testing.assert_allclose(log_ratio[~left], ratio_same[~left], atol=1e-12)
    np.testing.assert_allclose(end.logp[~left], same.logp[~left] + np.log(6))


# ---------------------------------------------------------------------- fits


@pytest.fixture(scope="module")
def nine():
    return fit_density(exchangeable().density(), FitConfig(random_seed=1))


def test_images_have_exactly_equal_weights(nine):
    assert nine.n_modes == 9
    w = nine.weights
    assert len(np.unique(w.weight[:3])) == 1
    assert len(np.unique(w.weight[3:])) == 1
    # The border between the orbits leaves a little of the components' mass to the other region.
    labels = nine.label(exchangeable().draws(400_000, np.random.default_rng(0)))
    truth, truth_se = np.mean(labels < 3), np.std(labels < 3) / np.sqrt(len(labels))
    assert abs(w.weight[:3].sum() - truth) < 4 * np.hypot(3 * w.weight_se[0], truth_se)
    assert abs(w.total - 2.5) < 4 * w.total_se
    np.testing.assert_allclose(logsumexp(w.log_evidence), w.total)
    np.testing.assert_allclose(w.weight.sum(), 1.0)
    assert w.total_se < 0.02


def test_every_image_is_labelled_as_its_own(nine, rng):
    assert sorted(nine.label(nine.modes.locations)) == list(range(9))
    # The border between the orbits need not be symmetric where an element fixes a mode.
    own = np.array([np.mean(nine.label(nine.local_draws(k)) == k) for k in range(9)])
    assert own.mean() > 0.999
    assert own.min() > 0.995
    target = exchangeable()
    x = target.draws(2000, rng)
    # Labels of the images of a point are images of one another, but for points next to the border
    # of a mode that some elements fix: the partition of its cell need not be symmetric.
    assert np.mean((nine.label(x) < 3) == (nine.label(x @ CYCLE.T) < 3)) > 0.998


def test_images_are_shown_with_their_own_draws_and_densities(nine):
    density = exchangeable().density()
    nine.check_density(density)
    for k in (0, 2, 4, 8):
        x = nine.local_draws(k)[::50]
        np.testing.assert_allclose(density.logp(x), nine.draws.logp[k].ravel()[::50], atol=1e-8)
        known = nine.draws.grad[k].reshape(-1, 3)[::50]
        # Resampled draws of a first answer have no gradients.
        if np.isfinite(known).all():
            np.testing.assert_allclose(density.logp_and_grad(x)[1], known, atol=1e-6)


def test_draws_are_exact(nine, rng):
    density = exchangeable().density()
    folded = nine.target(density)
    state = _kernel.init(folded, nine.kernel, nine.starts(200, rng), rng)
    draws, labels = [], []
    for i in range(60):
        offered = _kernel.propose(folded, nine.kernel, 200 * nine.kernel.jumps, rng)
        state, _ = _kernel.step(folded, nine.kernel, state, offered, rng, i)
        shown = nine.randomise_image(state.points, rng)
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


@pytest.mark.slow  # two fits of nine modes, with symmetry and without
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
        first.append(fit.randomise_image(state.points, rng).x[:, 0])
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


@pytest.mark.slow  # two whole fits, each of which begins again
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


def test_averages_over_the_group_are_those_of_its_elements(rng):
    """Of many matrices by one linear map, of one by the elements."""
    every = np.array([np.eye(5)[list(p)] for p in permutations(range(5))])
    signs = np.diag([1.0, 1.0, 1.0, 1.0, -1.0])
    symmetry = Symmetry((*every[[1, 30]], signs))
    a = rng.standard_normal((7, 5, 5))
    expected = [np.mean([g.T @ p @ g for g in symmetry.elements], axis=0) for p in a]
    np.testing.assert_allclose(symmetry.metric(a), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(symmetry.metric(a[0]), expected[0], rtol=1e-10, atol=1e-12)


def test_a_group_with_elements_given_twice(rng):
    every = np.array([np.eye(4)[list(p)] for p in permutations(range(4))])
    twice = np.concatenate([every, every])[rng.permutation(48)]
    found = generate(tuple(twice))
    np.testing.assert_array_equal(found[0], np.eye(4))
    assert {e.tobytes() for e in found} == {e.tobytes() for e in every}
    # One of them is missing: what is left makes the whole group.
    assert len(generate(tuple(every[1:]))) == 24


def test_what_is_a_group():
    every = np.array([np.eye(4)[list(p)] for p in permutations(range(4))])
    assert is_group(every)
    assert is_group(np.eye(4)[None])
    assert not is_group(every[1:])
    assert not is_group(np.concatenate([every, every[:1]]))
