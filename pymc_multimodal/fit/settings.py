"""All settings of a fit in one place; each stage's own live beside the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pymc_multimodal import checks
from pymc_multimodal.approximation import FirstAnswer
from pymc_multimodal.challenge import Challenge
from pymc_multimodal.emulation import Emulation
from pymc_multimodal.proposals import LRDS, Hybrid, resolve
from pymc_multimodal.regions import LocalSampling, Regions
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target.group import Symmetry
from pymc_multimodal.target.history import Evaluations
from pymc_multimodal.target.structure import Structure

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
    first_answer : FirstAnswer or bool
        How the fit is ended early where importance sampling from the modes is precise; False
        leaves that out. It is left out, too, if a generator other than `Hybrid` is asked for.
    emulation : Emulation or bool
        How an expensive density without gradient is emulated where its simulator's outputs are
        seen in the model's graph; False does without.
    evaluations : Evaluations, optional
        Points of an earlier fit of the same model (``fit.evaluations``), which are not evaluated
        again; only where each evaluation is dear.
    challenge : Challenge or bool
        How the fit is challenged by a tempered search; False leaves the challenge out.
    target_se : float
        Standard error asked for of every mode weight.
    max_evals : float, optional
        Most evaluations of the density. The search for modes begins no batch when a quarter is
        spent, and the regions are weighed with what is known when seven tenths are. If that does
        not suffice, the weights are Laplace approximations.
    max_seconds : float, optional
        The same in seconds; compiling the model and importing torch are not counted.
    random_seed : int
    structure : Structure or bool
        Units that share nothing but a few coordinates, each with explanations of its own; True
        looks for them in the model's graph, False does without.
    symmetry : Symmetry or bool
        Exchangeable components and signs, of which one image is fitted for all; True looks for
        them, False does without.
    """

    generator: GeneratorConfig | None = None
    modes: ModeSearch = field(default_factory=ModeSearch)
    regions: Regions = field(default_factory=Regions)
    local: LocalSampling = field(default_factory=LocalSampling)
    first_answer: FirstAnswer | bool = field(default_factory=FirstAnswer)
    emulation: Emulation | bool = field(default_factory=Emulation)
    evaluations: Evaluations | None = None
    challenge: Challenge | bool = field(default_factory=Challenge)
    target_se: float = 0.01
    max_evals: float | None = None
    max_seconds: float | None = None
    random_seed: int = 0
    structure: Structure | bool = True
    symmetry: Symmetry | bool = True

    def __post_init__(self) -> None:
        if self.generator is not None:
            object.__setattr__(self, "generator", resolve(self.generator))
        if self.challenge is True:
            object.__setattr__(self, "challenge", Challenge())
        if self.first_answer is True:
            object.__setattr__(self, "first_answer", FirstAnswer())
        if self.emulation is True:
            object.__setattr__(self, "emulation", Emulation())
        owner = type(self).__name__
        kinds = {"modes": ModeSearch, "regions": Regions, "local": LocalSampling}
        if self.challenge is not False:
            kinds["challenge"] = Challenge
        if self.first_answer is not False:
            kinds["first_answer"] = FirstAnswer
        if self.emulation is not False:
            kinds["emulation"] = Emulation
        if self.evaluations is not None:
            kinds["evaluations"] = Evaluations
        for name, kind in kinds.items():
            checks.kind(owner, name, getattr(self, name), kind)
        if not isinstance(self.symmetry, bool | Symmetry):
            raise TypeError(
                f"{owner}(symmetry={self.symmetry!r}) must be True, False or a Symmetry(...)."
            )
        if not isinstance(self.structure, bool | Structure):
            raise TypeError(
                f"{owner}(structure={self.structure!r}) must be True, False or a Structure(...)."
            )
        if isinstance(self.structure, Structure) and not self.may_end_early:
            raise ValueError(
                f"{owner}(structure={self.structure}, generator={type(self.generator).__name__}): "
                "units are drawn from mixtures over their explanations, and no other generator "
                "knows of them. Leave out `generator`, or `structure`."
            )
        checks.share(owner, "target_se", self.target_se)
        if self.max_evals is not None:
            checks.positive(owner, "max_evals", self.max_evals)
            if not float(self.max_evals).is_integer() and self.max_evals != float("inf"):
                raise ValueError(f"{owner}(max_evals={self.max_evals}) must be a whole number.")
        if self.max_seconds is not None:
            checks.positive(owner, "max_seconds", self.max_seconds)
        checks.count(owner, "random_seed", self.random_seed, least=0)

    @property
    def may_end_early(self) -> bool:
        """Whether the generator that is asked for, if any, is the mixture of a first answer."""
        return self.generator is None or isinstance(self.generator, Hybrid)

    def generator_for(self, density: Density) -> GeneratorConfig:
        """Return the generator asked for, or the default for such a density."""
        return self.generator or (Hybrid() if density.has_gradient else LRDS())
