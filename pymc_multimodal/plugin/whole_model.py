"""The sampler as an object of settings, for PyMC's coming argument ``sampler=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

from pymc_multimodal._compat import sampler_base
from pymc_multimodal.plugin.sampler import sample
from pymc_multimodal.plugin.settings import (
    FitSettings,
    fit_config,
    split_settings,
    with_fit_settings,
)

if TYPE_CHECKING:
    import pymc as pm

    _Base = object
else:
    _Base = sampler_base()

__all__ = ["MultimodalSampler"]

# Keywords of `FitSettings` that `pm.sample` has itself: they come with the model.
RUN_ARGUMENTS = ("random_seed", "progressbar", "quiet", "compile_kwargs")


class MultimodalSampler(_Base):
    """A sampler that is settings alone; it gets its model when it is run.

    The constructor takes settings alone. It needs no model and compiles nothing, so that one object
    serves several models::

        sampler = mm.MultimodalSampler(target_se=0.003)
        idata = sampler.sample_from_init(model=model, draws=1000, random_seed=1)

    A draft of PyMC (pull request 8358) gives ``pm.sample`` an argument ``sampler=`` for objects of
    this form; this class follows the draft, and is a subclass of its base class where PyMC has one.
    PyMC 6.4 has neither: there ``sample_from_init`` is called as above, or `sample`, which does the
    same in one call. What PyMC decides may change this class.

    Parameters
    ----------
    **settings
        Keywords of `FitSettings`: generator, modes, regions, local, first_answer, emulation,
        evaluations, challenge, structure, symmetry, target_se, max_evals, max_seconds, checkpoint,
        workers, progressbar_theme. The others (random_seed, progressbar, quiet, compile_kwargs)
        are given when it is run.

    Attributes
    ----------
    settings : mapping
        What was given. It cannot be changed.

    Raises
    ------
    TypeError, ValueError
        If there is no such keyword, a keyword belongs to the run, or a setting has the wrong type
        or is out of range.
    """

    def __init__(self, **settings: Unpack[FitSettings]) -> None:
        name = type(self).__name__
        for argument in RUN_ARGUMENTS:
            if argument in settings:
                raise TypeError(
                    f"{name}({argument}=...) is an argument of the run: give it to "
                    f"sample_from_init({argument}=...), together with the model."
                )
        fit_settings, _ = split_settings(type(self), settings)
        # A wrong value is refused here, and not when the sampler is run.
        fit_config(name, fit_settings, quiet=True, seed=0)
        self.settings: Mapping[str, Any] = MappingProxyType(dict(settings))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({given})"

    # The parameters and their defaults are those of the draft. `tune` is None there as in
    # pm.sample, and stands for 0 here.
    def sample_from_init(
        self,
        *,
        model: pm.Model | None = None,
        draws: int = 1000,
        tune: int | None = None,
        chains: int | None = None,
        cores: int | None = None,
        initvals: Any = None,
        random_seed: Any = None,
        progressbar: bool | str = True,
        quiet: bool = False,
        discard_tuned_samples: bool = True,
        keep_warning_stat: bool = False,
        var_names: Sequence[str] | None = None,
        idata_kwargs: Mapping[str, Any] | None = None,
        compute_convergence_checks: bool = True,
        compile_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Fit the model, and draw.

        Parameters
        ----------
        model : pymc.Model, optional
            By default the one on the context stack.
        draws, tune, chains, cores, var_names, idata_kwargs, compute_convergence_checks
            As in `sample`.
        initvals, discard_tuned_samples, keep_warning_stat
            Arguments of ``pm.sample`` that have no meaning here: only their defaults are taken.
        random_seed, progressbar, quiet, compile_kwargs
            As in `FitSettings`.

        Returns
        -------
        InferenceData or DataTree
            What `sample` returns.

        Raises
        ------
        ModelError, FitError, TypeError, ValueError, OSError
            As `sample` does.
        """
        run: dict[str, Any] = dict(
            random_seed=random_seed,
            progressbar=progressbar,
            quiet=quiet,
            compile_kwargs=compile_kwargs,
            # `sample` takes these with their defaults, and says why it refuses other values.
            initvals=initvals,
            discard_tuned_samples=discard_tuned_samples,
            keep_warning_stat=keep_warning_stat,
        )
        return sample(
            draws,
            tune=tune,
            chains=chains,
            cores=cores,
            model=model,
            var_names=var_names,
            compute_convergence_checks=compute_convergence_checks,
            idata_kwargs=idata_kwargs,
            **self.settings,
            **run,
        )


with_fit_settings(MultimodalSampler, hide=RUN_ARGUMENTS)
