"""The density of each region: of the first family that held-out draws find good enough."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.base import RegionFit, split_chains
from pymc_multimodal.proposals.elliptical import (
    DEFENSIVE_DF,
    DEFENSIVE_SHARE,
    EllipticalMixture,
    defensive_mixture,
    student_t,
)
from pymc_multimodal.proposals.elliptical_fit import fit_gaussian, fit_mixture
from pymc_multimodal.proposals.flow import FlowDensity, FlowDraws, FlowError, Network, fit_flow
from pymc_multimodal.status import Status, first_line
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions import RegionDraws

__all__ = ["FAMILIES", "RegionalFamilies"]

# In ascending order of cost.
FAMILIES = ("gaussian", "mixture", "network")
_Density: TypeAlias = EllipticalMixture | FlowDensity

# Fewest gradient steps with which a network is trained; where `total_steps` has not as many for
# every region, fewer regions get one. Measured: examples/benchmarks/constants.py
MIN_NETWORK_STEPS = 300
# Where the Student-t density that held-out draws prefer has at most so many degrees of freedom,
# tails may be heavier than chains have seen: chains of two Cauchy variables stay within 46 to 110,
# where 1 to 3 % of the mass lies beyond. The defensive component then is a Cauchy distribution,
# whose proposals come from there. Measured: examples/benchmarks/constants.py
HEAVY_STUDENT_DF, HEAVIEST_DEFENSIVE_DF = 3.0, 1.0
# Expected acceptance below which a trained network is not used, however large its likelihood.
# Measured: examples/benchmarks/constants.py
MIN_NETWORK_ACCEPTANCE = 0.1


@dataclass(frozen=True)
class RegionalFamilies:
    """How the density of each region is fitted.

    Families are tried in ascending order of cost, and a larger one replaces a smaller one where
    the mean log density of held-out draws gains by it.

    Parameters
    ----------
    families : tuple of {"gaussian", "mixture", "network"}
        Density families that may be used. A Gaussian or Student-t density ("gaussian") is always
        fitted first.
    max_components : int
        Largest number of components of a mixture.
    min_gain : float
        Gain in mean log density of held-out draws (nats) from which on a larger family is used.
    network : Network
        Settings of the network.
    defensive : float
        Share of the heavy-tailed component of every region.
    defensive_df : float
        Degrees of freedom of the heavy-tailed component; at most 1 where the draws are heavy-tailed
        themselves.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.
    """

    families: tuple[str, ...] = FAMILIES
    max_components: int = 16
    min_gain: float = 0.02
    network: Network = field(default_factory=Network)
    defensive: float = DEFENSIVE_SHARE
    defensive_df: float = DEFENSIVE_DF

    def __post_init__(self) -> None:
        owner = type(self).__name__
        checks.choices(owner, "families", self.families, FAMILIES)
        object.__setattr__(self, "families", tuple(self.families))
        checks.count(owner, "max_components", self.max_components)
        checks.number(owner, "min_gain", self.min_gain, 0.0)
        checks.kind(owner, "network", self.network, Network)
        checks.share(owner, "defensive", self.defensive)
        checks.positive(owner, "defensive_df", self.defensive_df, finite=True)

    def without_network(self) -> Self:
        """Return the same settings without the network family."""
        kept = tuple(f for f in self.families if f != "network")
        return self if kept == self.families else replace(self, families=kept or FAMILIES[:1])

    def fit_regions(
        self,
        draws: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit a normalised density to each region; networks are trained on from `previous`.

        Parameters
        ----------
        draws : RegionDraws
        period : array of shape (d,)
            Periods of circular coordinates, ``inf`` elsewhere.
        rng : numpy.random.Generator
        previous : sequence of RegionDensity or None, optional
            Densities fitted to fewer draws of the same regions.

        Returns
        -------
        RegionFit
            With a status for each region whose network could not be trained.
        """
        samples = [_RegionSample.of(draws, k, period) for k in range(len(draws))]
        streams = rng.spawn(len(draws))
        # On matrices this small, more threads of the linear algebra only wait for one another.
        with threadpool_limits(1, user_api="blas"):
            singles = [fit_gaussian(s.x, s.grad, s.held_out, s.period, s.centre) for s in samples]
            fitted = [
                _keep_previous(
                    _fit_elliptical(sample, single, self, stream), old, sample, self.min_gain
                )
                for sample, single, stream, old in zip(
                    samples, singles, streams, previous or [None] * len(draws), strict=True
                )
            ]
            dfs = [_defensive_df(single, self) for single in singles]
            fitted, statuses = _train_networks(samples, fitted, dfs, self, streams, previous)
        defended = [_defended(q, df, self) for q, df in zip(fitted, dfs, strict=True)]
        return RegionFit(tuple(defended), tuple(statuses))


@dataclass(frozen=True, eq=False)
class _RegionSample:
    """Draws of one region, unrolled: those to fit to and those to choose by."""

    x: np.ndarray
    grad: np.ndarray | None
    held_out: np.ndarray
    held_out_logp: np.ndarray
    ess: float
    period: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, draws: RegionDraws, k: int, period: np.ndarray) -> _RegionSample:
        fit, choose, _ = split_chains(len(draws.x[k]))
        centre, d = draws.centre[k], draws.x[k].shape[-1]
        x = unroll(draws.x[k][fit].reshape(-1, d), centre, period)
        grad = draws.grad[k][fit].reshape(len(x), -1)
        return cls(
            x=x,
            grad=grad if grad.shape[1] else None,
            held_out=unroll(draws.x[k][choose].reshape(-1, d), centre, period),
            held_out_logp=draws.logp[k][choose].ravel(),
            ess=float(draws.ess[k]),
            period=period,
            centre=centre,
        )

    def log_ratio(self, density: _Density) -> np.ndarray:
        """Log ratio of target to density at the held-out draws, shape (m,)."""
        return self.held_out_logp - density.log_density(self.held_out)

    def better(self, smaller: _Density, larger: _Density, min_gain: float) -> bool:
        """Whether held-out draws gain more than `min_gain` nats by the larger family."""
        gain = larger.log_density(self.held_out) - smaller.log_density(self.held_out)
        return bool(np.mean(gain) > min_gain)


def _fit_elliptical(
    sample: _RegionSample,
    density: EllipticalMixture,
    settings: RegionalFamilies,
    rng: np.random.Generator,
) -> EllipticalMixture:
    """Return the single density, or a mixture where held-out draws gain by it."""
    # Where the log ratio hardly varies, no larger family can gain min_gain nats: for a nearly
    # normal log ratio the divergence from target to density is half its variance.
    room = 0.5 * np.var(sample.log_ratio(density)) > settings.min_gain
    if "mixture" in settings.families and room:
        mixture = fit_mixture(sample.x, sample.held_out, density, rng, settings.max_components)
        if mixture is not None and sample.better(density, mixture, settings.min_gain):
            return mixture
    return density


def _keep_previous(
    new: EllipticalMixture, old: RegionDensity | None, sample: _RegionSample, min_gain: float
) -> _Density:
    """Return what was fitted before where held-out draws prefer it, and else the new density."""
    if isinstance(old, EllipticalMixture):
        old = old.undefended
    if isinstance(old, EllipticalMixture | FlowDensity) and sample.better(new, old, min_gain):
        return old
    return new


def _train_networks(
    samples: list[_RegionSample],
    fitted: list[_Density],
    dfs: list[float],
    settings: RegionalFamilies,
    streams: list[np.random.Generator],
    previous: Sequence[RegionDensity | None] | None,
) -> tuple[list[_Density], list[Status]]:
    """Train networks for the regions with most to gain; keep those that held-out draws prefer."""
    fitted, statuses = list(fitted), []
    chosen, steps = _network_regions(samples, fitted, settings)
    for k in chosen:
        old = previous[k] if previous else None
        sample = samples[k]
        try:
            flow = fit_flow(
                FlowDraws(sample.x, sample.grad, sample.held_out),
                student_t(sample.x, sample.period, sample.centre, dfs[k]),
                settings.defensive,
                replace(settings.network, steps=steps),
                streams[k],
                previous=old if isinstance(old, FlowDensity) else None,
                baseline=float(np.mean(fitted[k].log_density(sample.held_out))),
            )
            _check_useful(sample, flow)
        except (FlowError, RuntimeError, MemoryError, ImportError) as error:
            # torch raises a RuntimeError where a GPU has no memory left, and may be missing.
            statuses.append(_no_network(k, error))
        else:
            if sample.better(fitted[k], flow, settings.min_gain):
                fitted[k] = flow
    return fitted, statuses


def _network_regions(
    samples: list[_RegionSample], fitted: list[_Density], settings: RegionalFamilies
) -> tuple[list[int], int]:
    """Regions that get a network, least expected acceptance first, and gradient steps of each."""
    network = settings.network
    if "network" not in settings.families:
        return [], 0
    acceptance = np.array(
        [expected_acceptance(s.log_ratio(q)) for s, q in zip(samples, fitted, strict=True)]
    )
    enough = np.array([s.ess >= network.min_effective for s in samples])
    tried = enough & (acceptance < network.min_acceptance)
    chosen = [int(k) for k in np.argsort(acceptance) if tried[k]]
    chosen = chosen[: max(1, network.total_steps // MIN_NETWORK_STEPS)]
    return chosen, min(network.steps, network.total_steps // max(1, len(chosen)))


def _check_useful(sample: _RegionSample, flow: FlowDensity) -> None:
    """Raise FlowError if jumps of a network would hardly be accepted, whatever its likelihood.

    In high dimension it may gain nats on held-out draws and still misplace most of its own draws,
    which no held-out draw shows and which would spoil `generate`.
    """
    accepted = expected_acceptance(sample.log_ratio(flow))
    if accepted < MIN_NETWORK_ACCEPTANCE:
        raise FlowError(f"its jumps would be accepted with probability {accepted:.2f} at best")


def _no_network(k: int, error: Exception) -> Status:
    return Status(
        "network",
        "proposals",
        f"no network is used in this region: {first_line(error)}.",
        "The region keeps its smaller density family, whose jumps are accepted less often.",
        mode=k,
        level="info",
    )


def _defensive_df(single: EllipticalMixture, settings: RegionalFamilies) -> float:
    """Degrees of freedom of the defensive component, by those of a region's single density."""
    heavy = single.df[0] <= HEAVY_STUDENT_DF
    return min(settings.defensive_df, HEAVIEST_DEFENSIVE_DF) if heavy else settings.defensive_df


def _defended(density: _Density, df: float, settings: RegionalFamilies) -> _Density:
    """Add the defensive component; a network has had its own since it was trained."""
    if isinstance(density, FlowDensity):
        return density
    return defensive_mixture(density, settings.defensive, df)
