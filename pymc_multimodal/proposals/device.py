"""The device that a network is trained on."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_device", "note_device", "noted_devices"]

_noted: ContextVar[set[str] | None] = ContextVar("noted", default=None)


@contextmanager
def noted_devices() -> Iterator[set[str]]:
    """Collect the devices, other than the CPU, that networks are trained on in this context."""
    used: set[str] = set()
    token = _noted.set(used)
    try:
        yield used
    finally:
        _noted.reset(token)


def note_device(name: str) -> None:
    """Note that a network was trained on a device, if someone collects devices."""
    used = _noted.get()
    if used is not None:
        used.add(name)


def check_device(owner: str, name: str, device: object) -> None:
    """Raise unless torch can train on a device.

    The check is made when settings are made, which may be hours before a network is trained.

    Parameters
    ----------
    owner : str
        Class that the argument belongs to.
    name : str
        The argument.
    device : object
        "auto", "cpu" or another name that torch knows.

    Raises
    ------
    TypeError
        If the device is not a name.
    ValueError
        If torch cannot compute on the device.
    """
    if not isinstance(device, str) or not device:
        raise TypeError(f"{owner}({name}={device!r}) must be a name such as 'auto' or 'cpu'.")
    # The import of torch takes a second. Where torch is missing, the fit has a status.
    if device in ("auto", "cpu") or find_spec("torch") is None:
        return
    from pymc_multimodal.proposals.torch_setup import device_error

    if cause := device_error(device):
        raise ValueError(
            f"{owner}({name}={device!r}) cannot be used by torch: {cause}. Choose 'cpu', or 'auto' "
            "for a GPU where there is one."
        )
