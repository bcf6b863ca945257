"""Sums over discrete variables, and draws of these, against the sum over all configurations."""

from __future__ import annotations

import discrete_models
import models
import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.special import logsumexp

from pymc_multimodal import ModelError
from pymc_multimodal.model import density_of, layout, marginal_of

# PyMC's own Truncated and pymc-extras' chain use an old signature of PyTensor's scan.
pytestmark = pytest.mark.filterwarnings("ignore:Scan return signature will change")

QUICK = {"mode": discrete_models.QUICK}


@pytest.fixture(scope="module", params=discrete_models.STRUCTURES)
def structure(request):
    """A model, its marginal, points, and the log density at all configurations."""
    if "chain" in request.param:
        pytest.importorskip("pymc_extras")
    model = discrete_models.STRUCTURES[request.param]()
    marginal = marginal_of(model)
    d = sum(v.size for v in layout(marginal).values())
    # The sum over all configurations is a call for each of them at each point.
    x = np.random.default_rng(5).normal(size=(2, d))
    return model, marginal, x, discrete_models.brute_force(model, marginal, x)


def test_the_log_density_is_the_sum_over_all_configurations(structure):
    _, marginal, x, (_, log_joint) = structure
    density = density_of(marginal, compile_kwargs=QUICK)
    value, gradient = density.function(x)
    np.testing.assert_allclose(value, logsumexp(log_joint, axis=1), rtol=1e-10)
    step = 1e-5 * np.eye(x.shape[1])
    up, down = (density.function(x[0] + s)[0] for s in (step, -step))
    np.testing.assert_allclose(gradient[0], (up - down) / 2e-5, rtol=1e-4, atol=1e-6)


def test_draws_have_the_conditional_probabilities(structure, rng):
    _, marginal, x, (configurations, log_joint) = structure
    n = 20_000
    rows = marginal.recovery().complete(np.repeat(x[:1], n, axis=0), rng)
    np.testing.assert_array_equal(rows[:, marginal.recovery().continuous], np.tile(x[0], (n, 1)))
    columns = np.concatenate([marginal.recovery().columns[v.name] for v in marginal.discrete])
    drawn = rows[:, columns].astype(int)
    # Each configuration as one number.
    weights = 100 ** np.arange(drawn.shape[1])
    order = {code: c for c, code in enumerate(configurations @ weights)}
    counts = np.bincount([order[code] for code in drawn @ weights], minlength=len(configurations))
    expected = n * np.exp(log_joint[0] - logsumexp(log_joint[0]))
    assert not counts[expected == 0].any()
    rare = expected < 10
    counts, expected = (np.append(v[~rare], v[rare].sum()) for v in (counts, expected))
    keep = expected > 0
    if keep.sum() == 1:  # the other configurations are impossible
        return
    chi2 = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    # Four standard deviations of a normal variable.
    assert stats.chi2.sf(chi2, keep.sum() - 1) > 3e-5


def test_without_a_generator_values_are_the_most_probable(structure):
    _, marginal, x, (configurations, log_joint) = structure
    recovery = marginal.recovery()
    columns = np.concatenate([recovery.columns[v.name] for v in marginal.discrete])
    best = recovery.complete(x, None)[:, columns]
    for row, log_weights in zip(best, log_joint, strict=True):
        at = int(np.flatnonzero((configurations == row).all(axis=1))[0])
        assert log_weights[at] == pytest.approx(log_weights.max(), abs=1e-9)


def test_more_points_change_no_draw_before(rng):
    marginal = marginal_of(discrete_models.mixture(np.linspace(-2.0, 2.0, 5)))
    x = rng.normal(size=(9, 2))
    some, all_rows = (marginal.recovery().complete(x[:n], np.random.default_rng(1)) for n in (4, 9))
    np.testing.assert_array_equal(some, all_rows[:4])


def test_elements_that_are_independent_need_no_joint_sum():
    """There are 2**300 configurations."""
    y = np.linspace(-3.0, 3.0, 300)
    density = density_of(discrete_models.mixture(y), compile_kwargs=QUICK)
    mu = np.array([-0.4, 1.1])
    each = np.log([0.4, 0.6]) + stats.norm(mu, 0.7).logpdf(y[:, None])
    prior = stats.norm([-1.0, 1.5], 1.5).logpdf(mu).sum()
    truth = prior + logsumexp(each, axis=1).sum()
    assert density.function(mu[None])[0] == pytest.approx(truth, rel=1e-9)


def test_a_model_without_discrete_variables_is_left_alone(four_modes):
    assert marginal_of(four_modes) is four_modes


# ------------------------------------------------------------------ what cannot be summed over


def black_box(k_upper):
    with pm.Model() as model:
        k = pm.DiscreteUniform("k", 1, k_upper)
        x = pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", models.Square()(k * 1.0) + x, 1.0, observed=2.0)
    return model


def test_a_black_box_of_a_discrete_variable_is_run_for_each_value():
    model = black_box(3)
    marginal = marginal_of(model)
    x = np.array([[0.3], [-1.0]])
    _, log_joint = discrete_models.brute_force(model, marginal, x)
    value, _ = density_of(marginal, compile_kwargs=QUICK).function(x)
    np.testing.assert_allclose(value, logsumexp(log_joint, axis=1), rtol=1e-12)


def test_a_black_box_does_not_run_for_many_values():
    match = r"variables k \(DiscreteUniform, 500 values\).*black box Square"
    with pytest.raises(ModelError, match=match):
        marginal_of(black_box(500))


def test_an_unbounded_variable_is_named():
    with pm.Model() as model:
        group = pm.Bernoulli("group", 0.3)
        pm.Normal("y", pm.Poisson("count", 2.0) + group, 1.0, observed=1.0)
        pm.Normal("x", 0.0, 1.0)
    match = r"variable count \(Poisson\) cannot be summed.*group can.*Truncated"
    with pytest.raises(ModelError, match=match):
        marginal_of(model)


def test_a_bound_that_is_a_random_variable_is_refused():
    with pm.Model() as model:
        most = pm.DiscreteUniform("most", 1, 4)
        pm.DiscreteUniform("k", 0, most)
        pm.Normal("x", 0.0, 1.0)
    with pytest.raises(ModelError, match=r"variable k \(DiscreteUniform\).*not a finite set"):
        marginal_of(model)


# PyMC announces that it imputes.
@pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
def test_missing_counts_are_explained():
    with pm.Model() as model:
        rate = pm.Exponential("rate", 1.0)
        pm.Poisson("count", rate, observed=np.ma.masked_array([1, 2, 3], [0, 0, 1]))
    with pytest.raises(ModelError, match=r"count_unobserved.*missing data: leave missing resp"):
        marginal_of(model)


def test_too_many_configurations():
    with pm.Model() as model:
        used = pm.Bernoulli("used", 0.5, shape=20)
        weight = pm.Normal("weight", 0.0, 1.0, shape=20)
        pm.Normal("y", pm.math.sum(used * weight), 1.0, observed=1.0)
    match = r"used \(Bernoulli, shape \(20,\), 2 values\) have 1e\+06 joint conf.*one by one"
    with pytest.raises(ModelError, match=match):
        marginal_of(model)


def test_a_model_of_discrete_variables_alone_has_nothing_to_sample():
    with pm.Model() as model:
        pm.Normal("y", pm.Bernoulli("group", 0.3), 1.0, observed=1.0)
    with pytest.raises(ModelError, match=r"discrete variables alone \(group"):
        marginal_of(model)
