"""Limits of the fit under way, which a density is asked about before it evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pymc_multimodal.status import LimitReached

__all__ = ["EvaluationLimit"]


@dataclass
class EvaluationLimit:
    """Tells whether a fit has reached one of its limits, and refuses evaluations where asked to.

    Attributes
    ----------
    reached : callable or None
        ``reached()`` is true once a limit is reached; None where there is no limit.
    refusing : bool
        Whether evaluations are refused from then on.
    """

    reached: Callable[[], bool] | None = None
    refusing: bool = False

    def exhausted(self) -> bool:
        """Tell whether a limit is reached."""
        return self.reached is not None and self.reached()

    def check(self) -> None:
        """Raise `LimitReached` if a limit is reached and evaluations are refused."""
        if self.refusing and self.exhausted():
            raise LimitReached

    @contextmanager
    def refused(self, refuse: bool = True) -> Iterator[None]:
        """Refuse evaluations (or, with ``refuse=False``, allow them) inside of the context."""
        before, self.refusing = self.refusing, refuse
        try:
            yield
        finally:
            self.refusing = before
