"""Checks that the configs of generators share."""

from __future__ import annotations

from numbers import Integral

__all__ = ["check_count"]


def check_count(owner: str, name: str, value: object, least: int) -> None:
    """Raise unless a setting of the class `owner` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}({name}={value!r}) must be a whole number.")
    if int(value) < least:
        raise ValueError(f"{owner}({name}={value}) must be at least {least}.")
