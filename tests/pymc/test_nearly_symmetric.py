"""Models that are symmetric but for a part of a tail: the draws are those of the model itself."""

from __future__ import annotations

import logging

import numpy as np
import pymc as pm
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset

SILENT = {"progressbar": False, "quiet": True, "compute_convergence_checks": False}


def cut(border, low=-np.inf):
    """|x| is observed; below `-border` the log density is lower by `low`."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 2.0)
        pm.Normal("y", pm.math.abs(x), 0.3, observed=1.0)
        pm.Potential("border", pm.math.switch(x > -border, 0.0, low))
    return model


def truth(border, low=-np.inf):
    """Posterior probability of x < 0, and of x < -border, and the log evidence."""

    def joint(x):
        return norm.pdf(x, 0.0, 2.0) * norm.pdf(1.0, abs(x), 0.3)

    negative, beyond = quad(joint, -border, 0)[0], quad(joint, -6, -border)[0] * np.exp(low)
    total = negative + beyond + quad(joint, 0, 6)[0]
    return (negative + beyond) / total, beyond / total, np.log(total)


@pytest.mark.parametrize(("border", "low", "seed"), [(1.5, -np.inf, 1), (1.7, -np.inf, 2),
                                                     (1.5, -3.0, 2)])  # fmt: skip
def test_draws_are_those_of_the_model(border, low, seed):
    model = cut(border, low)
    idata = mm.sample(3000, model=model, random_seed=seed, max_evals=300_000, **SILENT)
    negative, beyond, log_z = truth(border, low)
    x = get_dataset(idata, "posterior")["x"].values
    for share, true in ((x < 0, negative), (x < -border, beyond)):
        # Draws of a chain are nearly independent: jumps between the modes are mostly accepted.
        error = np.sqrt(2 * true * (1 - true) / share.size)
        assert abs(share.mean() - true) <= 4 * error
    modes = get_dataset(idata, "modes")
    below = modes["x"].values < 0
    error = float(modes["weight_se"].values[below].sum())
    assert abs(modes["weight"].values[below].sum() - negative) < 4.5 * max(error, 1e-3)
    assert abs(modes.attrs["log_evidence"] - log_z) < 4.5 * modes.attrs["log_evidence_se"]
    lp = get_dataset(idata, "sample_stats")["lp"].values
    density = model.compile_logp()
    for c, t in ((0, 0), (1, 1000), (3, 2999)):
        assert lp[c, t] == pytest.approx(density({"x": x[c, t]}), abs=1e-6)


@pytest.fixture(scope="module")
def border():
    """So far out that the fit takes the model for symmetric: one draw in 4,000 is beyond it."""
    return 1.95


@pytest.fixture(scope="module")
def folded(border):
    fit = mm.fit(cut(border), random_seed=1, quiet=True, progressbar=False)
    assert fit.orbits is not None
    return fit


def test_draws_of_a_fit_that_is_not_symmetric_are_refused(border, folded):
    with pytest.raises(mm.FitError, match="symmetry=False"):
        mm.sample(20_000, model=cut(border), fit=folded, random_seed=1, **SILENT)
    model = cut(border)
    with model, pytest.raises(mm.FitError, match="symmetry=False"):
        pm.sample(
            20_000, tune=0, chains=1, cores=1, random_seed=1, progressbar=False,
            step=mm.MultimodalDiffusion(fit=folded),
        )  # fmt: skip


def test_a_symmetry_that_breaks_while_draws_are_made_is_given_up(border, folded, caplog):
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        idata = mm.sample(20_000, model=cut(border), random_seed=1, max_evals=400_000, **SILENT)
    assert any("is done now" in r.getMessage() for r in caplog.records)
    x = get_dataset(idata, "posterior")["x"].values
    assert (x > -border).all()
    assert (x > border).any()
