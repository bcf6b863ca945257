"""Counting the calls of a compiled function."""

from __future__ import annotations

from typing import Any


class CountedFunction:
    """A compiled function whose calls are counted in the first element of `counts`."""

    def __init__(self, function: Any, counts: list[int]) -> None:
        self._function, self._counts = function, counts

    def __call__(self, *arguments: Any) -> Any:
        self._counts[0] += 1
        return self._function(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)
