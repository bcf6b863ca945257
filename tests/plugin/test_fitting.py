"""A fit reports its stages to a progress bar, whatever they are called."""

from __future__ import annotations

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
    def fit_density(density, config, report):
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
