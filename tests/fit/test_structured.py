"""Fits by units."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.fit import FitConfig, fit_density, structured
from pymc_multimodal.status import ModelError
from pymc_multimodal.target import Structure
from tests.unit_targets import UPPER, density_of, funnel, pairs, uneven


def codes(fit):
    return {s.code for s in fit.statuses}


@pytest.fixture(scope="module")
def with_hub():
    return fit_density(pairs(n_units=10), FitConfig(random_seed=1))


@pytest.fixture(scope="module")
def without_hub():
    return fit_density(pairs(n_units=10, hub=False), FitConfig(random_seed=1))


@pytest.mark.parametrize("name", ["with_hub", "without_hub"])
def test_weights_and_evidence_are_right(name, request):
    fit = request.getfixturevalue(name)
    assert fit.units is not None
    assert fit.n_modes == 1
    # The density is normalised.
    assert 0 < fit.weights.total_se < 0.05
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    weight, se = fit.units.weight[:, 0], fit.units.weight_se[:, 0]
    assert (se < 0.02).all()
    assert np.abs((weight - UPPER) / se).max() < 4.5
    np.testing.assert_allclose(fit.units.weight.sum(axis=1), 1.0, atol=1e-6)


def test_units_of_unequal_size_have_the_right_evidence():
    density, log_z = uneven()
    fit = fit_density(density, FitConfig(random_seed=2, structure=Structure()))
    assert codes(fit) == {"units"}
    assert 0 < fit.weights.total_se < 0.05
    assert abs(fit.weights.total - log_z) < 4 * fit.weights.total_se
    several = fit.units.n_explanations > 1
    np.testing.assert_array_equal(several, [False] * 8 + [True] * 3)
    z = (fit.units.weight - 0.5)[several] / fit.units.weight_se[several]
    assert np.abs(z).max() < 4.5
    assert fit.n_logp_evals < 1_000_000


@pytest.mark.parametrize("seed", range(4))
def test_units_that_no_explanation_describes_have_an_honest_error(seed):
    """Weights of one of them may have no variance: the mean of them would look precise."""
    density, log_z = funnel()
    fit = fit_density(density, FitConfig(random_seed=seed, structure=Structure()))
    if np.isnan(fit.weights.total_se):
        (told,) = (s for s in fit.statuses if s.code == "units")
        assert told.level == "warning"
        assert "not precise" in told.message
    else:
        assert abs(fit.weights.total - log_z) < 4 * fit.weights.total_se


@pytest.mark.parametrize("name", ["with_hub", "without_hub"])
def test_combinations_have_the_product_of_the_shares(name, request):
    units = request.getfixturevalue(name).units
    upper = (units.combinations == 0).sum(axis=1)
    exact = UPPER**upper * (1 - UPPER) ** (10 - upper)
    assert len(units.probability) >= 1
    np.testing.assert_allclose(units.probability, exact, atol=0.004)
    assert (np.abs(units.probability - exact) < 4.5 * units.probability_se).all()
    assert (np.diff(units.probability) <= 0).all()


def test_draws_are_those_of_the_posterior(with_hub):
    x = with_hub.local_draws(0)
    g, z = x[:, 0], x[:, 1:]
    assert g.std() == pytest.approx(1.0, abs=0.15)
    assert np.mean(z > g[:, None]) == pytest.approx(UPPER, abs=0.03)


def test_few_combinations_are_left_to_the_steps():
    fit = fit_density(pairs(n_units=4), FitConfig(random_seed=0, max_evals=4_000))
    assert fit.units is None
    assert "units" not in codes(fit)


def test_structure_can_be_left_out_or_asked_for():
    fit = fit_density(pairs(n_units=4, hub=False), FitConfig(structure=Structure()))
    assert fit.units is not None
    config = FitConfig(structure=False, max_evals=3_000)
    assert fit_density(pairs(n_units=8), config).units is None


def test_a_coupling_that_the_terms_do_not_tell_ends_the_fit_by_units():
    fit = fit_density(pairs(n_units=8, coupled=0.02), FitConfig(max_evals=30_000))
    assert fit.units is None


def test_limits_are_kept():
    fit = fit_density(pairs(n_units=10), FitConfig(max_evals=5_000))
    assert fit.n_logp_evals <= 5_500


def test_a_density_without_terms_has_no_units():
    plain = density_of(
        lambda x: -0.5 * x**2, np.ones((4, 4)), lambda n, g: g.standard_normal((n, 4))
    )
    with pytest.raises(ModelError):
        fit_density(plain, FitConfig(structure=Structure(units=[[0], [1], [2], [3]])))


def test_the_same_seed_gives_the_same_fit(without_hub):
    again = fit_density(pairs(n_units=10, hub=False), FitConfig(random_seed=1))
    np.testing.assert_array_equal(again.units.weight, without_hub.units.weight)
    assert again.weights.total == without_hub.weights.total


@pytest.mark.parametrize("again", [True, False])
def test_an_explanation_that_is_found_late_is_told_if_other_hubs_show_it_too(again, monkeypatch):
    """The first look is that before the weights are estimated, the others are late."""
    looks, look = [], structured.missing_explanations

    def found(*args):
        share, more = look(*args)
        looks.append(len(looks))
        if len(looks) == 2 or (len(looks) == 3 and again):
            share = share + 0.05 * (np.arange(len(share)) == 3)
        return share, more

    monkeypatch.setattr(structured, "missing_explanations", found)
    fit = fit_density(pairs(n_units=10), FitConfig(random_seed=1))
    assert len(looks) == 3
    assert ("unit_modes" in codes(fit)) == again
