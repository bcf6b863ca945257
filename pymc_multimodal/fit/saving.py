"""A fit in a file: a zip archive of JSON and NumPy arrays.

The archive holds ``fit.json`` and ``arrays/<number>.npy``. Every tool that reads zip, JSON and npy
files can read it. Reading it executes nothing that the file says (`codec`), as a pickle does.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pymc_multimodal._version import __version__
from pymc_multimodal.fit.codec import CodecError, decode, encode
from pymc_multimodal.status import FitError, first_line

__all__ = [
    "CLASSES",
    "DamagedFile",
    "checked_path",
    "classes_of",
    "names_of",
    "read_archive",
    "read_fit",
    "write_archive",
    "write_fit",
]

FORMAT = "pymc-multimodal fit"
# Version of the format: it grows when a file of the version before would be read wrongly.
FORMAT_VERSION = 1

CLASSES: dict[str, tuple[str, ...]] = {
    "approximation.settings": ("FirstAnswer",),
    "challenge.result": ("ChallengeResult",),
    "challenge.settings": ("Challenge",),
    "conditional.anchors": ("Anchor",),
    "conditional.mixture": ("AnchorMixture", "AnchorPartition", "HubGenerator"),
    "conditional.split": ("Split",),
    "emulation.moves": ("Resampling",),
    "emulation.settings": ("Emulation",),
    "evidence.masses": ("Weights",),
    "fit.images": ("Orbits",),
    "fit.result": ("Fit",),
    "fit.settings": ("FitConfig",),
    "kernel": ("Jump", "Kernel", "LocalMove"),
    "moves.local": ("MoveParameters",),
    "proposals.base": ("RegionalMixture",),
    "proposals.elliptical": ("EllipticalMixture",),
    "proposals.families": ("RegionalFamilies",),
    "proposals.flow.density": ("AutoregressiveLayer", "FlowDensity"),
    "proposals.flow.settings": ("Network",),
    "proposals.hybrid": ("Hybrid",),
    "proposals.lrds.affine": ("AffineMap",),
    "proposals.lrds.chain": ("ReverseChain",),
    "proposals.lrds.control": ("Control",),
    "proposals.lrds.lrds": ("LRDS",),
    "proposals.lrds.noising": ("Noising",),
    "proposals.lrds.path_generator": ("PathGenerator",),
    "proposals.lrds.potential": ("Potential",),
    "proposals.lrds.reference": ("MixtureReference",),
    "proposals.lrds.settings": ("ControlNetwork", "EnergyNetwork"),
    "proposals.lrds.stepped": ("SteppedReference",),
    "proposals.lrds.windows": ("Windows",),
    "proposals.margins": ("Margins",),
    "proposals.mixture": ("GaussianMixture",),
    "proposals.published.generator": ("PublishedGenerator", "PublishedHybrid"),
    "proposals.published.maps": ("SupervisedMap",),
    "proposals.score.build": ("ScoreLangevin",),
    "proposals.score.clusters": ("ClusterAnalysis",),
    "proposals.score.coordinates": ("AffineCoordinates",),
    "proposals.score.generator": ("ScoreGenerator",),
    "proposals.score.langevin_paths": ("LangevinPath",),
    "proposals.score.path_proposals": ("ScoreProposals",),
    "proposals.score.score_function": ("LearnedScore", "Perceptron"),
    "proposals.score.stored": ("StoredDraws",),
    "proposals.score.trial_run": ("TrialRun",),
    "proposals.triangular": ("Dependence", "TriangularMap"),
    "regions.draws": ("ChainDiagnostics", "RegionDraws"),
    "regions.nearest": ("NearestMode",),
    "regions.partition": ("PermutedPartition",),
    "regions.settings": ("LocalSampling", "Regions"),
    "regions.svc": ("SupportVectors",),
    "search.modes": ("Modes",),
    "search.screening": ("Screening",),
    "search.settings": ("ModeSearch",),
    "status": ("Status",),
    "structure.clusters": ("ClusterPartition", "Clusters"),
    "structure.conditional": ("Parts", "UnitMixtures"),
    "structure.explanations": ("Explanations",),
    "structure.extended": ("UnitProposals",),
    "structure.moves": ("UnitGenerator", "UnitMove"),
    "structure.result": ("UnitModes",),
    "target.cells": ("Cells",),
    "target.group": ("Orbit", "Symmetry"),
    "target.history": ("Evaluations",),
    "target.radii": ("RadiusBounds",),
    "target.structure": ("Structure",),
    "target.units": ("Units",),
}
"""The classes of a fit, by the modules that hold them. A file can name no other class.

In a file a class has the name of its room and its own, such as ``"search.Modes"``.
"""


class DamagedFile(ValueError):
    """A file is no archive of this package, or a part of it is damaged; the message says how."""


def write_fit(fit: object, path: str | os.PathLike[str]) -> None:
    """Write a fit to a file; a file of that name is replaced once the new one is complete.

    Raises
    ------
    FitError
        If the fit holds an object that is neither an array nor of a class of a fit.
    OSError
        If the file cannot be written.
    """
    path = checked_path(path, "save(path={})")
    try:
        node, arrays = encode(fit, names_of(CLASSES))
    except CodecError as error:
        raise FitError(
            f"save({str(path)!r}): {error}, which cannot be saved. If it comes from a setting, "
            "give arrays, numbers and text there; otherwise it is a fault of this package."
        ) from error
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "fit": node,
    }
    write_archive(path, "fit.json", content, arrays)


def write_archive(
    path: Path,
    name: str,
    content: dict[str, Any],
    arrays: Sequence[np.ndarray],
    *,
    compressed: bool = True,
) -> None:
    """Write values and arrays to a zip archive; the file is replaced once the new one is complete.

    Parameters
    ----------
    path : Path
    name : str
        Of the part with the values.
    content : dict
        What JSON knows.
    arrays : sequence of numpy.ndarray
    compressed : bool

    Raises
    ------
    OSError
        If the file cannot be written; an earlier one is then kept.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    try:
        with open(temporary, "wb") as file:
            with zipfile.ZipFile(file, "w", method) as archive:
                archive.writestr(name, json.dumps(content, allow_nan=False))
                for i, array in enumerate(arrays):
                    data = io.BytesIO()
                    np.lib.format.write_array(data, array, allow_pickle=False)
                    archive.writestr(f"arrays/{i}.npy", data.getbuffer())
            file.flush()
            # Without this a power failure could leave the name with an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_archive(path: Path, name: str) -> tuple[Any, list[np.ndarray]]:
    """Read what `write_archive` has written.

    Raises
    ------
    DamagedFile
        If the file is no such archive, or any part of it is damaged.
    OSError
        If the file cannot be read.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = json.loads(archive.read(name))
            n = sum(n.startswith("arrays/") for n in archive.namelist())
            return content, [_read_array(archive, f"arrays/{i}.npy") for i in range(n)]
    except Exception as error:
        # A damaged archive raises errors of many kinds: BadZipFile, KeyError, NotImplementedError.
        raise DamagedFile(f"{type(error).__name__}: {first_line(error)}") from error


def checked_path(path: object, argument: str) -> Path:
    """Return the path of a file in a folder that exists.

    Parameters
    ----------
    path : object
    argument : str
        How a message writes the argument, such as ``"save(path={})"``.

    Raises
    ------
    TypeError
        If it is no path.
    OSError
        If it is a folder, or there is no such folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{argument.format(repr(path))} must be the name of a file.")
    path = Path(os.fsdecode(path))
    said = argument.format(repr(str(path)))
    if path.is_dir():
        raise IsADirectoryError(f"{said} is a folder: give the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{said}: there is no folder {str(path.parent)!r}. Make it first.")
    return path


def read_fit(path: str | os.PathLike[str]) -> Any:
    """Read what `write_fit` has written.

    Raises
    ------
    FitError
        If the file is no saved fit, is damaged, or was written by a newer version.
    OSError
        If the file cannot be read.
    """
    path = checked_path(path, "load(path={})")
    where = f"load({str(path)!r})"
    try:
        content, arrays = read_archive(path, "fit.json")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FitError(
                f"{where}: the file is no fit of this package. Give a file that Fit.save has "
                "written."
            )
        _check_version(content, where)
        return decode(content["fit"], arrays, classes_of(CLASSES))
    except (DamagedFile, CodecError, KeyError) as error:
        raise FitError(
            f"{where}: the file is no saved fit, or it is damaged ({error}). Give a file that "
            "Fit.save has written; a pickled fit is read by pickle.load alone."
        ) from error


def _check_version(content: dict[str, Any], where: str) -> None:
    version, package = content.get("format_version"), content.get("package_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FitError(
            f"{where}: the file was saved by pymc-multimodal {package} in format {version}; this "
            f"is version {__version__}, which reads formats up to {FORMAT_VERSION}. Update "
            "pymc-multimodal, or fit again."
        )


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    array: np.ndarray = np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
    return array


def classes_of(names: Mapping[str, Sequence[str]]) -> dict[str, type]:
    """Return classes by their names in a file.

    Parameters
    ----------
    names : mapping
        Names of classes by the modules that hold them, as `CLASSES`.
    """
    return {
        f"{module.partition('.')[0]}.{name}": getattr(
            import_module(f"pymc_multimodal.{module}"), name
        )
        for module, own in names.items()
        for name in own
    }


def names_of(names: Mapping[str, Sequence[str]]) -> dict[type, str]:
    """Return the names of classes in a file; the parameter is as for `classes_of`."""
    return {kind: name for name, kind in classes_of(names).items()}
