"""Models with discrete variables through ``sample``, ``fit`` and ``pm.sample``."""

from __future__ import annotations

import discrete_models
import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp

import pymc_multimodal as mm
from pymc_multimodal import ModelError, MultimodalDiffusion
from pymc_multimodal._compat import ess, get_dataset

# pymc-extras' chain uses an old signature of PyTensor's scan.
pytestmark = pytest.mark.filterwarnings("ignore:Scan return signature will change")

COMPILED = {"compile_kwargs": {"mode": discrete_models.QUICK}}
QUICK = {"progressbar": False, "quiet": True, "compute_convergence_checks": False, **COMPILED}
# Evaluations by the Python linker take most of the time, and all of these densities have few modes.
FITTED = {"modes": mm.ModeSearch(starts=32, screening=0), "quiet": True, **COMPILED}

COUNTS = np.array([5, 3, 4, 6, 2, 4, 1, 0, 1, 2, 0, 1])
LINE = np.array([-0.6, -0.2, 0.1, -0.1, 0.5, 0.6])
CHAIN = np.array([1.2, 1.4, -0.1, -1.1, -0.4, 0.3])
CLUSTERS = np.array([-1.9, -1.2, -0.8, 0.1, 0.4, 1.3, 1.6, 2.4])


def check_share(draws, truth):
    """Compare the mean of draws (chains, draws) of zeros and ones with a probability."""
    draws = draws.astype(float)
    n = ess(draws, "mean")[0] if np.ptp(draws) else draws.size
    assert n > 100
    error = np.sqrt(truth * (1 - truth) / n)
    assert abs(draws.mean() - truth) < 4 * error + 1e-9


def check_evidence(fit, truth):
    assert fit.weights.total == pytest.approx(truth, abs=4 * fit.weights.total_se)
    assert fit.weights.total_se < 0.05


def drawn(model, **kwargs):
    fit = mm.fit(model, random_seed=1, **FITTED)
    idata = mm.sample(300, model=model, fit=fit, random_seed=2, **QUICK, **kwargs)
    return fit, idata, get_dataset(idata, "posterior")


def test_a_changepoint_has_its_probabilities_and_evidence():
    fit, idata, posterior = drawn(discrete_models.changepoint(COUNTS))
    n, total = len(COUNTS), COUNTS.sum()
    taus = np.arange(1, n)
    early = np.cumsum(COUNTS)[:-1]
    log_joint = (
        gammaln(early + 1) - (early + 1) * np.log(taus + 1)
        + gammaln(total - early + 1) - (total - early + 1) * np.log(n - taus + 1)
        - gammaln(COUNTS + 1).sum() - np.log(n - 1)
    )  # fmt: skip
    check_evidence(fit, logsumexp(log_joint))
    tau = posterior["tau"].values
    assert tau.dtype == np.int64
    for value, truth in zip(taus, np.exp(log_joint - logsumexp(log_joint)), strict=True):
        check_share(tau == value, truth)
    # What depends on the change point is computed from its draws.
    before = posterior["year"].values < tau[..., None]
    rate = np.where(before, *(posterior[n].values[..., None] for n in ("early", "late")))
    np.testing.assert_array_equal(posterior["rate"].values, rate)
    assert posterior["rate"].dims == ("chain", "draw", "year")
    for group in ("modes", "mode_posterior"):
        assert "tau" in get_dataset(idata, group)
    best = get_dataset(idata, "modes")["tau"].values
    assert set(best) <= set(taus)


def test_indicators_of_a_mixture_have_their_probabilities():
    fit, _, posterior = drawn(discrete_models.mixture(CLUSTERS))
    paths, log_joint = discrete_models.exact_paths(
        CLUSTERS, lambda z: np.log(np.take([0.4, 0.6], z)).sum(), [-1.0, 1.5], (1.5, 0.7)
    )
    check_evidence(fit, logsumexp(log_joint))
    weights = np.exp(log_joint - logsumexp(log_joint))
    z = posterior["z"]
    assert z.dims == ("chain", "draw", "datum")
    for k in range(len(CLUSTERS)):
        check_share(z.values[..., k], weights @ paths[:, k])
    # Draws are joint: pairs have their probability, too.
    check_share(z.values[..., 3] * z.values[..., 4], weights @ (paths[:, 3] * paths[:, 4]))


def test_an_indicator_of_models_has_the_bayes_factor():
    """The Bayes factor by the draws, and by the evidences of the two models."""
    fit, _, posterior = drawn(discrete_models.indicator(LINE))
    t = np.linspace(-1.0, 1.0, len(LINE))
    noise = 0.25 * np.eye(len(LINE)) + 4.0
    log_marginal = [
        stats.multivariate_normal(np.zeros(len(LINE)), noise + needed * np.outer(t, t)).logpdf(LINE)
        for needed in (0, 1)
    ]
    log_joint = np.log([0.7, 0.3]) + log_marginal
    check_evidence(fit, logsumexp(log_joint))
    check_share(posterior["needed"].values, np.exp(log_joint[1] - logsumexp(log_joint)))
    fixed = [
        mm.fit(pm.do(discrete_models.indicator(LINE), {"needed": k}), random_seed=1, **FITTED)
        for k in (0, 1)
    ]
    for one, truth in zip(fixed, log_marginal, strict=True):
        check_evidence(one, truth)


def test_a_hidden_markov_chain_has_its_probabilities_and_evidence():
    pytest.importorskip("pymc_extras")
    fit, _, posterior = drawn(discrete_models.hidden_markov(CHAIN))
    steps = np.log(discrete_models.STEPS)
    paths, log_joint = discrete_models.exact_paths(
        CHAIN,
        lambda s: np.log(discrete_models.START[s[0]]) + steps[s[:-1], s[1:]].sum(),
        [-1.0, 1.0],
        (1.0, 0.6),
    )
    check_evidence(fit, logsumexp(log_joint))
    weights = np.exp(log_joint - logsumexp(log_joint))
    state = posterior["state"]
    assert state.dims == ("chain", "draw", "time")
    for k in range(len(CHAIN)):
        check_share(state.values[..., k], weights @ paths[:, k])
    changed = np.abs(np.diff(paths, axis=1)).sum(axis=1) == 1
    check_share(np.abs(np.diff(state.values, axis=-1)).sum(axis=-1) == 1, weights @ changed)


# ------------------------------------------------------------------ the ways in


@pytest.fixture(scope="module")
def model():
    return discrete_models.mixture(CLUSTERS[::2])


@pytest.fixture(scope="module")
def fit(model):
    return mm.fit(model, random_seed=1, **FITTED)


def test_the_step_draws_discrete_variables_too(model, fit):
    kwargs = {"progressbar": False, "compute_convergence_checks": False, "random_seed": 1}
    posteriors = []
    for cores in (1, 2):
        with model:
            step = MultimodalDiffusion(fit=fit, quiet=True, **COMPILED)
            idata = pm.sample(400, tune=0, chains=2, cores=cores, step=step, **kwargs)
        posteriors.append(get_dataset(idata, "posterior"))
    y = CLUSTERS[::2]
    paths, log_joint = discrete_models.exact_paths(
        y, lambda z: np.log(np.take([0.4, 0.6], z)).sum(), [-1.0, 1.5], (1.5, 0.7)
    )
    weights = np.exp(log_joint - logsumexp(log_joint))
    for k in range(len(y)):
        check_share(posteriors[0]["z"].values[..., k], weights @ paths[:, k])
    np.testing.assert_array_equal(posteriors[0]["z"].values, posteriors[1]["z"].values)
    mm.attach(idata)
    assert get_dataset(idata, "modes")["z"].dims == ("mode", "datum")
    assert step.attach(idata) is idata
    assert get_dataset(idata, "mode_posterior")["z"].dims == ("chain", "draw", "mode", "datum")


def test_a_shorter_run_is_the_beginning_of_a_longer_one(model, fit):
    short, long = (
        get_dataset(
            mm.sample(n, chains=2, model=model, fit=fit, random_seed=3, **QUICK), "posterior"
        )
        for n in (20, 50)
    )
    np.testing.assert_array_equal(short["z"].values, long["z"].values[:, :20])


def test_the_log_names_what_is_summed_over(model, fit, caplog):
    caplog.set_level("INFO", logger="pymc")
    mm.sample(5, chains=1, model=model, fit=fit, **{**QUICK, "quiet": False})
    assert (
        "Summing over the discrete variables z (Categorical, shape (4,), 2 values)" in caplog.text
    )


def test_part_of_the_variables_is_drawn_and_kept(model, fit):
    idata = mm.sample(5, chains=1, model=model, fit=fit, var_names=["z"], **QUICK)
    assert [*get_dataset(idata, "posterior").data_vars] == ["z"]


def test_another_step_for_a_discrete_variable_is_explained(model):
    with model, pytest.raises(ModelError, match=r"discrete variables z to another step.*leave"):
        pm.sample(
            step=[MultimodalDiffusion([model["mu"]]), pm.CategoricalGibbsMetropolis([model["z"]])]
        )


@pytest.mark.parametrize("k", [2, 3])
def test_relabel_changes_the_values_of_indicators_with_their_components(k, caplog):
    """A datum stays with its component: mu[z] is the same in every draw."""
    centres = 3.0 * (np.arange(k) - (k - 1) / 2)
    seen = (centres[:, None] + [-0.2, 0.0, 0.3]).ravel()
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 3.0, shape=k)
        z = pm.Categorical("z", np.full(k, 1.0 / k), shape=3 * k)
        needed = pm.Bernoulli("needed", 0.5)  # no component's indicator
        pm.Normal("y", mu[z], 0.5, observed=seen)
        pm.Normal("other", 2.0 * needed, 1.0, observed=1.9)
    idata = mm.sample(100, chains=2, model=model, random_seed=1, **QUICK)
    relabelled = mm.relabel(idata)
    before, after = (get_dataset(x, "posterior") for x in (idata, relabelled))
    assert "left" not in caplog.text

    def component(posterior):
        return np.take_along_axis(posterior["mu"].values, posterior["z"].values, axis=2)

    np.testing.assert_array_equal(component(after), component(before))
    np.testing.assert_array_equal(after["needed"], before["needed"])
    # Each component is one of the groups of data, in all draws.
    order = np.argsort(after["mu"].values, axis=2)
    assert (order == order[0, 0]).all()
    assert (before["z"].values[..., 0] != before["z"].values[0, 0, 0]).any()
    assert (after["z"].values[..., 0] == after["z"].values[0, 0, 0]).mean() > 0.95
    assert get_dataset(relabelled, "modes").sizes["mode"] == 1
