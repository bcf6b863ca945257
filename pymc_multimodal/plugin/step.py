"""The PyMC step method."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pymc as pm
from pymc.step_methods.arraystep import ArrayStepShared
from pymc.step_methods.compound import Competence, StepMethodState
from pymc.step_methods.state import dataclass_state
from pytensor.graph.basic import Variable

from pymc_multimodal._compat import ChainSetupMixin
from pymc_multimodal.fit import Fit
from pymc_multimodal.model import MarginalModel
from pymc_multimodal.plugin.arguments import model_given
from pymc_multimodal.plugin.chain import Chain, advance
from pymc_multimodal.plugin.fitting import continuous_model, fit_model, load_fit
from pymc_multimodal.plugin.inference_data import attach, record_with_symmetry
from pymc_multimodal.plugin.modes_group import RECORD
from pymc_multimodal.plugin.record import NOT_SYMMETRIC
from pymc_multimodal.plugin.settings import (
    FitSettings,
    fit_config,
    refuse_beside_fit,
    split_settings,
    with_fit_settings,
)
from pymc_multimodal.plugin.traces import NO_RECORD, STATS, as_stat
from pymc_multimodal.status import FitError, ModelError, SymmetryBroken

if TYPE_CHECKING:
    from pymc.blocking import RaveledVars

__all__ = ["MultimodalDiffusion"]


@dataclass_state
class MultimodalState(StepMethodState):
    """What PyMC keeps of a chain: nothing beyond the generator of random numbers."""


class MultimodalDiffusion(ChainSetupMixin, ArrayStepShared):
    """Step method for posteriors with several modes.

    The constructor searches for the modes, samples and weighs each, and learns a proposal for all.
    A draw combines jumps between modes with a move inside of one; both leave the posterior
    invariant. Use the step alone, for all variables::

        with model:
            idata = pm.sample(tune=0, step=MultimodalDiffusion())

    Parameters
    ----------
    vars : list of variables, optional
        All free variables of the model, which is the default; a part of them is refused.
    model : pymc.Model, optional
        By default the one on the context stack.
    fit : Fit, optional
        An earlier fit of the same model and data, used in place of a new one. Settings of a fit are
        refused beside it.
    **settings
        Keywords of `FitSettings`: generator, modes, regions, local, first_answer, emulation,
        evaluations, challenge, structure, symmetry, target_se, max_evals, max_seconds, random_seed,
        checkpoint, workers, progressbar, progressbar_theme, quiet, compile_kwargs.
        `random_seed` is the seed of the fit; ``pm.sample(random_seed=...)`` seeds the chains.
        `workers` share the evaluations of the fit. Those of the chains they share where one takes
        2 ms or more and chains run in this process (``pm.sample(cores=1)``): chains in processes
        of their own evaluate by themselves.

    Attributes
    ----------
    fit : Fit

    Raises
    ------
    ModelError
        If the model cannot be sampled: no free variables, discrete ones, a random log density,
        only a part of the variables, or no finite starting point.
    FitError
        If `fit` was made for another model or other data, or a worker process died; if a limit was
        reached before the log density was known at any point; if the checkpoint is damaged, or of
        another fit. While chains run: if the data have changed since the fit (``pm.set_data``), or
        draws show that the fit has used a symmetry that the model lacks somewhere.
    TypeError, ValueError
        If there is no such keyword, or a setting has the wrong type or is out of range.
    OSError
        If the checkpoint cannot be written, or read.

    Notes
    -----
    Chains start from draws inside of the modes, allocated by weight, and not from the initial
    points of `pm.sample`. They need no tuning. PyMC 6 asks the step and does none; with PyMC 5
    give ``tune=0``, or its default discards 1,000 good draws of each chain.

    A draw makes as many jumps as the fit found to be needed (1 to 16, the attribute
    ``jumps_per_draw`` of the group `modes`). Each jump costs one evaluation. Every first to eighth
    draw also moves inside of its mode.

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

    # PyMC constructs steps with `blocked` and `rng`; users have no reason to give them.
    def __init__(
        self,
        vars: Sequence[Any] | None = None,
        *,
        model: pm.Model | None = None,
        fit: Fit | None = None,
        blocked: bool = True,
        rng: Any = None,
        **settings: Unpack[FitSettings],
    ) -> None:
        owner = type(self).__name__
        fit_settings, run = split_settings(type(self), settings)
        model = model_given(owner, model)
        _check_variables(model, vars, blocked)
        continuous = continuous_model(model, run)
        super().__init__(list(model.value_vars), {}, blocked=True, rng=rng)
        self.tune = False
        if fit is None:
            config = fit_config(owner, fit_settings, quiet=run.quiet, seed=run.seed)
            self.density, self.fit = fit_model(continuous, config, run)
        else:
            self.fit = refuse_beside_fit(owner, fit, fit_settings, run)
            self.density = load_fit(continuous, fit, run)
        if not self.density.dear:
            # A batch of one chain is evaluated here before it has been sent.
            self.density.workers = 1
        self._target = self.fit.target(self.density)
        self._record = as_stat(record_with_symmetry(continuous, self.fit))
        self._recovery = continuous.recovery() if isinstance(continuous, MarginalModel) else None
        self._chain, self._record_is_due = Chain(), True

    def __new__(cls, *args: Any, **kwargs: Any) -> MultimodalDiffusion:
        """Check the model, which PyMC asks for its variables."""
        kwargs["model"] = model_given(cls.__name__, kwargs.get("model"))
        return super().__new__(cls, *args, **kwargs)

    def __repr__(self) -> str:
        """Name the variables, and say what the fit has found."""
        names = ", ".join(str(v.name) for v in self.model.value_vars)
        return f"<MultimodalDiffusion for {names}; {self.fit.described}>"

    def _repr_html_(self) -> str:
        """Write the report of the fit for a notebook."""
        names = ", ".join(str(v.name) for v in self.model.value_vars)
        return f"<p><b>MultimodalDiffusion</b> for {escape(names)}</p>{self.fit._repr_html_()}"

    @staticmethod
    def competence(var: Any, has_grad: bool = False) -> Competence:
        """Return INCOMPATIBLE: PyMC never assigns this step by itself, because a fit takes time."""
        return Competence.INCOMPATIBLE

    @property
    def model(self) -> pm.Model:
        """The model that was fitted."""
        return self.__getnewargs_ex__()[1]["model"]

    # ------------------------------------------------------------------ chains

    def _begin_chain(self, rng: np.random.Generator) -> None:
        # PyMC spawns the generators of its chains from its seed in the way in which a fit spawns
        # those of its stages: with one seed for both, the random numbers would be the same.
        self.density.check_process()
        # The data may have been changed after the fit (pm.set_data).
        self.fit.check_density(self.density)
        self.rng = np.random.default_rng(rng.integers(2**32, size=4, dtype=np.uint32))
        self._chain, self._record_is_due = Chain(), True

    def stop_tuning(self) -> None:
        """Send the record again: PyMC may discard the draws made so far."""
        super().stop_tuning()
        self._record_is_due = True

    def reset_tuning(self) -> None:
        """Do nothing: no parameter is tuned while chains run."""

    def astep(self, q0: RaveledVars) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Make one draw of one chain."""
        at = q0.data if self._recovery is None else q0.data[self._recovery.continuous]
        # The values of discrete variables are drawn by the same generator.
        alone = self._recovery is None
        try:
            self._chain, stats = advance(
                self.fit, self._target, self._chain, at, self.rng, alone=alone
            )
        except SymmetryBroken:
            raise FitError(NOT_SYMMETRIC) from None
        assert self._chain.shown is not None
        draw = self._chain.shown.copy()
        if self._recovery is not None:
            [draw] = self._recovery.complete(draw[None], self.rng)
        record = self._record if self._record_is_due else NO_RECORD
        self._record_is_due = False
        return draw, [{**stats, RECORD: record}]

    # ------------------------------------------------------------------ results

    def attach(self, idata: Any) -> Any:
        """Add this fit's groups `modes` and `mode_posterior` to draws of this step, in place."""
        return attach(idata, self.fit, model=self.model)

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


with_fit_settings(MultimodalDiffusion, hide=("blocked", "rng"))


def _check_variables(model: pm.Model, vars: Sequence[Any] | None, blocked: bool) -> None:
    if not blocked:
        raise ModelError(
            "MultimodalDiffusion(blocked=False): modes are points of the space of all variables, "
            "so that the variables cannot be updated one by one. Leave `blocked` out."
        )
    if vars is None:
        return
    variables = list(vars) if isinstance(vars, Sequence) and not isinstance(vars, str) else [vars]
    known = {*model.value_vars, *model.rvs_to_values}
    if strange := [v for v in variables if not isinstance(v, Variable) or v not in known]:
        raise TypeError(
            f"MultimodalDiffusion(vars={vars!r}): {strange[0]!r} is no free variable of the model. "
            "The step takes all of them together: leave `vars` out."
        )
    given = {model.rvs_to_values.get(v, v).name for v in variables}
    missing = [v.name for v in model.value_vars if v.name not in given]
    discrete = [v.name for v in model.discrete_value_vars if v.name in missing]
    if discrete:
        raise ModelError(
            f"MultimodalDiffusion(vars=...) leaves the discrete variables {', '.join(discrete)} to "
            "another step. It sums over discrete variables in the log density, and draws them "
            "itself: leave `vars` out, and the other step, as in "
            "pm.sample(step=MultimodalDiffusion())."
        )
    if missing:
        raise ModelError(
            f"MultimodalDiffusion(vars=...) has only part of the model's variables; {missing} "
            "are missing. The proposal is for all of them at once: leave `vars` out."
        )
