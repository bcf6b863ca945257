"""What a user reads of a fit: what was found, whether to trust it, and what to do if not."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pymc_multimodal._text import html_list, html_table, text_table
from pymc_multimodal.status import MAX_DECIMALS, counted, told, with_error, worst

__all__ = ["FitReport", "report_of"]

# Width of the text: that of a terminal. Conventional.
WIDTH = 80
# Modes, and coordinates of a location, that the report shows. Conventional.
MAX_MODES, MAX_COORDINATES = 12, 3
# Widths of a mode by which a coordinate has to differ between modes to separate them. Conventional.
MIN_APART = 1.0
# Stages that took no more than this share of the seconds and of the evaluations are left out.
# Conventional.
MIN_SHARE = 0.01
# Share of the prior that a basin may hold without being seen, from which on it is told.
# Conventional: as in `summary_line`.
WHOLE = 1.0
# Notes that say by which way the weights were found.
WAYS = frozenset({"emulated", "first_answer", "symmetry", "units"})


@dataclass(frozen=True, repr=False)
class FitReport:
    """Report of a fit; it is written as text or, in a notebook, as tables.

    Attributes
    ----------
    headline : str
        What was found, in one line.
    verdict : str
        Whether the weights and the evidence can be trusted.
    reasons : tuple of str
        The warnings behind the verdict, each with its remedy.
    ways : tuple of str
        How the weights were found, where that was not by chains in every region.
    searched : str
        What may have been missed.
    hubs : tuple of tuple of str
        Header and rows of the table of the hubs' modes, where there are several beside units.
    modes : tuple of tuple of str
        Header and rows of the table of modes, or of the explanations of units that have several.
    left_out : int
        Rows that the table leaves out.
    stages : tuple of tuple of str
        Header and rows of the table of stages.
    """

    headline: str
    verdict: str
    reasons: tuple[str, ...]
    ways: tuple[str, ...]
    searched: str
    hubs: tuple[tuple[str, ...], ...]
    modes: tuple[tuple[str, ...], ...]
    left_out: int
    stages: tuple[tuple[str, ...], ...]

    @property
    def trusted(self) -> bool:
        """Whether there was no warning."""
        return not self.reasons

    def __repr__(self) -> str:
        """Write the report as text of 80 columns."""
        lines = [*_wrapped(f"Fit of {self.headline}"), ""]
        if self.hubs:
            lines += ["Modes of the hubs", *text_table(self.hubs[0], self.hubs[1:])]
            lines += ["", "Explanations of units"]
        lines += text_table(self.modes[0], self.modes[1:])
        lines += [self._others] if self.left_out else []
        lines += ["", *_wrapped(f"Verdict: {self.verdict}")]
        for reason in self.reasons:
            lines += _wrapped(f"- {reason}", "  ")
        for way in self.ways:
            lines += _wrapped(way)
        lines += _wrapped(self.searched) if self.searched else []
        lines += ["", *text_table(self.stages[0], self.stages[1:])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Write the report for a notebook."""
        colour = "seagreen" if self.trusted else "darkorange"
        parts = [
            f"<p><b>Fit</b> of {escape(self.headline)}</p>",
            f"<p>Modes of the hubs</p>{html_table(self.hubs[0], self.hubs[1:])}"
            "<p>Explanations of units</p>"
            if self.hubs
            else "",
            html_table(self.modes[0], self.modes[1:]),
            f"<p>{escape(self._others)}</p>" if self.left_out else "",
            f'<p style="border-left: 4px solid {colour}; padding-left: 8px">'
            f"<b>Verdict</b>: {escape(self.verdict)}</p>",
            html_list(self.reasons),
            *(f"<p>{escape(way)}</p>" for way in self.ways),
            f"<p>{escape(self.searched)}</p>" if self.searched else "",
            "<details><summary>Stages and their cost</summary>",
            html_table(self.stages[0], self.stages[1:]),
            "</details>",
        ]
        return f"<div>{''.join(parts)}</div>"

    @property
    def _others(self) -> str:
        return f"and {counted(self.left_out, 'further row')}: mode_table(fit) has them all"


def report_of(fit: Any) -> FitReport:
    """Make the report of a fit.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    FitReport
    """
    warnings = [s for s in fit.statuses if s.level == "warning"]
    modes, left_out = _modes(fit) if fit.units is None else _explanations(fit)
    apart = fit.units is not None and fit.n_modes > 1
    return FitReport(
        headline=fit.described,
        verdict=_verdict(fit, len(warnings)),
        reasons=tuple(told(warnings)),
        ways=tuple(
            s.cause[:1].upper() + s.cause[1:]
            for s in fit.statuses
            if s.level == "info" and s.code in WAYS
        ),
        searched=_searched(fit),
        hubs=_modes(fit)[0] if apart else (),
        modes=modes,
        left_out=left_out,
        stages=_stages(fit),
    )


def _verdict(fit: Any, n_warnings: int) -> str:
    w = fit.weights
    what = "the log evidence" if fit.n_modes == 1 else "the weights and the log evidence"
    known = np.isfinite(w.total_se) and np.isfinite(w.weight_se).all()
    if not n_warnings:
        return f"nothing speaks against {what}; the errors are standard errors."
    reasons = counted(n_warnings, "warning")
    if not known:
        return f"do not rely on {what} yet: not all errors are known ({reasons})."
    return f"use {what} with care ({reasons})."


def _searched(fit: Any) -> str:
    seen = fit.modes.seen_basin_mass
    if not seen < WHOLE:
        return ""
    return (
        f"A mode may be missing if climbs from less than {seen:.2g} of the prior lead to it (its "
        "basin); such a mode may hold any part of the posterior."
    )


def _modes(fit: Any) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Return header and rows of the table of modes, and how many modes it leaves out."""
    w, shown = fit.weights, min(fit.n_modes, MAX_MODES)
    images = fit.images
    symmetric = bool((images > 1).any())
    columns: dict[str, list[str]] = {"mode": [str(k) for k in range(shown)]}
    if symmetric:
        columns["images"] = [str(n) for n in images[:shown]]
    columns["weight"] = [with_error(w.weight[k], w.weight_se[k]) for k in range(shown)]
    columns["log evidence"] = [
        with_error(w.log_evidence[k], w.log_evidence_se[k]) for k in range(shown)
    ]
    columns["ESS"] = [_whole(fit.draws.ess[k]) for k in range(shown)]
    columns["status"] = [worst(fit.statuses, k) for k in range(shown)]
    columns["at"] = _locations(fit, shown)
    rows = tuple(zip(*columns.values(), strict=True))
    return (tuple(columns), *rows), fit.n_modes - shown


def _explanations(fit: Any) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Return the same for units with several explanations."""
    found = fit.units
    rows = []
    for unit in np.flatnonzero(found.n_explanations > 1):
        columns = found.units.members[unit][found.units.inside[unit]]
        for k in range(found.n_explanations[unit]):
            place = found.location[unit, k][found.units.inside[unit]]
            parts = [f"{fit.names[i]}={x:.3g}" for i, x in zip(columns, place, strict=True)]
            rest = ", ..." if len(parts) > MAX_COORDINATES else ""
            rows.append((
                found.units.names[unit],
                str(k),
                with_error(found.weight[unit, k], found.weight_se[unit, k]),
                ", ".join(parts[:MAX_COORDINATES]) + rest,
            ))  # fmt: skip
    header = ("unit", "explanation", "weight", "at")
    return (header, *rows[:MAX_MODES]), max(len(rows) - MAX_MODES, 0)


def _whole(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "-"


def _locations(fit: Any, shown: int) -> list[str]:
    """Write the coordinates of each mode that separate the modes most, in units of their widths."""
    x = fit.modes.locations
    width = np.sqrt(np.einsum("kij,kij->ki", fit.modes.scale, fit.modes.scale))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.nan_to_num(np.ptp(x, axis=0) / np.median(width, axis=0))
    most = np.argsort(-np.round(apart, 2), kind="stable")[:MAX_COORDINATES]
    # The others have one value in all modes.
    chosen = np.sort(most[: max(1, int(np.sum(apart[most] > MIN_APART)))]) if len(x) > 1 else most
    rest = ", ..." if x.shape[1] > len(chosen) else ""
    return [
        ", ".join(f"{fit.names[i]}={_rounded(x[k, i], width[k, i])}" for i in chosen) + rest
        for k in range(shown)
    ]


def _rounded(value: float, width: float) -> str:
    """Write a coordinate to a tenth of the width of its mode."""
    if not 0 < width < np.inf:
        return f"{value:.3g}"
    digits = max(0, 1 - int(np.floor(np.log10(width))))
    return f"{value:.{digits}f}" if digits <= MAX_DECIMALS else f"{value:.{MAX_DECIMALS}g}"


def _stages(fit: Any) -> tuple[tuple[str, ...], ...]:
    """Return header and rows of the table of stages, in their order, with the sum."""
    evals = fit.evals_by_step or {}
    seconds = sum(fit.seconds.values())
    rows = []
    for name, spent in fit.seconds.items():
        made = evals.get(name, 0)
        if spent > MIN_SHARE * seconds or made > MIN_SHARE * fit.n_logp_evals:
            rows.append((f"{made:,}" if evals else "-", f"{spent:.1f}", name))
    total = (f"{fit.n_logp_evals:,}", f"{seconds:.1f}", "in all")
    return (("evaluations", "seconds", "stage"), *rows, total)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent)
