"""All settings of a fit in one place; each stage's own live beside the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

from pymc_multimodal.challenge import Challenge
from pymc_multimodal.proposals import LRDS, Hybrid, resolve
from pymc_multimodal.regions.settings import LocalSampling, Regions
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target.group import Symmetry

if TYPE_CHECKING:
    from pymc_multimodal.proposals import GeneratorConfig
    from pymc_multimodal.target.density import Density

__all__ = ["FitConfig"]


@dataclass(frozen=True)
class FitConfig:
    """Settings of a whole fit; each stage's own settings live beside the stage.

    Parameters
    ----------
    generator : GeneratorConfig, optional
        By default `Hybrid`, and `LRDS` for densities without a gradient.
    modes : ModeSearch
    regions : Regions
    local : LocalSampling
    challenge : Challenge or bool
        How the fit is challenged by a tempered search; False leaves the challenge out.
    target_se : float
        Standard error asked for of every mode weight.
    max_evals : int, optional
        Density evaluations from which on every stage does its least (some 1,000 for each mode
        and 1,500 in all) and the challenge is left out. The search for modes begins no batch
        when a quarter is spent.
    max_seconds : float, optional
        The same in seconds; compiling the model is not counted.
    random_seed : int
    symmetry : Symmetry or bool
        Exchangeable components and signs, of which one image is fitted for all; True looks for
        them, False does without.
    """

    generator: GeneratorConfig | None = None
    modes: ModeSearch = field(default_factory=ModeSearch)
    regions: Regions = field(default_factory=Regions)
    local: LocalSampling = field(default_factory=LocalSampling)
    challenge: Challenge | bool = field(default_factory=Challenge)
    target_se: float = 0.01
    max_evals: int | None = None
    max_seconds: float | None = None
    random_seed: int = 0
    symmetry: Symmetry | bool = True

    def __post_init__(self) -> None:
        if self.generator is not None:
            object.__setattr__(self, "generator", resolve(self.generator))
        if self.challenge is True:
            object.__setattr__(self, "challenge", Challenge())
        kinds = {"modes": ModeSearch, "regions": Regions, "local": LocalSampling}
        if self.challenge is not False:
            kinds["challenge"] = Challenge
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(
                    f"{name}={value!r} is a {type(value).__name__}; give a {kind.__name__}(...)."
                )
        if not isinstance(self.symmetry, bool | Symmetry):
            raise TypeError(f"symmetry={self.symmetry!r} must be True, False or a Symmetry(...).")
        for name in ("target_se", "max_evals", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise TypeError(f"{name}={value!r} must be a number.")
        if not 0 < self.target_se < 1:
            raise ValueError(
                f"target_se={self.target_se} is the standard error asked for of mode weights "
                "and must lie between 0 and 1."
            )
        for name in ("max_evals", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive, or None for no limit.")

    def generator_for(self, density: Density) -> GeneratorConfig:
        """Return the generator asked for, or the default for such a density."""
        return self.generator or (Hybrid() if density.has_gradient else LRDS())
