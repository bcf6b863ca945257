"""Clocks that a test sets: what a fit decides by time is then the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

WAITED = 60.0
"""Seconds after which `wait_until` gives up: long enough for a machine that does much else."""
_NAMES = ("monotonic", "perf_counter", "process_time")


class Clock:
    """The time that a test lets pass, and that of the machine from when the clock runs.

    Attributes
    ----------
    skipped : float
        Seconds that the test has let pass.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, runs: bool) -> None:
        self.skipped = 0.0
        self._real = {name: getattr(time, name) for name in _NAMES}
        self._begun: dict[str, float] = {}
        for name, real in self._real.items():
            monkeypatch.setattr(time, name, self._reading(name, real()))
        if runs:
            self.run()

    def _reading(self, name: str, begin: float) -> Callable[[], float]:
        def read() -> float:
            since = self._real[name]() - self._begun[name] if name in self._begun else 0.0
            return begin + since + self.skipped

        return read

    def run(self) -> None:
        """Let the time of the machine pass from now on."""
        for name, real in self._real.items():
            self._begun.setdefault(name, real())

    def skip(self, seconds: float) -> None:
        """Let time pass at once: what a density does that takes long."""
        self.skipped += seconds


def wait_until(condition: Callable[[], bool], seconds: float = WAITED) -> bool:
    """Wait for what another thread or process does, and tell whether it came."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()
