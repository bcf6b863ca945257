"""Calls that are given up at a point in time, although they have not returned."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec, TypeVar

__all__ = ["Expired", "call_patiently", "call_until", "ended_at"]

_log = logging.getLogger("pymc.multimodal")

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Seconds between two looks at the calls under way. Conventional: a tenth of the shortest grace.
POLL_SECONDS = 0.1
# Seconds after which a call that has caught the exception is sent another one. Conventional.
REPEAT_SECONDS = 1.0
# Seconds after which a call that no exception ends is reported. Conventional.
SILENT_SECONDS = 3.0
# Steps in Python within which an exception is raised that a thread sends to itself. Conventional:
# it is raised at the first of them.
TAKEN_BACK_STEPS = 1000
# Looks without a call after which the thread ends. Conventional: a minute.
IDLE_LOOKS = 600


class Expired(BaseException):
    """Raised inside of a call whose time is over; no `Exception`, so that models let it pass."""


def call_until(
    due: float | None,
    what: Callable[[], str],
    function: Callable[_P, _R],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _R:
    """Call a function; once its time is over, raise `Expired` inside of it.

    In the main thread an alarm signal ends sleeping and waiting calls, too, if nobody else uses
    that signal. In other threads, Python code alone can be ended. No exception ends compiled code
    that never returns: a message in the log then says so.

    Parameters
    ----------
    due : float or None
        Time of `time.monotonic` at which the call is given up; None for never.
    what : callable
        Returns a text that says what is called; it is part of the message in the log.
    function : callable
    *args, **kwargs
        Arguments of the function.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    Expired
        If the function has not returned in time.
    """
    if due is None:
        return function(*args, **kwargs)
    return _watched(_Watch(due, what), function, *args, **kwargs)


def call_patiently(
    seconds: float | None,
    counts: Callable[[FrameType], bool],
    what: Callable[[], str],
    function: Callable[_P, _R],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _R:
    """Call a function; raise `Expired` inside of it where it does one kind of work for too long.

    As for `call_until`, no exception ends compiled code that never returns.

    Parameters
    ----------
    seconds : float or None
        The call is given up when `counts` has been true for so long, without a break; None or
        ``inf`` for never.
    counts : callable
        Tells from the innermost frame of this thread whether it does the work that is limited.
        Another thread calls it, ten times a second.
    what : callable
        Returns a text that says what is called; it is part of the message in the log.
    function : callable
    *args, **kwargs
        Arguments of the function.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    Expired
        If the function was given up.
    """
    if seconds is None or seconds == float("inf"):
        return function(*args, **kwargs)
    return _watched(_PatientWatch(seconds, counts, what), function, *args, **kwargs)


def _watched(watch: _Watch, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a function while it is watched."""
    try:
        try:
            watch.start()
            return function(*args, **kwargs)
        finally:
            watch.stop()
    except Expired:
        # The exception may have come amid the first `stop`.
        watch.stop()
        raise


@contextmanager
def ended_at(due: float, what: str, exception: type[BaseException]) -> Iterator[None]:
    """Raise an exception inside of the context once a time is over.

    Only Python code can be ended; calls that sleep or wait go on. `call_until` may be used inside.

    Parameters
    ----------
    due : float
        Time of `time.monotonic`; ``inf`` for never.
    what : str
        What is done in the context; it is part of the message in the log.
    exception : type
        It is raised again every second as long as the context lasts.
    """
    if due == float("inf"):
        yield
        return
    watch = _Watch(due, lambda: what, exception)
    try:
        try:
            watch.start(alarm=False)
            yield
        finally:
            watch.stop()
    except exception:
        # The exception may have come amid the first `stop`.
        watch.stop()
        raise


class _Watch:
    """One call under way, in the thread that makes it."""

    def __init__(
        self, due: float, what: Callable[[], str], exception: type[BaseException] = Expired
    ) -> None:
        self.due, self.what, self.exception = due, what, exception
        self.thread = threading.get_ident()
        self.sends_at = due
        self.alarm = self.sent = self.told = False

    def start(self, *, alarm: bool = True) -> None:
        self.alarm = alarm and _alarm_is_free()
        _watcher.add(self)
        if self.alarm:
            signal.signal(signal.SIGALRM, _expire)
            left = max(self.due - time.monotonic(), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, left, REPEAT_SECONDS)

    def stop(self) -> None:
        if self.alarm:
            # In this order no alarm is left without its handler.
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            self.alarm = False
        _watcher.remove(self)
        if self.sent:
            _take_back(self.thread)
            self.sent = False

    def look(self, now: float) -> None:
        """Send the exception if the time is over and no alarm does so; report a silent call."""
        if not self.alarm and now >= self.sends_at:
            self.sends_at, self.sent = now + REPEAT_SECONDS, True
            _send(self.thread, self.exception)
        if not self.told and now >= self.due + SILENT_SECONDS:
            self.told = True
            _log.warning(
                "%s has not returned %.0f seconds after its limit. Compiled code cannot be "
                "interrupted from inside of this process: end the process, or use workers=2, "
                "whose processes are stopped at the limit.", self.what(), now - self.due,
            )  # fmt: skip


class _PatientWatch(_Watch):
    """A call of which one kind of work counts; its time begins anew after any other."""

    def __init__(
        self, seconds: float, counts: Callable[[FrameType], bool], what: Callable[[], str]
    ) -> None:
        super().__init__(time.monotonic() + seconds, what)
        self.seconds, self.counts = seconds, counts
        self.handled = False

    def start(self, *, alarm: bool = True) -> None:
        self.handled = alarm and _alarm_is_free()
        if self.handled:
            signal.signal(signal.SIGALRM, _expire)
        super().start(alarm=False)

    def stop(self) -> None:
        super().stop()
        if self.handled:
            # A call of the system: a signal that was sent arrives before its handler is gone.
            signal.sigpending()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            self.handled = False

    def look(self, now: float) -> None:
        """Let the time begin anew if the thread does other work; see `_Watch.look`."""
        frame = sys._current_frames().get(self.thread)
        if frame is None or not self.counts(frame):
            self.due = self.sends_at = now + self.seconds
        if self.handled and now >= self.sends_at:
            # The signal ends a sleeping or waiting call.
            self.sends_at = now + REPEAT_SECONDS
            signal.pthread_kill(self.thread, signal.SIGALRM)
        super().look(now)


class _Watcher:
    """A thread that looks at all calls under way; it starts with the first and ends when idle."""

    def __init__(self) -> None:
        self.calls: set[_Watch] = set()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def add(self, watch: _Watch) -> None:
        with self.lock:
            self.calls.add(watch)
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self.thread.start()

    def remove(self, watch: _Watch) -> None:
        with self.lock:
            self.calls.discard(watch)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(POLL_SECONDS)
            with self.lock:
                idle = 0 if self.calls else idle + 1
                if idle > IDLE_LOOKS:
                    self.thread = None
                    return
                for watch in self.calls:
                    watch.look(time.monotonic())


_watcher = _Watcher()


def _begin_anew() -> None:
    """Give a forked process a watcher of its own: the thread stayed behind."""
    global _watcher
    _watcher = _Watcher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _alarm_is_free() -> bool:
    """Tell whether this is the main thread, and nobody uses the alarm signal."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    )


def _expire(number: int, frame: FrameType | None) -> None:
    raise Expired


def _send(thread: int, exception: type[BaseException]) -> None:
    """Raise an exception in a thread at its next step in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))


class _TakenBack(BaseException):
    """Takes the place of an exception that was sent and is not wanted any more."""


def _take_back(thread: int) -> None:
    """Let this thread forget an exception that was sent to it, and may not have been raised yet.

    To send NULL in its place is documented, but CPython 3.11 then runs no further under a profiler,
    a debugger or a measurement of coverage.
    """
    try:
        _send(thread, _TakenBack)
        for _ in range(TAKEN_BACK_STEPS):
            pass
    except _TakenBack:
        pass
