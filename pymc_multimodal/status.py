"""Findings of the stages about their own results, and the errors that a user sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = [
    "CODES",
    "RAISE_LIMIT",
    "EvaluationHung",
    "FitError",
    "GradientMisleads",
    "LimitReached",
    "ModelError",
    "Status",
    "StatusKind",
    "SymmetryBroken",
    "counted",
    "first_line",
    "of_one_region",
    "told",
    "under_a_limit",
    "with_error",
    "worst",
]

Level: TypeAlias = Literal["info", "warning"]
Stage: TypeAlias = Literal[
    "approximation", "challenge", "conditional", "density", "emulation", "evidence", "fit",
    "kernel", "proposals", "regions", "search", "structure",
]  # fmt: skip


@dataclass(frozen=True)
class StatusKind:
    """Where a code comes from, and how serious it can be.

    Attributes
    ----------
    stages : tuple of str
        Stages that report the code.
    levels : tuple of {"info", "warning"}
        Levels that it can have.
    """

    stages: tuple[Stage, ...]
    levels: tuple[Level, ...]


_WARNING: tuple[Level, ...] = ("warning",)
_INFO: tuple[Level, ...] = ("info",)
_EITHER: tuple[Level, ...] = ("warning", "info")

CODES: Mapping[str, StatusKind] = MappingProxyType({
    # Evaluations of the density
    "raised": StatusKind(("density",), _WARNING),
    "nan": StatusKind(("density",), _EITHER),
    "infinite": StatusKind(("density",), _EITHER),
    "gradient": StatusKind(("density",), _EITHER),
    "unstable": StatusKind(("density",), _WARNING),
    "hung": StatusKind(("density",), _WARNING),
    # Search for modes
    "singletons": StatusKind(("search",), _WARNING),
    "rare": StatusKind(("search",), _WARNING),
    "runaway": StatusKind(("search",), _WARNING),
    "step": StatusKind(("search",), _EITHER),
    "unfinished": StatusKind(("search",), _WARNING),
    "flat": StatusKind(("search",), _INFO),
    "saddles": StatusKind(("search",), _EITHER),
    "searched": StatusKind(("search",), _INFO),
    "screened": StatusKind(("search",), _INFO),
    "negligible": StatusKind(("search",), _INFO),
    "symmetry": StatusKind(("fit",), _INFO),
    # First answer
    "first_answer": StatusKind(("approximation",), _EITHER),
    # Emulation of an expensive density
    "emulated": StatusKind(("emulation",), _EITHER),
    "weighted_draws": StatusKind(("emulation",), _INFO),
    # Units that share nothing but a few coordinates
    "units": StatusKind(("structure",), _EITHER),
    # Many coordinates that are nearly normal given a few
    "conditional": StatusKind(("conditional",), _INFO),
    "unit_modes": StatusKind(("structure",), _WARNING),
    # Regions and their chains
    "overlap": StatusKind(("regions", "evidence"), _EITHER),
    "r_hat": StatusKind(("regions", "evidence"), _WARNING),
    "away": StatusKind(("regions",), _WARNING),
    "negligible_region": StatusKind(("regions",), _INFO),
    # Evidences and weights
    "evidence_error": StatusKind(("evidence",), _WARNING),
    "pareto_k": StatusKind(("evidence",), _EITHER),
    "bridge": StatusKind(("evidence",), _WARNING),
    "border": StatusKind(("evidence",), _WARNING),
    "improper": StatusKind(("evidence",), _EITHER),
    "support": StatusKind(("evidence",), _INFO),
    "challenge": StatusKind(("challenge",), _EITHER),
    # The fit as a whole
    "budget": StatusKind(("fit",), _WARNING),
    "interrupted": StatusKind(("fit",), _WARNING),
    "laplace": StatusKind(("fit",), _WARNING),
    "precision": StatusKind(("fit",), _WARNING),
    "checkpoint": StatusKind(("fit",), _INFO),
    # Kernel of the kept draws
    "acceptance": StatusKind(("kernel",), _WARNING),
    "sticky": StatusKind(("kernel",), _WARNING),
    # Generators
    "device": StatusKind(("proposals",), _INFO),
    "network": StatusKind(("proposals",), _INFO),
    "no_torch": StatusKind(("proposals",), _WARNING),
    "reference": StatusKind(("proposals",), _WARNING),
    "control": StatusKind(("proposals",), _EITHER),
    "outside": StatusKind(("proposals",), _INFO),
    "no_density": StatusKind(("proposals",), _INFO),
    "no_map": StatusKind(("proposals",), _WARNING),
    "score": StatusKind(("proposals",), _WARNING),
    "circular": StatusKind(("proposals",), _WARNING),
    "step_size": StatusKind(("proposals",), _WARNING),
    "previous": StatusKind(("proposals",), _INFO),
    "paths": StatusKind(("proposals",), _INFO),
    "shape": StatusKind(("proposals",), _WARNING),
    "smeared": StatusKind(("proposals",), _WARNING),
    "copies": StatusKind(("proposals",), _WARNING),
    "bounds": StatusKind(("proposals",), _WARNING),
    "max_components": StatusKind(("proposals",), _WARNING),
    "one_cluster": StatusKind(("proposals",), _INFO),
    "mixing": StatusKind(("proposals",), _INFO),
    # Stored draws that a generator learns from
    "few_draws": StatusKind(("proposals",), _WARNING),
    "duplicates": StatusKind(("proposals",), _WARNING),
    "constant": StatusKind(("proposals",), _WARNING),
    "seam": StatusKind(("proposals",), _WARNING),
    "dependent": StatusKind(("proposals",), _INFO),
})  # fmt: skip
"""Every code that a status can have; ``docs/statuses.rst`` explains each."""

RAISE_LIMIT = "Raise the limit (max_evals or max_seconds)."
"""Remedy where a limit of the fit is the cause."""

# Remedies in place of those that ask for more draws, where a limit ended the fit.
_LIMITED = {
    "r_hat": "Its weight and shape are not to be trusted; raise the limit.",
    "evidence_error": RAISE_LIMIT,
    "singletons": "Raise the limit, or give starts: ModeSearch(starts=...).",
}
# What remedies say of the weight of a region, and what is true where there is no other region.
_ONE_REGION = {
    "Its weight and shape are not to be trusted": "Its evidence and shape are not to be trusted",
    "Its weight and evidence are wrong": "Its evidence is wrong",
    "The weight and the evidence of this region are wrong": "The evidence of this region is wrong",
    "Its weight may be too small": "Its evidence may be too small",
    "Its weight is too small": "Its evidence is too small",
}
# Decimals beyond which a number is written with an exponent. Conventional.
MAX_DECIMALS = 6
# Notes that the table of modes shows beside the warnings: the numbers of that row are no estimates.
NOTES_IN_TABLE = frozenset({"negligible_region"})
# Warnings of the whole fit that the table shows in every row: no number of any mode is an estimate
# with an error.
ABOUT_ALL_MODES = frozenset({"laplace"})


@dataclass(frozen=True)
class Status:
    """One finding of one stage.

    Attributes
    ----------
    code : str
        Short machine-readable name, such as ``"r_hat"``; one of `CODES`.
    stage : str
        The stage that reports it, such as ``"regions"``.
    cause : str
        What was observed, in one line.
    remedy : str
        What the user can do about it, in one line.
    mode : int or None
        The mode that it concerns; None for the whole fit.
    level : {"warning", "info"}
        Warnings are shown to the user; infos are only kept.

    Raises
    ------
    ValueError
        If there is no such code, or the code does not have this stage or level.
    """

    code: str
    stage: str
    cause: str
    remedy: str = ""
    mode: int | None = None
    level: Level = "warning"

    def __post_init__(self) -> None:
        kind = CODES.get(self.code)
        if kind is None:
            raise ValueError(
                f"Status(code={self.code!r}) is not a known code: add it to status.CODES and to "
                "docs/statuses.rst."
            )
        for name, value, known in (
            ("stage", self.stage, kind.stages),
            ("level", self.level, kind.levels),
        ):
            if value not in known:
                raise ValueError(
                    f"Status({self.code!r}, {name}={value!r}): status.CODES gives this code "
                    f"{name} {' or '.join(map(repr, known))}."
                )

    def __str__(self) -> str:
        where = "" if self.mode is None else f"mode {self.mode}: "
        return f"{where}{self.cause}" + (f" {self.remedy}" if self.remedy else "")


class ModelError(ValueError):
    """The package cannot sample the model; the message names the variable and the remedy."""


class FitError(RuntimeError):
    """A fit belongs to another model, a worker died, or a run diverged; the message says more."""


class LimitReached(BaseException):
    """A limit of the fit was reached; it is caught inside a fit.

    Like `KeyboardInterrupt` it is no `Exception`: what handles errors of the user's model shall
    not catch it.
    """


class EvaluationHung(FitError):
    """One evaluation had not returned when `max_seconds` was reached; the message names the point.

    It is raised only if the density is known at no point by then.
    """


class SymmetryBroken(Exception):
    """An image has another log density than its point; a fit starts again without symmetry."""


class GradientMisleads(Exception):
    """Most climbs end at steps of the density; a fit starts again without the gradient."""


def first_line(error: Exception) -> str:
    """Return the first line of a message, without a full stop at its end.

    PyTensor's messages continue with pages about the graph.
    """
    return str(error).partition("\n")[0].rstrip(".")


def under_a_limit(statuses: Sequence[Status]) -> list[Status]:
    """Let remedies agree: where a limit ended the fit, more draws need a higher limit first.

    Parameters
    ----------
    statuses : sequence of Status
        All statuses of a fit.
    """
    if not any(s.code == "budget" for s in statuses):
        return list(statuses)
    return [replace(s, remedy=_LIMITED.get(s.code, s.remedy)) for s in statuses]


def of_one_region(statuses: Sequence[Status]) -> list[Status]:
    """Let remedies agree where one region, or one and its images, is all that was fitted.

    Its weight is exact whatever its chains do: what they miss is missing in its evidence.

    Parameters
    ----------
    statuses : sequence of Status
        All statuses of a fit, after `under_a_limit`.
    """
    changed = []
    for s in statuses:
        remedy = s.remedy
        for weight, evidence in _ONE_REGION.items():
            remedy = remedy.replace(weight, evidence)
        changed.append(replace(s, remedy=remedy))
    return changed


def told(statuses: Sequence[Status]) -> list[str]:
    """Write statuses in lines of text; those that differ in their mode only share a line.

    Parameters
    ----------
    statuses : sequence of Status

    Returns
    -------
    list of str
        In the order of the first status of each line, such as ``"modes 0-5: ..."``.
    """
    alike: dict[Status, list[int]] = {}
    for s in statuses:
        modes = alike.setdefault(replace(s, mode=None), [])
        modes += [] if s.mode is None else [s.mode]
    return [_where(modes) + str(s) for s, modes in alike.items()]


def _where(modes: Sequence[int]) -> str:
    """Name modes, runs of them by the first and the last."""
    runs: list[list[int]] = []
    for k in sorted(set(modes)):
        if runs and runs[-1][1] == k - 1:
            runs[-1][1] = k
        else:
            runs.append([k, k])
    names = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs]
    if not names:
        return ""
    return f"{'mode' if len(set(modes)) == 1 else 'modes'} {', '.join(names)}: "


def counted(n: int, noun: str, verbs: tuple[str, str] | None = None) -> str:
    """Return a number with its noun, in the plural where it is not one.

    Parameters
    ----------
    n : int
    noun : str
        In the singular; its plural ends in s.
    verbs : tuple of str, optional
        The verb that follows, for one and for several, such as ``("was", "were")``.
    """
    text = f"{n} {noun}" if n == 1 else f"{n} {noun}s"
    return text if verbs is None else f"{text} {verbs[n != 1]}"


def with_error(value: float, error: float) -> str:
    """Return a number with its standard error, which is rounded to two significant digits."""
    if not 0 < error < math.inf:
        # Exact by symmetry, or not known.
        return f"{value:.3g}" if error == 0 else f"{value:.3f}±{error}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    if digits > MAX_DECIMALS:
        # As many significant digits as the error leaves.
        size = math.floor(math.log10(abs(value))) if value else -digits
        return f"{value:.{max(1, size + digits + 1)}g}±{error:.2g}"
    return f"{value:.{digits}f}±{error:.{digits}f}"


def worst(statuses: tuple[Status, ...], mode: int) -> str:
    """Codes that the table of modes shows for one mode.

    Parameters
    ----------
    statuses : tuple of Status
        All statuses of a fit.
    mode : int

    Returns
    -------
    str
        The codes of the mode's warnings, of the warnings in `ABOUT_ALL_MODES`, and of the notes in
        `NOTES_IN_TABLE`, separated by
        commas; ``"ok"`` where there are none.
    """
    own = [s for s in statuses if s.mode == mode or s.code in ABOUT_ALL_MODES]
    codes = [s.code for s in own if s.level == "warning" or s.code in NOTES_IN_TABLE]
    return ",".join(dict.fromkeys(codes)) or "ok"
