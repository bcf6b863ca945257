"""What a fit has evaluated and measured since its last checkpoint, in a file to which is appended.

A fit that is killed repeats the step that was under way. What that step evaluated, if each
evaluation is expensive, and what it measured by a clock is then read here: the step does the same
work, and pays for none of it twice.
"""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pymc_multimodal.status import first_line
from pymc_multimodal.target.evaluation import Evaluation

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

__all__ = ["InUse", "RunLog", "Stored", "raised_again"]

# Wall-clock seconds of one evaluation from which on evaluations are kept. Measured: keeping a chunk
# of 32 points in 100 dimensions with gradients takes 0.06 ms, one point 0.03 ms; less than 1 %.
KEPT_SECONDS = 0.01
# Seconds after which what was appended is brought to the disk, in case of a power failure.
# Conventional.
SYNC_SECONDS = 1.0
# Before each entry: numbers of bytes of its text and of its arrays, and a check sum of both.
_HEAD = struct.Struct("<III")


class InUse(OSError):
    """Another process that runs has the file open."""


@dataclass(frozen=True)
class Stored:
    """An evaluation that was read from the file.

    Attributes
    ----------
    x : array of shape (n, d)
    evaluation : Evaluation
    seconds, call_seconds : float
        Wall-clock time that it took, and that of the call alone, where the function was called.
    entry, body : dict and bytes
        As they were read.
    """

    x: np.ndarray
    evaluation: Evaluation
    seconds: float
    call_seconds: float
    entry: dict[str, Any]
    body: bytes


class RunLog:
    """Evaluations and measurements since the last checkpoint; without a file, measurements alone.

    The file is a sequence of entries: a head of twelve bytes, a JSON text, and for an evaluation
    the points, log densities and gradients as arrays in NumPy's npy format. The first entry has the
    number of the checkpoint that the others follow. Reading the file executes nothing; an entry
    that is not whole ends it.

    Attributes
    ----------
    measured : dict
        Numbers that were measured by a clock and decide how much work is done, by their names.
    n_evaluations : int
        Evaluations that the file holds.
    spent : float
        Seconds from the last checkpoint to the last entry that was read.
    on_fault : callable or None
        Called with the error if the file cannot be written. Nothing is appended until `follow`.
    """

    def __init__(self) -> None:
        self.measured: dict[str, tuple[float, ...]] = {}
        self.n_evaluations = 0
        self.spent = 0.0
        self.on_fault: Callable[[OSError], None] | None = None
        self._known: dict[tuple[str, bytes], deque[Stored]] = {}
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._writes = False
        self._began = self._synced = time.monotonic()

    # ------------------------------------------------------------ the file

    def open(self, path: Path, number: int) -> None:
        """Read a file that follows a checkpoint of this number, and append to it from now on.

        A file that follows another checkpoint is emptied.

        Raises
        ------
        InUse
            If another process has the file open.
        OSError
            If it cannot be read or written.
        """
        file = open(path, "a+b", buffering=0)
        try:
            _lock(file)
            file.seek(0)
            data = file.read()
            whole = self._take(data, number)
            file.truncate(whole)
            if not whole:
                file.write(_packed({"follows": number}))
        except BaseException:
            file.close()
            raise
        self._file, self._path, self._writes = file, path, True
        self._began = time.monotonic() - self.spent

    def _take(self, data: bytes, number: int) -> int:
        """Take the entries of a file; return the length of those that are whole, 0 for none."""
        at = 0
        for text, body, end in _entries(data):
            try:
                entry = json.loads(text)
                if at == 0 and entry != {"follows": number}:
                    return 0
                if "stored" in entry:
                    self.spent = 0.0
                self.spent = max(self.spent, float(entry.get("at", 0.0)))
                if "measured" in entry:
                    self.measured[entry["measured"]] = tuple(map(float, entry["values"]))
                elif "kind" in entry:
                    stored = _read_evaluation(entry, body)
                    key = entry["kind"], stored.x.tobytes()
                    self._known.setdefault(key, deque()).append(stored)
                    self.n_evaluations += 1
            except (ValueError, KeyError, TypeError, EOFError):
                break
            at = end
        return at

    def follow(self, number: int) -> None:
        """Begin anew after a checkpoint of this number, which holds what came of evaluations.

        Those that were read, and not asked for yet, belong to later work: they are kept.
        """
        self.spent, self._began = 0.0, time.monotonic()
        if self._file is None:
            return
        later = [stored for queue in self._known.values() for stored in queue]
        self.n_evaluations = len(later)
        entries = [_packed({**s.entry, "at": 0.0}, s.body) for s in later]
        self._writes = True
        with self._watched() as file:
            file.truncate(0)
            file.write(b"".join([_packed({"follows": number}), *entries]))

    def go_on(self) -> None:
        """Go on after a checkpoint that leaves a way back to the one before: nothing is dropped."""
        self.spent, self._began = 0.0, time.monotonic()
        self._writes = self._file is not None
        self._append({"stored": True})

    def remove(self) -> None:
        """Close the file, and remove it."""
        path, self._path = self._path, None
        self.close()
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, which stays."""
        file, self._file, self._writes = self._file, None, False
        self._known.clear()
        if file is not None:
            file.close()

    @property
    def writes(self) -> bool:
        """Whether there is a file, and it can be written."""
        return self._file is not None and self._writes

    def _append(self, entry: dict[str, Any], body: bytes = b"") -> None:
        if not self.writes:
            return
        now = time.monotonic()
        with self._watched() as file:
            file.write(_packed({**entry, "at": now - self._began}, body))
            if now - self._synced > SYNC_SECONDS:
                self._synced = now
                os.fsync(file.fileno())

    def _watched(self) -> _Watched:
        assert self._file is not None
        return _Watched(self, self._file)

    def _failed(self, error: OSError) -> None:
        self._writes = False
        if self.on_fault is not None:
            self.on_fault(error)

    # ------------------------------------------------------------ what it holds

    def once(self, name: str, measure: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
        """Return numbers that a clock decides: measured once in a fit, and then known.

        Parameters
        ----------
        name : str
            Of no other numbers of the fit.
        measure : callable
            Returns the numbers, if they are not known.
        """
        if name not in self.measured:
            self.measured[name] = tuple(map(float, measure()))
            self._append({"measured": name, "values": self.measured[name]})
        return self.measured[name]

    def take(self, kind: str, x: np.ndarray) -> Stored | None:
        """Return an evaluation of a chunk of points that was read; None if there is none left.

        Each one is returned once: where a fit evaluates a chunk twice, it does so again.

        Parameters
        ----------
        kind : str
            What was evaluated.
        x : array of shape (n, d)
        """
        if not self._known:
            return None
        key = kind, x.tobytes()
        queue = self._known.get(key)
        if queue is None:
            return None
        stored = queue.popleft()
        if not queue:
            del self._known[key]
        return stored

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a point that is known, (1, d), and its log density, (1,); empty if there is none.

        It serves to see whether the density is still the same.
        """
        for (kind, _), [stored, *_] in self._known.items():
            logp = stored.evaluation.logp
            if kind in ("function", "outputs") and np.isfinite(logp).any():
                i = int(np.argmax(np.isfinite(logp)))
                return stored.x[i : i + 1], np.asarray(logp[i : i + 1], float)
        return np.empty((0, 0)), np.empty(0)

    def add(
        self, kind: str, x: np.ndarray, evaluation: Evaluation, seconds: tuple[float, float]
    ) -> None:
        """Keep the evaluation of a chunk of points, with its seconds and those of its call."""
        if not self.writes:
            return
        error = evaluation.error
        entry = {"kind": kind, "seconds": list(seconds), "raised": evaluation.n_raised}
        if error is not None:
            entry["error"] = [type(error).__name__, first_line(error)]
        body = io.BytesIO()
        for array in (x, evaluation.logp, evaluation.grad):
            np.lib.format.write_array(body, np.asarray(array), allow_pickle=False)
        self._append(entry, body.getvalue())
        self.n_evaluations += 1


class _Watched:
    """A context of writing: after an error the file ends where it ended before."""

    def __init__(self, log: RunLog, file: BinaryIO) -> None:
        self.log, self.file = log, file

    def __enter__(self) -> BinaryIO:
        self.end = self.file.seek(0, os.SEEK_END)
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        if error is None:
            return False
        with suppress(OSError):
            self.file.truncate(self.end)
        if isinstance(error, OSError):
            self.log._failed(error)
            return True
        return False


def raised_again(error: tuple[str, str]) -> Exception:
    """Return an error for its name and message, for the text of a status; it is not raised."""
    name, message = error
    kind: type[Exception] = type(str(name), (Exception,), {})
    return kind(message)


def _packed(entry: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(entry).encode()
    return _HEAD.pack(len(text), len(body), zlib.crc32(body, zlib.crc32(text))) + text + body


def _entries(data: bytes) -> list[tuple[bytes, bytes, int]]:
    """Cut a file into entries: text, body and the place where each ends, up to one with a fault."""
    found, at = [], 0
    while at + _HEAD.size <= len(data):
        n_text, n_body, crc = _HEAD.unpack_from(data, at)
        begin = at + _HEAD.size
        middle, at = begin + n_text, begin + n_text + n_body
        text, body = data[begin:middle], data[middle:at]
        if at > len(data) or zlib.crc32(body, zlib.crc32(text)) != crc:
            break
        found.append((text, body, at))
    return found


def _read_evaluation(entry: dict[str, Any], body: bytes) -> Stored:
    file = io.BytesIO(body)
    x, logp, grad = (np.lib.format.read_array(file, allow_pickle=False) for _ in range(3))
    error = raised_again(entry["error"]) if "error" in entry else None
    evaluation = Evaluation(logp, grad, int(entry["raised"]), error)
    seconds, call_seconds = map(float, entry["seconds"])
    return Stored(x, evaluation, seconds, call_seconds, entry, body)


def _lock(file: BinaryIO) -> None:
    """Lock a file for this process; a process that is killed gives its locks back."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse("another process is writing to it") from None
    except OSError:
        # Some network file systems have no locks.
        return
