"""Models of the field with exact answers, and what a fit says of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pymc_multimodal.fit import FitConfig, fit_density

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))
from hard_models import MODELS


def assert_right(model, fit, names):
    """Evidence within four errors, and shares within a few hundredths of a draw's."""
    assert abs(fit.weights.total - model.log_evidence) < 4 * fit.weights.total_se
    for event, probability in model.shares.values():
        inside = [event(fit.local_draws(k), names).mean() for k in range(fit.n_modes)]
        assert fit.weights.weight @ np.array(inside) == pytest.approx(probability, abs=0.04)


# Each takes ten to forty seconds of CPU time.
@pytest.mark.slow
def test_a_switch_between_two_rates_is_a_step_and_no_hierarchy():
    model = MODELS["coal_switch"]()
    density = model.density()
    fit = fit_density(density, FitConfig(random_seed=1))
    codes = {s.code for s in fit.statuses}
    assert "step" in codes
    assert "runaway" not in codes
    assert not [s for s in fit.statuses if s.level == "warning"]
    assert_right(model, fit, density.names)


@pytest.mark.slow  # whole fits of models, twenty seconds each
@pytest.mark.parametrize("name", ["funnel_centred", "funnel_non_centred"])
def test_a_hierarchy_whose_mean_has_two_signs_is_fitted_by_its_hubs(name):
    model = MODELS[name]()
    density = model.density()
    fit = fit_density(density, FitConfig(random_seed=1))
    assert not [s for s in fit.statuses if s.level == "warning"]
    assert_right(model, fit, density.names)


@pytest.mark.slow  # a whole fit at its limit
def test_a_centred_hierarchy_without_its_structure_says_that_modes_are_lumped_together():
    density = MODELS["funnel_centred"]().density()
    fit = fit_density(density, FitConfig(random_seed=1, structure=False, max_evals=30_000))
    [status] = [s for s in fit.statuses if s.code == "runaway"]
    assert "lumped together" in status.remedy
    assert "non-centred form" in status.remedy
