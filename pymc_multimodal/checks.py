"""Checks of settings: one for each kind of value, the same for every settings class.

A value of the wrong type raises TypeError, a value out of range ValueError. The message names the
class, the argument, the value and the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np

__all__ = [
    "choice",
    "choices",
    "count",
    "counts",
    "flag",
    "generator",
    "kind",
    "number",
    "positive",
    "share",
    "shown",
    "with_article",
]

# Characters of a value that a message about its type shows; a longer one is left out: the whole
# table or InferenceData says less than the name of its class. Conventional.
MAX_SHOWN = 60
# How an instance of a class is written, where it is not by a call of its class.
_CALL: dict[type, str] = {Mapping: " such as a dict", str: ""}


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


def counts(owner: str, name: str, values: object, least: int = 1) -> None:
    """Raise unless a value is a sequence of one or more whole numbers of at least `least`.

    Raises
    ------
    TypeError
        If the value is not a sequence, or one of its elements is not a whole number.
    ValueError
        If the sequence is empty, or one of its elements is smaller than `least`.
    """
    for value in _elements(owner, name, values, "whole numbers"):
        count(owner, name, value, least)


def number(
    owner: str, name: str, value: object, least: float = -math.inf, *, finite: bool = False
) -> None:
    """Raise unless a value is a number of at least `least`; NaN is none.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If the value is NaN or smaller than `least`.
    """
    real = _real(owner, name, value)
    if not real >= least or (finite and math.isinf(real)):
        bound = f" of at least {least:g}" if least > -math.inf else ""
        which = "a finite number" if finite else "a number"
        raise ValueError(f"{owner}({name}={value}) must be {which}{bound}.")


def positive(
    owner: str, name: str, value: object, most: float = math.inf, *, finite: bool = False
) -> None:
    """Raise unless a value is a positive number of at most `most`.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If the value is NaN, not positive, or larger than `most`.
    """
    real = _real(owner, name, value)
    if not 0 < real <= most or (finite and math.isinf(real)):
        bound = " and finite" if finite else f" and at most {most:g}" if most < math.inf else ""
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
    # An array would be compared element by element.
    if not isinstance(value, np.ndarray) and value in options:
        return
    known = ", ".join(repr(option) for option in options)
    error = ValueError if any(type(value) is type(option) for option in options) else TypeError
    raise error(f"{owner}({name}={value!r}) must be one of {known}.")


def choices(owner: str, name: str, values: object, options: Sequence[object]) -> None:
    """Raise unless a value is a sequence of one or more of the options.

    Raises
    ------
    TypeError
        If the value is not a sequence, or an element is of another type than every option.
    ValueError
        If the sequence is empty, or an element is not among the options.
    """
    known = ", ".join(repr(option) for option in options)
    for value in _elements(owner, name, values, f"one or more of {known}"):
        if value not in options:
            error = ValueError if any(type(value) is type(o) for o in options) else TypeError
            raise error(f"{owner}({name}={values!r}) has {value!r}, which is not among {known}.")


def flag(owner: str, name: str, value: object) -> None:
    """Raise TypeError unless a value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}({name}={value!r}) must be True or False.")


def kind(owner: str, name: str, value: object, expected: type) -> None:
    """Raise TypeError unless a value is an instance of the class `expected`."""
    if not isinstance(value, expected):
        raise TypeError(
            f"{owner}({shown(value, name)}) is {with_article(type(value).__name__)}; give "
            f"{with_article(expected.__name__)}{_CALL.get(expected, '(...)')}."
        )


def generator(owner: str, name: str, value: object) -> np.random.Generator:
    """Return a generator of random numbers, made from a seed where a value is one.

    Raises
    ------
    TypeError
        If the value is neither a generator, a seed that NumPy takes, nor None.
    ValueError
        If the seed is negative.
    """
    try:
        if not isinstance(value, bool):
            return np.random.default_rng(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    except ValueError as error:
        raise ValueError(f"{owner}({name}={value!r}) must not be negative.") from error
    raise TypeError(
        f"{owner}({name}={value!r}) must be a whole number, a numpy.random.Generator or None."
    )


def shown(value: object, name: str = "") -> str:
    """Write an argument as in a call: with its value if that is short, else by its name alone.

    Parameters
    ----------
    value : object
    name : str
        Name of the argument; without one the value alone is written.
    """
    text = repr(value)
    if len(text) > MAX_SHOWN or "\n" in text:
        return f"{name}=..." if name else "..."
    return f"{name}={text}" if name else text


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _elements(owner: str, name: str, values: object, what: str) -> tuple:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{owner}({name}={values!r}) must be a tuple of {what}.")
    elements = tuple(values)
    if not elements:
        raise ValueError(f"{owner}({name}={values!r}) must not be empty: give {what}.")
    return elements


def _real(owner: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}({name}={value!r}) must be a number.")
    return float(value)
