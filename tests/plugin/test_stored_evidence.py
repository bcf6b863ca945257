"""The evidence from draws of PyMC's samplers agrees with exact ones; other draws are refused."""

from __future__ import annotations

import models
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.stats import halfnorm, multivariate_normal, norm

import pymc_multimodal as mm
from pymc_multimodal import ModelError
from pymc_multimodal._compat import add_group, get_dataset, load, save

DATA = np.array([1.0, 2.0, 0.5])
CHAINS = {"chains": 4, "cores": 1, "random_seed": 1, "progressbar": False,
          "compute_convergence_checks": False}  # fmt: skip
# Rubin (1981): effects of coaching in eight schools, and their standard errors.
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def conjugate(data=DATA, sd=2.0, shape=()):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, sd, shape=shape)
        pm.Normal("y", x, 1.0, observed=data)
    return model


def exact(data=DATA, sd=2.0):
    """Log evidence of `conjugate`: the data are jointly normal."""
    n = len(data)
    return multivariate_normal(np.zeros(n), np.eye(n) + sd**2).logpdf(data)


def eight_schools():
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfNormal("tau", 5.0)
        z = pm.Normal("z", 0.0, 1.0, dims="school")
        pm.Normal("y", mu + tau * z, ERRORS, observed=EFFECTS, dims="school")
    return model


def quadrature():
    """Log evidence of `eight_schools`: the schools' effects are integrated in closed form."""
    mu, tau = np.linspace(-30.0, 30.0, 601), np.linspace(1e-6, 40.0, 801)
    a, b = (v.ravel() for v in np.meshgrid(mu, tau))
    logp = norm.logpdf(a, 0.0, 5.0) + halfnorm.logpdf(b, scale=5.0)
    for y, se in zip(EFFECTS, ERRORS, strict=True):
        logp += norm.logpdf(y, a, np.hypot(se, b))
    cell = (mu[1] - mu[0]) * (tau[1] - tau[0])
    return float(np.logaddexp.reduce(logp) + np.log(cell))


def nuts(model, draws=750, **kwargs):
    return pm.sample(draws, tune=500, model=model, **CHAINS, **kwargs)


def stored(model, x, rng=None, **groups):
    """Write independent draws of `conjugate` as PyMC does, without sampling."""
    idata = xr.DataTree.from_dict({})
    add_group(idata, "posterior", xr.Dataset({"x": (("chain", "draw"), x)}))
    return idata


def posterior_draws(rng, chains=4, n=500):
    """Independent draws of the posterior of `conjugate`."""
    precision = len(DATA) + 0.25
    x = DATA.sum() / precision + rng.standard_normal((chains, n)) / np.sqrt(precision)
    return stored(None, x)


@pytest.fixture(scope="module")
def conjugate_draws():
    return nuts(conjugate())


def test_a_conjugate_model(conjugate_draws):
    found = mm.log_evidence(conjugate_draws, conjugate(), random_seed=1, quiet=True)
    assert abs(found.log_evidence - exact()) < 4 * found.log_evidence_se
    assert found.log_evidence_se < 0.01
    assert not found.statuses
    assert found.n_logp_evals == 2 * found.n_draws == 6_000


def test_eight_schools_by_quadrature():
    model = eight_schools()
    with model:
        idata = nuts(model, draws=400, target_accept=0.95)
        found = mm.log_evidence(idata, random_seed=1, quiet=True)
    assert abs(found.log_evidence - quadrature()) < 4 * found.log_evidence_se
    assert found.log_evidence_se < 0.1


# ArviZ 0.23 says so of the few temperatures of a chain.
@pytest.mark.filterwarnings("ignore:More chains:UserWarning")
def test_draws_of_smc_give_the_evidence():
    model = conjugate()
    idata = pm.sample_smc(500, model=model, **CHAINS)
    found = mm.log_evidence(idata, model, random_seed=1, quiet=True)
    assert abs(found.log_evidence - exact()) < 4 * found.log_evidence_se


def test_draws_of_this_package_of_two_modes(four_modes, four_modes_fit):
    idata = mm.sample(
        500, model=four_modes, fit=four_modes_fit, random_seed=3, progressbar=False, quiet=True
    )
    found = mm.log_evidence(idata, four_modes, random_seed=1, quiet=True)
    total, error = four_modes_fit.weights.total, four_modes_fit.weights.total_se
    assert abs(found.log_evidence - total) < 4 * np.hypot(found.log_evidence_se, error)
    recorded = mm.log_evidence(idata)
    assert (recorded.log_evidence, recorded.log_evidence_se) == (total, error)
    assert mm.log_evidence(four_modes_fit).log_evidence == total


def test_nuts_that_stays_in_its_modes_has_no_error():
    model = models.one_dimensional("x")
    starts = [{"x": -3.0}, {"x": 3.0}, {"x": 3.0}, {"x": 3.0}]
    found = mm.log_evidence(nuts(model, initvals=starts), model, random_seed=1, quiet=True)
    assert np.isnan(found.log_evidence_se)
    assert found.statuses[0].code == "r_hat"
    # The normalised prior alone.
    assert abs(found.log_evidence) < 4 * found.importance_se


def test_the_bounds_of_supports_may_depend_on_other_variables(rng):
    """Draws of the prior alone, of which the evidence is 1."""
    with pm.Model() as model:
        low = pm.HalfNormal("low", 1.0)
        pm.Uniform("x", low, low + 2.0, shape=2)
        pm.Dirichlet("p", np.ones(3))
        pm.Normal("o", 0.0, 1.0, shape=2, transform=pm.distributions.transforms.ordered)
    n = 2_000
    low = np.abs(rng.standard_normal(n))
    values = {
        "low": low,
        "x": low[:, None] + 2.0 * rng.random((n, 2)),
        "p": rng.dirichlet(np.ones(3), n),
        "o": np.sort(rng.standard_normal((n, 2)), axis=1),
    }
    idata = xr.DataTree.from_dict({})
    dataset = xr.Dataset({
        name: (("chain", "draw", *[f"{name}_{i}" for i in range(v.ndim - 1)]),
               v.reshape(4, n // 4, *v.shape[1:]))
        for name, v in values.items()
    })  # fmt: skip
    add_group(idata, "posterior", dataset)
    found = mm.log_evidence(idata, model, random_seed=1, quiet=True)
    # The order of two exchangeable variables has a probability of one half.
    assert abs(found.log_evidence - np.log(0.5)) < 4 * found.log_evidence_se
    assert found.log_evidence_se < 0.05


def test_discrete_variables_are_summed_over(rng):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        k = pm.Bernoulli("k", 0.3)
        pm.Normal("y", x + 2.0 * k, 1.0, observed=1.0)
    # The posterior of x is a mixture of two normal distributions.
    evidence = np.array(
        [0.7 * norm.pdf(1.0, 0.0, np.sqrt(2)), 0.3 * norm.pdf(1.0, 2.0, np.sqrt(2))]
    )
    k = rng.random((4, 500)) < evidence[1] / evidence.sum()
    x = (1.0 - 2.0 * k) / 2.0 + np.sqrt(0.5) * rng.standard_normal((4, 500))
    found = mm.log_evidence(stored(model, x), model, random_seed=1, quiet=True)
    assert abs(found.log_evidence - np.log(evidence.sum())) < 4 * found.log_evidence_se


def test_the_same_seed_gives_the_same_number(rng):
    idata, model = posterior_draws(rng), conjugate()
    one, same = (mm.log_evidence(idata, model, random_seed=7, quiet=True) for _ in range(2))
    assert one == same


def test_long_chains_are_thinned(rng):
    found = mm.log_evidence(posterior_draws(rng), conjugate(), max_draws=700, quiet=True)
    assert found.n_draws == 4 * 166
    assert abs(found.log_evidence - exact()) < 4 * found.log_evidence_se


def test_draws_from_a_file(conjugate_draws, tmp_path):
    save(conjugate_draws, tmp_path / "draws.nc")
    again = load(tmp_path / "draws.nc")
    a, b = (
        mm.log_evidence(i, conjugate(), random_seed=1, quiet=True) for i in (conjugate_draws, again)
    )
    assert a == b


def flat():
    with pm.Model() as model:
        x = pm.Flat("x")
        pm.Normal("y", x, 1.0, observed=DATA)
    return model


def test_an_improper_prior_is_reported(rng):
    model = flat()
    x = DATA.mean() + rng.standard_normal((4, 300)) / np.sqrt(3)
    found = mm.log_evidence(stored(model, x), model, random_seed=1, quiet=True)
    assert [s.code for s in found.statuses] == ["improper"]


def test_an_improper_prior_is_a_fault_of_the_evidence_of_a_fit():
    starts = mm.ModeSearch(starts=np.array([[-3.0], [0.5], [3.0]]))
    fit = mm.fit(flat(), modes=starts, random_seed=1, quiet=True, progressbar=False)
    assert [s.level for s in fit.statuses if s.code == "improper"] == ["info"]
    found = mm.log_evidence(fit, quiet=True)
    assert [(s.code, s.level) for s in found.statuses] == [("improper", "warning")]
    table = mm.compare({"flat": fit, "proper": mm.LogEvidence(-5.0, 0.1, (-5.2, -4.8), "fit")})
    assert table.loc["flat", "status"] == "improper"


def test_the_data_may_be_one_number(rng):
    """ArviZ stores a number as an array of shape (1,)."""
    model = conjugate(1.0)
    x = 0.8 + np.sqrt(0.8) * rng.standard_normal((4, 1000))
    idata = stored(model, x)
    observed = xr.Dataset({"y": ("y_dim_0", np.array([1.0]))})
    add_group(idata, "observed_data", observed)
    found = mm.log_evidence(idata, model, random_seed=1, quiet=True)
    assert abs(found.log_evidence - norm.logpdf(1.0, 0.0, np.sqrt(5.0))) < 5 * found.log_evidence_se
    add_group(idata, "observed_data", 2 * observed)
    with pytest.raises(ValueError, match="not those of the model"):
        mm.log_evidence(idata, model, random_seed=1, quiet=True)


def test_a_fit_is_compared_with_a_model_that_is_given():
    fit = mm.fit(conjugate(), random_seed=1, quiet=True, progressbar=False)
    assert mm.log_evidence(fit, conjugate()).log_evidence == fit.weights.total
    with pytest.raises(mm.FitError, match="data changed"):
        mm.log_evidence(fit, conjugate(DATA + 1.0))


def test_few_draws_on_the_border_of_their_support_are_replaced(rng):
    with pm.Model() as model:
        pm.Beta("x", 0.2, 2.0)
    x = rng.beta(0.2, 2.0, (4, 500))
    x[0, 3] = 0.0
    found = mm.log_evidence(stored(model, x), model, random_seed=1, quiet=True)
    assert "support" in {s.code for s in found.statuses}
    assert abs(found.log_evidence) < 4 * found.log_evidence_se
    x[:, :50] = 0.0
    with pytest.raises(ValueError, match="include_transformed"):
        mm.log_evidence(stored(model, x), model, random_seed=1, quiet=True)


# ------------------------------------------------------------------ bad input


@pytest.fixture
def no_evaluations(monkeypatch):
    """Fail as soon as the evidence is estimated."""

    def begin(*args, **kwargs):
        pytest.fail("the estimate began before the error")

    monkeypatch.setattr("pymc_multimodal.plugin.stored_evidence.evidence_of_draws", begin)


def refused(idata, model, match, error=ValueError, **kwargs):
    with pytest.raises(error, match=match):
        mm.log_evidence(idata, model, quiet=True, **kwargs)


@pytest.mark.usefixtures("no_evaluations")
def test_draws_of_other_data_are_refused(conjugate_draws):
    refused(conjugate_draws, conjugate(DATA + 1.0), "data of y are not those")
    refused(conjugate_draws, conjugate(DATA[:2]), r"shape \(3,\) in the draws, \(2,\) in the model")


@pytest.mark.usefixtures("no_evaluations")
def test_draws_of_other_priors_are_refused(conjugate_draws):
    refused(conjugate_draws, conjugate(sd=1.0), "sample_stats.lp")


@pytest.mark.usefixtures("no_evaluations")
def test_draws_that_do_not_fit_the_model_are_refused(rng):
    idata = posterior_draws(rng)
    with conjugate() as model:
        pm.Normal("z")
    refused(idata, model, r"does not hold \['z'\]")
    refused(idata, conjugate(shape=3), r"have shape \(\), and the model's variable has \(3,\)")
    refused(posterior_draws(rng, 4, 20), conjugate(), "20 draws in each of 4 chains; 100 in all")
    refused(posterior_draws(rng, 50, 4), conjugate(), "8 in each chain")
    prior = xr.DataTree.from_dict({})
    add_group(prior, "prior", get_dataset(idata, "posterior"))
    refused(prior, conjugate(), "there are no draws")
    x = np.full((4, 100), np.nan)
    refused(stored(None, x), conjugate(), "400 values of x are not finite")


@pytest.mark.usefixtures("no_evaluations")
def test_what_is_no_draws_or_model_is_refused(rng):
    idata = posterior_draws(rng)
    refused(idata, None, "needs a model", TypeError)
    refused(idata, 3, "give a pymc.Model", TypeError)
    refused([1, 2], conjugate(), "is a list", TypeError)
    refused(idata, conjugate(), "max_draws", max_draws=20)
    refused(idata, conjugate(), "n_proposals", n_proposals=3)
    refused(idata, conjugate(), "random_seed", TypeError, random_seed="a")


@pytest.mark.usefixtures("no_evaluations")
def test_unbounded_discrete_variables_are_refused(rng):
    with conjugate() as model:
        pm.Poisson("n", 3.0)
    refused(posterior_draws(rng), model, "n", ModelError)
