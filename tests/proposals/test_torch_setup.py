"""The device of a training. No GPU is needed: a name of one can be made anywhere."""

from __future__ import annotations

import logging

import pytest
import torch

from pymc_multimodal.proposals.torch_setup import device_error, trained_on


def test_training_goes_to_the_cpu_where_a_gpu_has_no_memory_left(caplog):
    tried = []

    def train(device):
        tried.append(device.type)
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text.")
        return "trained"

    with caplog.at_level(logging.WARNING, logger="pymc.multimodal"):
        assert trained_on("cuda", train) == "trained"
    assert tried == ["cuda", "cpu"]
    [message] = caplog.messages
    assert "cuda has no memory left (CUDA out of memory. Tried to allocate 2 GiB)" in message
    assert "CPU" in message


@pytest.mark.parametrize(
    ("name", "error"),
    [("cpu", torch.OutOfMemoryError("none left")), ("cuda", RuntimeError("another fault"))],
)
def test_other_faults_are_raised(name, error):
    def train(device):
        raise error

    with pytest.raises(type(error), match=str(error)):
        trained_on(name, train)


def test_devices_that_hold_no_numbers_are_refused():
    assert device_error("cpu") == ""
    assert device_error("meta")
