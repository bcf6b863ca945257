"""How training uses torch: device, threads and random numbers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

__all__ = ["device_of", "one_thread", "seeded"]


def device_of(name: str) -> torch.device:
    """Device of a name, "auto" being a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, and afterwards as many as before.

    Layers this small lose more than they gain by more, and sums do not then depend on the
    machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch from a NumPy generator, for a training; its own state is as before afterwards.

    On one thread, in single precision and with gradients, whatever is set globally.
    """
    precision, devices = torch.get_default_dtype(), range(torch.cuda.device_count())
    with one_thread(), torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(int(rng.integers(2**63)))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(precision)
