"""Checks that the configs of generators share."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral

__all__ = ["check_count", "check_device"]


def check_count(owner: str, name: str, value: object, least: int) -> None:
    """Raise unless a setting of the class `owner` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}({name}={value!r}) must be a whole number.")
    if int(value) < least:
        raise ValueError(f"{owner}({name}={value}) must be at least {least}.")


def check_device(owner: str, device: object) -> None:
    """Raise unless training can run on a device: before the chains, and not after them."""
    if not isinstance(device, str) or not device:
        raise TypeError(f"{owner}(device={device!r}) must be a name such as 'auto' or 'cpu'.")
    # Without torch a status says so later; and torch takes a second to import.
    if device in ("auto", "cpu") or find_spec("torch") is None:
        return
    from pymc_multimodal.generators.torch_setup import trouble_with

    if cause := trouble_with(device):
        raise ValueError(
            f"{owner}(device={device!r}) cannot be used by torch: {cause}. Choose 'cpu', or 'auto' "
            "for a GPU where there is one."
        )
