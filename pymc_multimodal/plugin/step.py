"""The PyMC step method."""

from __future__ import annotations

import logging
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
from pymc.progress_bar import create_simple_progress
from pymc.stats.convergence import SamplerWarning, WarningType, log_warnings
from pymc.step_methods.arraystep import ArrayStepShared
from pymc.step_methods.compound import Competence, StepMethodState
from pymc.step_methods.state import dataclass_state

from pymc_multimodal import kernel as _kernel
from pymc_multimodal._compat import ChainSetupMixin
from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.model.build import density_of
from pymc_multimodal.model.compiled import globally_locked
from pymc_multimodal.plugin.inference_data import STATS, attach, mode_statistics
from pymc_multimodal.plugin.tables import summary_line
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import Density

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymc.blocking import RaveledVars

__all__ = ["MultimodalDiffusion", "fit_model", "make_config"]

_log = logging.getLogger("pymc.multimodal")

# Stages that report their progress, in order.
_STAGES = ("modes", "regions", "local", "weights", "challenge")

# Proposals evaluated together: one batch serves many draws, which is what keeps a step as
# cheap as a bare evaluation.
BLOCK = 64


def make_config(random_seed: Any, quiet: bool, **settings: Any) -> FitConfig:
    """Build a `FitConfig`; a missing seed is drawn, recorded and announced."""
    settings = {k: v for k, v in settings.items() if v is not None}
    if isinstance(random_seed, np.random.Generator):
        seed = int(random_seed.integers(2**62))
    elif isinstance(random_seed, Integral) and random_seed < 0:
        raise ValueError(f"random_seed={random_seed} must not be negative.")
    elif random_seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
        if not quiet:
            _log.info(
                "The fit was given no seed of its own (pm.sample's does not reach it): it uses "
                "random_seed=%d.",
                seed,
            )
    else:
        # An integer stays what it is, so that the recorded seed is the one that was given.
        whole = isinstance(random_seed, int | np.integer)
        entropy = np.random.SeedSequence(random_seed).generate_state(1, np.uint32)[0]
        seed = int(random_seed if whole else entropy)
    return FitConfig(random_seed=seed, **settings)


@globally_locked
def fit_model(
    model: pm.Model,
    config: FitConfig,
    *,
    fit: Fit | None = None,
    workers: int = 1,
    progressbar: bool = True,
    quiet: bool = False,
    compile_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Density, Fit]:
    """Compile a model's density and fit it, or check a given fit against it.

    Threads that fit at the same time take turns.
    """
    if fit is not None and not isinstance(fit, Fit):
        raise TypeError(f"fit={fit!r} is a {type(fit).__name__}; give what fit() returned.")
    if not isinstance(workers, Integral) or workers < 1:
        raise ValueError(f"workers={workers!r} must be a positive integer.")
    density = density_of(model, workers=workers, compile_kwargs=compile_kwargs)
    if fit is not None:
        fit.check_density(density)
        return density, fit
    if not density.has_gradient and not quiet:
        _log.info("The model has no gradient: searching and sampling by density values alone.")
    progress = create_simple_progress(progressbar=progressbar and not quiet)
    with progress:
        task = progress.add_task("Modes", total=len(_STAGES))

        def tick(stage: str, text: str) -> None:
            done = _STAGES.index(stage)
            progress.update(task, description=text.capitalize(), completed=done)

        try:
            fit = fit_density(density, config, report=tick)
            progress.update(task, completed=len(_STAGES))
        finally:
            density.close()
    if not quiet:
        _log.info(summary_line(fit))
    log_warnings([
        SamplerWarning(WarningType.CONVERGENCE, str(s), "warn")
        for s in fit.statuses if s.level == "warning"
    ])  # fmt: skip
    return density, fit


@dataclass_state
class MultimodalState(StepMethodState):
    """What PyMC keeps of a chain: nothing beyond the generator of random numbers."""


class MultimodalDiffusion(ChainSetupMixin, ArrayStepShared):
    """Step method for posteriors with several modes.

    The constructor searches for the modes, samples and weighs each, and learns a proposal;
    draws then combine jumps between modes with moves inside one, and leave the posterior
    exactly invariant. Use it alone, for all variables::

        with model:
            idata = pm.sample(tune=0, step=MultimodalDiffusion())

    Parameters
    ----------
    vars : list of variables, optional
        All free variables of the model, which is the default; nothing less is accepted.
    generator : str or GeneratorConfig, optional
        How draws are learned: "hybrid" (the default), "lrds" (the default for models without a
        gradient), "score", "published", or a config such as ``Hybrid(...)``.
    model : pymc.Model, optional
        By default the one on the context stack.
    fit : Fit, optional
        An earlier fit of the same model and data, used instead of a new one; its settings
        stand, and those given here are not looked at.
    modes : ModeSearch, optional
    regions : Regions, optional
    local : LocalSampling, optional
    challenge : Challenge or bool, optional
        How the fit is challenged by a tempered search; False leaves the challenge out.
    symmetry : Symmetry or bool, optional
        Exchangeable components and signs, of which one image is fitted for all; by default
        they are looked for, False does without.
    target_se : float
        Standard error asked for of every mode weight.
    max_evals : int, optional
        Density evaluations from which on every stage does its least (some 1,000 for each mode
        and 1,500 in all) and the challenge is left out. The search for modes begins no batch
        when a quarter is spent.
    max_seconds : float, optional
        The same in seconds; compiling the model is not counted.
    workers : int
        Processes that share the evaluations of the fit, in pieces of 32 points, for expensive
        models. They are spawned: a script has to keep its calls under
        ``if __name__ == "__main__":``.
    random_seed : int, optional
        Seed of the fit; ``pm.sample(random_seed=...)`` seeds the chains only. A fit without
        one draws it, records it and says so.
    progressbar : bool
    quiet : bool
        Silence progress bar and messages, not warnings.
    compile_kwargs : dict, optional
        Passed to ``pymc.compile``.

    Attributes
    ----------
    fit : Fit

    Raises
    ------
    ModelError
        If the model cannot be sampled: no free variables, discrete ones, a random log density,
        only some of the variables, or no finite starting point.
    FitError
        If `fit` was made for another model or other data, or a worker process died.
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    Chains start from draws inside the modes, allocated by weight, wherever `pm.sample` would
    have started them, so that no tuning is needed. PyMC 6 asks the step and does none; with
    PyMC 5 give ``tune=0``, or its default discards 1,000 good draws of each chain.

    A draw makes as many jumps as the fit found to be needed (1 to 16, the attribute
    ``jumps_per_draw`` of the group `modes`), each one evaluation, and every first to eighth draw
    moves inside its mode as well.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_multimodal import MultimodalDiffusion
    >>> with pm.Model():  # doctest: +SKIP
    ...     x = pm.Normal("x", 0, 5)
    ...     pm.Normal("y", x**2, 1, observed=4.0)
    ...     idata = pm.sample(tune=0, step=MultimodalDiffusion(random_seed=1))
    """

    name = "multimodal"
    stats_dtypes_shapes = STATS
    default_tune_steps = 0
    _state_class = MultimodalState

    def __init__(
        self,
        vars: Sequence[Any] | None = None,
        *,
        generator: Any = None,
        model: pm.Model | None = None,
        fit: Fit | None = None,
        modes: Any = None,
        regions: Any = None,
        local: Any = None,
        challenge: Any = None,
        symmetry: Any = None,
        target_se: float = 0.01,
        max_evals: int | None = None,
        max_seconds: float | None = None,
        workers: int = 1,
        random_seed: Any = None,
        progressbar: bool = True,
        quiet: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
        blocked: bool = True,
        rng: Any = None,
    ) -> None:
        model = pm.modelcontext(model)
        self._check_variables(model, vars, blocked)
        super().__init__(list(model.value_vars), {}, blocked=True, rng=rng)
        self.tune = False
        config = fit.config if isinstance(fit, Fit) else make_config(
            random_seed,
            quiet,
            generator=generator,
            modes=modes,
            regions=regions,
            local=local,
            challenge=challenge,
            symmetry=symmetry,
            target_se=target_se,
            max_evals=max_evals,
            max_seconds=max_seconds,
        )  # fmt: skip
        self.density, self.fit = fit_model(
            model,
            config,
            fit=fit,
            workers=workers,
            progressbar=progressbar,
            quiet=quiet,
            compile_kwargs=compile_kwargs,
        )
        # Workers share the fit: PyMC's chain processes may not have children of their own.
        self.density.workers = 1
        self._target = self.fit.target(self.density)
        self._vectors = mode_statistics(self.fit)
        self._forget()

    @staticmethod
    def _check_variables(model: pm.Model, vars: Sequence[Any] | None, blocked: bool) -> None:
        if not blocked:
            raise ModelError(
                "MultimodalDiffusion(blocked=False): modes belong to all variables together, "
                "so they cannot be updated one by one. Leave `blocked` out."
            )
        if vars is None:
            return
        given = {model.rvs_to_values.get(v, v).name for v in np.atleast_1d(np.array(vars, object))}
        missing = [v.name for v in model.value_vars if v.name not in given]
        if missing:
            raise ModelError(
                f"MultimodalDiffusion was given only part of the model's variables; {missing} "
                "are missing. The proposal is for all of them at once: leave `vars` out."
            )

    @staticmethod
    def competence(var: Any, has_grad: bool = False) -> Competence:
        """Never assigned by itself: a fit has to be asked for."""
        return Competence.INCOMPATIBLE

    # ------------------------------------------------------------------ chains

    def _begin_chain(self, rng: np.random.Generator) -> None:
        # PyMC spawns the chains' generators from its seed as a fit spawns those of its stages:
        # with one seed for both they would be the same.
        self.rng = np.random.default_rng(rng.integers(2**32, size=4, dtype=np.uint32))
        self._forget()

    def _forget(self) -> None:
        self._state: _kernel.ChainState | None = None
        self._shown: np.ndarray | None = None
        self._proposals: _kernel.ChainState | None = None
        self._used = 0
        self._draw = 0

    def reset_tuning(self) -> None:
        """Nothing is tuned while chains run."""

    def astep(self, q0: RaveledVars) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Make one draw of one chain."""
        kernel = self.fit.kernel
        if self._state is None:
            # A chain's first state is a draw inside a mode, not PyMC's initial point.
            x = self.fit.starts(1, self.rng)
            self._state = _kernel.init(self._target, kernel, x, self.rng)
        elif self._shown is None or not np.array_equal(
            # PyMC rounds to the variables' own type.
            self._shown.astype(q0.data.dtype),
            q0.data,
        ):
            self._state = _kernel.init(self._target, kernel, q0.data[None], self.rng)
        self._state, accepted = _kernel.step(
            self._target,
            kernel,
            self._state,
            self._fresh(kernel.jumps),
            self.rng,
            self._draw,
        )
        self._draw += 1
        cloud = self.fit.randomise_image(self._state.points, self.rng)
        self._shown = cloud.x[0]
        stats = {
            "lp": float(cloud.logp[0]),
            "mode": int(cloud.region[0]),
            "accepted": float(accepted[0]),
            "log_ratio": float(self._state.log_ratio[0]),
            **self._vectors,
        }
        return cloud.x[0].copy(), [stats]

    def _fresh(self, n: int) -> _kernel.ChainState:
        """Proposals that no jump has used yet."""
        block = n * max(1, BLOCK // n)
        if self._proposals is None or self._used >= block:
            self._proposals = _kernel.propose(self._target, self.fit.kernel, block, self.rng)
            self._used = 0
        rows = _kernel.rows(self._proposals, slice(self._used, self._used + n))
        self._used += n
        return rows

    # ------------------------------------------------------------------ results

    def attach(self, idata: Any) -> Any:
        """Add this fit's groups `modes` and `mode_posterior` to its draws, in place."""
        return attach(idata, self.fit, model=self.model)

    @property
    def model(self) -> pm.Model:
        """The model that was fitted."""
        return self.__getnewargs_ex__()[1]["model"]

    @staticmethod
    def _progressbar_config(n_chains: int = 1) -> tuple[list, dict]:
        from rich.progress import TextColumn
        from rich.table import Column

        columns = [
            TextColumn("{task.fields[mode]}", table_column=Column("Mode", ratio=1)),
            TextColumn("{task.fields[accepted]:0.2f}", table_column=Column("Accepted", ratio=1)),
        ]
        return columns, {"mode": [0] * n_chains, "accepted": [0.0] * n_chains}

    @staticmethod
    def _make_progressbar_update_functions() -> tuple:
        return (lambda stats: {k: stats[k] for k in ("mode", "accepted") if k in stats},)
