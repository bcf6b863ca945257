"""The run of a fit: limits, random streams, interruption, and the record of what was spent."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

import numpy as np

from pymc_multimodal.fit.images import cells_of
from pymc_multimodal.fit.parts import Part, Parts
from pymc_multimodal.status import EvaluationHung, LimitReached, Status, first_line
from pymc_multimodal.target.errors import EvaluationErrors
from pymc_multimodal.target.limits import Limits
from pymc_multimodal.target.run_log import RunLog, raised_again
from pymc_multimodal.target.watchdog import ended_at

if TYPE_CHECKING:
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.search import Modes, OptimumSet
    from pymc_multimodal.target.cells import Cells
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.history import Evaluations

__all__ = ["Entry", "Report", "Run", "RunRecord"]

Report: TypeAlias = Callable[[str, str], None]

_log = logging.getLogger("pymc.multimodal")

# What to do about weights that are not precise enough, where chains ran in every region.
MORE_DRAWS = "Raise LocalSampling.max_draws, or target_se."
# A standard error is itself uncertain by some per cent: an excess of a tenth is not reported.
# Conventional.
PRECISE_ENOUGH = 1.1
# Seconds after a limit in seconds at which work that evaluates nothing is ended; evaluations are
# ended earlier (`target.limits.GRACE_SECONDS`). Conventional: limits are kept within two seconds.
GRACE_SECONDS = 1.5
# Entry of the journal for what was spent after a limit had cut a fit, which a larger limit lets go
# on from before.
CUT_OFF = "cut off"
# Sets of modes whose cells are remembered. Conventional: all modes, and those of some mass.
REMEMBERED_CELLS = 2


@dataclass(frozen=True)
class Entry:
    """One row of the journal of a fit: a step that was made, and what it cost.

    Attributes
    ----------
    step : str
        Name of the step.
    outcome : {"done", "stopped"}
        "stopped" if a limit, an interruption or another exception ended the step. The state before
        the step is then kept.
    evals : int
        Evaluations of the log density.
    seconds : float
        Wall-clock time.
    """

    step: str
    outcome: str
    evals: int
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """What a run has spent and met so far: with it another process goes on.

    Attributes
    ----------
    journal : tuple of Entry
    stopped : bool
        Whether the next batch of evaluations would exceed a limit.
    seconds : float
        Wall-clock time of the run.
    evals, gradient_evals, values : int
        Evaluations of the log density, those with a gradient, and those by values.
    evaluation_seconds, value_seconds : float
        Wall-clock time of all evaluations, and of those by values.
    errors : EvaluationErrors
    last_error : tuple of str or None
        Name and message of the last error that the density raised.
    hung : str or None
        Message of the last evaluation that was given up.
    measured : dict
        Numbers that were measured by a clock (`RunLog.measured`).
    parts : dict of Part
        Parts of the step under way that have ended.
    under_way : tuple of (str, int, float)
        Name, evaluations and seconds so far of the step under way, and of those inside of it.
    """

    journal: tuple[Entry, ...]
    stopped: bool
    seconds: float
    evals: int
    gradient_evals: int
    values: int
    evaluation_seconds: float
    value_seconds: float
    errors: EvaluationErrors
    last_error: tuple[str, str] | None
    hung: str | None
    measured: dict[str, tuple[float, ...]]
    parts: dict[str, Part]
    under_way: tuple[tuple[str, int, float], ...]


class Run:
    """What travels beside the state of a fit: the one object of a fit that changes.

    Parameters
    ----------
    density : Density
        It counts the evaluations.
    settings : FitConfig
    report : callable
        ``report(stage, text)`` is called when a step begins.
    share : float
        Part of the limits that the fit may use, in (0, 1]; the rest is for draws after the fit.

    Attributes
    ----------
    interrupted : bool
        Whether the user has interrupted the fit (Ctrl-C).
    stopped : bool
        Whether the next batch of evaluations would exceed a limit.
    journal : tuple of Entry
        The steps so far.
    known : Evaluations or None
        Evaluations of this fit before it was taken up again from its begin.
    parts : Parts
        Those of the step under way.
    """

    def __init__(
        self, density: Density, settings: FitConfig, report: Report, share: float = 1.0
    ) -> None:
        self.density, self.settings, self.report = density, settings, report
        self.share = share
        self.interrupted = False
        self.stopped = False
        self.journal: tuple[Entry, ...] = ()
        self.known: Evaluations | None = None
        self.parts = Parts()
        # Of each step under way the name, and evaluations and time when it began.
        self._under_way: list[tuple[str, int, float]] = []
        # What steps had spent that were under way at a kill.
        self._spent: tuple[tuple[str, int, float], ...] = ()
        self._cut = density.cut = False
        self._first_errors = replace(density.tally)
        self._first_logp, self._first_grad = density.n_logp_evals, density.n_grad_evals
        self._first_values = density.n_values
        self._first_seconds = density.seconds, density.value_seconds
        self._began = time.monotonic()
        self._cells: dict[tuple[bytes, ...], Cells | None] = {}
        density.hung = None
        density.log = RunLog()

    # ------------------------------------------------------------ limits

    @property
    def evals(self) -> int:
        """Evaluations of the log density so far."""
        return self.density.n_logp_evals - self._first_logp

    @property
    def gradient_evals(self) -> int:
        """Evaluations of the gradient so far."""
        return self.density.n_grad_evals - self._first_grad

    @property
    def done(self) -> bool:
        """Whether a limit is reached or the user has interrupted: no further step is run."""
        return self.interrupted or self.stopped or bool(self.limit_reached())

    @property
    def cut(self) -> bool:
        """Whether a limit has cut the fit: a step or a part of one was left out, or did less.

        What a step plans by the room that a limit leaves is no cut.
        """
        return self._cut or self.density.cut

    def note_cut(self) -> None:
        """Note that a limit has cut the fit."""
        self._cut = True

    def limit_reached(self, share: float = 1.0) -> str:
        """Return the name of the first limit of which a share is used up, or an empty text.

        A limit that is reached cuts the fit.

        Parameters
        ----------
        share : float
            Part of what the fit may use of each limit, in (0, 1].
        """
        evals, until = self._bounds(share)
        reached = ""
        if self.evals >= evals or (self.stopped and evals < float("inf")):
            reached = f"max_evals={self.settings.max_evals}"
        elif time.monotonic() >= until:
            reached = f"max_seconds={self.settings.max_seconds}"
        self._cut |= bool(reached)
        return reached

    def _bounds(self, share: float) -> tuple[float, float]:
        """Return evaluations of the fit, and the time, at which a share of a limit is used up."""
        evals, seconds = self.settings.max_evals, self.settings.max_seconds
        infinity = float("inf")
        return (
            infinity if evals is None else share * self.share * evals,
            infinity if seconds is None else self._began + share * self.share * seconds,
        )

    @property
    def deadline(self) -> float:
        """Time of `time.monotonic` at which the fit has used up its seconds; may be infinite."""
        return self._bounds(1.0)[1]

    @property
    def seconds_left(self) -> float:
        """Seconds until `deadline`, at least 0; infinite without a limit."""
        return max(self.deadline - time.monotonic(), 0.0)

    def room_of_draws(self) -> float:
        """Return how many evaluations the limits leave for the draws after the fit."""
        s, d = self.settings, self.density
        evals = float("inf") if s.max_evals is None else s.max_evals - self.evals
        if s.max_seconds is None or not d.n_logp_evals:
            return evals
        left = self._began + s.max_seconds - time.monotonic()
        return min(evals, max(left, 0.0) * d.n_logp_evals / max(d.seconds, 1e-9))

    @contextmanager
    def limits(self, share: float, *, refuse: bool) -> Iterator[None]:
        """Let the density keep the limits.

        Parameters
        ----------
        share : float
            Part of each limit at which the step under way is cut short.
        refuse : bool
            Whether the step can be left out.
        """
        last, early = self._bounds(1.0), self._bounds(share)
        first = self._first_logp
        with self.density.within(
            Limits(first + last[0], last[1], first + early[0], early[1], refuse)
        ):
            yield

    @contextmanager
    def ended(self, what: str, grace: float = GRACE_SECONDS) -> Iterator[None]:
        """End work that evaluates nothing by `LimitReached` after a limit in seconds.

        Parameters
        ----------
        what : str
            What is done in the context; it is part of a message in the log.
        grace : float
            Seconds after the limit.
        """
        with ended_at(self.deadline + grace, what, LimitReached):
            yield

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave the time of the context out of the limit in seconds: functions are compiled there.

        It is used outside of `limits` and `recorded`.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - began

    def stop_if_refused(self, share: float) -> None:
        """Close the run if evaluations were refused before a share of a limit was used up.

        The next batch alone would have exceeded the limit.
        """
        self.note_cut()
        self.stopped = self.stopped or not self.limit_reached(share)

    def interrupt(self) -> None:
        """Close the run: the user has interrupted for the first time."""
        self.interrupted = True
        _log.warning("Interrupted: the fit ends now and returns what it has found so far.")

    def cells(self, optima: OptimumSet, modes: Modes) -> Cells | None:
        """Return the cells of a symmetry (`cells_of`); the newest ones are remembered.

        The cells of hundreds of modes take seconds: a result that is made at a limit does not make
        those again that a step has made before.

        Parameters
        ----------
        optima : OptimumSet
        modes : Modes
            One mode of each orbit.
        """
        if optima.symmetry is None or not len(optima):
            return None
        fixing = optima.fixing_modes(modes.locations)
        arrays = optima.symmetry.elements, modes.locations, modes.scale, *fixing
        key = tuple(hashlib.sha256(a.tobytes()).digest() for a in arrays)
        if key not in self._cells:
            self._cells = dict(list(self._cells.items())[1 - REMEMBERED_CELLS :])
            self._cells[key] = cells_of(optima, modes)
        return self._cells[key]

    # ------------------------------------------------------------ randomness

    def rng(self, step: str) -> np.random.Generator:
        """Return the random stream of a step.

        The stream depends on the seed, the name of the step and the number of its earlier runs. A
        new kind of step leaves the streams of all others as they are.
        """
        times = sum(entry.step == step for entry in self.journal)
        return np.random.default_rng([self.settings.random_seed, crc32(step.encode()), times])

    # ------------------------------------------------------------ record

    @contextmanager
    def recorded(self, step: str) -> Iterator[None]:
        """Write an entry in the journal when a step ends, however it ends.

        The cost of steps that are recorded inside of it is theirs alone.
        """
        evals, began, outcome, first = self.evals, time.monotonic(), "stopped", len(self.journal)
        if self._spent and self._spent[0][0] == step:
            (_, spent, seconds), *rest = self._spent
            evals, began, self._spent = evals - spent, began - seconds, tuple(rest)
        self._under_way.append((step, evals, began))
        try:
            yield
            outcome = "done"
        finally:
            inner = self.journal[first:]
            evals = self.evals - evals - sum(entry.evals for entry in inner)
            seconds = time.monotonic() - began - sum(entry.seconds for entry in inner)
            self.journal = (*self.journal, Entry(step, outcome, evals, seconds))
            self._under_way.pop()
            if not self._under_way:
                self.parts.ended, self._spent = {}, ()

    def made(self, step: str) -> bool:
        """Tell whether the journal has a step."""
        return any(entry.step == step for entry in self.journal)

    def record(self) -> RunRecord:
        """Return what the run has spent and met so far."""
        density, error = self.density, self.density.last_error
        return RunRecord(
            journal=self.journal,
            stopped=self.stopped,
            seconds=time.monotonic() - self._began,
            evals=self.evals,
            gradient_evals=self.gradient_evals,
            values=density.n_values - self._first_values,
            evaluation_seconds=density.seconds - self._first_seconds[0],
            value_seconds=density.value_seconds - self._first_seconds[1],
            errors=density.tally.since(self._first_errors),
            last_error=None if error is None else (type(error).__name__, first_line(error)),
            hung=None if density.hung is None else str(density.hung),
            measured=dict(density.log.measured),
            parts=dict(self.parts.ended),
            under_way=tuple(
                (step, self.evals - evals, time.monotonic() - began)
                for step, evals, began in self._under_way
            ),
        )

    def take_up(self, record: RunRecord, seconds: float = 0.0) -> None:
        """Go on from a record; what the density has counted since the run began is forgotten.

        Parameters
        ----------
        record : RunRecord
        seconds : float
            Time that was spent after the record was made.
        """
        density = self.density
        self.journal, self.stopped = record.journal, record.stopped
        self._began = time.monotonic() - record.seconds - seconds
        density.n_logp_evals = self._first_logp + record.evals
        density.n_grad_evals = self._first_grad + record.gradient_evals
        density.n_values = self._first_values + record.values
        density.seconds = self._first_seconds[0] + record.evaluation_seconds
        density.value_seconds = self._first_seconds[1] + record.value_seconds
        density.tally = self._first_errors.plus(record.errors)
        density.last_error = None if record.last_error is None else raised_again(record.last_error)
        density.hung = None if record.hung is None else EvaluationHung(record.hung)
        density.log.measured.update(record.measured)
        self.parts.ended, self._spent = dict(record.parts), record.under_way

    def take_up_before_cut(self, before: RunRecord, record: RunRecord) -> None:
        """Go on from what was known before a limit cut the fit; what was spent since counts.

        Parameters
        ----------
        before : RunRecord
            When nothing had been cut.
        record : RunRecord
            The newest one.
        """
        evals, seconds = record.evals - before.evals, record.seconds - before.seconds
        journal = (*before.journal, Entry(CUT_OFF, "stopped", evals, seconds))
        self.take_up(
            replace(
                record,
                journal=journal,
                stopped=False,
                hung=None,
                measured=before.measured,
                parts=before.parts,
                under_way=before.under_way,
            )
        )

    def seconds(self) -> dict[str, float]:
        """Return the wall-clock seconds of each step."""
        total: dict[str, float] = {}
        for entry in self.journal:
            total[entry.step] = total.get(entry.step, 0.0) + entry.seconds
        return total

    def evals_by_step(self) -> dict[str, int]:
        """Return the evaluations of the log density of each step."""
        total: dict[str, int] = {}
        for entry in self.journal:
            total[entry.step] = total.get(entry.step, 0) + entry.evals
        return total

    # ------------------------------------------------------------ statuses

    def statuses(
        self, largest_se: float, *, complete: bool, remedy: str = MORE_DRAWS
    ) -> list[Status]:
        """Return the statuses of the whole run.

        Parameters
        ----------
        largest_se : float
            Largest standard error of a weight.
        complete : bool
            Whether no step was left out.
        remedy : str
            What to do where the weights are less precise than was asked for.
        """
        errors = self.density.tally.since(self._first_errors)
        return [
            *errors.statuses(self.evals, self.density.last_error),
            *self._hung(),
            *self._unfinished(largest_se, complete, remedy),
        ]

    def _hung(self) -> list[Status]:
        if self.density.hung is None:
            return []
        # The message of the error is a cause and a remedy.
        cause, _, remedy = str(self.density.hung).partition(". ")
        return [Status("hung", "density", f"{cause}.", remedy)]

    def _unfinished(self, largest_se: float, complete: bool, remedy: str) -> list[Status]:
        target_se = self.settings.target_se
        precise = bool(largest_se <= PRECISE_ENOUGH * target_se)
        if precise and complete:
            return []
        error = f"the largest standard error of a weight is {largest_se:.2g}"
        if np.isnan(largest_se):
            error = "standard errors of weights are not known"
        error += f", and target_se={target_se} was asked for"
        if complete:
            if np.isnan(largest_se):
                remedy = "Another warning says why, and what to do."
            return [
                Status("precision", "fit", f"the precision asked for was not reached: {error}.",
                       remedy)
            ]  # fmt: skip
        if self.interrupted:
            return [
                Status("interrupted", "fit", f"the user interrupted the fit; {error}.",
                       "A new fit makes the steps that were left out.")
            ]  # fmt: skip
        part = "" if self.share == 1.0 else f" (of which {self.share:.0%} are for the fit)"
        remedy = "Raise the limit (max_evals or max_seconds), or target_se."
        if precise:
            error = "the weights are as precise as asked, but later steps were left out"
            remedy = "Raise the limit to have them, the challenge among them."
        return [
            Status("budget", "fit", f"the fit stopped at {self.limit_reached()}{part}; {error}.",
                   remedy)
        ]  # fmt: skip
