"""Clocks that a test sets: what a fit decides by time is then the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

WAITED = 60.0
"""Seconds after which `wait_until` gives up: long enough for a machine that does much else."""
_NAMES = ("monotonic", "perf_counter", "process_time")


class Clock:
    """The time that a test lets pass, and that of the machine where the clock runs.

    Attributes
    ----------
    skipped : float
        Seconds that the test has let pass.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, runs: bool) -> None:
        self.skipped = 0.0
        for name in _NAMES:
            monkeypatch.setattr(time, name, self._reading(getattr(time, name), runs=runs))

    def _reading(self, real: Callable[[], float], *, runs: bool) -> Callable[[], float]:
        begin = real()
        return lambda: (real() if runs else begin) + self.skipped

    def skip(self, seconds: float) -> None:
        """Let time pass at once: what a density does that takes long."""
        self.skipped += seconds


def wait_until(condition: Callable[[], bool], seconds: float = WAITED) -> bool:
    """Wait for what another thread or process does, and tell whether it came."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()
