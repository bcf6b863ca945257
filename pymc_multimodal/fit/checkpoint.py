"""A file from which a fit that was killed goes on.

It holds the newest state of the fit, what the run has spent, and settings and coordinates by which
a call with other arguments is recognised (`checkpoint_file`). Beside it lies a log of what the step
under way has evaluated and measured (`target.run_log`). Random streams are named by the step and
the number of its runs, so that a step that is made again draws the same numbers.

Once a limit has cut the fit, the file also holds how far it had come before: from there a call with
a larger limit goes on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.emulation import Emulation
from pymc_multimodal.fit.checkpoint_file import (
    Kept,
    Reached,
    StoredCheckpoint,
    encoded,
    read_checkpoint,
)
from pymc_multimodal.fit.codec import CodecError
from pymc_multimodal.fit.result import Fit, check_unchanged
from pymc_multimodal.fit.saving import checked_path, write_archive
from pymc_multimodal.status import FitError, Status, counted, first_line
from pymc_multimodal.target.history import Evaluations
from pymc_multimodal.target.run_log import KEPT_SECONDS, InUse, RunLog

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.protocol import OutputModel

__all__ = ["Checkpoint"]

_log = logging.getLogger("pymc.multimodal")

# Part of the time of a fit that writing may take, about: after a quick step nothing is written
# until the last writing is long ago. A kill then costs the quick steps since. Conventional.
WRITE_SHARE = 0.05
# Points at which a log density is compared with what it was, at most, and where each evaluation is
# dear. Conventional.
CHECKED, CHECKED_DEAR = 8, 1
# Errors of a state that cannot be written. They end no fit.
NOT_WRITABLE = (CodecError, TypeError, ValueError, RecursionError, MemoryError)


class Checkpoint:
    """The file from which a fit goes on.

    Parameters
    ----------
    path : str or path-like
        A file that is not there yet, or one that an earlier call with the same arguments has
        written. Beside it lies ``<path>.log`` while the fit runs.
    write_share : float
        Part of the time of the fit that writing may take, about; ``inf`` writes after every step.

    Attributes
    ----------
    seed : int or None
        Seed of the fit in the file; None if there is no file yet.

    Raises
    ------
    TypeError, OSError
        If it is no path, is a folder, lies in no folder, or cannot be read.
    FitError
        If the file is no checkpoint, is damaged, or was written by another version.
    """

    def __init__(self, path: str | os.PathLike[str], *, write_share: float = WRITE_SHARE) -> None:
        self.path = checked_path(path, "checkpoint={}")
        self.write_share = write_share
        self.seed: int | None = None
        self._stored = read_checkpoint(self.path) if self.path.exists() else None
        if self._stored is not None:
            self.seed = self._stored.settings.random_seed
        self._log = RunLog()
        self._number, self._ended = 0, False
        self._before_cut: Reached | None = None
        self._uncut: Reached | None = None
        self._fault, self._wrote, self._cost = "", -np.inf, 0.0

    @contextmanager
    def following(self, run: Run) -> Iterator[State | Fit | None]:
        """Let a run go on from the file, and keep it until the context ends.

        Parameters
        ----------
        run : Run
            That has not begun.

        Yields
        ------
        State, Fit or None
            The newest state, the fit if it had ended, or None if no state is known. Where a limit
            had cut the fit and is larger now, the newest state before.

        Raises
        ------
        FitError
            If the file is of another model, other data or other settings, or in use.
        OSError
            If it cannot be written.
        """
        stored, self._stored = self._stored, None
        try:
            if stored is None:
                self._begin(run)
                yield None
            else:
                yield self._taken_up(stored, run)
        finally:
            self._log.close()

    def _begin(self, run: Run) -> None:
        """Write a first file: what cannot be written is told before any evaluation."""
        number = time.time_ns()
        with _told(self.path):
            self._log.open(_log_of(self.path), number)
            run.density.log = self._log
            # A clock decides how many points are evaluated in a call.
            self._log.once("chunk", lambda: (run.density.chunk,))
            _remove_unfinished(self.path)
            self._uncut = Reached.by(run, None)
            try:
                self._store(run, self._uncut, number)
            except NOT_WRITABLE as error:
                self._failed(error)
        self._log.on_fault = self._failed

    def _taken_up(self, stored: StoredCheckpoint, run: Run) -> State | Fit | None:
        """Give the run and its density what the file holds."""
        density = run.density
        raised = stored.check_call(run)
        model = density.split(_named_outputs(run)) if stored.outputs and density.split else None
        kept = stored.decoded(model)
        _check_density(kept, density, stored.where)
        self._number, reached = stored.number, kept.newest
        again = kept.before_cut if raised else None
        self._before_cut = None if raised else kept.before_cut
        if isinstance(reached.result, Fit) and again is None:
            self._ended = True
            run.take_up(reached.record)
            # Draws are evaluated as the fit was.
            _restore_history(kept, density, model)
            density.has_gradient = reached.has_gradient
            _tell(run, stored.where)
            return _with_limits(reached.result, run)
        self._open_log(run, stored)
        if again is None:
            run.take_up(reached.record, self._log.spent)
            if self._before_cut is not None:
                run.note_cut()
        else:
            newest = replace(reached.record, seconds=reached.record.seconds + self._log.spent)
            run.take_up_before_cut(again.record, newest)
            reached = again
            # What was measured since was measured under the limit.
            self._log.measured.clear()
        self._log.measured.update(reached.record.measured)
        density.log = self._log
        [chunk] = self._log.once("chunk", lambda: (density.chunk,))
        density.chunk = int(chunk)
        if again is not None and again.result is None:
            run.known = _evaluations(kept, density)
        else:
            _restore_history(kept, density, model)
        density.has_gradient = reached.has_gradient
        self._uncut = None if run.cut else reached
        _tell(run, stored.where)
        return reached.result

    def _open_log(self, run: Run, stored: StoredCheckpoint) -> None:
        """Read the log, and look whether the density is the one that it was written for."""
        with _told(self.path):
            self._log.open(_log_of(self.path), stored.number)
        _remove_unfinished(self.path)
        self._log.on_fault = self._failed
        check_unchanged(run.density, *self._log.points(), f"{stored.where} was written")

    @contextmanager
    def keeping_draws(self, density: Density) -> Iterator[None]:
        """Keep expensive evaluations of the draws after the fit: a second call pays for the rest.

        The log goes on until the context ends without an error. Where the fit is not in the file,
        none are kept.
        """
        if not self._ended:
            yield
            return
        try:
            self._log.open(_log_of(self.path), self._number)
        except OSError as error:
            self._failed(error)
        density.log = self._log
        try:
            yield
            self._end_log()
        finally:
            self._log.close()

    # ------------------------------------------------------------ writing

    def save(self, run: Run, state: State | None) -> None:
        """Write a state, unless the last writing is too near; a fault is told, and ends no fit."""
        reached = self._reached(run, state)
        if time.monotonic() - self._wrote >= self._cost / self.write_share:
            self._try_to_store(run, reached)

    def finish(self, run: Run, fit: Fit) -> Fit:
        """Write the fit; return it, with a status if anything could not be written.

        The fit of a run that the user has interrupted is not written: a second call goes on.
        """
        if not run.interrupted:
            fit = self._with_status(fit)
            self._ended = self._try_to_store(run, self._reached(run, fit))
            if self._ended:
                self._end_log()
        return self._with_status(fit)

    def _reached(self, run: Run, result: State | Fit | None) -> Reached:
        """Return how far the run has come; before a limit cuts it, a way back leads here."""
        reached = Reached.by(run, result)
        if not run.cut:
            self._uncut = reached
        elif self._before_cut is None:
            self._before_cut, self._uncut = self._uncut, None
        return reached

    def _end_log(self) -> None:
        """Remove the log; what a call with a larger limit evaluates again stays."""
        if self._before_cut is not None and self._log.n_evaluations:
            self._log.close()
        else:
            self._log.remove()

    def _try_to_store(self, run: Run, reached: Reached) -> bool:
        try:
            self._store(run, reached, time.time_ns())
        except (OSError, *NOT_WRITABLE) as error:
            self._failed(error)
            return False
        return True

    def _store(self, run: Run, reached: Reached, number: int) -> None:
        began = time.monotonic()
        content, arrays = encoded(run, reached, self._before_cut)
        if self._before_cut is not None:
            # The log holds what was evaluated since.
            number = self._number
        content["number"] = number
        write_archive(self.path, "checkpoint.json", content, arrays, compressed=False)
        if self._before_cut is not None:
            self._log.go_on()
        else:
            self._number = number
            self._log.follow(number)
        self._wrote = time.monotonic()
        self._cost = self._wrote - began

    # ------------------------------------------------------------ faults

    def _failed(self, error: Exception) -> None:
        """Say once that something could not be written."""
        if not self._fault:
            self._fault = getattr(error, "strerror", None) or first_line(error)
            _log.warning(
                "The checkpoint %s could not be written (%s). The fit goes on, and tries again "
                "after later steps; the file stays as it was written last.", self.path, self._fault,
            )  # fmt: skip

    def _with_status(self, fit: Fit) -> Fit:
        if not self._fault or any(s.code == "checkpoint" for s in fit.statuses):
            return fit
        return replace(fit, statuses=(*fit.statuses, _status(self.path, self._fault)))


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _remove_unfinished(path: Path) -> None:
    """Remove files that processes which were killed had not written to the end."""
    for file in path.parent.glob(f"{escape(path.name)}.*.tmp"):
        with suppress(OSError):
            file.unlink()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of an error of the system which argument it comes from, and what to do."""
    try:
        yield
    except InUse as error:
        raise FitError(
            f"checkpoint={str(path)!r}: {error}. Two fits cannot share a file: give another name, "
            "or wait until that fit has ended."
        ) from error
    except OSError as error:
        raise type(error)(
            error.errno,
            f"checkpoint={str(path)!r} cannot be written ({error.strerror}): give a file in a "
            "folder that can be written, on a disk with room",
        ) from error


def _status(path: Path, fault: str) -> Status:
    return Status(
        "checkpoint",
        "fit",
        f"{path} could not be written at least once ({fault}).",
        "The fit is complete. One that is killed goes on from what was written last: give a "
        "file on a disk with room, and settings without objects of your own.",
        level="info",
    )


def _named_outputs(run: Run) -> Sequence[str] | None:
    emulation = run.settings.emulation
    return emulation.outputs if isinstance(emulation, Emulation) else None


def _tell(run: Run, where: str) -> None:
    """Report what the file knows."""
    steps, evals = counted(len(run.journal), "step"), counted(run.evals, "evaluation")
    run.report("plan", f"going on from {where}: {steps} with {evals} are known")


def _with_limits(fit: Fit, run: Run) -> Fit:
    """Return a fit that no limit has cut with the limits of the call."""
    s = run.settings
    return replace(
        fit, config=replace(fit.config, max_evals=s.max_evals, max_seconds=s.max_seconds)
    )


def _restore_history(kept: Kept, density: Density, model: OutputModel | None) -> None:
    """Give a density the points that are known, where each evaluation is dear."""
    if kept.history is not None:
        density.keep_history()
    if model is not None:
        density.expose_outputs(model)
    if kept.history is not None and density.history is not None:
        density.history.add(*kept.history)


def _evaluations(kept: Kept, density: Density) -> Evaluations | None:
    """Return the points that are known for a fit that begins again with the outputs."""
    if kept.history is None:
        return None
    x, logp, second = kept.history
    return Evaluations(density.names, x, logp, second)


def _check_density(kept: Kept, density: Density, where: str) -> None:
    """Raise if the density is not the one that the file was written for."""
    if kept.names != density.names:
        raise FitError(
            f"{where} was written for a model with coordinates {kept.names[:8]}, this model has "
            f"{density.names[:8]}. Give the name of another file."
        )
    result, record = kept.newest.result, kept.newest.record
    if isinstance(result, Fit):
        result.check_density(density)
        return
    x, logp = np.empty((0, density.dim)), np.empty(0)
    if kept.history is not None:
        x, logp, _ = kept.history
    elif result is not None:
        x, logp = result.search.optima.x, result.search.optima.logp
    dear = record.evaluation_seconds >= KEPT_SECONDS * max(record.evals, 1)
    dear |= kept.history is not None
    order = np.argsort(-logp, kind="stable")[: CHECKED_DEAR if dear else CHECKED]
    check_unchanged(density, x[order], logp[order], f"{where} was written")
