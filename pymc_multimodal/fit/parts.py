"""Parts of a step that takes long: a fit that is killed makes none of them twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np

__all__ = ["Once", "Part", "Parts"]

T = TypeVar("T")
Once: TypeAlias = Callable[[str, Callable[[], Any]], Any]
"""Makes a part, given its name and what makes it, or knows it already."""


@dataclass(frozen=True, eq=False)
class Part:
    """What came of a part, and the random stream after it.

    Attributes
    ----------
    value : object
        A record that a checkpoint can hold.
    stream : dict
        State of the generator of random bits.
    children : int
        Streams that were made of the stream (``rng.spawn``).
    """

    value: Any
    stream: dict[str, Any]
    children: int

    @classmethod
    def of(cls, value: Any, rng: np.random.Generator) -> Part:
        """Return a part that has ended."""
        bits = rng.bit_generator
        return cls(value, dict(bits.state), _seeds(rng).n_children_spawned)

    def leave(self, rng: np.random.Generator) -> None:
        """Bring a stream to where the part had left it."""
        rng.bit_generator.state = self.stream
        rng.spawn(self.children - _seeds(rng).n_children_spawned)


class Parts:
    """The parts of the step under way that have ended, by name.

    Attributes
    ----------
    ended : dict
    keep : callable
        Called when a part has ended: it may write a checkpoint.
    """

    def __init__(self) -> None:
        self.ended: dict[str, Part] = {}
        # Names of the parts inside of each part that is being made.
        self._inside: list[set[str]] = []
        self.keep: Callable[[], None] = lambda: None

    def drawing(self, rng: np.random.Generator) -> Once:
        """Return `once` for parts that draw from one stream."""
        return partial(self._once, rng)

    def _once(self, rng: np.random.Generator, name: str, make: Callable[[], T]) -> T:
        """Return what came of a part: it is made, unless it has ended before a kill.

        The stream stands behind the part afterwards. What is made is a record that a checkpoint can
        hold, and the name is that of no other part of the step. Parts inside of a part are dropped
        when it ends.
        """
        if self._inside:
            self._inside[-1].add(name)
        if name in self.ended:
            part = self.ended[name]
            part.leave(rng)
            known: T = part.value
            return known
        self._inside.append(set())
        try:
            made = make()
        finally:
            inside = self._inside.pop()
        kept = {n: part for n, part in self.ended.items() if n not in inside}
        self.ended = {**kept, name: Part.of(made, rng)}
        self.keep()
        return made


def _seeds(rng: np.random.Generator) -> np.random.SeedSequence:
    seeds = rng.bit_generator.seed_seq
    assert isinstance(seeds, np.random.SeedSequence)
    return seeds
