"""A fit reports its stages to a progress bar, whatever they are called."""

from __future__ import annotations

import time

import pymc as pm
import pytest

import pymc_multimodal as mm
from pymc_multimodal.plugin import fitting, settings


class Bar:
    """Stands for PyMC's progress bar: keeps what it is told."""

    def __init__(self):
        self.total, self.completed, self.texts = 0, [], []

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return False

    def add_task(self, description, total):
        self.total = total
        return 0

    def update(self, task, description=None, completed=0):
        self.completed.append(completed)
        self.texts += [] if description is None else [description]


@pytest.mark.parametrize("n_stages", [1, 3, 40])
def test_stages_move_the_bar_on_and_never_beyond_its_end(
    four_modes, four_modes_fit, monkeypatch, n_stages
):
    def fit_density(density, config, report, share):
        for i in range(n_stages):
            report(f"stage {i}", f"about stage {i}")
            report("stage 0", "again")
        return four_modes_fit

    bar = Bar()
    monkeypatch.setattr(fitting, "fit_density", fit_density)
    monkeypatch.setattr(settings, "create_simple_progress", lambda shown, theme: bar)
    assert mm.fit(four_modes, random_seed=1) is four_modes_fit
    assert bar.texts[:2] == ["About stage 0", "Again"]
    assert bar.completed == sorted(bar.completed)
    assert max(bar.completed[:-1]) < bar.completed[-1] == bar.total


def test_a_long_compilation_is_announced_with_a_hint(monkeypatch, caplog):
    caplog.set_level("INFO", logger="pymc.multimodal")

    def density_of(model, **kwargs):
        time.sleep(0.3)
        raise RuntimeError("compiled")

    monkeypatch.setattr(fitting, "density_of", density_of)
    monkeypatch.setattr(fitting, "LONG_COMPILATION", 0.05)
    with pytest.raises(RuntimeError, match="compiled"):
        mm.fit(pm.Model(), random_seed=1)
    first, second = (r.getMessage() for r in caplog.records)
    assert first.startswith("Compiling the log density")
    assert "compile_kwargs={'mode': 'FAST_COMPILE'}" in second
    caplog.clear()
    with pytest.raises(RuntimeError, match="compiled"):
        mm.fit(pm.Model(), random_seed=1, quiet=True)
    assert not caplog.records
