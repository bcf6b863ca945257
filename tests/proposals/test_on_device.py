"""Where draws are made. No GPU is needed: a name of one can be made anywhere."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch

from pymc_multimodal.proposals.noted import noted_devices
from pymc_multimodal.proposals.on_device import DRAW_WORK, draw_on


class Draws:
    """Draws of normal numbers, which remember where they were made."""

    def __init__(self, rng, error=None):
        self.rng, self.error, self.made = rng, error, []

    def by_numpy(self):
        self.made.append("numpy")
        return self.rng.standard_normal(5)

    def by_torch(self, device):
        self.made.append(str(device))
        drawn = self.rng.standard_normal(5)
        if self.error is not None:
            raise self.error
        return drawn

    def __call__(self, name, work=DRAW_WORK):
        return draw_on(name, work, self.rng, self.by_numpy, self.by_torch)


@pytest.mark.parametrize(
    ("name", "work", "gpu", "where"),
    [
        ("auto", DRAW_WORK, True, "cuda"),
        ("auto", 0.9 * DRAW_WORK, True, "numpy"),
        ("auto", DRAW_WORK, False, "numpy"),
        ("cuda:1", DRAW_WORK, True, "cuda:1"),
        ("cuda:1", 0.9 * DRAW_WORK, True, "numpy"),
        ("cpu", 1e3 * DRAW_WORK, True, "numpy"),
        ("cpu:0", DRAW_WORK, False, "cpu:0"),
    ],
)
def test_a_gpu_makes_draws_where_it_is_worth_it(name, work, gpu, where, rng, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    draws = Draws(rng)
    with noted_devices() as used:
        draws(name, work)
    assert draws.made == [where]
    assert used == ({where} - {"numpy"})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text."),
        RuntimeError("Cannot re-initialize CUDA in forked subprocess."),
        AssertionError("Torch not compiled with CUDA enabled"),
        TypeError("no float64 on this device"),
        AssertionError(),
    ],
)
def test_where_a_device_fails_the_draws_are_those_of_numpy(error, caplog):
    """The random numbers that the device took are drawn once more."""
    draws = Draws(np.random.default_rng(3), error)
    with (
        caplog.at_level(logging.WARNING, logger="pymc.multimodal"),
        noted_devices() as used,
    ):
        found = draws("cuda")
    assert draws.made == ["cuda", "numpy"]
    np.testing.assert_array_equal(found, np.random.default_rng(3).standard_normal(5))
    [message] = caplog.messages
    assert "cuda cannot be used for draws" in message
    assert "CPU" in message
    assert "More text" not in message
    assert used == set()


def test_other_faults_and_faults_on_the_cpu_are_raised(rng):
    with pytest.raises(ValueError, match="a shape"):
        Draws(rng, ValueError("a shape"))("cuda")
    with pytest.raises(RuntimeError, match="a fault"):
        Draws(rng, RuntimeError("a fault"))("cpu:0")


def test_torch_is_not_needed(rng, monkeypatch):
    """What was learned elsewhere, on a GPU, makes its draws with NumPy."""
    monkeypatch.setitem(sys.modules, "torch", None)
    draws = Draws(rng)
    draws("cuda")
    assert draws.made == ["numpy"]


def test_draws_need_no_gradients_and_leave_torch_as_it_was(rng):
    threads, seen = torch.get_num_threads(), []

    def by_torch(device):
        seen.append((torch.is_grad_enabled(), torch.get_num_threads()))
        return np.zeros(1)

    torch.set_num_threads(2)
    try:
        draw_on("cpu:0", DRAW_WORK, rng, lambda: np.zeros(1), by_torch)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert seen == [(False, 1)]
    assert torch.is_grad_enabled()
