"""What is shown while a fit runs: a row for each stage, with counts, a rate and a forecast."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pymc_multimodal.plugin.settings import RunOptions
    from pymc_multimodal.target import Density

__all__ = ["COMPILING", "IMPORTING", "FitProgress"]

_log = logging.getLogger("pymc.multimodal")

COMPILING = "compiling the log density of the model; limits do not count this time"
"""What is said first."""

IMPORTING = "importing torch, which the generator needs; limits do not count this time"
"""What is said before a generator with a network."""

# Stages whose text is a line of its own: they are said once, and take no time.
PLAN, PREVIEW, FORECAST = "plan", "preview", "forecast"
# Evaluations of a fit that ends with its first answer, at least. Measured: 5,000 to 15,000 for
# nearly normal posteriors (CHANGELOG).
LEAST_EVALUATIONS = 5_000
# Seconds that these evaluations have to take before they are told. Conventional: a minute.
LONG = 60.0
# Stages that are logged where no rows are shown: they may take long.
LOGGED = ("compile", "workers", "torch")
# Stages that do with fewer evaluations, and say how many.
SHORT_STAGES = ("emulate", "integrate", "judge", "structure", "weigh", "conditional")
# Frames in a second, of a terminal and of a notebook. Conventional.
FRAMES, NOTEBOOK_FRAMES = 5.0, 2.0
# Share of the time below which a stage has no row at the end. Conventional.
MIN_SHARE = 0.01
# Seconds of a stage from which on a rate is told. Conventional: a shorter one is mostly noise.
MIN_RATED = 0.5
# Seconds from which on a time is written in minutes, and in hours. Conventional.
MINUTES_FROM, HOURS_FROM = 100.0, 7200.0


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
    def running(self) -> bool:
        """Whether the stage goes on."""
        return self._began is not None

    @property
    def evals(self) -> int:
        """Evaluations in the stage."""
        began = self._began  # once: another thread reads while the stage ends
        return self._evals + (self._count() - began[0] if began else 0)

    @property
    def seconds(self) -> float:
        """Seconds in the stage."""
        began = self._began
        return self._seconds + (time.monotonic() - began[1] if began else 0.0)

    def counts(self, idle: float = 0.0) -> str:
        """Write the evaluations and their rate, if there are any.

        Parameters
        ----------
        idle : float
            Seconds of the stage that the rate leaves out.
        """
        evals, seconds = self.evals, self.seconds - idle
        if not evals:
            return ""
        rate = f", {significant(evals / seconds)}/s" if seconds > MIN_RATED else ""
        return f"{evals:,} evaluations{rate}"


def significant(value: float) -> str:
    """Write a positive number with two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < MINUTES_FROM:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < HOURS_FROM else f"{seconds / 3600:.1f} h"


# A row as it is shown: whether it goes on, and its text, counts and time.
Line: TypeAlias = tuple[bool, str, str, str]


class FitProgress:
    """The rows of the stages of a fit, one for the whole, and what is known of the rest.

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
        self._quiet = run.quiet
        self._max_evals, self._max_seconds = max_evals, max_seconds
        self._density: Density | None = None
        self._fit_began: float | None = None
        self._rows: dict[str, Row] = {}
        self._stage, self._forecast, self._short = "", "", False
        self._whole = Row(self._count)
        self._marimo: Any = None
        self._task: Any = None
        self._display: Display | None = None
        if run.shows_progress:
            self._marimo = run.marimo_progress()
            if self._marimo is None:
                self._display = _display(self.lines, run.progressbar_theme, transient=transient)

    def __enter__(self) -> FitProgress:
        """Begin to show rows."""
        self._whole.begin("In all")
        if self._marimo is not None:
            self._marimo.__enter__()
            self._task = self._marimo.add_task("Modes", total=1)
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop; what was spent in the longer stages stays on the screen."""
        self._end_stage()
        self._whole.end()
        if self._marimo is not None:
            self._marimo.update(self._task, completed=1)
            self._marimo.__exit__(*raised)
        if self._display is not None:
            self._display.stop()

    def lines(self) -> list[Line]:
        """Return the rows as they are shown now."""
        rows, whole = list(self._rows.values()), self._whole
        # Nothing can be evaluated while the model is compiled.
        idle = sum(row.seconds for stage, row in self._rows.items() if stage in LOGGED)
        if not whole.running:
            rows = [r for r in rows if r.seconds >= MIN_SHARE * whole.seconds]
        out = [(r.running, r.text, r.counts(), duration(r.seconds)) for r in rows]
        out.append((whole.running, whole.text, whole.counts(idle), duration(whole.seconds)))
        rest = self.forecast if self._whole.running else ""
        return [*out, (False, rest, "", "")] if rest else out

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
        row = self._rows.get(stage) or Row(self._count)
        row.begin(said)
        # A new dict: another thread may be writing the rows.
        self._rows = {**self._rows, stage: row}

    def say(self, text: str) -> None:
        """Write a line above the rows, or log it where there are none."""
        if self._display is not None:
            self._display.say(text)
        elif not self._quiet:
            _log.info("%s", text)

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
            self._rows[self._stage].end()


# ------------------------------------------------------------------ terminals and notebooks


class Display(Protocol):
    """What shows the rows."""

    def start(self) -> None:
        """Begin to show them, and go on showing what they are."""
        ...

    def say(self, text: str) -> None:
        """Write a line above them."""
        ...

    def stop(self) -> None:
        """Show them for the last time."""
        ...


def _display(lines: Callable[[], list[Line]], theme: Any, *, transient: bool) -> Display:
    """Return what shows the rows, on the error stream as PyMC's bars, or in a notebook."""
    from pymc.progress_bar import default_progress_theme

    chosen = default_progress_theme if theme is None or isinstance(theme, str) else theme
    console = Console(stderr=True, theme=chosen)
    if console.is_jupyter:
        return NotebookRows(lines, transient=transient)
    return TerminalRows(lines, console, transient=transient)


class TerminalRows:
    """Rows that Rich writes; into a file, it writes the last ones alone."""

    def __init__(
        self, lines: Callable[[], list[Line]], console: Console, *, transient: bool
    ) -> None:
        self._lines, self._spinner = lines, Spinner("dots")
        self._console, self._transient = console, transient
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=FRAMES,
            transient=transient,
        )

    def start(self) -> None:
        """Begin to write the rows, in a thread of Rich."""
        self._live.start()

    def say(self, text: str) -> None:
        """Write a line above them; brackets in it are no markup."""
        self._console.print(Text(text))

    def stop(self) -> None:
        """Write the rows for the last time."""
        self._live.stop()
        # Into a file, Rich does not end the last row's line.
        if not self._console.is_terminal and not self._transient:
            self._console.line()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column()
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for running, *texts in self._lines():
            table.add_row(self._spinner if running else "·", *map(Text, texts))
        return table


class NotebookRows:
    """Rows as HTML that is replaced; unlike Rich's, it needs no ipywidgets."""

    def __init__(self, lines: Callable[[], list[Line]], *, transient: bool) -> None:
        self._lines, self._transient = lines, transient
        self._said: tuple[str, ...] = ()
        self._handle: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def start(self) -> None:
        """Show the rows, and replace them twice in a second."""
        from IPython.display import HTML, display

        self._handle = display(HTML(self.html()), display_id=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Write a line above them."""
        self._said = (*self._said, text)

    def stop(self) -> None:
        """Show the rows for the last time."""
        self._stopped.set()
        self._thread.join()
        self._update("" if self._transient and not self._said else self.html())

    def html(self) -> str:
        """Return the lines that were said, and the rows, as HTML."""
        cell = "text-align:{};padding:1px 8px"
        rows = [
            f"<tr><td style='{cell.format('left')}'>{'▸' if running else '·'} {escape(text)}</td>"
            + "".join(f"<td style='{cell.format('right')}'>{escape(t)}</td>" for t in numbers)
            + "</tr>"
            for running, text, *numbers in self._lines()
        ]
        said = "".join(f"<p>{escape(text)}</p>" for text in self._said)
        return f"{said}<table>{''.join(rows)}</table>"

    def _refresh(self) -> None:
        while not self._stopped.wait(1.0 / NOTEBOOK_FRAMES):
            self._update(self.html())

    def _update(self, html: str) -> None:
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(html))
