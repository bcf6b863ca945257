"""While a fit runs, rows say what it does, what it has cost, and what is known of the rest."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace

import pytest
from clocks import wait_until
from rich.console import Console

from pymc_multimodal.plugin import progress
from pymc_multimodal.plugin.settings import RunOptions


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 100 columns that keeps what is written."""
    out = io.StringIO()

    def console(**kwargs):
        return Console(file=out, width=100, force_terminal=True, theme=kwargs["theme"])

    monkeypatch.setattr(progress, "Console", console)
    return out


@pytest.fixture
def density():
    """Counts that a test sets."""
    return SimpleNamespace(n_logp_evals=0, seconds=0.0)


def test_every_stage_has_a_row_with_its_counts(screen, density, stopped_clock):
    with progress.FitProgress(RunOptions()) as bar:
        bar.report("compile", progress.COMPILING)
        stopped_clock.skip(0.05)
        bar.watch(density)
        bar.report("search", "searching for modes")
        stopped_clock.skip(0.05)
        density.n_logp_evals = 1200
        bar.report("chains", "sampling each region: 1 of 2 have mixed [of x]")
        stopped_clock.skip(0.05)
        density.n_logp_evals = 5200
        bar.report("search", "searching again")
        density.n_logp_evals = 5300
    text = screen.getvalue()
    for said in ("Compiling the log density", "1 of 2 have mixed [of x]", "Searching again"):
        assert said in text
    last = text[text.rindex("In all") :]
    assert "5,300 evaluations" in last
    # A stage that comes again goes on in its row.
    assert "1,300 evaluations" in text
    assert "4,000 evaluations" in text


def test_the_rate_of_the_whole_leaves_compiling_out(screen, density, stopped_clock):
    with progress.FitProgress(RunOptions()) as bar:
        bar.report("compile", progress.COMPILING)
        stopped_clock.skip(98.0)
        bar.watch(density)
        bar.report("search", "searching for modes")
        stopped_clock.skip(2.0)
        density.n_logp_evals = 1000
    text = screen.getvalue()
    assert "1,000 evaluations, 500/s" in text[text.rindex("In all") :]


def test_the_last_row_in_a_file_ends_its_line(density, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **kwargs: Console(file=out, width=100, theme=kwargs["theme"])
    )
    with progress.FitProgress(RunOptions()) as bar:
        bar.watch(density)
        bar.report("search", "searching for modes")
    last = out.getvalue().splitlines()[-1]
    assert "In all" in last
    assert out.getvalue().endswith("\n")


def test_lines_are_printed_above_the_rows(screen, density, caplog):
    caplog.set_level("INFO", logger="pymc.multimodal")
    with progress.FitProgress(RunOptions()) as bar:
        bar.report("plan", "some hundred evaluations")
        bar.report("preview", "the search has found 2 modes")
    assert "Some hundred evaluations." in screen.getvalue()
    assert "The search has found 2 modes." in screen.getvalue()
    assert not caplog.records


def test_a_notebook_has_the_rows_as_html_that_is_replaced(density, monkeypatch):
    """No widgets are needed, and nothing is written beside the one output."""
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html)

    def display(html, display_id):
        shown.append(html)
        return Handle()

    module = SimpleNamespace(display=display, HTML=str)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    jupyter = SimpleNamespace(is_jupyter=True)
    monkeypatch.setattr(progress, "Console", lambda **kwargs: jupyter)
    monkeypatch.setattr(progress, "NOTEBOOK_FRAMES", 50.0)
    with progress.FitProgress(RunOptions()) as bar:
        bar.watch(density)
        bar.report("preview", "the search has found <2> modes")
        bar.report("search", "searching for modes")
        density.n_logp_evals = 1200
        assert wait_until(lambda: "1,200 evaluations" in shown[-1])
        during = len(shown)
    last = shown[-1]
    assert "<p>The search has found &lt;2&gt; modes.</p>" in last
    assert "Searching for modes" in last
    assert "1,200 evaluations" in last
    assert "▸" in shown[during - 1]
    assert "▸" not in last
    time.sleep(0.1)
    assert shown[-1] is last, "the thread has ended"


@pytest.mark.parametrize("options", [{"progressbar": False}, {"quiet": True}])
def test_nothing_is_shown_when_told(screen, density, options, caplog, capfd):
    caplog.set_level("INFO", logger="pymc.multimodal")
    with progress.FitProgress(RunOptions(**options)) as bar:
        bar.report("compile", progress.COMPILING)
        bar.watch(density)
        for stage in ("plan", "preview", "forecast", "search"):
            bar.report(stage, f"about {stage}")
    assert screen.getvalue() == ""
    assert capfd.readouterr() == ("", "")
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == (0 if "quiet" in options else 2), "compiling and the plan are logged"


def test_the_rest_is_bounded_by_the_limits(density):
    bar = progress.FitProgress(RunOptions(quiet=True), max_evals=1000, max_seconds=90.0)
    assert bar.forecast == ""
    bar.watch(density)
    density.n_logp_evals = 300
    assert bar.forecast == "at most 700 evaluations more; at most 90 s more"
    bar.report("forecast", "2 regions: at least 800 evaluations in all")
    assert bar.forecast.startswith("2 regions: at least 800 evaluations in all; at most 700")


@pytest.mark.parametrize(
    ("seconds_each", "stage", "says"),
    [(0.1, "search", "at least 5,000 evaluations, 8 min more"), (1e-4, "search", ""),
     (0.1, "emulate", "")],
)  # fmt: skip
def test_an_evaluation_that_was_timed_gives_a_lower_bound(density, seconds_each, stage, says):
    bar = progress.FitProgress(RunOptions(quiet=True))
    bar.watch(density)
    bar.report(stage, "begins")
    assert bar.forecast == ""
    density.n_logp_evals, density.seconds = 10, 10 * seconds_each
    assert bar.forecast == says


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (42.4, "42 s"), (150, "2 min"), (9000, "2.5 h")],
)
def test_times_have_the_unit_that_suits_them(seconds, text):
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.99, "10"), (123.4, "120"), (98_765.0, "99,000")]
)
def test_rates_have_two_digits(value, text):
    assert progress.significant(value) == text
