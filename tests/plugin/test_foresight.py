"""Draws that are foreseen: the same ones, asked for in large requests."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from engines import Here
from simulators import QUICK, simulator, two_inputs

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset

SILENT = {"progressbar": False, "quiet": True, "compile_kwargs": QUICK}


@pytest.fixture(scope="module")
def model():
    with pm.Model() as model:
        a, b = two_inputs()
        outputs = simulator(lambda a, b: np.array([a**2 + b, np.exp(0.3 * a) * b]))(a, b)
        pm.Normal("seen", outputs, 0.3, observed=np.array([1.2, 0.4]))
    return model


@pytest.fixture(scope="module")
def fit(model):
    emulation = mm.Emulation(min_seconds=0, budget=150, draws="exact")
    return mm.fit(model, emulation=emulation, random_seed=2, **SILENT)


def draws(idata):
    posterior = get_dataset(idata, "posterior")
    return np.stack([posterior["a"].values, posterior["b"].values])


def test_foreseen_draws_are_those_of_one_process(model, fit):
    assert fit.emulator is not None
    settings = {"model": model, "fit": fit, "chains": 3, "random_seed": 7, **SILENT}
    alone, engine = mm.sample(100, **settings), Here(4)
    shared = mm.sample(100, workers=engine, **settings)
    np.testing.assert_array_equal(draws(shared), draws(alone))
    # A request for the first points, and for each block of 85 draws; a few for points that were not
    # foreseen.
    large = [n for n in engine.requests if n > 3]
    assert sum(large) > 0.9 * 300
    assert len(engine.requests) < 60


def test_a_step_foresees_its_draws(model, fit):
    settings = {"draws": 80, "tune": 0, "chains": 2, "cores": 1, "random_seed": 7,
                "progressbar": False, "compute_convergence_checks": False}  # fmt: skip
    found, engine = [], Here(4)
    for workers in (1, engine):
        with model:
            step = mm.MultimodalDiffusion(fit=fit, workers=workers, **SILENT)
            # As where one evaluation takes a second.
            step.density.chunk, step.density.workers = 1, workers
            found.append(draws(pm.sample(step=step, **settings)))
    np.testing.assert_array_equal(*found)
    assert max(engine.requests) > 50
