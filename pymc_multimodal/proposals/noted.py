"""Which devices, other than the CPU, networks are trained on or drawn from."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["note_device", "noted_devices"]

_noted: ContextVar[set[str] | None] = ContextVar("noted", default=None)


@contextmanager
def noted_devices() -> Iterator[set[str]]:
    """Collect the devices, other than the CPU, that networks use in this context."""
    used: set[str] = set()
    token = _noted.set(used)
    try:
        yield used
    finally:
        _noted.reset(token)


def note_device(name: str) -> None:
    """Note that a network has used a device, if someone collects devices."""
    used = _noted.get()
    if used is not None:
        used.add(name)
