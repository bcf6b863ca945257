"""Draws on a GPU where they are many and costly, and with NumPy elsewhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pymc_multimodal.proposals.noted import note_device
from pymc_multimodal.status import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

__all__ = ["DRAW_WORK", "draw_on"]

_log = logging.getLogger("pymc.multimodal")

# Floating-point operations of a call from which on draws may be made on a GPU. Conventional, not
# measured: they take a second on one thread of a CPU, as the import of torch does. A GPU needs much
# less to launch the kernels.
DRAW_WORK = 1e10


def draw_on(
    name: str,
    work: float,
    rng: np.random.Generator,
    by_numpy: Callable[[], np.ndarray],
    by_torch: Callable[[torch.device], np.ndarray],
) -> np.ndarray:
    """Draw on a device where that is worth it, and with NumPy otherwise or if the device fails.

    Both ways draw their random numbers from the same generator in the same order, so that they
    differ by rounding alone.

    Parameters
    ----------
    name : str
        Setting of the network: "cpu" is NumPy, "auto" a GPU where there is one, another name that
        device. "cpu:0" is torch on the CPU, for tests.
    work : float
        Floating-point operations of the call; below `DRAW_WORK` it is made with NumPy.
    rng : numpy.random.Generator
        What both ways draw from. If the device fails, its state is put back.
    by_numpy, by_torch : callable
        The latter takes the device, and is called without gradients and with one thread.

    Returns
    -------
    array
    """
    device = None if name == "cpu" or work < DRAW_WORK else _device(name, work)
    if device is None:
        return by_numpy()
    import torch

    from pymc_multimodal.proposals.torch_setup import one_thread

    state = rng.bit_generator.state
    try:
        with one_thread(), torch.no_grad():
            drawn = by_torch(device)
        note_device(str(device))
        _log.debug("drawn on the device %s", device)
        return drawn
    # torch raises a RuntimeError where memory runs out or a process was forked, an AssertionError
    # where it has no such device, and a TypeError where the device has no double precision.
    except (RuntimeError, AssertionError, TypeError) as error:
        if device.type == "cpu":
            raise
        cause = first_line(error) or type(error).__name__
    # Outside of the handler: the error holds the tensors of the draws.
    _log.warning(
        "The device %s cannot be used for draws (%s): they are made on the CPU. device='cpu' does "
        "so from the beginning.", device, cause,
    )  # fmt: skip
    rng.bit_generator.state = state
    return by_numpy()


def _device(name: str, work: float) -> torch.device | None:
    """Return the device of a name; None for NumPy."""
    try:
        import torch

        from pymc_multimodal.proposals.torch_setup import device_of
    except ImportError:
        # A generator that was learned elsewhere needs no torch.
        return None
    device = device_of(name, work)
    return None if device == torch.device("cpu") else device
