"""What the file of a checkpoint holds: its format, and how it is written and read.

A file has the format of a saved fit (`saving`), a zip archive of JSON and NumPy arrays, and reading
it executes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal._version import __version__
from pymc_multimodal.fit.codec import CodecError, decode, encode
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.run import RunRecord
from pymc_multimodal.fit.saving import CLASSES, DamagedFile, classes_of, names_of, read_archive
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.fit.state import State
from pymc_multimodal.status import FitError

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run

__all__ = [
    "STATE_CLASSES",
    "Kept",
    "Reached",
    "StoredCheckpoint",
    "encoded",
    "read_checkpoint",
]

FORMAT = "pymc-multimodal checkpoint"
# Version of the format: it grows when a file of the version before would be read wrongly.
FORMAT_VERSION = 2
# Limits, which a later call may raise: None is no limit.
LIMITS = ("max_evals", "max_seconds")
# Characters of a setting that a message shows. Conventional.
MAX_SHOWN = 60
# Name of the simulator's compiled function in a file: it is compiled again.
SIMULATOR = "simulator"

STATE_CLASSES: dict[str, tuple[str, ...]] = {
    **CLASSES,
    "approximation.answer": ("Approximation",),
    "approximation.mixture": ("ModeMixture",),
    "approximation.pool": ("Pool",),
    "approximation.sample": ("WeightedSample",),
    "approximation.verdict": ("Verdict",),
    "challenge.rounds": ("ChallengeState",),
    "challenge.tempered": ("Particles", "TemperatureSchedule"),
    "conditional.climbs": ("Climbed",),
    "conditional.mixture": (*CLASSES["conditional.mixture"], "Completed"),
    "emulation.features": ("Bounded", "Features"),
    "emulation.judged": ("EmulatedPosterior",),
    "emulation.moves": ("EmulatedGenerator", "EmulatedJump", "Resampling"),
    "emulation.outputs": ("OutputEmulator", "Scaling"),
    "emulation.process": ("Process",),
    "emulation.rounds": ("Emulated",),
    "emulation.surface": ("PriorShape", "SurfaceEmulator"),
    "evidence.importance": ("CrossCheck",),
    "evidence.samples": ("BridgeSamples",),
    "fit.checkpoint_file": ("Kept", "Reached"),
    "fit.emulated": ("Judged",),
    "fit.parts": ("Part",),
    "fit.run": ("Entry", "RunRecord"),
    "fit.state": ("Division", "Exploration", "State"),
    "fit.structured_fit": ("WeightedUnits",),
    "moves.jumps": ("MixtureProposal",),
    "moves.local": ("MoveParameters", "MoveState"),
    "proposals.base": ("RegionFit", "RegionalMixture"),
    "regions.chains": ("ChainRecord", "Chains"),
    "regions.pilot": ("Pilot",),
    "search.optima": ("OptimumSet",),
    "search.quadratic": ("Evaluated",),
    "search.starts": ("StartDistribution",),
    "search.state": ("Counts", "Search"),
    "structure.hubs": ("Explained", "HubSearch"),
    "structure.integration": ("UnitSample",),
    "target.errors": ("EvaluationErrors",),
}
"""The classes of a checkpoint, by the modules that hold them. A file can name no other class."""


@dataclass(frozen=True, eq=False)
class Reached:
    """How far a fit has come.

    Attributes
    ----------
    record : RunRecord
    result : State, Fit or None
        The newest state, or the fit if it has ended; None before the first state.
    has_gradient : bool
        Whether the gradient of the density was in use.
    """

    record: RunRecord
    result: State | Fit | None
    has_gradient: bool

    @classmethod
    def by(cls, run: Run, result: State | Fit | None) -> Reached:
        """Return how far a run has come."""
        return cls(run.record(), result, run.density.has_gradient)


@dataclass(frozen=True, eq=False)
class Kept:
    """What a checkpoint holds.

    Attributes
    ----------
    names : tuple of str
        Unconstrained coordinates.
    newest : Reached
    before_cut : Reached or None
        From where a call with a larger limit goes on; None if no limit has cut the fit.
    history : tuple of arrays or None
        Points (n, d), log densities (n,), and gradients or outputs (n, m), where each evaluation is
        dear.
    """

    names: tuple[str, ...]
    newest: Reached
    before_cut: Reached | None
    history: tuple[np.ndarray, np.ndarray, np.ndarray] | None


def encoded(
    run: Run, newest: Reached, before_cut: Reached | None
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return what a file holds of a run, as values and arrays.

    Parameters
    ----------
    run : Run
    newest : Reached
    before_cut : Reached or None

    Raises
    ------
    CodecError
        If something is an object of the user's own.
    """
    density = run.density
    kept = Kept(
        names=density.names,
        newest=newest,
        before_cut=before_cut,
        history=None if density.history is None else density.history.contents(),
    )
    classes = names_of(STATE_CLASSES)
    outside = {} if density.outputs is None else {SIMULATOR: density.outputs}
    settings, of_settings = encode(run.settings, classes)
    node, arrays = encode(kept, classes, outside)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "share": run.share,
        "outputs": density.outputs is not None,
        "arrays_of_settings": len(of_settings),
        "settings": settings,
        "kept": node,
    }
    return content, [*of_settings, *arrays]


@dataclass(frozen=True, eq=False)
class StoredCheckpoint:
    """A file that was read.

    Attributes
    ----------
    where : str
        The argument, for messages.
    content : dict
    arrays : list of arrays
    settings : FitConfig
    """

    where: str
    content: dict[str, Any]
    arrays: list[np.ndarray]
    settings: FitConfig

    @property
    def number(self) -> int:
        """Number that the log has to have."""
        return int(self.content["number"])

    @property
    def outputs(self) -> bool:
        """Whether outputs of a simulator were evaluated with the log density."""
        return bool(self.content["outputs"])

    def decoded(self, model: object) -> Kept:
        """Return what the file holds, given the simulator's compiled function.

        Raises
        ------
        FitError
        """
        arrays = self.arrays[self.content["arrays_of_settings"] :]
        outside = {} if model is None else {SIMULATOR: model}
        try:
            kept = decode(self.content["kept"], arrays, classes_of(STATE_CLASSES), outside)
        except CodecError as error:
            raise _damaged(self.where, error) from error
        if not isinstance(kept, Kept):
            raise _damaged(self.where, "it holds no state of a fit")
        return kept

    def check_call(self, run: Run) -> bool:
        """Tell whether a limit is larger than that of the file.

        Raises
        ------
        FitError
            If other settings differ, or a limit is smaller.
        """
        raised = False
        for f in fields(run.settings):
            then, now = getattr(self.settings, f.name), getattr(run.settings, f.name)
            if _same(then, now):
                continue
            if f.name in LIMITS and _limit(now) >= _limit(then):
                raised = True
                continue
            said = f": {_short(then)} then, {_short(now)} now" if _short(then) else ""
            larger = "the same arguments" + ", or a larger limit" * (f.name in LIMITS)
            raise FitError(
                f"{self.where} belongs to a fit with another {f.name}{said}. Give {larger}, the "
                "name of another file, or delete the file to begin anew."
            )
        limited = (run.settings.max_evals, run.settings.max_seconds) != (None, None)
        if limited and self.content["share"] != run.share:
            raise FitError(
                f"{self.where} belongs to a fit that may use another share of its limits: sample() "
                "leaves a part to its draws, fit() and MultimodalDiffusion() do not. Call the same "
                "function, or give the name of another file."
            )
        return raised


def read_checkpoint(path: Path) -> StoredCheckpoint:
    """Read a file whose format and version are known.

    Raises
    ------
    FitError
        If it is none.
    OSError
        If it cannot be read.
    """
    where = f"checkpoint={str(path)!r}"
    try:
        content, arrays = read_archive(path, "checkpoint.json")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DamagedFile("it has another format")
        version, package = content["format_version"], content["package_version"]
        if (version, package) != (FORMAT_VERSION, __version__):
            raise FitError(
                f"{where} was written by pymc-multimodal {package} in format {version}, and this "
                f"is version {__version__} with format {FORMAT_VERSION}, whose steps may be "
                "others. Finish the fit with that version, or delete the file to begin anew."
            )
        settings = decode(content["settings"], arrays, classes_of(STATE_CLASSES))
        if not isinstance(settings, FitConfig):
            raise DamagedFile("it holds no settings of a fit")
        return StoredCheckpoint(where, content, arrays, settings)
    except (DamagedFile, CodecError, KeyError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, why: object) -> FitError:
    return FitError(
        f"{where}: the file is no checkpoint of a fit, or it is damaged ({why}). Give the name of "
        "another file, or delete this one to begin anew."
    )


def _same(then: object, now: object) -> bool:
    """Tell whether two settings are equal, arrays included."""
    classes = names_of(STATE_CLASSES)
    try:
        (a, in_a), (b, in_b) = encode(then, classes), encode(now, classes)
    except CodecError:
        return False
    same = len(in_a) == len(in_b) and all(
        p.dtype == q.dtype and np.array_equal(p, q, equal_nan=p.dtype.kind == "f")
        for p, q in zip(in_a, in_b, strict=True)
    )
    return same and a == b


def _limit(value: float | None) -> float:
    return float("inf") if value is None else value


def _short(value: object) -> str:
    """Write a setting, if that is short."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else ""
