"""Learned reference-based diffusion sampling: a reference from local draws, a control for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.base import RegionalMixture
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.elliptical import factor
from pymc_multimodal.proposals.families import RegionalFamilies
from pymc_multimodal.proposals.lrds.control_fit import fit_control
from pymc_multimodal.proposals.lrds.energy import EnergyNetwork, fit_energy
from pymc_multimodal.proposals.lrds.noising import geometric, pinned, variance_preserving
from pymc_multimodal.proposals.lrds.path_generator import Frame, PathGenerator
from pymc_multimodal.proposals.lrds.pool import Pool, polished, pooled_em, regional_components
from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, exponential_steps
from pymc_multimodal.status import FitError, Status, first_line

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.proposals.lrds.noising import Noising
    from pymc_multimodal.proposals.lrds.pool import Components
    from pymc_multimodal.proposals.lrds.reference import Reference
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["LRDS", "ControlNetwork"]

_REFERENCES = ("gmm", "ebm", "gaussian")
_PROCESSES = ("geometric", "variance-preserving", "pinned")
_LOSSES = ("stepwise", "log-variance", "kl")
# Regions with directions of their own in the network; the others share one set.
MAX_GROUPS = 12
# Draws that an energy-based model is fitted to.
POSITIVES = 20_000
# Nats by which log ratios of a region that the reference misses exceed those of the others.
MISSED = 5.0
# Share of a mixture's expected acceptance with which one Gaussian for each region is preferred.
NEARLY = 0.6
# Highest noise level, in units of the modes' own spread.
LAST = 3.0
# Fewest evaluations worth starting a training for.
MIN_EVALUATIONS = 2000


@dataclass(frozen=True)
class ControlNetwork:
    """Settings of the control's training.

    Parameters
    ----------
    hidden : int
        Width of both hidden layers.
    regression_steps, steps : int
        Steps of Adam on log ratios of draws, and on paths.
    regression_batch, batch : int
        Draws, and paths, of one step.
    learning_rate : float
    rounds : int
        Times that fresh draws of the controlled chain are added to those trained on.
    evaluations : int
        Most density evaluations. Training on a reference, of which two may be tried, never takes
        more than the fit had spent before, and none once a limit is reached.
    tame : float
        Nats beyond which deviations of log ratios count linearly instead of squared.
    worth_it : float
        Expected acceptance of jumps from which on the reference is good enough.
    device : str
        "cpu", "cuda", another name torch knows, or "auto" for "cuda" where there is one.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.
    """

    hidden: int = 128
    regression_steps: int = 1500
    steps: int = 600
    regression_batch: int = 1024
    batch: int = 128
    learning_rate: float = 2e-2
    rounds: int = 6
    evaluations: int = 50_000
    tame: float = 3.0
    worth_it: float = 0.6
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in (
            "hidden",
            "regression_steps",
            "steps",
            "regression_batch",
            "batch",
            "rounds",
            "evaluations",
        ):
            checks.count("ControlNetwork", name, getattr(self, name), 0 if "step" in name else 1)
        for name in ("learning_rate", "tame", "worth_it"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
                raise ValueError(f"ControlNetwork({name}={value!r}) must be a positive number.")
        check_device("ControlNetwork", "device", self.device)


@dataclass(frozen=True)
class LRDS:
    """A diffusion that goes back from a noised reference, guided by a learned control.

    The reference is learned from the local draws and the bridge's weights; the control, from
    log densities alone, corrects what the reference has wrong.

    Parameters
    ----------
    reference : {"gmm", "ebm", "gaussian"}
        A Gaussian mixture; an energy-based model, for shapes that mixtures miss; or a single
        Gaussian, which stands for samplers without a learned reference.
    components : int, optional
        Components of the mixture, fitted to the pooled draws. By default held-out draws choose:
        how many, region by region, and then whether EM goes on from those on all draws.
    process : {"geometric", "variance-preserving", "pinned"}
        Where the noise levels lie: at equal ratios, which suits few steps, or as two usual
        processes have them in equal steps of time.
    steps : int, optional
        By default 8, and 32 for an energy-based model, whose kernels are not exact.
    first, last : float
        Lowest and highest noise level of "geometric", in units of the modes' own spread; the
        lowest is 0.1 by default, and 0.02 for an energy-based model. The chain starts from
        the noised reference exactly, so that the levels need not reach from one mode to the
        next.
    loss : {"stepwise", "log-variance", "kl"}
        What training lowers: how much the log ratios of single steps vary, how much those of
        whole paths do (the paper's loss), or the divergence of the chain from the target.
    start : {"reference", "normal"}
        Law that the chain starts from: the noised reference, or the standard normal of the
        published algorithm, whose uncorrected draws are biased.
    kernels : {"exact", "exponential"}
        Reverse kernels: the mixture's own in closed form, or exponential-integrator steps.
    network : ControlNetwork
    energy : EnergyNetwork
        Training of the energy-based model.
    train : bool
        Whether a control is learned at all.
    share : float
        Share of the defensive density on paths.
    regional : RegionalFamilies
        Densities of the regions, for the bridge, for the chains' jumps, and for the defence.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Noble, Grenioux, Gabrié and Durmus (2025), arXiv 2410.19449. `LRDS.published` has their
    settings.
    """

    reference: str = "gmm"
    components: int | None = None
    process: str = "geometric"
    steps: int | None = None
    first: float | None = None
    last: float = LAST
    loss: str = "stepwise"
    start: str = "reference"
    kernels: str = "exact"
    network: ControlNetwork = field(default_factory=ControlNetwork)
    energy: EnergyNetwork = field(default_factory=EnergyNetwork)
    train: bool = True
    share: float = 0.1
    regional: RegionalFamilies = field(
        default_factory=lambda: RegionalFamilies(families=("gaussian", "mixture"))
    )

    def __post_init__(self) -> None:
        for name, choices in (
            ("reference", _REFERENCES),
            ("process", _PROCESSES),
            ("loss", _LOSSES),
            ("start", ("reference", "normal")),
            ("kernels", ("exact", "exponential")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"LRDS({name}={getattr(self, name)!r}): choose from {choices}.")
        if self.steps is None:
            object.__setattr__(self, "steps", 32 if self.reference == "ebm" else 8)
        if self.first is None:
            object.__setattr__(self, "first", 0.02 if self.reference == "ebm" else 0.1)
        checks.count("LRDS", "steps", self.steps, 1)
        if self.components is not None:
            checks.count("LRDS", "components", self.components, 1)
        for name, kind in (
            ("network", ControlNetwork),
            ("energy", EnergyNetwork),
            ("regional", RegionalFamilies),
        ):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"LRDS({name}={getattr(self, name)!r}): give a {kind.__name__}(...)."
                )
        for name, ignored, because in (
            ("start", self.start == "normal" and self.kernels != "exponential",
             "the exact kernels start from the noised reference; kernels='exponential' does not"),
            ("components", self.components is not None and self.reference == "gaussian",
             "reference='gaussian' has one"),
            ("last", self.last != LAST and self.process != "geometric",
             f"process={self.process!r} sets the noise levels itself"),
        ):  # fmt: skip
            if ignored:
                raise ValueError(
                    f"LRDS({name}={getattr(self, name)!r}) would have no effect: {because}."
                )
        if not 0 < (self.first or 0.0) < self.last < np.inf:
            raise ValueError(
                f"LRDS(first={self.first}, last={self.last}): noise levels must be positive and "
                "rise from the first to the last."
            )
        if "network" in self.regional.families:
            raise ValueError(
                "LRDS(regional=Hybrid(...)): its families must leave out 'network', since the "
                "reference is made of Gaussian components."
            )
        if self.kernels == "exponential" and (
            self.process != "variance-preserving" or self.reference == "ebm"
        ):
            raise ValueError(
                f"LRDS(kernels='exponential', process={self.process!r}, "
                f"reference={self.reference!r}): exponential-integrator steps belong to the "
                "variance-preserving process and a mixture; an 'ebm' has steps of its own."
            )
        if not 0 < self.share < 1:
            raise ValueError(
                f"LRDS(share={self.share}) must lie between 0 and 1: without a defensive part "
                "the corrected draws need not be exact."
            )

    @classmethod
    def published(cls, **changes: object) -> LRDS:
        """Return the paper's settings: normal start, exponential integrator, 100 equal steps.

        Parameters
        ----------
        **changes
            Settings of `LRDS` that are to differ from the paper's.

        Returns
        -------
        LRDS

        Raises
        ------
        TypeError, ValueError
            As `LRDS` does.
        """
        settings: dict = {
            "process": "variance-preserving",
            "steps": 100,
            "loss": "log-variance",
            "start": "normal",
            "kernels": "exponential",
        }
        return cls(**(settings | changes))

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> PathGenerator:
        """Learn the reference from the pooled draws, and a control where it pays."""
        defence = RegionalMixture(fitted.densities, weights)
        period = fitted.densities[0].period
        with threadpool_limits(1, user_api="blas"):
            pool, held_out = (Pool.of(local, weights, period, held) for held in (False, True))
            frame = self._frame(pool)
            components = self._components(fitted, weights, pool, held_out, rng)

            late = density is not None and density.exhausted()

            def generator_of(components: Components) -> PathGenerator:
                groups = _groups(components, fitted, weights)
                reference, found = self._reference(components, frame, pool, groups, rng, late)
                return PathGenerator(
                    reference, None, frame, defence, self.share, local.centre, period, found
                )

            generator = generator_of(components)
            plainer = None
            if self.reference == "gmm" and self.components is None:
                plainer = generator_of(pool.gaussians())
            try:
                return self._trained(generator, plainer, pool, held_out, density, rng)
            except FitError:
                raise
            except (ImportError, RuntimeError, MemoryError) as error:
                generator.fallbacks += (_untrained("control", error),)
                return generator

    def _trained(
        self,
        generator: PathGenerator,
        plainer: PathGenerator | None,
        pool: Pool,
        held_out: Pool,
        density: LogDensity | None,
        rng: np.random.Generator,
    ) -> PathGenerator:
        """Add a control where the reference leaves something to gain and training gains it.

        A reference of one Gaussian for each region is trained instead if it is nearly as good:
        what a mixture leaves over winds about its components, and is harder to learn.
        """
        rows = held_out.pick(len(held_out.x), rng)

        def log_ratio(of: PathGenerator) -> np.ndarray:
            return of.path_log_ratio(held_out.x, held_out.logp, rng)

        ratio = log_ratio(generator)
        generator.fallbacks += _missed(ratio, held_out.region, float(np.median(ratio[rows])))
        accepted = expected_acceptance(ratio[rows])
        budget = self.network.evaluations
        if density is not None:
            budget = 0 if density.exhausted() else min(budget, density.spent())
        if not self.train or accepted >= self.network.worth_it or budget < MIN_EVALUATIONS:
            return generator
        if self.loss == "kl" and density is None:
            # An average over the chain's own paths, at whose ends nothing is known.
            return generator
        bases = [generator]
        if plainer is not None:
            plain = expected_acceptance(log_ratio(plainer)[rows])
            bases = [plainer, generator] if plain > NEARLY * accepted else [generator]
        for base in bases:
            if base is not bases[0] and density is not None and density.exhausted():
                break
            control, training = fit_control(base, pool, held_out, density, self, budget, rng)
            before, after = accepted, training.acceptance[1]
            if control is not None and after > before:
                break
            control = None
        trained = base.controlled(control) if control else generator.controlled(None)
        trained.fallbacks = generator.fallbacks
        trained.training = replace(training, kept=control is not None)
        if control is None:
            trained.fallbacks += (
                Status("control", "generator",
                       "training did not improve the diffusion sampler (expected acceptance "
                       f"{before:.2f} before, {after:.2f} after): its reference serves alone.",
                       "Draws stay exact; ControlNetwork(evaluations=..., steps=...) trains "
                       "longer.", level="info"),
            )  # fmt: skip
        if training.finite < 0.5:
            trained.fallbacks += (
                Status("outside", "generator",
                       f"the model has a finite density at {training.finite:.0%} of the ends of "
                       "the diffusion sampler's paths only.",
                       "Such ends are rejected, draws stay exact; a variable with sharp bounds "
                       "inside of a mode is better transformed.", level="info"),
            )  # fmt: skip
        return trained

    def _frame(self, pool: Pool) -> Frame:
        """Coordinates in which the modes have unit spread; as published, the whole has."""
        mean, covariance = pool.moments(within=self.start == "reference")
        if self.start == "reference":
            return Frame(mean, factor(covariance))
        d = len(mean)
        return Frame(np.zeros(d), np.sqrt((mean @ mean + np.trace(covariance)) / d) * np.eye(d))

    def _components(
        self,
        fitted: RegionFit,
        weights: np.ndarray,
        pool: Pool,
        held_out: Pool,
        rng: np.random.Generator,
    ) -> Components:
        if self.reference != "gaussian" and self.components is None:
            regional = regional_components(fitted.densities, weights)
            return polished(regional, pool, held_out, rng)
        wanted = 1 if self.reference == "gaussian" else self.components or 1
        return pooled_em(pool, wanted, rng)

    def _noising(self, pool: Pool, frame: Frame) -> Noising:
        # Both are set by __post_init__.
        steps, first = int(self.steps or 0), float(self.first or 0.0)
        if self.process == "geometric":
            return geometric(steps, first, self.last)
        z = frame.into(pool.x)
        scale = 1.0 if self.start == "normal" else float(np.sqrt(np.mean(z**2)))
        make = variance_preserving if self.process == "variance-preserving" else pinned
        return make(steps, scale=scale)

    def _reference(
        self,
        components: Components,
        frame: Frame,
        pool: Pool,
        groups: np.ndarray,
        rng: np.random.Generator,
        late: bool,
    ) -> tuple[Reference, tuple[Status, ...]]:
        noising = self._noising(pool, frame)
        mixture = MixtureReference(
            components.weights,
            frame.into(components.means),
            frame.covariance(components.factors),
            noising,
            groups,
        )
        if self.kernels == "exponential":
            normal = 1.0 / np.sqrt(1.0 / (1.0 + noising.levels[-1] ** 2))
            gain, sd = exponential_steps(noising)
            start = float(normal) if self.start == "normal" else None
            return SteppedReference(mixture, gain, sd, normal=start), ()
        if self.reference != "ebm":
            return mixture, ()
        try:
            if late:
                raise RuntimeError("a limit of the fit was reached")
            positives = frame.into(pool.x[pool.pick(POSITIVES, rng)])
            return fit_energy(mixture, positives, self.energy, rng), ()
        except (ImportError, RuntimeError, MemoryError) as error:
            return mixture, (_untrained("energy-based reference", error),)


def _untrained(what: str, error: Exception) -> Status:
    return Status(
        "control", "generator", f"no {what} was trained: {first_line(error)}.",
        "The Gaussian mixture serves alone; draws stay exact.",
    )  # fmt: skip


def _missed(log_ratio: np.ndarray, region: np.ndarray, middle: float) -> tuple[Status, ...]:
    """Name the regions that a reference hardly ever goes to.

    Their draws have log ratios far above the middle one of the whole, however little they weigh.
    """
    return tuple(
        Status("reference", "generator",
               "the reference of the diffusion sampler misses this region: its draws have log "
               f"ratios {np.median(log_ratio[region == k]) - middle:.0f} above the others'.",
               "Its proposals come from the defence, draws stay exact; leave out components=, or "
               "raise it.", mode=int(k))
        for k in np.unique(region)
        if np.median(log_ratio[region == k]) > middle + MISSED
    )  # fmt: skip


def _groups(components: Components, fitted: RegionFit, weights: np.ndarray) -> np.ndarray:
    """Region that each component belongs to; beyond `MAX_GROUPS` the lightest share one."""
    logs = np.stack([q.log_density(components.means) for q in fitted.densities], axis=1)
    rank = np.argsort(np.argsort(-weights))
    _, group = np.unique(np.minimum(rank[logs.argmax(axis=1)], MAX_GROUPS - 1), return_inverse=True)
    return group
