"""Every partition labels all of the space, each point by itself."""

from __future__ import annotations

import inspect
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from densities import VonMises, gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from pymc_multimodal import regions
from pymc_multimodal.regions import (
    LabelledPoints,
    NearestMode,
    PermutedPartition,
    Regions,
    SupportVectors,
    divide,
    expected_labels,
    mixing_groups,
)

LINE = np.full(3, np.inf)


def clouds(classes, *, spread=1.0, seed=0, each=60):
    """Training points around `classes` centres in three dimensions."""
    rng = np.random.default_rng(seed)
    centres = 4.0 * rng.standard_normal((classes, 3))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + spread * rng.standard_normal((len(labels), 3)), labels


def support_vectors(classes, kernel, **kwargs):
    x, labels = clouds(classes, **kwargs)
    return SupportVectors(x, labels, LINE, Regions(kernel=kernel))


def nearest(classes):
    rng = np.random.default_rng(classes)
    scale = np.linalg.cholesky(
        np.stack([np.eye(3) * s + 0.2 for s in rng.uniform(0.5, 2, classes)])
    )
    return NearestMode(4.0 * rng.standard_normal((classes, 3)), scale, LINE)


CASES = {
    "nearest_1": lambda: nearest(1),
    "nearest_4": lambda: nearest(4),
    "permuted": lambda: PermutedPartition(nearest(4), np.array([2, 0, 3, 1])),
    **{
        f"svc_{kernel}_{k}": lambda kernel=kernel, k=k: support_vectors(k, kernel)
        for kernel in ("linear", "rbf")
        for k in (2, 3, 5)
    },
}


def test_every_partition_is_in_the_contract():
    found = {
        value
        for value in vars(regions).values()
        if inspect.isclass(value)
        and hasattr(value, "label")
        and value not in (regions.Partition, regions.RegionSampler)
    }
    assert {type(make()) for make in CASES.values()} == found


@pytest.mark.parametrize("name", CASES)
def test_contract(name, rng):
    partition = CASES[name]()
    near = 5.0 * rng.standard_normal((500, 3))
    x = np.concatenate([near, 1e3 * near[:50], 1e8 * near[:50], np.zeros((1, 3))])
    labels = partition.label(x)
    assert labels.shape == (len(x),)
    assert np.issubdtype(labels.dtype, np.integer)
    assert labels.min() >= 0
    assert labels.max() < partition.n_regions
    np.testing.assert_array_equal(partition.label(x), labels)
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(partition.label(x[order]), labels[order])
    np.testing.assert_array_equal([partition.label(row[None])[0] for row in x[:50]], labels[:50])
    assert partition.label(x[:0]).shape == (0,)
    assert isinstance(partition.statuses, tuple)


@pytest.mark.parametrize("name", CASES)
def test_labelling_leaves_the_points_alone(name, rng):
    x = 10 * rng.standard_normal((20, 3))
    before = x.copy()
    CASES[name]().label(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_unpacked_classifier_is_scikit_learns(kernel, classes, spread, rng):
    ours = support_vectors(classes, kernel, spread=spread)
    x, labels = clouds(classes, spread=spread)
    features = ours.features(x)
    svc = SVC(kernel=kernel, C=Regions().C, gamma=1 / 6, decision_function_shape="ovo")
    svc.fit(features, labels)
    probe = 6.0 * rng.standard_normal((2_000, 3))
    expected = svc.decision_function(ours.features(probe)).reshape(len(probe), -1)
    # Of two classes scikit-learn's positive side is the second.
    sign = -1 if classes == 2 else 1
    np.testing.assert_allclose(ours.decisions(probe), sign * expected, rtol=1e-6, atol=1e-6)
    agreement = np.mean(ours.label(probe) == svc.predict(ours.features(probe)))
    # Votes that tie are broken by confidence here and by the order of classes there.
    wins = np.zeros((len(probe), classes))
    for pair, (a, b) in enumerate(zip(*np.triu_indices(classes, k=1), strict=True)):
        np.add.at(wins, (np.arange(len(probe)), np.where(sign * expected[:, pair] > 0, a, b)), 1)
    tied = (wins == wins.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert agreement > 0.995 - tied.mean()
    sure = ~tied
    np.testing.assert_array_equal(ours.label(probe[sure]), svc.predict(ours.features(probe[sure])))


def test_separated_clouds_need_only_planes():
    x, labels = clouds(4, spread=0.3)
    partition = SupportVectors(x, labels, LINE, Regions())
    assert partition.kernel == "linear"
    assert partition.accuracy == 1.0
    np.testing.assert_array_equal(partition.label(x), labels)
    assert not partition.statuses


def test_a_disc_inside_a_ring_needs_the_radial_kernel(rng):
    angle = rng.uniform(0, 2 * np.pi, 200)
    radius = np.where(np.arange(200) < 100, 0.5, 3.0)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    labels = (np.arange(200) >= 100).astype(int)
    partition = SupportVectors(x, labels, LINE[:2], Regions())
    assert partition.kernel == "rbf"
    np.testing.assert_array_equal(partition.label(x), labels)


def test_regions_that_overlap_are_reported():
    x, labels = clouds(2, spread=8.0)
    partition = SupportVectors(x, labels, LINE, Regions())
    assert partition.accuracy < 0.9
    assert [s.code for s in partition.statuses] == ["overlap"]


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("scales", [(0.1, 1.0, 10.0), (1e-6, 1.0, 1e6)])
def test_units_do_not_matter(kernel, scales, rng):
    x, labels = clouds(3)
    probe = 5.0 * rng.standard_normal((300, 3))
    plain = SupportVectors(x, labels, LINE, Regions(kernel=kernel))
    scaled = SupportVectors(x * scales, labels, LINE, Regions(kernel=kernel))
    agreement = np.mean(plain.label(probe) == scaled.label(probe * scales))
    assert agreement > 0.99


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_region_reaches_across_the_seam_of_a_circle(kernel, rng):
    """The classes sit at pi and at zero; the former has points on both ends of the period."""
    n = 200
    labels = np.repeat([0, 1], n)
    angle = np.where(labels == 0, np.pi, 0.0) + 0.4 * rng.standard_normal(2 * n)
    wrapped = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    x = np.stack([wrapped, rng.standard_normal(2 * n)], axis=1)
    partition = SupportVectors(x, labels, np.array([2 * np.pi, np.inf]), Regions(kernel=kernel))
    probe = np.array([[3.1, 0.0], [-3.1, 0.0], [np.pi, 0.0], [-np.pi, 0.0], [0.1, 0.0]])
    np.testing.assert_array_equal(partition.label(probe), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(
        partition.label(x), partition.label(x + np.array([2 * np.pi, 0.0])), "not periodic"
    )


def test_nearest_mode_is_periodic(rng):
    partition = NearestMode(
        np.array([[3.0, 0.0], [0.0, 0.0]]),
        np.stack([0.5 * np.eye(2)] * 2),
        np.array([2 * np.pi, np.inf]),
    )
    np.testing.assert_array_equal(partition.label(np.array([[-3.1, 0.0], [0.2, 0.0]])), [0, 1])
    # At exact ties rounding of the turn may decide.
    x = rng.uniform(-3, 3, (200, 2))
    np.testing.assert_array_equal(
        partition.label(x), partition.label(x + np.array([2 * np.pi, 0.0]))
    )


def test_nearest_mode_is_that_of_the_largest_gaussian_density(rng):
    means, sizes = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0.5, 3.0])
    partition = NearestMode(means, sizes[:, None, None] * np.eye(2), LINE[:2])
    x = 4.0 * rng.standard_normal((500, 2))
    logs = [gaussian(m, s**2 * np.eye(2)).logp(x) for m, s in zip(means, sizes, strict=True)]
    np.testing.assert_array_equal(partition.label(x), np.argmax(logs, axis=0))
    scores = partition.scores(x)
    np.testing.assert_allclose(scores[:, 0] - scores[:, 1], logs[0] - logs[1])


@settings(derandomize=True, deadline=None, database=None, max_examples=30)
@given(order=st.permutations(range(4)))
def test_renumbering_is_a_renumbering(order):
    base = nearest(4)
    x = 6.0 * np.random.default_rng(1).standard_normal((100, 3))
    moved = PermutedPartition(base, np.array(order))
    np.testing.assert_array_equal(np.array(order)[moved.label(x)], base.label(x))


@pytest.mark.parametrize("method", ["svc", "nearest"])
def test_each_mode_has_its_own_draws(method, rng):
    target = gaussian(np.zeros(3), np.eye(3))
    centres = np.array([[0, 0, 0], [8, 0, 0], [0, 8, 0]], float)
    draws = centres[:, None] + rng.standard_normal((3, 80, 3))
    extra = LabelledPoints(centres + 0.1, np.array([0, 1, -1]))
    partition = divide(target.density(), draws, Regions(method=method), extra=extra)
    assert isinstance(partition, {"svc": SupportVectors, "nearest": NearestMode}[method])
    np.testing.assert_array_equal(partition.label(draws.reshape(-1, 3)), np.repeat([0, 1, 2], 80))


def test_one_mode_or_too_many_are_divided_by_the_nearest(rng):
    density = gaussian(np.zeros(2), np.eye(2)).density()
    one = divide(density, rng.standard_normal((1, 50, 2)), Regions())
    assert isinstance(one, NearestMode)
    assert one.n_regions == 1
    centres = 20.0 * np.arange(4)[:, None, None]
    draws = centres + rng.standard_normal((4, 50, 2))
    four = divide(density, draws, Regions(max_svc_modes=3))
    assert isinstance(four, NearestMode)
    np.testing.assert_array_equal(four.label(centres[:, 0] + np.zeros(2)), [0, 1, 2, 3])


def test_modes_are_divided_across_the_seam(rng):
    target = VonMises([0.0], [1.0], [1.0])
    density = target.density()
    draws = np.array([np.pi, 0.0])[:, None, None] * [1.0, 0.0]
    draws = density.wrap(draws + 0.3 * rng.standard_normal((2, 100, 2)))
    for method in ("svc", "nearest"):
        partition = divide(density, draws, Regions(method=method))
        np.testing.assert_array_equal(partition.label(draws.reshape(-1, 2)), np.repeat([0, 1], 100))


def test_corrections_move_the_border(rng):
    """Points between two modes go to the mode that they are said to belong to."""
    density = gaussian(np.zeros(2), np.eye(2)).density()
    draws = np.array([-4.0, 4.0])[:, None, None] * [1.0, 0.0] + rng.standard_normal((2, 100, 2))
    between = np.array([1.5, 0.0]) + 0.1 * rng.standard_normal((20, 2))
    plain = divide(density, draws, Regions(kernel="rbf"))
    assert np.all(plain.label(between) == 1)
    known = LabelledPoints(between, np.zeros(20, dtype=int))
    moved = divide(density, draws, Regions(kernel="rbf"), corrections=known)
    assert np.all(moved.label(between) == 0)
    unknown = replace(known, mode=np.full(20, -1))
    same = divide(density, draws, Regions(kernel="rbf"), corrections=unknown)
    np.testing.assert_array_equal(same.label(between), plain.label(between))


def test_modes_whose_chains_mix_are_grouped(rng):
    """Modes 0 and 2 share one place, 1 has its own; the fourth's chains have moved into 1."""
    place = np.array([0.0, 10.0, 0.0, 10.0])
    draws = place[:, None, None, None] + rng.standard_normal((4, 16, 40, 2))
    density = gaussian(np.zeros(2), np.eye(2)).density()
    np.testing.assert_array_equal(mixing_groups(density, draws), [0, 1, 0, 1])
    apart = 10.0 * np.arange(4)[:, None, None, None] + rng.standard_normal((4, 16, 40, 2))
    np.testing.assert_array_equal(mixing_groups(density, apart), [0, 1, 2, 3])


def test_the_global_generator_of_numpy_is_left_alone(rng):
    draws = np.array([[-5.0, 0.0], [5.0, 0.0]])[:, None] + rng.standard_normal((2, 50, 2))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    divide(gaussian(np.zeros(2), np.eye(2)).density(), draws, Regions(method="svc"))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def many_regions(count, apart, d, rng):
    """A partition of many regions, and points in and between them."""
    means = apart * rng.standard_normal((count, d))
    draws = rng.standard_normal((count, 4 * d, d)) * rng.uniform(0.5, 2.0, d)
    scale = np.linalg.cholesky([np.atleast_2d(np.cov(own.T)) for own in draws])
    partition = NearestMode(means, scale, np.full(d, np.inf))
    x = means[rng.integers(count, size=900)] + rng.standard_normal((900, d))
    return partition, np.concatenate([x, 3 * apart * rng.standard_normal((300, d)), 1e6 * x[:9]])


@pytest.mark.parametrize("apart", [0.3, 2.0, 20.0])
@pytest.mark.parametrize(("count", "d"), [(3, 2), (40, 1), (60, 5), (20, 40)])
def test_the_nearest_of_many_modes_is_that_of_all_scores(count, d, apart, rng):
    partition, x = many_regions(count, apart, d, rng)
    expected = np.argmax(partition.scores(x), axis=1)
    np.testing.assert_array_equal(partition.label(x), expected)
    for guess in (expected, rng.integers(count, size=len(x))):
        np.testing.assert_array_equal(expected_labels(partition, x, guess), expected)
        stays = partition.stays(x, guess)
        np.testing.assert_array_equal(guess[stays], expected[stays])


def test_regions_that_are_apart_are_certain_near_their_modes(rng):
    partition, _ = many_regions(60, 20.0, 5, rng)
    assert partition.stays(partition.centres, np.arange(60)).mean() > 0.9


def test_labels_of_many_rows_need_little_memory(rng):
    """Fifty regions have 1,225 pairs: 50,000 rows of decision values would be 490 MB."""
    means = 10.0 * rng.standard_normal((50, 3))
    x = (means[:, None] + rng.standard_normal((50, 12, 3))).reshape(-1, 3)
    partition = SupportVectors(x, np.repeat(np.arange(50), 12), LINE, Regions(kernel="linear"))
    rows = np.resize(x, (50_000, 3))
    tracemalloc.start()
    labels = partition.label(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6
    np.testing.assert_array_equal(labels, np.resize(partition.label(x), 50_000))
