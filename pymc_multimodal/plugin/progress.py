"""What is shown while a fit runs: a row for each stage, with counts, a rate and a forecast."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from pymc_multimodal.plugin.settings import RunOptions
    from pymc_multimodal.target import Density

__all__ = ["COMPILING", "FitProgress"]

_log = logging.getLogger("pymc.multimodal")

COMPILING = "compiling the log density of the model; limits do not count this time"
"""What is said first."""

# Stages whose text is a line of its own: they are said once, and take no time.
PLAN, PREVIEW, FORECAST = "plan", "preview", "forecast"
# Evaluations of a fit that ends with its first answer, at least. Measured: 5,000 to 15,000 for
# nearly normal posteriors (CHANGELOG).
LEAST_EVALUATIONS = 5_000
# Seconds that these evaluations have to take before they are told. Conventional: a minute.
LONG = 60.0
# Stages that are logged where no rows are shown: they may take long.
LOGGED = ("compile", "workers")
# Stages that do with fewer evaluations, and say how many.
SHORT_STAGES = ("emulate", "integrate", "judge", "structure", "weigh", "conditional")
# Frames in a second, and seconds after which a row's numbers are written anew. Conventional.
FRAMES, REFRESH = 5.0, 0.4
# Share of the time below which a stage has no row at the end. Conventional.
MIN_SHARE = 0.01
# Seconds of a stage from which on a rate is told. Conventional: a shorter one is mostly noise.
MIN_RATED = 0.5


class Row:
    """A stage: its text, and the evaluations and seconds spent in it.

    Parameters
    ----------
    count : callable
        Returns the evaluations so far.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self.text = ""
        self._count = count
        self._evals, self._seconds = 0, 0.0
        self._began: tuple[int, float] | None = None

    def begin(self, text: str) -> None:
        """Begin the stage, or go on with it under another text."""
        self.text = text
        if self._began is None:
            self._began = (self._count(), time.monotonic())

    def end(self) -> None:
        """Stop the clock."""
        self._evals, self._seconds, self._began = self.evals, self.seconds, None

    @property
    def evals(self) -> int:
        """Evaluations in the stage."""
        return self._evals + (self._count() - self._began[0] if self._began else 0)

    @property
    def seconds(self) -> float:
        """Seconds in the stage."""
        return self._seconds + (time.monotonic() - self._began[1] if self._began else 0.0)

    @property
    def time(self) -> str:
        """Seconds in words."""
        return duration(self.seconds)

    @property
    def counts(self) -> str:
        """Evaluations and their rate, if there are any."""
        evals, seconds = self.evals, self.seconds
        if not evals:
            return ""
        rate = f", {significant(evals / seconds)}/s" if seconds > MIN_RATED else ""
        return f"{evals:,} evaluations{rate}"


class Note:
    """A row with a text that changes, and no numbers.

    Parameters
    ----------
    say : callable
        Returns the text.
    """

    counts = time = ""

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    @property
    def text(self) -> str:
        """What is said now."""
        return self._say()


def significant(value: float) -> str:
    """Write a positive number with two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class _Column(ProgressColumn):
    """A column with a text of the row of each task."""

    max_refresh = REFRESH

    def __init__(self, of: Callable[[Any], str], column: Column) -> None:
        self._of = of
        super().__init__(column)

    def render(self, task: Task) -> Text:
        """Write the text; brackets in it are no markup."""
        return Text(self._of(task.fields["row"]))


class FitProgress:
    """The rows of the stages of a fit, and a last one for the whole.

    Nothing is shown with ``progressbar=False`` or ``quiet=True``; the plan of an expensive fit is
    then logged, unless `quiet`.

    Parameters
    ----------
    run : RunOptions
    max_evals, max_seconds : float, optional
        Limits of the fit, which bound what is left.
    transient : bool
        Whether the rows vanish at the end.
    """

    def __init__(
        self,
        run: RunOptions,
        max_evals: float | None = None,
        max_seconds: float | None = None,
        *,
        transient: bool = False,
    ) -> None:
        self._quiet, self._marimo = run.quiet, None
        self._max_evals, self._max_seconds = max_evals, max_seconds
        self._density: Density | None = None
        self._rows: dict[str, tuple[Row, TaskID]] = {}
        self._stage, self._forecast, self._short = "", "", False
        self._fit_began: float | None = None
        self._whole, self._rest = Row(self._count), Note(lambda: self.forecast)
        self._display: Progress | None = None
        if run.shows_progress:
            self._marimo = run.marimo_progress()
            if self._marimo is None:
                self._display = _display(run.progressbar_theme, transient=transient)

    def __enter__(self) -> FitProgress:
        """Begin to show rows."""
        self._whole.begin("In all")
        self._task: Any = None
        self._last: list[TaskID] = []
        if self._marimo is not None:
            self._marimo.__enter__()
            self._task = self._marimo.add_task("Modes", total=1)
        if self._display is not None:
            self._display.start()
            self._add_last()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop; what was spent in the longer stages stays on the screen."""
        self._end_stage()
        self._whole.end()
        if self._marimo is not None:
            self._marimo.update(self._task, completed=1)
            self._marimo.__exit__(*raised)
        if self._display is not None:
            for row, task in self._rows.values():
                if row.seconds < MIN_SHARE * self._whole.seconds:
                    self._display.update(task, visible=False)
            self._display.update(self._last[0], completed=1)
            self._display.remove_task(self._last[1])
            self._display.stop()

    def watch(self, density: Density) -> None:
        """Count the evaluations of a density from now on."""
        self._density = density
        self._fit_began = time.monotonic()

    def report(self, stage: str, text: str) -> None:
        """Show that a stage begins, or goes on: what `fit_density` calls."""
        said = text[:1].upper() + text[1:]
        if stage == PLAN:
            self._short = True
            self.say(f"{said}.")
            return
        if stage == PREVIEW:
            if self._display is not None:
                self.say(f"{said}.")
            return
        if stage == FORECAST:
            self._forecast = text
            return
        if stage in LOGGED and self._display is None:
            self.say(f"{said}.")
        self._short = stage in SHORT_STAGES
        if self._marimo is not None:
            self._marimo.update(self._task, description=said)
        if stage != self._stage:
            self._end_stage()
            self._stage = stage
        if stage not in self._rows:
            row, task = Row(self._count), TaskID(0)
            if self._display is not None:
                task = self._add(row)
            self._rows[stage] = (row, task)
        self._rows[stage][0].begin(said)

    @property
    def forecast(self) -> str:
        """What is known of the rest: a lower or an upper bound, or nothing."""
        if self._density is None or self._fit_began is None:
            return ""
        parts = [self._forecast or self._least()]
        evals = self._density.n_logp_evals
        if self._max_evals is not None:
            parts.append(f"at most {max(self._max_evals - evals, 0):,.0f} evaluations more")
        if self._max_seconds is not None:
            left = self._fit_began + self._max_seconds - time.monotonic()
            parts.append(f"at most {duration(max(left, 0.0))} more")
        return "; ".join(p for p in parts if p)

    def _least(self) -> str:
        """Return what a fit costs at least, once an evaluation has been timed."""
        assert self._density is not None
        n, seconds = self._density.n_logp_evals, self._density.seconds
        left = (LEAST_EVALUATIONS - n) * seconds / n if n else 0.0
        if self._short or left < LONG:
            return ""
        return f"at least {LEAST_EVALUATIONS:,} evaluations, {duration(left)} more"

    def _count(self) -> int:
        return 0 if self._density is None else self._density.n_logp_evals

    def _end_stage(self) -> None:
        if self._stage in self._rows:
            row, task = self._rows[self._stage]
            row.end()
            if self._display is not None:
                self._display.update(task, completed=1)

    def _add(self, row: Row) -> TaskID:
        """Add a row above the last ones."""
        assert self._display is not None
        for last in self._last:
            self._display.remove_task(last)
        task = self._display.add_task("", total=1, row=row)
        self._add_last()
        return task

    def _add_last(self) -> None:
        """Add the row of the whole, and below it what is known of the rest."""
        assert self._display is not None
        rows = (self._whole, self._rest)
        self._last = [self._display.add_task("", total=1, row=row) for row in rows]

    def say(self, text: str) -> None:
        """Write a line above the rows, or log it where there are none."""
        if self._display is not None:
            self._display.print(Text(text))
        elif not self._quiet:
            _log.info("%s", text)


def _display(theme: Any, *, transient: bool) -> Progress:
    """Return what shows the rows, on the error stream as PyMC's bars."""
    from pymc.progress_bar import default_progress_theme

    chosen = default_progress_theme if theme is None or isinstance(theme, str) else theme
    return Progress(
        SpinnerColumn(finished_text="·"),
        _Column(lambda row: row.text, Column(ratio=1)),
        _Column(lambda row: row.counts, Column(no_wrap=True, justify="right")),
        _Column(lambda row: row.time, Column(no_wrap=True, justify="right")),
        console=Console(stderr=True, theme=chosen),
        refresh_per_second=FRAMES,
        expand=True,
        transient=transient,
    )
