"""The state of a fit: frozen records of what each step has found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation
    from pymc_multimodal.challenge import ChallengeResult, ChallengeState
    from pymc_multimodal.evidence import BridgeSamples, CrossCheck, Weights
    from pymc_multimodal.fit.emulated import Judged
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.kernel import Kernel
    from pymc_multimodal.proposals import Generator
    from pymc_multimodal.regions import Chains, Partition, Pilot, RegionDraws
    from pymc_multimodal.search import Modes, Screening, Search
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.cells import Cells
    from pymc_multimodal.target.density import Density

__all__ = ["Division", "Exploration", "State", "known", "matching_modes", "region_of_modes"]

T = TypeVar("T")


@dataclass(frozen=True)
class Exploration:
    """Short unrestricted chains from every mode.

    Attributes
    ----------
    modes : Modes
        Modes from which the chains began.
    pilot : Pilot
    misplaced_modes : array of int, shape (m,)
        For each point of `State.misplaced` the index in `modes` of its mode, or -1.
    """

    modes: Modes
    pilot: Pilot
    misplaced_modes: np.ndarray


@dataclass(frozen=True)
class Division:
    """The regions.

    Attributes
    ----------
    cells : Cells or None
        Where the density is symmetric.
    all_modes : Modes
        All modes, one of each orbit.
    modes : Modes
        Modes of the regions. Modes of `all_modes` between which chains move freely are joined.
    region_of_mode : array of int
        Region of each mode of `all_modes`.
    pilot : Pilot
        Short chains of each region.
    partition : Partition
    """

    cells: Cells | None
    all_modes: Modes
    modes: Modes
    region_of_mode: np.ndarray
    pilot: Pilot
    partition: Partition

    @property
    def folded_modes(self) -> Modes:
        """All modes with the log density of what is sampled, which counts the images of each."""
        modes, cells = self.all_modes, self.cells
        if cells is None:
            return modes
        images = cells.log_multiplicity(cells.fold(modes.locations))
        return replace(modes, log_density=modes.log_density + images)


@dataclass(frozen=True)
class State:
    """What a fit knows. A step returns a new state; no state is changed.

    Attributes
    ----------
    search : Search
    must_visit : array of shape (n, d)
        Points that proved an earlier fit incomplete. Chains start there.
    misplaced : array of shape (m, d)
        `must_visit`, and points that an earlier partition put into a wrong region.
    screened : bool
        Whether the modes of the search were screened for others.
    screenings : int
        How often.
    screening : Screening or None
        What the last one has seen.
    approximated : bool
        Whether the modes of the search were approximated.
    approximation : Approximation or None
        The mixture over these modes, with its sample.
    former : Approximation or None
        That of the modes before further ones were found. Its densities are used again.
    compared : bool
        Whether the mixture was compared with chains that explored.
    regions_approximated : bool
        Whether densities of the regions' chains were judged by importance sampling.
    explorations : int
        How often chains have explored the space since the last challenge.
    exploration : Exploration or None
    division : Division or None
    chains : Chains or None
    connections : int
        How often the regions were searched for mass of their neighbours' modes.
    labels_checked : bool
        Whether climbs were made from the chains that do not mix.
    stuck_checked : bool
        Whether climbs were made from the chains that stay apart.
    symmetry_confirmed : bool
        Whether images of draws of all regions have the log density of the draws.
    draws : RegionDraws or None
        Draws of the chains when `weights` was estimated.
    samples : BridgeSamples or None
    fitted_draws : array of int, shape (K,), or None
        Draws of a chain of each region when the region's proposal density was fitted.
    refinements : int
        How often draws or proposals were added since the first weights.
    weights : Weights or None
        Estimates of the bridge alone; see `final_weights`.
    cross_check : CrossCheck or None
    cross_checks : int
        How often the evidences were estimated a second time.
    challenge : ChallengeState or None
    challenge_result : ChallengeResult or None
    generator : Generator or None
    kernel : Kernel or None
    symmetry_broken : bool
        Whether an earlier fit was given up since the density is not symmetric.
    gradient_dropped : bool
        Whether an earlier fit was given up since the density has steps.
    kernel_statuses : tuple of Status
    price : float or None
        Seconds of one evaluation, if that is dear.
    judged : Judged or None
        The emulated posterior of a dear density, if the true density speaks for it: the answer.
    units_sought : bool
        Whether the density was fitted by units where its modes do not describe it.
    by_units : Fit or None
        The fit by units, if it is precise: the answer.
    fallback : State or None
        The newest state with weights from before a challenge made the fit begin again.
    devices : tuple of str
        Devices, other than the CPU, that networks were trained or drawn from on.
    """

    search: Search
    must_visit: np.ndarray
    misplaced: np.ndarray
    screened: bool = False
    screenings: int = 0
    screening: Screening | None = None
    approximated: bool = False
    approximation: Approximation | None = None
    former: Approximation | None = None
    compared: bool = False
    regions_approximated: bool = False
    explorations: int = 0
    exploration: Exploration | None = None
    division: Division | None = None
    chains: Chains | None = None
    connections: int = 0
    labels_checked: bool = False
    stuck_checked: bool = False
    symmetry_confirmed: bool = False
    draws: RegionDraws | None = None
    samples: BridgeSamples | None = None
    fitted_draws: np.ndarray | None = None
    refinements: int = 0
    weights: Weights | None = None
    cross_check: CrossCheck | None = None
    cross_checks: int = 0
    challenge: ChallengeState | None = None
    challenge_result: ChallengeResult | None = None
    generator: Generator | None = None
    kernel: Kernel | None = None
    symmetry_broken: bool = False
    gradient_dropped: bool = False
    kernel_statuses: tuple[Status, ...] = ()
    price: float | None = None
    judged: Judged | None = None
    units_sought: bool = False
    by_units: Fit | None = None
    fallback: State | None = None
    devices: tuple[str, ...] = ()

    @classmethod
    def begun(
        cls, search: Search, *, symmetry_broken: bool = False, gradient_dropped: bool = False
    ) -> State:
        """Return the first state of a fit: a search that has not climbed yet."""
        nowhere = np.empty((0, len(search.spread)))
        return cls(
            search,
            nowhere,
            nowhere,
            symmetry_broken=symmetry_broken,
            gradient_dropped=gradient_dropped,
        )

    @property
    def ends_early(self) -> bool:
        """Whether the first answer is precise: the regions are weighed by its sample."""
        return self.approximation is not None and self.approximation.verdict.precise

    def with_further_modes(self) -> State:
        """Return the state with a first answer to be made anew: it does not have all modes."""
        former = self.approximation or self.former
        return replace(self, approximated=False, approximation=None, former=former)

    @property
    def presentable(self) -> State | None:
        """The newest state with weights, from which a result can be made; None if there is none."""
        return self if self.weights is not None else self.fallback

    @property
    def final_weights(self) -> Weights:
        """Weights with errors that allow for what the cross-check and the challenge found."""
        weights = known(self.weights)
        if self.cross_check is not None:
            weights = weights.widened(self.cross_check.gap)
        if self.challenge_result is not None:
            weights = weights.widened(self.challenge_result.gap)
        return weights

    def target(self, density: Density) -> Target:
        """Return what is sampled: the density, folded where it is symmetric."""
        return Target(density, None if self.division is None else self.division.cells)

    def restarted(self, search: Search, points: np.ndarray) -> State:
        """Return the state that begins again from more modes, and from points to be visited."""
        visit = np.concatenate([self.must_visit, points])
        return State(
            search,
            must_visit=visit,
            misplaced=visit,
            challenge=self.challenge,
            symmetry_broken=self.symmetry_broken,
            gradient_dropped=self.gradient_dropped,
            fallback=self.presentable,
        )

    def redivided(self, search: Search, points: np.ndarray) -> State:
        """Return a state that explores again, with more points that were misplaced."""
        return replace(
            self.restarted(search, self.must_visit[:0]),
            misplaced=np.concatenate([self.misplaced, points]),
            explorations=self.explorations,
            fallback=self.fallback,
        )


def known(record: T | None) -> T:
    """Return a record of a state that an earlier step has made."""
    assert record is not None
    return record


def matching_modes(found: Modes, before: Modes) -> np.ndarray | None:
    """Index in `before` of each mode of `found`; None if they are not the same modes."""
    if len(found) != len(before):
        return None
    same = found.counterparts(before)
    return same if len(np.unique(same)) == len(before) and same.min() >= 0 else None


def region_of_modes(labels: np.ndarray, same: np.ndarray | None, group: np.ndarray) -> np.ndarray:
    """Regions of points of which a later search knows the mode; -1 if unknown.

    Parameters
    ----------
    labels : array of int, shape (n,)
        Mode of each point in the later search, -1 for none.
    same : array of int or None
        What `matching_modes` returned.
    group : array of int
        Region of each mode of the earlier search.
    """
    if same is None:
        return np.full(len(labels), -1)
    return np.where(labels >= 0, group[same[labels]], -1)
