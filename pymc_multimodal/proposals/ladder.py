"""The regional generator: per region the cheapest rung that held-out draws find good enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal.proposals.base import RegionalMixture, RegionFit, split_chains
from pymc_multimodal.proposals.elliptical import (
    EllipticalMixture,
    fit_gaussian,
    fit_mixture,
    heavy_tailed,
    with_defence,
)
from pymc_multimodal.proposals.flow.density import FlowDensity, FlowError, Network, fit_flow
from pymc_multimodal.status import Status, first_line
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Hybrid", "expected_acceptance"]

_RUNGS = ("gaussian", "mixture", "network")
_Rung: TypeAlias = EllipticalMixture | FlowDensity
_R = TypeVar("_R", bound=_Rung)

# Fewest gradient steps worth starting a network for.
MIN_STEPS = 300
# Expected acceptance below which a trained network is not used.
LEAST_ACCEPTED = 0.1


@dataclass(frozen=True)
class Hybrid:
    """A density for each region, from a ladder of rungs.

    Parameters
    ----------
    rungs : tuple of {"gaussian", "mixture", "network"}
        Rungs that may be used; "gaussian" is always fitted first.
    max_components : int
        Most components of the mixture rung.
    min_gain : float
        Nats of mean held-out log density by which a higher rung has to beat the one below.
    network : Network
        Settings of the network rung.
    defensive : float
        Share of the heavy-tailed component of every region.
    defensive_df : float
        Its degrees of freedom.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    It stands where arXiv 2505.07825 has its regional networks; the rungs here have densities,
    which is what makes the corrected draws exact. `PublishedHybrid` is the paper's recipe.
    """

    rungs: tuple[str, ...] = _RUNGS
    max_components: int = 16
    min_gain: float = 0.02
    network: Network = field(default_factory=Network)
    defensive: float = 0.05
    defensive_df: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", tuple(self.rungs))
        unknown = [r for r in self.rungs if r not in _RUNGS]
        if unknown or not self.rungs:
            raise ValueError(f"Hybrid(rungs={self.rungs!r}): choose from {_RUNGS}.")
        if not isinstance(self.network, Network):
            raise TypeError(
                f"Hybrid(network={self.network!r}) is a {type(self.network).__name__}; give a "
                "Network(...), or leave 'network' out of rungs."
            )
        checks.count("Hybrid", "max_components", self.max_components, 1)
        if not self.min_gain >= 0:
            raise ValueError(f"Hybrid(min_gain={self.min_gain}) must not be negative.")
        if not 0 < self.defensive_df < np.inf:
            raise ValueError(
                f"Hybrid(defensive_df={self.defensive_df}) must be positive and finite: tails that "
                "are not heavy defend nothing."
            )
        if not 0 < self.defensive < 1:
            raise ValueError(
                f"Hybrid(defensive={self.defensive}) must lie between 0 and 1: without a "
                "heavy-tailed part the corrected draws need not be exact."
            )

    def fit_regions(
        self,
        local: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit the rungs of every region; networks go on from those in `previous`."""
        data = [_Split.of(local, k, period) for k in range(len(local))]
        streams = rng.spawn(len(local))
        # Threads of the linear algebra only spin on matrices this small.
        with threadpool_limits(1, user_api="blas"):
            rungs: list[_Rung] = [
                self._elliptical(d, s) for d, s in zip(data, streams, strict=True)
            ]
            for k, q in enumerate(previous or ()):
                if isinstance(q, EllipticalMixture):
                    rungs[k] = self._better(data[k], rungs[k], q.core)
            before = [q if isinstance(q, FlowDensity) else None for q in previous or rungs]
            statuses = []
            for k, flow in enumerate(before):
                if flow is not None:
                    rungs[k] = self._better(data[k], rungs[k], flow)
            for k, steps in self._network_steps(data, rungs).items():
                try:
                    flow = self._network(data[k], rungs[k], steps, streams[k], before[k])
                    _check_useful(data[k], flow)
                    rungs[k] = self._better(data[k], rungs[k], flow)
                except (FlowError, RuntimeError, MemoryError) as error:
                    # torch raises a RuntimeError where a GPU has no memory left.
                    statuses.append(
                        Status("network", "generator",
                               f"no network serves this region: {first_line(error)}.",
                               "It keeps the rung below, whose jumps are accepted less often.",
                               mode=k, level="info")
                    )  # fmt: skip
        fitted = [
            q
            if isinstance(q, FlowDensity)
            else with_defence(q, self.defensive, self.defensive_df, widen=1.2)
            for q in rungs
        ]
        return RegionFit(tuple(fitted), tuple(statuses))

    def _elliptical(self, data: _Split, rng: np.random.Generator) -> EllipticalMixture:
        density = fit_gaussian(data.x, data.grad, data.held_out, data.period, data.centre)
        log_q = density.log_density(data.held_out)
        # Where the log ratio hardly varies, no higher rung can gain min_gain nats.
        room = 0.5 * np.var(data.held_out_logp - log_q) > self.min_gain
        if "mixture" in self.rungs and room:
            mixture = fit_mixture(data.x, data.held_out, density, rng, self.max_components)
            if mixture is not None:
                density = self._better(data, density, mixture)
        return density

    def _network_steps(self, data: list[_Split], rungs: list[_Rung]) -> dict[int, int]:
        """Share the gradient steps among the regions that have most to gain."""
        if "network" not in self.rungs:
            return {}
        accepted = np.array(
            [
                expected_acceptance(d.held_out_logp - q.log_density(d.held_out))
                for d, q in zip(data, rungs, strict=True)
            ]
        )
        enough = np.array([d.effective >= self.network.min_effective for d in data])
        tried = enough & (accepted < self.network.worth_it)
        wanting = [int(k) for k in np.argsort(accepted) if tried[k]]
        affordable = max(1, self.network.total_steps // MIN_STEPS)
        wanting = wanting[:affordable]
        if not wanting:
            return {}
        steps = min(self.network.steps, self.network.total_steps // len(wanting))
        return dict.fromkeys(wanting, steps)

    def _network(
        self,
        data: _Split,
        below: _Rung,
        steps: int,
        rng: np.random.Generator,
        previous: FlowDensity | None,
    ) -> FlowDensity:
        return fit_flow(
            data.x,
            data.grad,
            data.held_out,
            heavy_tailed(data.x, data.period, data.centre, self.defensive_df, widen=1.2),
            self.defensive,
            self.network,
            steps,
            rng,
            previous,
            float(np.mean(below.log_density(data.held_out))),
        )

    def _better(self, data: _Split, below: _R, above: _R) -> _R:
        """Return the higher rung if held-out draws prefer it by enough."""
        gain = np.mean(above.log_density(data.held_out) - below.log_density(data.held_out))
        return above if gain > self.min_gain else below

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> RegionalMixture:
        """Mix the regional densities by their weights."""
        return RegionalMixture(fitted.densities, weights)


@dataclass(frozen=True)
class _Split:
    """Draws of one region, unrolled: those to fit on and those to choose by."""

    x: np.ndarray
    grad: np.ndarray | None
    held_out: np.ndarray
    held_out_logp: np.ndarray
    effective: float
    period: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, local: RegionDraws, k: int, period: np.ndarray) -> _Split:
        fit, choose, _ = split_chains(len(local.x[k]))
        centre, d = local.centre[k], local.x[k].shape[-1]
        x = unroll(local.x[k][fit].reshape(-1, d), centre, period)
        grad = local.grad[k][fit].reshape(len(x), -1)
        return cls(
            x=x,
            grad=grad if grad.shape[1] else None,
            held_out=unroll(local.x[k][choose].reshape(-1, d), centre, period),
            held_out_logp=local.logp[k][choose].ravel(),
            effective=float(local.ess[k]),
            period=period,
            centre=centre,
        )


def _check_useful(data: _Split, flow: FlowDensity) -> None:
    """Raise FlowError if a network is worth nothing as a proposal, whatever its likelihood.

    In high dimension it may win on held-out draws by nats and still misplace most of its own
    draws, which no held-out draw shows and which would spoil `generate`.
    """
    accepted = expected_acceptance(data.held_out_logp - flow.log_density(data.held_out))
    if accepted < LEAST_ACCEPTED:
        raise FlowError(f"its jumps would be accepted with probability {accepted:.2f} at best")


def expected_acceptance(log_ratio: np.ndarray) -> float:
    r"""Estimate the acceptance of independence jumps from draws of the target alone.

    .. math:: E_{x \sim \pi, y \sim q} \min(1, w_y / w_x)
        = E_{x, y \sim \pi} \min(1 / w_x, 1 / w_y) \, / \, E_\pi [1 / w]

    Parameters
    ----------
    log_ratio : array of shape (n,)
        log w = log gamma - log q at draws of the target.

    Notes
    -----
    Mass of q where the target has none is not seen: the truth may be lower.
    """
    v = np.sort(np.exp(log_ratio.min() - log_ratio))
    n = len(v)
    # Of all ordered pairs, the i-th smallest is the minimum of 2 (n - i) - 1.
    return float(v @ (2.0 * (n - np.arange(n)) - 1.0) / n**2 / v.mean())
