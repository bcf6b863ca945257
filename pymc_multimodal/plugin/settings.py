"""The keywords that `fit`, `sample` and `MultimodalDiffusion` share."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, dataclass, fields
from numbers import Integral
from typing import Any, TypedDict, TypeVar

import numpy as np
from pymc.progress_bar import create_simple_progress
from pymc.progress_bar.marimo_progress import in_marimo_notebook
from rich.theme import Theme

from pymc_multimodal import checks
from pymc_multimodal.approximation import FirstAnswer
from pymc_multimodal.challenge import Challenge
from pymc_multimodal.emulation import Emulation
from pymc_multimodal.fit import Checkpoint, Fit, FitConfig
from pymc_multimodal.plugin.arguments import check_compile_kwargs, check_fit
from pymc_multimodal.proposals import GeneratorConfig
from pymc_multimodal.regions import LocalSampling, Regions
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target import (
    Density,
    Evaluations,
    Structure,
    Symmetry,
    check_workers,
    following_joblib,
)

__all__ = [
    "FitSettings",
    "RunOptions",
    "fit_config",
    "refuse_beside_fit",
    "resolve_seed",
    "split_settings",
    "with_fit_settings",
]

_log = logging.getLogger("pymc.multimodal")

# Styles of the progress bar of `pm.sample`; there is one style here.
PROGRESS_STYLES = ("combined", "split", "combined+stats", "stats+combined", "split+stats",
                   "stats+split")  # fmt: skip

_F = TypeVar("_F", bound=Callable[..., Any])
_S = TypeVar("_S")


@dataclass(frozen=True)
class RunOptions:
    """How a fit is run, which does not change its result.

    Parameters
    ----------
    checkpoint : str or path-like or Checkpoint, optional
        A path becomes the `Checkpoint` at that path.
    workers : int or object, optional
        Processes that share a batch of evaluations, or an engine. By default the backend of an
        active ``joblib.parallel_config``, or one process.
    progressbar : bool or str
    progressbar_theme : rich.theme.Theme or str, optional
    quiet : bool
    compile_kwargs : mapping, optional
        Passed to ``pymc.compile``.
    """

    checkpoint: Any = None
    workers: Any = None
    progressbar: bool | str = True
    progressbar_theme: Any = None
    quiet: bool = False
    compile_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.workers is None:
            object.__setattr__(self, "workers", following_joblib())
        check_workers(owner, self.workers)
        if self.progressbar not in PROGRESS_STYLES:
            checks.flag(owner, "progressbar", self.progressbar)
        if self.progressbar_theme is not None and not isinstance(self.progressbar_theme, str):
            checks.kind(owner, "progressbar_theme", self.progressbar_theme, Theme)
        checks.flag(owner, "quiet", self.quiet)
        check_compile_kwargs(owner, self.compile_kwargs)
        if self.checkpoint is not None and not isinstance(self.checkpoint, Checkpoint):
            object.__setattr__(self, "checkpoint", Checkpoint(self.checkpoint))

    @property
    def seed(self) -> int | None:
        """Seed of the fit that the checkpoint holds; None if there is none."""
        return None if self.checkpoint is None else self.checkpoint.seed

    def keeping_draws(self, density: Density) -> AbstractContextManager[None]:
        """Keep expensive evaluations of draws while the context lasts, if there is a checkpoint."""
        return nullcontext() if self.checkpoint is None else self.checkpoint.keeping_draws(density)

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown."""
        return bool(self.progressbar) and not self.quiet

    def progress(self) -> Any:
        """Make PyMC's progress bar, or one that shows nothing."""
        return create_simple_progress(self.shows_progress, self.progressbar_theme)

    def marimo_progress(self) -> Any:
        """Make PyMC's progress bar for marimo, where Rich cannot write; None elsewhere."""
        return self.progress() if in_marimo_notebook() else None


class FitSettings(TypedDict, total=False):
    """Keywords of `fit`, `sample` and `MultimodalDiffusion`: settings of a fit, and how it is run.

    None stands for the default.

    Attributes
    ----------
    generator : str or GeneratorConfig, optional
        How proposals for all regions together are learned: ``"hybrid"`` (the default), ``"lrds"``
        (the default for models without a gradient), ``"score"``, ``"published"``, or a
        configuration such as ``Hybrid(...)``.
    modes : ModeSearch, optional
        The search for modes.
    regions : Regions, optional
        The partition into regions, one around each mode.
    local : LocalSampling, optional
        The chains of each region.
    first_answer : FirstAnswer or bool, optional
        How the fit is ended early, by importance sampling from densities at the modes, where that
        is precise. False always runs chains in the regions, and the challenge.
    emulation : Emulation or bool, optional
        How a density without gradient is emulated, of which one evaluation takes a millisecond or
        more, where the outputs of its simulator are seen in the model's graph. False does without.
    evaluations : Evaluations, optional
        Points that an earlier fit of the same model has evaluated (``fit.evaluations``, or
        ``Evaluations.load(path)``): where each evaluation is dear, they are not paid for again.
    challenge : Challenge or bool, optional
        The tempered search that tests the fit; False leaves it out.
    structure : Structure or bool, optional
        Units (stars, patients, missing values) that share nothing but a few hyperparameters: each
        has explanations of its own, in place of K^N modes of the whole. By default they are looked
        for in the model's graph, and used where there are many combinations; False does without,
        and ``Structure(units=...)`` names them.
    symmetry : Symmetry or bool, optional
        A symmetry of the posterior, such as exchangeable components or signs; one of all equivalent
        modes is fitted. By default it is looked for; False fits all modes.
    target_se : float
        Standard error of the mode weights at which a fit ends.
    max_evals : int, optional
        Most evaluations of the density. At the limit the result is made of what is known; without
        weights of the regions, of Laplace approximations at the modes.
    max_seconds : float, optional
        The same limit in seconds. Compiling the model is not counted, and neither is the import of
        torch for a generator that needs it.
    random_seed : int, array of int, SeedSequence or Generator, optional
        Seed of the fit. A fit without a seed draws one, records it and logs it.
    checkpoint : str or path-like, optional
        File in which the fit is kept while it runs. A second call with the same arguments, after
        the first was killed, goes on from there and gives the same result; once the fit has ended,
        it is returned at once. With a larger `max_evals` or `max_seconds` it goes on from where the
        smaller limit had cut it. Give each fit a file of its own.
    workers : int or object, optional
        What shares the evaluations of the fit and of the draws: a number of processes, or an engine
        with `submit`, `apply_async` or `map`, such as a ``ProcessPoolExecutor``, a
        ``dask.distributed.Client``, a ``multiprocessing.Pool``, a ray or an MPI pool. By default
        the backend of an active ``joblib.parallel_config``, or this process alone. They pay for
        models with expensive evaluations (:doc:`/clusters`). Processes are spawned: a script has to
        keep its calls under ``if __name__ == "__main__":``.
    progressbar : bool or str
        Whether to show progress. The styles of ``pm.sample``, such as ``"split"``, show it too.
    progressbar_theme : rich.theme.Theme or str, optional
        Colours of the progress bar, as in ``pm.sample``.
    quiet : bool
        Whether to leave out progress and messages. Warnings are shown always.
    compile_kwargs : mapping, optional
        Passed to ``pymc.compile``.
    """

    generator: str | GeneratorConfig | None
    modes: ModeSearch | None
    regions: Regions | None
    local: LocalSampling | None
    first_answer: FirstAnswer | bool | None
    emulation: Emulation | bool | None
    evaluations: Evaluations | None
    challenge: Challenge | bool | None
    structure: Structure | bool | None
    symmetry: Symmetry | bool | None
    target_se: float | None
    max_evals: float | None
    max_seconds: float | None
    random_seed: Any
    checkpoint: str | os.PathLike[str] | None
    workers: Any
    progressbar: bool | str
    progressbar_theme: Any
    quiet: bool
    compile_kwargs: Mapping[str, Any] | None


def _defaults(settings: type) -> dict[str, Any]:
    """Return the default of each field; None stands for one that is made by a factory."""
    return {f.name: None if f.default is MISSING else f.default for f in fields(settings)}


_FIT_DEFAULTS = {**_defaults(FitConfig), "random_seed": None}
_RUN_DEFAULTS = _defaults(RunOptions)


def with_fit_settings(function: _F, hide: Sequence[str] = ()) -> _F:
    """Write the keywords of `FitSettings` into the signature that `help` and notebooks show.

    Editors and type checkers read the annotation ``**settings: Unpack[FitSettings]``, but
    `inspect.signature` shows no more than ``**settings``.

    Parameters
    ----------
    function : callable
        A function or class that takes ``**settings``.
    hide : sequence of str
        Parameters to leave out.

    Returns
    -------
    callable
        The function itself.
    """
    called: Any = vars(function)["__init__"] if isinstance(function, type) else function
    signature = inspect.signature(called)
    own = [
        p for name, p in signature.parameters.items()
        if p.kind is not p.VAR_KEYWORD and name not in ("self", *hide)
    ]  # fmt: skip
    annotations = inspect.get_annotations(FitSettings)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value,
                          annotation=annotations[name].__forward_arg__)
        for name, value in {**_FIT_DEFAULTS, **_RUN_DEFAULTS}.items()
        if name not in hide
    ]  # fmt: skip
    full = signature.replace(parameters=[*own, *shared])
    function.__signature__ = full  # type: ignore[attr-defined]
    return function


def split_settings(
    function: Callable[..., Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], RunOptions]:
    """Part the keywords of a call into settings of the fit and options of its run.

    Parameters
    ----------
    function : callable
        The function that was called, decorated by `with_fit_settings`.
    settings : mapping
        Its ``**settings``.

    Returns
    -------
    fit_settings : dict
        Without those that are None.
    run : RunOptions

    Raises
    ------
    TypeError
        If the function has no such keyword, or an option has the wrong type.
    """
    for name in settings:
        if name not in _FIT_DEFAULTS and name not in _RUN_DEFAULTS:
            known = list(inspect.signature(function).parameters)
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"{function.__name__}() has no argument {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ".")
                + f" Its arguments are {', '.join(known)}."
            )
    run = {name: settings[name] for name in _RUN_DEFAULTS if name in settings}
    given = {n: v for n, v in settings.items() if n in _FIT_DEFAULTS and v is not None}
    return given, _as_typed(function.__name__, RunOptions, run)


def _as_typed(owner: str, settings: type[_S], values: Mapping[str, Any]) -> _S:
    """Make settings; a message about one of them names the function that the user has called."""
    try:
        return settings(**values)
    except (TypeError, ValueError) as error:
        text = str(error).replace(f"{settings.__name__}(", f"{owner}(", 1)
        raise type(error)(text) from None


def refuse_beside_fit(owner: str, fit: object, settings: Mapping[str, Any], run: RunOptions) -> Fit:
    """Check that an earlier fit is one, and that no settings of a new fit are given with it.

    Parameters
    ----------
    owner : str
        The function that was called.
    fit : Fit
    settings : mapping
        Settings of a fit that were given in the same call.
    run : RunOptions

    Returns
    -------
    Fit
        The fit itself.

    Raises
    ------
    TypeError
        If `fit` is no Fit, or there are settings.
    """
    known = check_fit(owner, fit)
    if settings:
        names = ", ".join(f"{name}=" for name in settings)
        raise TypeError(
            f"{names} cannot be given together with fit=, whose settings are those of fit.config. "
            "Leave them out, or leave fit= out to fit anew."
        )
    if run.checkpoint is not None:
        raise TypeError(
            "checkpoint= cannot be given together with fit=: there is no fit to go on with. Leave "
            "it out."
        )
    return known


def fit_config(
    owner: str, settings: Mapping[str, Any], *, quiet: bool, seed: int | None = None
) -> FitConfig:
    """Build the configuration of a fit; where no seed is given, draw one and log it.

    Parameters
    ----------
    owner : str
        The function that was called.
    settings : mapping
    quiet : bool
    seed : int, optional
        Taken where none is given.
    """
    given = settings.get("random_seed")
    seed = resolve_seed(seed if given is None else given)
    config = _as_typed(owner, FitConfig, {**settings, "random_seed": seed})
    if settings.get("random_seed") is None and not quiet:
        _log.info(
            "The fit was given no random_seed and uses random_seed=%d. (A seed given to pm.sample "
            "is for the chains.)", seed,
        )  # fmt: skip
    return config


def resolve_seed(random_seed: Any) -> int:
    """Turn what users give as a seed into an integer that can be recorded.

    Parameters
    ----------
    random_seed : int, array of int, SeedSequence, Generator, RandomState or None
        An integer is returned as it is; a generator is asked for a number; None draws a seed from
        the operating system.

    Raises
    ------
    ValueError
        If the seed is a negative number.
    TypeError
        If the seed is True, False, or of a type that NumPy does not take.
    """
    if isinstance(random_seed, bool):
        raise TypeError(f"random_seed={random_seed!r} must be a whole number, or None.")
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**62))
    if isinstance(random_seed, np.random.RandomState):
        return int(random_seed.randint(2**32, dtype=np.uint64))
    if isinstance(random_seed, Integral):
        if random_seed < 0:
            raise ValueError(f"random_seed={random_seed} must not be negative.")
        return int(random_seed)
    sequence = random_seed
    if not isinstance(random_seed, np.random.SeedSequence):
        try:
            sequence = np.random.SeedSequence(random_seed)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"random_seed={random_seed!r} must be a whole number, an array of them, a "
                "SeedSequence, a Generator or None."
            ) from error
    return int(sequence.generate_state(1, np.uint32)[0])
