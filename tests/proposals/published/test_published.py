"""The published recipe: its score, its reverse diffusion, its network, and what is served of it."""

from __future__ import annotations

import logging
import pickle
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, VonMises, exact_local, gaussian, two_modes, z_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import multivariate_normal

from pymc_multimodal.proposals.base import RegionalMixture
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.published import (
    EmpiricalScore,
    MapError,
    PublishedGenerator,
    PublishedHybrid,
    SmoothedScore,
    SupervisedMap,
    labelled_pairs,
    reverse_ode,
    schedule,
    train_map,
)
from pymc_multimodal.proposals.published.labels import LEAST_NOISE
from pymc_multimodal.status import FitError

LINE = np.full(2, np.inf)
QUICK = PublishedHybrid(
    pairs=400, score_draws=300, ode_steps=20, hidden=(16,), train_steps=200, batch=64
)
TIMES = st.floats(0.0, 1.0)
POINTS = st.floats(-5.0, 5.0)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def mixture_of(target):
    return GaussianMixture.from_covariances(target.weights, target.means, target.covariances)


# ------------------------------------------------------------------ scores


def test_schedule_runs_from_data_to_noise():
    np.testing.assert_allclose(schedule(0.0), (1.0, LEAST_NOISE))
    np.testing.assert_allclose(schedule(1.0), (LEAST_NOISE, 1.0))


@given(arrays(float, (3, 2), elements=POINTS), arrays(float, 2, elements=POINTS), TIMES)
def test_score_of_one_point_is_that_of_its_kernel(z, x, t):
    alpha, beta2 = schedule(t)
    np.testing.assert_allclose(
        EmpiricalScore(x[None])(z, t), -(z - alpha * x) / beta2, rtol=1e-9, atol=1e-9
    )


@given(arrays(float, (5, 1), elements=POINTS), st.floats(0.1, 3.0), TIMES)
def test_score_of_two_points_is_the_hyperbolic_tangent(z, a, t):
    alpha, beta2 = schedule(t)
    mean = a * np.tanh(alpha * a * z / beta2)
    np.testing.assert_allclose(
        EmpiricalScore(np.array([[-a], [a]]))(z, t),
        (alpha * mean - z) / beta2,
        rtol=1e-7,
        atol=1e-6,
    )


@given(arrays(float, (4, 3), elements=POINTS), TIMES, st.integers(0, 2**32 - 1))
def test_a_mixture_without_width_is_the_empirical_distribution(z, t, seed):
    x = np.random.default_rng(seed).standard_normal((7, 3))
    points = SmoothedScore(GaussianMixture(np.full(7, 1 / 7), x, np.zeros((7, 3, 3))))
    np.testing.assert_allclose(EmpiricalScore(x)(z, t), points(z, t), rtol=1e-6, atol=1e-6)


@settings(max_examples=20)
@given(arrays(float, 2, elements=st.floats(-3, 3)), TIMES)
def test_smoothed_score_is_the_gradient_of_the_noised_density(z, t):
    target = two_modes(distance=3.0, weights=(0.3, 0.7))
    score = SmoothedScore(mixture_of(target))
    alpha, beta2 = schedule(t)

    def log_density(point):
        parts = [
            np.log(w)
            + multivariate_normal(alpha * m, alpha**2 * c + beta2 * np.eye(2)).logpdf(point)
            for w, m, c in zip(target.weights, target.means, target.covariances, strict=True)
        ]
        return np.logaddexp.reduce(parts)

    h = 1e-5
    slope = [(log_density(z + e) - log_density(z - e)) / (2 * h) for e in h * np.eye(2)]
    np.testing.assert_allclose(score(z[None], t)[0], slope, rtol=1e-5, atol=1e-5)


def test_neighbours_suffice_where_the_kernel_is_narrow(rng):
    x = rng.standard_normal((2000, 2))
    z = rng.standard_normal((50, 2))
    near = EmpiricalScore(x, 200, rng)
    np.testing.assert_allclose(near(z, 1e-3), EmpiricalScore(x)(z, 1e-3), rtol=1e-6, atol=1e-4)


def test_neighbours_do_not_pull_outwards_where_the_kernel_is_wide(rng):
    """Near time 1 the posterior mean is the mean of all draws, not that of the nearest."""
    x = rng.standard_normal((2000, 2))
    z = 2.0 * rng.standard_normal((400, 2))
    z = z[np.hypot(*z.T) > 2.0]
    t = 0.98
    alpha, beta2 = schedule(t)
    exact = EmpiricalScore(x)(z, t)
    # The same z share one choice of others: repeat the choice for a standard error.
    runs = np.stack([EmpiricalScore(x, 100, rng)(z, t) for _ in range(30)])
    outwards = ((runs - exact) * beta2 / alpha * z / np.hypot(*z.T)[:, None]).sum(axis=2)
    assert abs(z_scores(outwards.mean(axis=1), 0.0)) < 4
    assert np.abs(outwards.mean()) < 0.1, "the nearest hundred alone are 2 standard deviations out"


def test_all_draws_as_neighbours_are_all_draws(rng):
    x, z = rng.standard_normal((50, 3)), rng.standard_normal((10, 3))
    np.testing.assert_array_equal(EmpiricalScore(x, 50, rng)(z, 0.3), EmpiricalScore(x)(z, 0.3))


@pytest.mark.parametrize(
    ("x", "neighbours", "message"),
    [
        (np.zeros(3), None, r"shape \(3,\) must be a matrix"),
        (np.zeros((0, 2)), None, "at least one draw"),
        (np.full((5, 2), np.nan), None, "all finite"),
        (np.zeros((50, 2)), 3, "neighbours=3 needs rng"),
    ],
)
def test_scores_refuse_what_is_no_sample(x, neighbours, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalScore(x, neighbours)


# ------------------------------------------------------------------ the reverse diffusion


def normal_map(y, mean, sd):
    """Solution of the probability flow for one normal: standardised distances are kept."""
    alpha, beta2 = schedule(1.0)
    return mean + np.sqrt(sd**2 + LEAST_NOISE) * (y - alpha * mean) / np.sqrt(
        alpha**2 * sd**2 + beta2
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(-2.0, 2.0), st.floats(0.3, 2.0))
def test_the_flow_of_a_normal_converges_to_its_solution(mean, sd):
    score = SmoothedScore(GaussianMixture.single(np.array([mean]), np.array([[sd]])))
    y = np.linspace(-3, 3, 9)[:, None]
    exact = normal_map(y, mean, sd)
    coarse, fine = (np.abs(reverse_ode(score, y, n) - exact).max() for n in (100, 400))
    assert fine < 0.03 * (sd + abs(mean))
    # Euler is of first order: four times the steps, a quarter of the error.
    assert fine < 0.35 * coarse + 1e-6


def test_the_flow_carries_noise_to_a_mixture(rng):
    target = two_modes(distance=4.0, weights=(0.3, 0.7))
    score = SmoothedScore(mixture_of(target))
    pairs = labelled_pairs(score, 4000, 2, rng, 300)
    assert pairs.dropped == 0
    in_second = target.component(pairs.x) == 1
    exact = target.component(target.draws(100_000, rng)) == 1
    error = np.sqrt(0.25 / 4000)
    assert abs(in_second.mean() - exact.mean()) < 4 * error
    covariance = np.cov(pairs.x[in_second].T)
    np.testing.assert_allclose(covariance, target.covariances[1], atol=0.06)


@pytest.mark.parametrize(("d", "neighbours"), [(2, None), (2, 50), (10, None)])
def test_labels_spread_as_the_data(d, neighbours, rng):
    x = rng.standard_normal((1000, d))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    pairs = labelled_pairs(EmpiricalScore(x, neighbours, rng), 1000, d, rng, 60)
    assert pairs.x.shape == pairs.y.shape == (1000, d)
    # The mean over coordinates of a variance of 1000 draws, data and labels: 2 / sqrt(1000 d).
    error = 2.0 / np.sqrt(1000 * d)
    assert abs(pairs.x.var(axis=0).mean() - 0.99) < 0.02 + 4 * error


def test_labels_lie_next_to_draws(rng):
    """What makes the map hard to learn: the diffusion remembers the draws."""
    x = rng.standard_normal((200, 10))
    labels = labelled_pairs(EmpiricalScore(x), 100, 10, rng, 200).x
    distance = np.linalg.norm(labels[:, None] - x, axis=2).min(axis=1)
    apart = np.linalg.norm(x[:, None] - x, axis=2) + np.diag(np.full(200, np.inf))
    assert np.median(distance) < 0.2 * np.median(apart.min(axis=1))


def test_diverged_paths_are_dropped_and_counted(rng):
    def score(z, t):
        lost = np.arange(len(z))[:, None] < 5
        return np.where(lost, np.nan, -z)

    pairs = labelled_pairs(score, 100, 2, rng, 10)
    assert pairs.dropped == 5
    assert len(pairs.x) == len(pairs.y) == 95
    assert np.isfinite(pairs.x).all()


@pytest.mark.parametrize("slope", [np.nan, 1e3])
def test_too_many_diverged_paths_are_an_error(slope, rng):
    with pytest.raises(MapError, match=r"100 of 100 paths.*10 steps.*Raise ode_steps") as caught:
        labelled_pairs(lambda z, t: slope * (1 + z), 100, 2, rng, 10)
    assert isinstance(caught.value, FitError)
    assert caught.value.remedy.startswith("Raise ode_steps")


# ------------------------------------------------------------------ the network


def test_the_published_network_shrinks_and_a_smooth_map_does_not(torch, rng):
    """Labels have the spread of the draws; the regression averages over the draws they end on."""
    d = 20
    x = rng.standard_normal((2000, d))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    config = PublishedHybrid(train_steps=600, batch=256)

    def spread(values):
        return values.var(axis=0).mean()

    y, labels, _ = labelled_pairs(EmpiricalScore(x), 2500, d, rng, 40)
    assert 0.97 < spread(labels) < 1.01
    assert spread(train_map(y, labels, config, rng).generate(4000, rng)) < 0.8
    smooth = SmoothedScore(GaussianMixture.single(np.zeros(d), np.eye(d)))
    y, labels, _ = labelled_pairs(smooth, 2500, d, rng, 40)
    assert spread(train_map(y, labels, config, rng).generate(4000, rng)) > 0.9


def test_the_network_learns_an_affine_map(torch, rng):
    y = rng.standard_normal((2000, 2))
    factor = np.array([[2.0, 0.0], [1.0, 0.5]])
    config = replace(QUICK, train_steps=1500, batch=128, hidden=(32,))
    learned = train_map(y, 5.0 + y @ factor.T, config, rng)
    fresh = rng.standard_normal((500, 2))
    error = learned(fresh) - (5.0 + fresh @ factor.T)
    assert np.sqrt(np.mean(error**2)) < 0.15


@pytest.mark.parametrize("batch", [None, 64])
def test_numpy_serves_what_torch_trained(batch, torch, rng):
    y = rng.standard_normal((300, 3))
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    learned = train_map(y, np.sin(y), replace(QUICK, batch=batch, hidden=(8, 4)), rng)
    assert torch.equal(torch.get_rng_state(), state), "torch's global seed was touched"
    assert torch.get_num_threads() == threads
    network = torch.nn.Sequential()
    for matrix, vector in learned.layers:
        layer = torch.nn.Linear(*matrix.shape[::-1], dtype=torch.float64)
        layer.weight.data, layer.bias.data = torch.tensor(matrix), torch.tensor(vector)
        network.extend([layer, torch.nn.Tanh()])
    standard = torch.tensor((y - learned.y_mean) / learned.y_sd)
    expected = learned.x_mean + learned.x_sd * network[:-1](standard).detach().numpy()
    np.testing.assert_allclose(learned(y), expected, rtol=1e-10)


def test_batches_are_drawn_on_the_device(looks, rng):
    """The device is read once the map is trained, however many steps there are."""
    y = rng.standard_normal((200, 2))
    counts = []
    for steps in (2, 30):
        looks.clear()
        train_map(y, np.sin(y), replace(QUICK, batch=16, hidden=(4,), train_steps=steps), rng)
        counts.append(len(looks))
    assert 0 < counts[0] == counts[1]


# ------------------------------------------------------------------ what is served


def regions(rng, *, config=QUICK, target=None, weights=(0.3, 0.7)):
    target = target or two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng, draws=50)
    fitted = config.regional.fit_regions(local, LINE, rng)
    return target, local, fitted, config.build(fitted, local, np.array(weights), rng)


def test_generate_follows_weights_and_maps(torch, rng):
    target, local, _, q = regions(rng, config=replace(QUICK, train_steps=600))
    assert q.fallbacks == ()
    assert all(isinstance(m, SupervisedMap) for m in q.maps)
    x = q.generate(20_000, rng)
    assert x.shape == (20_000, 2)
    right = HalfSpace().label(x) == 1
    # Either map may leak a little over the border: the distance of modes is 8.
    assert abs(right.mean() - 0.7) < 4 * np.sqrt(0.21 / 20_000) + 0.005
    for k in range(2):
        own = x[right == k]
        spread = own.std(axis=0) / local.x[k].reshape(-1, 2).std(axis=0)
        assert np.all((spread > 0.8) & (spread < 1.2))
        np.testing.assert_allclose(own.mean(axis=0), target.means[k], atol=0.3)
    halves = np.array_split(right, 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 4 * np.sqrt(0.21 / 5_000)


def test_proposals_are_those_of_the_gaussians(torch, rng):
    _, _, fitted, q = regions(rng)
    plain = RegionalMixture(fitted.densities, np.array([0.3, 0.7]))
    a, b = (g.propose(500, np.random.default_rng(1)) for g in (q, plain))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.minus_log_q, b.minus_log_q)
    for density in fitted.densities:
        assert density.family == "gaussian"
        np.testing.assert_allclose(density.weights, [0.95, 0.05])
        assert density.df[-1] == 4.0


def test_the_proposal_has_mean_and_covariance_of_the_draws(rng):
    target = gaussian(np.array([3.0, -2.0]), np.array([[2.0, 0.8], [0.8, 0.5]]))
    local = exact_local(target, Everywhere().label, 1, rng, draws=400)
    [q] = QUICK.regional.fit_regions(local, LINE, rng).densities
    x = local.x[0][:6].reshape(-1, 2)
    np.testing.assert_allclose(q.means[0], x.mean(axis=0))
    np.testing.assert_allclose(q.scales[0] @ q.scales[0].T, np.cov(x.T), rtol=0.01)


def test_a_proposal_from_fewer_draws_than_dimensions_is_a_density(rng):
    d = 40
    target = gaussian(np.zeros(d), np.eye(d))
    local = exact_local(target, Everywhere().label, 1, rng, draws=2)
    [q] = QUICK.regional.fit_regions(local, np.full(d, np.inf), rng).densities
    assert np.isfinite(q.log_density(target.draws(10, rng))).all()


def test_the_missing_density_is_said_and_is_no_warning(rng):
    local = exact_local(two_modes(), HalfSpace().label, 2, rng, draws=10)
    statuses = {s.code: s for s in QUICK.regional.fit_regions(local, LINE, rng).statuses}
    assert statuses["no_density"].level == "info"
    assert "fit.generate" in statuses["no_density"].remedy


def test_same_seed_same_draws(torch):
    made = [regions(np.random.default_rng(7))[-1] for _ in range(2)]
    a, b = (q.generate(100, np.random.default_rng(8)) for q in made)
    np.testing.assert_array_equal(a, b)


def test_maps_travel_to_other_processes(torch, rng):
    *_, q = regions(rng)
    raw = pickle.dumps(q)
    assert b"torch" not in raw
    again = pickle.loads(raw)
    a, b = (g.generate(100, np.random.default_rng(3)) for g in (q, again))
    np.testing.assert_array_equal(a, b)


def test_circular_coordinates_are_unrolled_and_wrapped(torch, rng):
    """A mode on the seam is one piece: its spread is that of the arc, not of the circle."""
    target = VonMises([np.pi], [6.0], [1.0])
    period = np.array(target.period)
    local = exact_local(target, Everywhere().label, 1, rng, draws=100)
    local.x[0][..., 0] = np.angle(np.exp(1j * local.x[0][..., 0]))
    config = replace(QUICK, train_steps=800)
    q = config.build(config.regional.fit_regions(local, period, rng), local, np.ones(1), rng)
    assert q.fallbacks == ()
    x = q.generate(4000, rng)
    assert np.abs(x[:, 0]).max() <= np.pi
    turned = np.exp(1j * x[:, 0]).mean()
    exact = np.exp(1j * target.draws(100_000, rng)[:, 0]).mean()
    assert abs(turned - exact) < 0.06


def test_smoothed_score_is_served_too(torch, rng):
    _, local, _, q = regions(rng, config=replace(QUICK, score="smoothed", train_steps=600))
    assert q.fallbacks == ()
    x = q.generate(5000, rng)
    label = HalfSpace().label(x)
    for k in range(2):
        ratio = x[label == k].std(axis=0) / local.x[k].reshape(-1, 2).std(axis=0)
        assert np.all((ratio > 0.85) & (ratio < 1.15))


# ------------------------------------------------------------------ failures


def one_region(rng, *, draws=20):
    return exact_local(two_modes(), Everywhere().label, 1, rng, draws=draws)


def few(local):
    return replace(local, x=(local.x[0][:, :3],))


def constant(local):
    local.x[0][..., 1] = 4.0
    return local


def broken(local):
    local.x[0][0, 0, 0] = np.nan
    return local


@pytest.mark.parametrize(
    ("spoil", "change", "message"),
    [
        (few, {}, "48 draws only.*LocalSampling.draws"),
        (constant, {}, r"do not vary in the coordinates \[1\]"),
        (lambda x: x, {"learning_rate": 1e30}, "loss ended at.*Lower learning_rate"),
    ],
)
def test_a_region_without_a_map_keeps_its_gaussian(spoil, change, message, torch, rng, caplog):
    config, local = replace(QUICK, **change), spoil(one_region(rng))
    fitted = config.regional.fit_regions(local, LINE, rng)
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        q = config.build(fitted, local, np.ones(1), rng)
    assert_fell_back(q, fitted, message, caplog)


def assert_fell_back(q, fitted, message, caplog):
    assert q.maps == (None,)
    [status] = q.fallbacks
    assert status.mode == 0
    assert status.level == "warning"
    assert status.remedy
    assert re.search(message, str(status))
    # The fit tells it, with what all its regions have in common told once.
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    x = q.generate(2000, np.random.default_rng(2))
    assert np.isfinite(x).all()
    plain = fitted.densities[0].sample(2000, np.random.default_rng(2))
    assert np.all(np.abs(np.median(x, axis=0) - np.median(plain, axis=0)) < 1.0)


def test_draws_that_are_not_finite_fall_back(torch, rng, caplog):
    local = one_region(rng)
    fitted = QUICK.regional.fit_regions(local, LINE, rng)
    q = QUICK.build(fitted, broken(local), np.ones(1), rng)
    assert_fell_back(q, fitted, "or are not finite", caplog)


def test_without_torch_the_gaussians_serve(monkeypatch, rng, caplog):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("pymc_multimodal.proposals.published.recipe.find_spec", lambda name: None)
    local = one_region(rng)
    fitted = QUICK.regional.fit_regions(local, LINE, rng)
    assert "Install torch" in {s.code: s for s in fitted.statuses}["no_torch"].remedy
    q = QUICK.build(fitted, local, np.ones(1), rng)
    assert_fell_back(q, fitted, "torch could not be imported.*Install torch", caplog)


def test_one_failure_leaves_the_other_regions_their_maps(torch, rng):
    local = exact_local(two_modes(), HalfSpace().label, 2, rng, draws=20)
    local.x[0][..., 0] = -1.0
    fitted = QUICK.regional.fit_regions(local, LINE, rng)
    q = QUICK.build(fitted, local, np.array([0.5, 0.5]), rng)
    assert q.maps[0] is None
    assert isinstance(q.maps[1], SupervisedMap)
    assert [s.mode for s in q.fallbacks] == [0]


def test_maps_match_densities(rng):
    fitted = QUICK.regional.fit_regions(one_region(rng), LINE, rng)
    with pytest.raises(ValueError, match="maps has 2 entries for 1 densities"):
        PublishedGenerator(fitted.densities, np.ones(1), (None, None))


def test_settings_are_plain_data():
    config = PublishedHybrid(hidden=[50, 50], neighbours=None, batch=None)
    assert config.hidden == (50, 50)
    assert pickle.loads(pickle.dumps(config)) == config
