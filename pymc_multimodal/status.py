"""What a stage has to say about its own result: plain records, never a silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FitError", "LimitReached", "ModelError", "Status", "SymmetryBroken", "worst"]

Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Status:
    """One finding of one stage.

    Attributes
    ----------
    code : str
        Short machine-readable name, such as ``"r_hat"``; it is what the table of modes shows.
    stage : str
        The stage that found it, such as ``"local"``.
    cause : str
        What was seen, in one line.
    remedy : str
        What the user can do about it, in one line.
    mode : int or None
        The mode it concerns; None for the whole fit.
    level : {"warning", "info"}
        Warnings are shown to the user; infos are only kept.
    """

    code: str
    stage: str
    cause: str
    remedy: str = ""
    mode: int | None = None
    level: Level = "warning"

    def __str__(self) -> str:
        where = "" if self.mode is None else f"mode {self.mode}: "
        return f"{where}{self.cause}" + (f" {self.remedy}" if self.remedy else "")


class ModelError(ValueError):
    """The model cannot be sampled by this package; the message names the variable and the cure."""


class FitError(RuntimeError):
    """A fit is not of this model, a worker died, or a run diverged; the message says what to do."""


class LimitReached(Exception):
    """A limit of the fit was reached in work that can be left out; no user ever sees it."""


class SymmetryBroken(Exception):
    """A point was met whose image has another log density; no user ever sees it."""


def first_line(error: Exception) -> str:
    """Return the first line of a message without its full stop: pages about a graph may follow."""
    return str(error).partition("\n")[0].rstrip(".")


def worst(statuses: tuple[Status, ...], mode: int) -> str:
    """Codes of what the table says of one mode, comma separated, or ``"ok"``.

    These are the codes of warnings, and ``"negligible_region"``: the evidence of such a mode is not
    to be trusted, though that matters to nothing else.
    """
    own = [s for s in statuses if s.mode == mode]
    codes = [s.code for s in own if s.level == "warning" or s.code == "negligible_region"]
    return ",".join(dict.fromkeys(codes)) or "ok"
