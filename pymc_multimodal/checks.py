"""Checks of settings: one for each kind of value, the same for every settings class.

A value of the wrong type raises TypeError, a value out of range ValueError. The message names the
class, the argument, the value and the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

__all__ = ["choice", "count", "flag", "kind", "number", "positive", "share"]


def count(owner: str, name: str, value: object, least: int = 1) -> None:
    """Raise unless a value is a whole number of at least `least`.

    Parameters
    ----------
    owner : str
        Class or function that the argument belongs to.
    name : str
        The argument.
    value : object
    least : int

    Raises
    ------
    TypeError
        If the value is not a whole number; True and False are none.
    ValueError
        If the value is smaller than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}({name}={value!r}) must be a whole number.")
    if int(value) < least:
        raise ValueError(f"{owner}({name}={value}) must be at least {least}.")


def number(owner: str, name: str, value: object, least: float = -math.inf) -> None:
    """Raise unless a value is a number of at least `least`; NaN is none.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If the value is NaN or smaller than `least`.
    """
    real = _real(owner, name, value)
    if not real >= least:
        bound = f" of at least {least:g}" if least > -math.inf else ""
        raise ValueError(f"{owner}({name}={value}) must be a number{bound}.")


def positive(owner: str, name: str, value: object, most: float = math.inf) -> None:
    """Raise unless a value is a positive number of at most `most`.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If the value is NaN, not positive, or larger than `most`.
    """
    real = _real(owner, name, value)
    if not 0 < real <= most:
        bound = f" and at most {most:g}" if most < math.inf else ""
        raise ValueError(f"{owner}({name}={value}) must be positive{bound}.")


def share(owner: str, name: str, value: object, *, closed: bool = False) -> None:
    """Raise unless a value lies between 0 and 1; with `closed`, 0 and 1 are allowed.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If the value is NaN or out of range.
    """
    real = _real(owner, name, value)
    if not (0 <= real <= 1 if closed else 0 < real < 1):
        where = "in [0, 1]" if closed else "between 0 and 1, both excluded"
        raise ValueError(f"{owner}({name}={value}) must lie {where}.")


def choice(owner: str, name: str, value: object, options: Sequence[object]) -> None:
    """Raise unless a value is one of the options.

    Raises
    ------
    TypeError
        If the value is of another type than every option.
    ValueError
        If the value is not among the options.
    """
    if value in options:
        return
    known = ", ".join(repr(option) for option in options)
    error = ValueError if any(type(value) is type(option) for option in options) else TypeError
    raise error(f"{owner}({name}={value!r}) must be one of {known}.")


def flag(owner: str, name: str, value: object) -> None:
    """Raise TypeError unless a value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}({name}={value!r}) must be True or False.")


def kind(owner: str, name: str, value: object, expected: type) -> None:
    """Raise TypeError unless a value is an instance of the class `expected`."""
    if not isinstance(value, expected):
        raise TypeError(
            f"{owner}({name}={value!r}) is a {type(value).__name__}; give a "
            f"{expected.__name__}(...)."
        )


def _real(owner: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}({name}={value!r}) must be a number.")
    return float(value)
