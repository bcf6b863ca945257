"""The device of a training. No GPU is needed: a name of one can be made anywhere."""

from __future__ import annotations

import logging

import pytest
import torch

from pymc_multimodal.proposals.noted import noted_devices
from pymc_multimodal.proposals.torch_setup import (
    GPU_WORK,
    FiniteLosses,
    device_error,
    device_of,
    step_work,
    trained_on,
)


def test_training_goes_to_the_cpu_where_a_gpu_has_no_memory_left(caplog):
    tried = []

    def train(device):
        tried.append(device.type)
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text.")
        return "trained"

    with caplog.at_level(logging.WARNING, logger="pymc.multimodal"):
        assert trained_on("cuda", train, 0.0) == "trained"
    assert tried == ["cuda", "cpu"]
    [message] = caplog.messages
    assert "cuda has no memory left (CUDA out of memory. Tried to allocate 2 GiB)" in message
    assert "CPU" in message


def test_devices_other_than_the_cpu_are_noted():
    with noted_devices() as used:
        trained_on("cpu", lambda device: None, 0.0)
        assert used == set()
        trained_on("cuda", lambda device: None, 0.0)
        with noted_devices() as within:
            trained_on("cuda:1", lambda device: None, 0.0)
    assert (used, within) == ({"cuda"}, {"cuda:1"})
    # Nobody collects: nothing is noted, and nothing fails.
    trained_on("cuda", lambda device: None, 0.0)


@pytest.mark.parametrize(
    ("name", "error"),
    [("cpu", torch.OutOfMemoryError("none left")), ("cuda", RuntimeError("another fault"))],
)
def test_other_faults_are_raised(name, error):
    def train(device):
        raise error

    with pytest.raises(type(error), match=str(error)):
        trained_on(name, train, 0.0)


def test_devices_that_hold_no_numbers_are_refused():
    assert device_error("cpu") == ""
    assert device_error("meta")


@pytest.mark.parametrize(
    ("name", "work", "gpu", "device"),
    [
        ("auto", GPU_WORK, True, "cuda"),
        ("auto", 0.9 * GPU_WORK, True, "cpu"),
        ("auto", GPU_WORK, False, "cpu"),
        ("cuda", 0.0, True, "cuda"),
        ("cpu", GPU_WORK, True, "cpu"),
    ],
)
def test_a_gpu_is_chosen_where_a_step_is_worth_it(name, work, gpu, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device_of(name, work).type == device


def test_the_default_networks_are_trained_on_the_cpu_and_large_ones_on_a_gpu():
    """A flow's step in 10-D takes some 1e8 operations, one of 65,536 rows in 200-D over 1e11."""
    assert step_work(256, (10, 64, 64, 20), 5) < GPU_WORK
    assert step_work(65_536, (200, 400, 400, 400), 5) > 100 * GPU_WORK
    # One layer: a product and a sum forward, and twice as many backward.
    assert step_work(3, (2, 5)) == 6 * 3 * 2 * 5


def test_a_gpu_that_is_used_is_told(caplog):
    with caplog.at_level(logging.INFO, logger="pymc.multimodal"):
        trained_on("cuda", lambda device: None, 0.0)
        trained_on("cpu", lambda device: None, 0.0)
    assert caplog.messages == ["A network is trained on the device cuda."]


def test_losses_are_looked_at_when_that_is_asked():
    losses = FiniteLosses()
    assert losses.so_far()
    losses.add(torch.tensor(1.0, requires_grad=True))
    assert losses.so_far()
    losses.add(torch.tensor(float("nan")))
    losses.add(torch.tensor(2.0))
    assert not losses.so_far()
