"""How training uses torch: device, threads and random numbers."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import torch

from pymc_multimodal.proposals.noted import note_device
from pymc_multimodal.status import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

__all__ = [
    "FiniteLosses",
    "device_error",
    "device_of",
    "one_thread",
    "seeded",
    "seeded_generator",
    "step_work",
    "trained_on",
]

_log = logging.getLogger("pymc.multimodal")

T = TypeVar("T")

# Floating-point operations of a training step from which on "auto" is a GPU. Conventional, not
# measured: they take a tenth of a second on one thread of a CPU; a GPU needs a millisecond or so to
# launch the hundred kernels of a step, whatever their size.
GPU_WORK = 1e9
# Operations of a step for each weight and row: a product and a sum forward, twice as many backward.
WORK_PER_WEIGHT = 6


def step_work(rows: int, widths: Sequence[int], networks: int = 1) -> float:
    """Return the floating-point operations of a training step of multilayer perceptrons.

    Parameters
    ----------
    rows : int
        Points of a step.
    widths : sequence of int
        Widths of the layers, from the input to the output.
    networks : int
        Number of such perceptrons, each of which gets all points.
    """
    weights = sum(a * b for a, b in pairwise(widths))
    return float(WORK_PER_WEIGHT * rows * weights * networks)


def device_of(name: str, work: float = 0.0) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        "auto" is a GPU where there is one and a step of the training is worth it, and else the CPU.
    work : float
        Floating-point operations of a step (`step_work`).
    """
    if name == "auto":
        name = "cuda" if work >= GPU_WORK and torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_error(name: str) -> str:
    """Return why no tensor can be made on a device; empty if it can."""
    try:
        # A tensor of the device "meta" can be made, but holds no numbers.
        torch.zeros(1, device=device_of(name)).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return first_line(error) or type(error).__name__
    return ""


def trained_on(name: str, train: Callable[[torch.device], T], work: float) -> T:
    """Train on a device, and on the CPU if a GPU has no memory left; say so if it is a GPU.

    Parameters
    ----------
    name : str
        See `device_of`.
    train : callable
        It takes the device. Where memory ran out it is called a second time.
    work : float
        Floating-point operations of a step of the training (`step_work`).
    """
    device = device_of(name, work)
    if device.type != "cpu":
        _log.info("A network is trained on the device %s.", device)
    try:
        found = train(device)
        if device.type != "cpu":
            note_device(str(device))
        return found
    except torch.OutOfMemoryError as error:
        if device.type == "cpu":
            raise
        cause = first_line(error)
    # Outside of the handler: the error holds the tensors of the training.
    _log.warning(
        "The device %s has no memory left (%s): the network is trained on the CPU. device='cpu' "
        "does so from the beginning.", device, cause,
    )  # fmt: skip
    return train(torch.device("cpu"))


class FiniteLosses:
    """Whether all losses of a training were finite; that stays on the device until it is asked.

    To look at each loss makes the CPU wait for the GPU in every step.
    """

    def __init__(self) -> None:
        self._finite: torch.Tensor | None = None

    def add(self, loss: torch.Tensor) -> None:
        """Take note of the loss of a step."""
        finite = torch.isfinite(loss.detach())
        self._finite = finite if self._finite is None else self._finite & finite

    def so_far(self) -> bool:
        """Tell whether all losses were finite; waits for the device."""
        return self._finite is None or bool(self._finite)


def seeded_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return a generator of a device that is seeded from a NumPy generator.

    It draws on the device, and leaves the global random states of torch alone.

    Parameters
    ----------
    rng : numpy.random.Generator
        One integer is drawn from it, as the seed.
    device : torch.device
    """
    return torch.Generator(device).manual_seed(int(rng.integers(2**63)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, and afterwards as many as before.

    For layers this small, more threads are slower. With one thread, the rounding of sums does not
    depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(
    rng: np.random.Generator, device: torch.device
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Seed torch from a NumPy generator for a training; torch's own state is restored afterwards.

    The training has one thread, single precision and gradients, whatever is set globally.

    Parameters
    ----------
    rng : numpy.random.Generator
        One integer is drawn from it, as torch's seed.
    device : torch.device
        Device of the training. The random state of other devices is not touched.

    Yields
    ------
    callable
        It makes a context for the user's own code during the training: within it, precision,
        threads, gradients and random state are those from before.
    """
    precision, threads = torch.get_default_dtype(), torch.get_num_threads()
    grad = torch.is_grad_enabled()

    @contextmanager
    def outside() -> Iterator[None]:
        torch.set_default_dtype(precision)
        torch.set_num_threads(threads)
        try:
            with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(grad):
                torch.set_rng_state(before)
                yield
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_num_threads(1)

    # A GPU that the training does not use may be occupied by others: it is not queried.
    devices = [device] if device.type == "cuda" else []
    before = torch.get_rng_state()
    with one_thread(), torch.random.fork_rng(devices=devices), torch.enable_grad():
        seed = int(rng.integers(2**63))
        # torch.manual_seed would seed every GPU too, and fork_rng would not put them back.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield outside
        finally:
            torch.set_default_dtype(precision)
