"""What is checked and said before and after a fit of a model."""

from __future__ import annotations

import sys
from dataclasses import replace

import pymc as pm
import pytest
from clocks import WAITED, wait_until

import pymc_multimodal as mm
from pymc_multimodal.plugin import fitting
from pymc_multimodal.status import Status


def test_a_long_compilation_is_announced_with_a_hint(monkeypatch, caplog):
    caplog.set_level("INFO", logger="pymc.multimodal")

    # What is awaited comes; where nothing is to come, a moment is enough.
    waited = iter([WAITED, 0.2])

    def density_of(model, **kwargs):
        wait_until(lambda: len(caplog.records) == 2, next(waited))
        raise RuntimeError("compiled")

    monkeypatch.setattr(fitting, "density_of", density_of)
    monkeypatch.setattr(fitting, "LONG_COMPILATION", 0.05)
    with pytest.raises(RuntimeError, match="compiled"):
        mm.fit(pm.Model(), random_seed=1, progressbar=False)
    first, second = (r.getMessage() for r in caplog.records)
    assert first.startswith("Compiling the log density")
    assert "compile_kwargs={'mode': 'FAST_COMPILE'}" in second
    caplog.clear()
    with pytest.raises(RuntimeError, match="compiled"):
        mm.fit(pm.Model(), random_seed=1, quiet=True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("generator", "needed"),
    [
        (None, False),
        ("hybrid", False),
        (mm.LRDS(train=False), False),
        (mm.LRDS(), True),
        (mm.LRDS(train=False, reference="ebm"), True),
        ("published", True),
        ("score", True),
    ],
)
def test_torch_is_imported_before_the_limits_count(generator, needed, monkeypatch, caplog):
    """The import took the rest of a limit of 20 seconds, and 5 more: nothing can interrupt it."""
    caplog.set_level("INFO", logger="pymc.multimodal")
    imported = []

    def fit_density(*args, **kwargs):
        raise RuntimeError("the limits count from here")

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(fitting, "find_spec", lambda name: name)
    monkeypatch.setattr(fitting, "import_module", imported.append)
    monkeypatch.setattr(fitting, "fit_density", fit_density)
    with pm.Model() as model:
        pm.Normal("x")
    with pytest.raises(RuntimeError, match="count from here"):
        mm.fit(model, generator=generator, random_seed=1, progressbar=False)
    assert imported == ["torch"] * needed
    assert ("importing torch" in caplog.text.lower()) == needed


@pytest.mark.parametrize("quiet", [False, True])
def test_the_start_of_workers_is_announced(four_modes, four_modes_fit, monkeypatch, caplog, quiet):
    caplog.set_level("INFO", logger="pymc.multimodal")
    monkeypatch.setattr(fitting.Density, "start_workers", lambda density: None)
    monkeypatch.setattr(fitting, "fit_density", lambda *a, **k: four_modes_fit)
    mm.fit(four_modes, random_seed=1, workers=2, quiet=quiet, progressbar=False)
    said = [r.getMessage() for r in caplog.records]
    assert any(s.startswith("Starting 2 workers, each of which loads") for s in said) != quiet
    caplog.clear()
    mm.fit(four_modes, random_seed=1, quiet=quiet, progressbar=False)
    assert not any("worker" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"starts": [[0.0, 1.0, 2.0, 3.0]]}, r"starts=...\) has shape \(1, 4\).*shape \(n, 2\)"),
        ({"locations": [[0.0, 1.0, 2.0, 3.0]]}, r"locations=...\) has shape \(1, 4\)"),
        ({"starts": [[0.0, float("nan")]]}, "starts=...\\) holds NaN"),
    ],
)
def test_points_that_do_not_fit_the_model_are_refused_before_compiling(monkeypatch, given, says):
    monkeypatch.setattr(fitting, "density_of", lambda *a, **k: pytest.fail("compiled"))
    with pm.Model() as model:
        pm.Normal("x", shape=2)
    with pytest.raises(ValueError, match=says):
        mm.fit(model, modes=mm.ModeSearch(**given), random_seed=1, quiet=True)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ({"y": 1.0}, r"names \['y'\], which the model does not have; .* \['s', 'x'\]"),
        ({"x": 1.0}, r"'x' a value of shape \(\), but the variable has the shape \(2,\)"),
        ({"x": [1.0, float("nan")]}, r"'x' the value .*: give finite numbers of shape \(2,\)"),
        ({"x": "far"}, r"'x' the value 'far': give finite numbers"),
        ({"s": -1.0}, r"'s' the value -1.0, which is outside of its support"),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_locations_by_name_are_checked_before_compiling(monkeypatch, location, says, several):
    monkeypatch.setattr(fitting, "density_of", lambda *a, **k: pytest.fail("compiled"))
    with pm.Model() as model:
        pm.Normal("x", shape=2)
        pm.HalfNormal("s")
    locations = [{"s": 1.0}, location] if several else location
    with pytest.raises(mm.ModelError, match=says):
        mm.fit(model, modes=mm.ModeSearch(locations=locations), random_seed=1, quiet=True)


def test_warnings_that_all_images_share_are_told_once(
    four_modes, four_modes_fit, monkeypatch, caplog
):
    alike = tuple(
        Status("r_hat", "regions", "the chains did not mix.", mode=k)
        for k in range(four_modes_fit.n_modes)
    )
    fit = replace(four_modes_fit, statuses=alike)
    monkeypatch.setattr(fitting, "fit_density", lambda *a, **k: fit)
    mm.fit(four_modes, random_seed=1, quiet=True, progressbar=False)
    said = [r.getMessage() for r in caplog.records if "did not mix" in r.getMessage()]
    assert said == [f"modes 0-{fit.n_modes - 1}: the chains did not mix."]
