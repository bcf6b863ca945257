"""What is compiled is not limited; what is evaluated for that is."""

from __future__ import annotations

import sys
import threading
import time

import models
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

import pymc_multimodal as mm
from pymc_multimodal.plugin.compilation import evaluates, with_limited_evaluations


class Asleep(models.Square):
    """A solver that never returns."""

    def perform(self, node, inputs, outputs):
        time.sleep(60)


def asleep():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=1)
        pm.Normal("y", Asleep()(x), 1.0, observed=np.array([4.0]))
    return model


@pytest.mark.parametrize(
    "use",
    [
        lambda run, limits: mm.fit(**run, **limits),
        lambda run, limits: mm.sample(10, **run, **limits),
        lambda run, limits: mm.MultimodalDiffusion(model=run["model"], random_seed=1, **limits),
    ],
    ids=["fit", "sample", "step"],
)
def test_a_model_that_hangs_at_its_initial_point_is_given_up(use):
    """Before, nothing ended it: evaluations for compiling were not limited."""
    run = {"model": asleep(), "progressbar": False, "quiet": True, "random_seed": 1}
    limits = {"max_seconds": 0.5, "compile_kwargs": {"mode": "FAST_COMPILE"}}
    with pytest.raises(mm.FitError, match=r"initial point \(x=0\.0\)"):
        use(run, limits)


def test_an_evaluation_is_told_from_other_work():
    """From the frames of a thread, as another one sees them."""
    seen = []
    here = threading.get_ident()

    class Looking(models.Square):
        def perform(self, node, inputs, outputs):
            frame = sys._current_frames()[here]
            seen.append(evaluates(frame))
            super().perform(node, inputs, outputs)

    x = pt.dvector("x")
    function = pytensor.function([x], Looking()(x), mode="FAST_COMPILE")
    function(np.ones(2))
    assert seen == [True]
    assert not evaluates(sys._getframe())
    assert not evaluates(None)


def test_compiling_is_not_limited():
    def compile_slowly(model):
        time.sleep(0.5)
        return model

    model = models.unimodal()
    assert with_limited_evaluations(0.05, model, compile_slowly, model) is model
