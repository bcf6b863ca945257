"""Arguments of a wrong type, or without a meaning: the error names the argument and its value."""

from __future__ import annotations

import inspect
import logging
import re
from dataclasses import fields

import numpy as np
import pymc as pm
import pytest

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.plugin.keywords import REFUSED

SILENT = {"progressbar": False, "quiet": True}


@pytest.fixture(autouse=True)
def no_fit(monkeypatch):
    """Fail as soon as a density is fitted."""

    def begin(*args, **kwargs):
        pytest.fail("a fit began before the error")

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.fit_density", begin)


@pytest.fixture(scope="module")
def idata(four_modes, four_modes_fit):
    return mm.sample(10, chains=2, model=four_modes, fit=four_modes_fit, random_seed=1, **SILENT)


class Given:
    """What the cases below are made from: a model, a fit of it and draws."""

    def __init__(self, model, fit, idata):
        self.model, self.fit, self.idata = model, fit, idata

    def without_stats(self):
        """Return the draws with their posterior alone."""
        idata = self.idata.copy()
        for group in [n for n in group_names(idata) if n != "posterior"]:
            del idata[group]
        return idata

    def sample(self, **kwargs):
        return mm.sample(10, model=self.model, fit=self.fit, **SILENT, **kwargs)


@pytest.fixture
def given(four_modes, four_modes_fit, idata):
    return Given(four_modes, four_modes_fit, idata)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda g: mm.fit(3), TypeError, r"fit\(model=3\) is an int; give a pymc.Model"),
        (lambda g: mm.sample(model="m"), TypeError, r"sample\(model='m'\) is a str"),
        (lambda g: mm.MultimodalDiffusion(model=3), TypeError,
         r"MultimodalDiffusion\(model=3\) is an int"),
        (lambda g: mm.MultimodalDiffusion(["x"], model=g.model), TypeError,
         r"vars=\['x'\].*'x' is no free variable.*leave `vars` out"),
        (lambda g: mm.MultimodalDiffusion(500, model=g.model), TypeError, "vars=.*500"),
        (lambda g: mm.attach(g.without_stats(), g.fit), TypeError,
         r"attach\(idata, fit\).*sample stats `lp` and `mode`.*with model:"),
        (lambda g: mm.attach(g.idata, 3), TypeError, r"attach\(fit=3\) is an int.*step.fit"),
        (lambda g: mm.attach(None), TypeError, r"attach\(None\) is a NoneType.*pm.sample"),
        (lambda g: mm.relabel("x.nc"), TypeError, r"relabel\('x.nc'\) is a str"),
        (lambda g: mm.mode_table(mm.mode_table(g.fit)), TypeError,
         r"^mode_table\(\.\.\.\) is a ModeTable; give [^\n]*$"),
        (lambda g: mm.sample(model=g.model, fit=g.idata), TypeError,
         r"^sample\(fit=\.\.\.\) is an? (InferenceData|DataTree); give [^\n]*$"),
        (lambda g: mm.fit(g.model, modes=g.idata), TypeError,
         r"^fit\(modes=\.\.\.\) is an? (InferenceData|DataTree); give [^\n]*$"),
        (lambda g: mm.mode_table(None), TypeError, r"mode_table\(None\) is a NoneType"),
        (lambda g: mm.plot_modes("x.nc"), TypeError, r"plot_modes\('x.nc'\) is a str"),
        (lambda g: mm.plot_modes(g.idata, 3), TypeError, r"var_names=3\) must be a name of"),
        (lambda g: mm.plot_emulator(g.idata), TypeError,
         r"^plot_emulator\(fit=\.\.\.\) is an? (InferenceData|DataTree); give [^\n]*$"),
        (lambda g: mm.plot_emulator(g.fit), ValueError, r"plot_emulator\(fit\).*no emulator.*Fit"),
        (lambda g: mm.fit(g.model, emulation="x"), TypeError, r"^fit\(emulation='x'\) is a str"),
        (lambda g: mm.sample(model=g.model, evaluations=3), TypeError,
         r"^sample\(evaluations=3\) is an int; give an? Evaluations"),
        (lambda g: mm.Emulation(outputs="flow"), TypeError, "outputs='flow'.*list of names"),
        (lambda g: mm.Emulation(outputs=[]), ValueError, r"outputs=\[\].*names no variable"),
        (lambda g: mm.mode_table(g.idata, max_elements="x"), TypeError, "max_elements='x'"),
        (lambda g: mm.ModeSearch(locations=-1), TypeError, r"locations=-1.*\(n, d\)"),
        (lambda g: mm.Symmetry(generators=3), TypeError, r"generators=3.*tuple of arrays"),
        (lambda g: g.sample(var_names=3), TypeError, r"sample\(var_names=3\) must be a list"),
        (lambda g: g.sample(var_names="x"), TypeError, r"var_names='x'\) must be a list"),
        (lambda g: g.sample(idata_kwargs=3), TypeError, r"idata_kwargs=3.*such as a dict"),
        (lambda g: g.sample(idata_kwargs={"foo": 1}), TypeError, "idata_kwargs.*'foo'.*coords"),
        (lambda g: g.sample(compile_kwargs={"foo": 1}), TypeError, "compile_kwargs.*'foo'.*mode"),
        (lambda g: g.sample(compile_kwargs={"mode": "no"}), ValueError, "'mode': 'no'.*NUMBA"),
        (lambda g: g.sample(cores="a"), TypeError, r"sample\(cores='a'\)"),
        (lambda g: g.sample(cores=0), ValueError, r"cores=0\) must be at least 1"),
        (lambda g: g.sample(blas_cores=0), ValueError, "blas_cores=0"),
        (lambda g: g.sample(backend="no"), ValueError, "'NO'.*NUMBA"),
        (lambda g: g.sample(backend="c", compile_kwargs={"mode": "JAX"}), ValueError, "one of"),
        (lambda g: g.sample(compute_convergence_checks="x"), TypeError, "checks='x'.*True or"),
        (lambda g: g.sample(random_seed="a"), TypeError, "random_seed='a'"),
        (lambda g: mm.fit(g.model, max_evals=2.5), ValueError, r"^fit\(max_evals=2.5\).*whole"),
        (lambda g: mm.sample(model=g.model, max_evals=-1), ValueError, r"^sample\(max_evals=-1\)"),
        (lambda g: mm.sample(model=g.model, workers=0), ValueError, r"^sample\(workers=0\)"),
        (lambda g: mm.MultimodalDiffusion(model=g.model, regions=3), TypeError,
         r"^MultimodalDiffusion\(regions=3\) is an int; give a Regions"),
        (lambda g: g.fit.generate(5, "x"), TypeError, r"generate\(rng='x'\) must be a whole"),
        (lambda g: g.fit.generate(5, -1), ValueError, r"generate\(rng=-1\)"),
        (lambda g: mm.ScoreLangevin.from_draws(g.idata, random_seed="a"), TypeError,
         "random_seed='a'"),
    ],
)  # fmt: skip
def test_the_argument_its_value_and_the_remedy_are_named(given, call, error, says):
    with pytest.raises(error, match=rf"(?s){says}"):
        call(given)


WRONG = ("zz", -1, 3.7, None, [], {}, object(), np.nan, True, int)
CALLS = {
    "fit": lambda g, **k: mm.fit(**({"model": g.model, **SILENT} | k)),
    "step": lambda g, **k: mm.MultimodalDiffusion(**({"model": g.model, **SILENT} | k)),
    "sample": lambda g, **k: mm.sample(**({"draws": 2, "model": g.model, **SILENT} | k)),
    "attach": lambda g, **k: mm.attach(**({"idata": g.idata} | k)),
    "mode_table": lambda g, **k: mm.mode_table(**({"idata": g.idata} | k)),
    "plot_modes": lambda g, **k: mm.plot_modes(**({"idata": g.idata} | k)),
    "plot_weights": lambda g, **k: mm.plot_weights(**({"idata": g.idata} | k)),
    "plot_corner": lambda g, **k: mm.plot_corner(**({"idata": g.idata} | k)),
    "plot_marginals": lambda g, **k: mm.plot_marginals(**({"idata": g.idata} | k)),
    "plot_jumps": lambda g, **k: mm.plot_jumps(**({"idata": g.idata} | k)),
    "plot_ratios": lambda g, **k: mm.plot_ratios(**({"idata": g.idata} | k)),
    "plot_search": lambda g, **k: mm.plot_search(**({"fit": g.fit} | k)),
    "plot_diffusion": lambda g, **k: mm.plot_diffusion(**({"fit": g.fit} | k)),
    "plot_emulator": lambda g, **k: mm.plot_emulator(**({"fit": g.fit} | k)),
    "relabel": lambda g, **k: mm.relabel(**({"idata": g.idata} | k)),
}
FUNCTIONS = {"step": mm.MultimodalDiffusion} | {n: getattr(mm, n) for n in CALLS if n != "step"}


@pytest.mark.parametrize("name", CALLS)
def test_no_function_raises_a_raw_error(given, monkeypatch, name):
    """Every argument with values of every kind: it is taken, or the error names it."""

    class Begun(Exception):
        pass

    def begin(*args, **kwargs):
        raise Begun

    monkeypatch.setattr("pymc_multimodal.plugin.step.fit_model", begin)
    monkeypatch.setattr("pymc_multimodal.plugin.sampler.fit_model", begin)
    raw = []
    for argument in inspect.signature(FUNCTIONS[name]).parameters:
        for value in WRONG:
            try:
                CALLS[name](given, **{argument: value})
            except Begun:
                pass
            except (TypeError, ValueError) as error:
                # `idata` is the first argument of its functions and needs no name.
                known = (argument, f"{name}(", "No free random variables")
                if not any(text in str(error) for text in known):
                    raw.append(f"{argument}={value!r}: {error}")
            except Exception as error:
                raw.append(f"{argument}={value!r}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


@pytest.mark.parametrize(
    "settings",
    [mm.Challenge, mm.Emulation, mm.Hybrid, mm.LRDS, mm.LocalSampling, mm.ModeSearch, mm.Network,
     mm.PublishedHybrid, mm.Regions, mm.ScoreLangevin, mm.Symmetry, mm.ControlNetwork,
     mm.EnergyNetwork],
)  # fmt: skip
def test_no_settings_raise_a_raw_error(settings):
    raw = []
    needed = {"generators": (np.eye(2),)} if settings is mm.Symmetry else {}
    for field in fields(settings):
        for value in WRONG:
            try:
                settings(**(needed | {field.name: value}))
            except (TypeError, ValueError) as error:
                if field.name not in str(error):
                    raw.append(f"{field.name}={value!r}: {error}")
    assert not raw, "\n".join(raw)


# -------------------------------------------------------------- pm.sample


def test_every_keyword_of_pymc_is_taken_or_refused_with_the_reason(given):
    theirs = inspect.signature(pm.sample).parameters
    ours = inspect.signature(mm.sample).parameters
    known = {n for n, p in theirs.items() if p.kind is not p.VAR_KEYWORD}
    assert known <= {*ours, *REFUSED}
    assert not {*ours} & {*REFUSED}
    for name, reason in REFUSED.items():
        with pytest.raises(TypeError, match=re.escape(f"no meaning here: {reason}")):
            given.sample(**{name: "something"})


def test_keywords_of_pymc_with_their_defaults_are_taken(given):
    theirs = inspect.signature(pm.sample).parameters
    defaults = {
        n: p.default for n, p in theirs.items() if p.kind is not p.VAR_KEYWORD
    } | {"draws": 3, "chains": 2, "tune": None, "model": given.model, **SILENT}  # fmt: skip
    idata = mm.sample(fit=given.fit, **defaults)
    assert get_dataset(idata, "posterior").sizes["draw"] == 3


def test_no_seed_is_announced_before_the_model_is_known(caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    for call in (mm.fit, mm.sample, mm.MultimodalDiffusion):
        with pytest.raises(TypeError, match=r"none on the context stack.*with model:"):
            call()
    assert not caplog.records
