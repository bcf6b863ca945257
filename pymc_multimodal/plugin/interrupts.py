"""Ctrl-C while results are made: they are finished, and nothing is lost."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

_log = logging.getLogger("pymc.multimodal")


class Interrupts:
    """A context in which the first Ctrl-C can be held back while results are made.

    Outside of `hold`, Ctrl-C acts as it does without the context. In threads other than the main
    one, which Python never interrupts, the context does nothing.

    Attributes
    ----------
    held : bool
        Whether the next Ctrl-C is held back.
    pressed : bool
        Whether one was.
    """

    def __init__(self) -> None:
        self.held = self.pressed = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        # A handler that is no function is the system's own, or one that Python does not know.
        if main and callable(before := signal.getsignal(signal.SIGINT)):
            self._before = before
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def hold(self) -> None:
        """Hold back the next Ctrl-C; the one after it is raised at once."""
        self.held = True

    def release(self) -> None:
        """Let Ctrl-C interrupt again."""
        self.held = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.held and not self.pressed:
            self.pressed = True
            _log.warning(
                "Interrupted while the results are put together; that is finished first. A second "
                "Ctrl-C ends at once and loses them."
            )
            return
        self._before(number, frame)
