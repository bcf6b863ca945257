"""The published recipe: Gaussian proposals for the weights, a supervised network for the draws."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal.proposals.base import RegionalMixture, RegionFit, split_chains
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.elliptical import EllipticalMixture, fit_mixture, with_defence
from pymc_multimodal.proposals.published.labels import (
    EmpiricalScore,
    MapError,
    SmoothedScore,
    labelled_pairs,
)
from pymc_multimodal.status import Status
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["PublishedGenerator", "PublishedHybrid", "SupervisedMap", "train_map"]

_log = logging.getLogger("pymc.multimodal")

_SCORES = ("empirical", "smoothed")

# Fewer draws than this say little about a region's shape.
MIN_DRAWS = 100

# Standard deviation, relative to the coordinate's size, under which a coordinate is constant.
CONSTANT = 1e-12


@dataclass(frozen=True)
class PublishedHybrid:
    """The recipe of arXiv 2505.07825: per region a plain network from normal noise to draws.

    Each region gets the Gaussian proposal ``N(mean, covariance)`` of its draws, with which the
    weights are bridged, and a map: a training-free reverse diffusion pairs normal noise with
    draws, and a network is regressed on the pairs by mean squared error.

    The network has no density. So corrected draws, those of `pm.sample`, come from the Gaussian
    proposals and are exact; ``generate`` alone uses the maps, and its draws are not corrected.

    Parameters
    ----------
    score : {"empirical", "smoothed"}
        Score of the diffusion: of the noised draws themselves, as published, or of a noised
        Gaussian mixture fitted to them, whose smooth map a network can learn.
    pairs : int
        Pairs of noise and label. The authors' code: 50,000.
    score_draws : int
        Draws that the empirical score sums over, picked at random if there are more.
    neighbours : int, optional
        Draws nearest to a point that the empirical score sums over one by one, the rest being
        represented by as many others; None for all. The authors' code: 2,048.
    ode_steps : int
        Euler steps of the reverse diffusion. The authors' code: 500 to 10,000.
    hidden : tuple of int
        Widths of the hidden layers. The authors' code: (100, 100).
    learning_rate : float
        Of Adam. The authors' code: 0.001.
    train_steps : int
        Steps of Adam. The authors' code: 10,000.
    batch : int, optional
        Pairs per step; None for all of them, as in the authors' code.
    max_components : int
        Most components of the mixture behind the smoothed score.
    defensive, defensive_df, defensive_widen : float
        Share, degrees of freedom and relative scale of the heavy-tailed component that is added
        to every Gaussian proposal. It is not part of the recipe, but without it corrected draws
        need not be exact.
    device : str
        Where the network is trained: "cpu", "cuda", another name torch knows, or "auto" for
        "cuda" where there is one.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Tran, Zhang, Bao, Lu and Zhang (2025), arXiv 2505.07825, sections 3.3 to 3.5. With the
    defaults a region takes some seconds; the numbers of the authors' code take hours with all
    draws in the score. With the empirical score the labels spread as the draws do, and the
    network much less in more than a few dimensions: the diffusion ends on the draws themselves,
    and a regression averages over them.
    """

    score: str = "empirical"
    pairs: int = 5000
    score_draws: int = 2000
    neighbours: int | None = None
    ode_steps: int = 100
    hidden: tuple[int, ...] = (100, 100)
    learning_rate: float = 1e-3
    train_steps: int = 2000
    batch: int | None = 512
    max_components: int = 16
    defensive: float = 0.05
    defensive_df: float = 4.0
    defensive_widen: float = 1.2
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.score not in _SCORES:
            raise ValueError(f"PublishedHybrid(score={self.score!r}): choose from {_SCORES}.")
        for name, least in (
            ("pairs", 10),
            ("score_draws", 2),
            ("neighbours", 1),
            ("ode_steps", 2),
            ("train_steps", 1),
            ("batch", 1),
            ("max_components", 2),
        ):
            value = getattr(self, name)
            if value is None and name in ("neighbours", "batch"):
                continue
            checks.count("PublishedHybrid", name, value, least)
        if isinstance(self.hidden, str | Integral) or not len(tuple(self.hidden)):
            raise TypeError(
                f"PublishedHybrid(hidden={self.hidden!r}) must be a tuple with the width of each "
                "hidden layer, such as (100, 100)."
            )
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for width in self.hidden:
            checks.count("PublishedHybrid", "hidden", width, 1)
        for name, low, high, why in (
            ("learning_rate", 0.0, np.inf, "it scales the steps of Adam."),
            ("defensive", 0.0, 1.0, "without a heavy-tailed part corrected draws need not be exact "
             "and with nothing else they hardly move."),
            ("defensive_df", 0.0, np.inf, "it is the degrees of freedom of a Student-t."),
            ("defensive_widen", 0.0, np.inf, "it scales a covariance."),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"PublishedHybrid({name}={value!r}) must be a number.")
            if not low < float(value) < high:
                raise ValueError(
                    f"PublishedHybrid({name}={value}) must lie between {low:g} and {high:g}, "
                    f"both excluded: {why}"
                )
        check_device("PublishedHybrid", "device", self.device)

    def fit_regions(
        self,
        local: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit the Gaussian proposal of every region; the maps are trained by `build`.

        `previous` is not used: a Gaussian costs nothing to fit anew.
        """
        with threadpool_limits(1, user_api="blas"):
            densities = tuple(self._fit_region(local, k, period) for k in range(len(local)))
        statuses = [
            Status(
                "no_density",
                "generator",
                "the maps of the published recipe have no density: draws of pm.sample are exact "
                "and come from the Gaussian proposals.",
                "The maps' own draws, which nothing corrects, are fit.generate(n, rng).",
                level="info",
            )
        ]
        if find_spec("torch") is None:
            statuses.append(
                Status(
                    "no_torch",
                    "generator",
                    "torch is not installed, so that no map can be trained: fit.generate draws "
                    "from the Gaussian proposals.",
                    "Install torch.",
                )
            )
        return RegionFit(densities, tuple(statuses))

    def _fit_region(self, local: RegionDraws, k: int, period: np.ndarray) -> EllipticalMixture:
        fit, _, _ = split_chains(len(local.x[k]))
        d = local.x[k].shape[-1]
        x = unroll(local.x[k][fit].reshape(-1, d), local.centre[k], period)
        covariance = np.atleast_2d(np.cov(x.T)) if len(x) > 1 else np.eye(d)
        # The sample covariance of few draws is singular, and a proposal must not be.
        size = CONSTANT * (1.0 + np.abs(x).max(axis=0))
        variance = np.diag(np.maximum(np.diag(covariance), size**2))
        share = min(0.5, d / (2.0 * len(x)))
        scale = np.linalg.cholesky((1 - share) * covariance + (share + 1e-9) * variance)
        gaussian = EllipticalMixture(
            x.mean(axis=0)[None], scale[None], np.ones(1), np.array([np.inf]), period,
            local.centre[k], "gaussian",
        )  # fmt: skip
        return with_defence(gaussian, self.defensive, self.defensive_df, self.defensive_widen)

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> PublishedGenerator:
        """Train the map of every region on its draws; a region without keeps its Gaussian.

        Parameters
        ----------
        fitted : RegionFit
            What `fit_regions` returned.
        local : RegionDraws
            The final draws. Nothing of a map enters the weights or the corrected draws, so all
            chains are used.
        weights : array of shape (K,)
        rng : numpy.random.Generator

        Returns
        -------
        PublishedGenerator
            Its `fallbacks` say for which regions no map could be trained, and why.
        """
        maps: list[SupervisedMap | None] = []
        fallbacks = []
        for k, (proposal, stream) in enumerate(
            zip(fitted.densities, rng.spawn(len(local)), strict=True)
        ):
            began = time.monotonic()
            assert isinstance(proposal, EllipticalMixture)
            try:
                if density is not None and density.exhausted():
                    raise MapError("a limit of the fit was reached.", "Raise the limit.")
                with threadpool_limits(1, user_api="blas"):
                    maps.append(self._learn(local.x[k], proposal, stream))
            except (ImportError, RuntimeError, ValueError, MemoryError) as error:
                fallbacks.append(_fallback(k, error))
                maps.append(None)
            else:
                _log.debug("region %d: map trained in %.1f s", k, time.monotonic() - began)
        return PublishedGenerator(fitted.densities, weights, tuple(maps), tuple(fallbacks))

    def _learn(
        self, draws: np.ndarray, density: EllipticalMixture, rng: np.random.Generator
    ) -> SupervisedMap:
        """Learn the map of one region from its draws, shape (chains, draws, d)."""
        d = draws.shape[-1]
        x = unroll(draws.reshape(-1, d), density.centre, density.period)
        if len(x) < max(MIN_DRAWS, 2 * d):
            raise MapError(
                f"the region has {len(x)} draws only, for {d} coordinates.",
                "Raise LocalSampling.draws.",
            )
        mean, sd = x.mean(axis=0), x.std(axis=0)
        constant = np.flatnonzero(~(sd > CONSTANT * (1.0 + np.abs(mean))))
        if len(constant):
            raise MapError(
                f"the draws do not vary in the coordinates {constant[:8].tolist()}, or are not "
                "finite.",
                "Look for a variable without effect, or with a scale far from that of the others.",
            )
        z = (x - mean) / sd
        score: EmpiricalScore | SmoothedScore
        if self.score == "smoothed":
            score = self._smoothed(z, rng)
        else:
            chosen = rng.permutation(len(z))[: self.score_draws]
            score = EmpiricalScore(z[chosen], self.neighbours, rng)
        labels = labelled_pairs(score, self.pairs, d, rng, self.ode_steps)
        learned = train_map(labels.y, labels.x, self, rng)
        return learned.moved(mean, sd, density.period)

    def _smoothed(self, z: np.ndarray, rng: np.random.Generator) -> SmoothedScore:
        # Every eighth draw chooses how many components; a map needs no draws kept for a bridge.
        held_out = np.arange(len(z)) % 8 == 0
        covariance = np.cov(z.T).reshape(z.shape[1], -1) + 1e-9 * np.eye(z.shape[1])
        line = np.full(z.shape[1], np.inf)
        base = EllipticalMixture(
            z.mean(axis=0)[None], np.linalg.cholesky(covariance)[None], np.ones(1),
            np.array([np.inf]), line, np.zeros(z.shape[1]), "gaussian",
        )  # fmt: skip
        mixture = fit_mixture(z[~held_out], z[held_out], base, rng, self.max_components) or base
        covariances = mixture.scales @ mixture.scales.swapaxes(1, 2)
        return SmoothedScore(mixture.weights, mixture.means, covariances)


@dataclass(frozen=True)
class SupervisedMap:
    """A multilayer perceptron from standard normal noise to draws, as NumPy arrays.

    Attributes
    ----------
    layers : tuple of (matrix, vector)
        ``h -> tanh(matrix h + vector)``, the last without tanh. A single layer is an affine map.
    y_mean, y_sd, x_mean, x_sd : arrays of shape (d,)
        Standardisation of input and output.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere; output is wrapped there.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    y_mean: np.ndarray
    y_sd: np.ndarray
    x_mean: np.ndarray
    x_sd: np.ndarray
    period: np.ndarray

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Image of given noise, both of shape (n, d)."""
        h = (y - self.y_mean) / self.y_sd
        for matrix, vector in self.layers[:-1]:
            h = np.tanh(h @ matrix.T + vector)
        matrix, vector = self.layers[-1]
        x = self.x_mean + self.x_sd * (h @ matrix.T + vector)
        return unroll(x, 0.0, self.period)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped."""
        return self(rng.standard_normal((n, len(self.y_mean))))

    def moved(self, mean: np.ndarray, sd: np.ndarray, period: np.ndarray) -> SupervisedMap:
        """Follow the map by ``mean + sd x``, wrapped with the period."""
        return SupervisedMap(
            self.layers, self.y_mean, self.y_sd, mean + sd * self.x_mean, sd * self.x_sd, period
        )


class PublishedGenerator(RegionalMixture):
    """Regional maps for fast draws, regional Gaussian densities for all that must be exact.

    ``generate`` picks a region by weight and pushes normal noise through its map. Proposals and
    corrections are those of the mixture of the densities.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
    maps : sequence of SupervisedMap or None
        None where a region has no map: its draws then come from its density.
    fallbacks : tuple of Status
        Why regions have no map.

    Notes
    -----
    Step 7 of arXiv 2505.07825. A map may leave its region; nothing rejects such draws.
    """

    def __init__(
        self,
        densities: tuple,
        weights: np.ndarray,
        maps: Sequence[SupervisedMap | None],
        fallbacks: tuple[Status, ...] = (),
    ) -> None:
        super().__init__(densities, weights)
        if len(maps) != len(self.densities):
            raise ValueError(
                f"maps has {len(maps)} entries for {len(self.densities)} densities; give one "
                "each, None where there is no map."
            )
        self.maps = tuple(maps)
        self.fallbacks = tuple(fallbacks)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uncorrected draws of the maps, regions in proportion to their weights."""
        counts = rng.multinomial(n, self.weights)
        parts = [np.empty((0, self.dim))]
        for density, learned, count in zip(self.densities, self.maps, counts, strict=True):
            if learned is None:
                parts.append(RegionalMixture((density,), np.ones(1)).generate(int(count), rng))
            else:
                parts.append(learned.generate(int(count), rng))
        return np.concatenate(parts)[rng.permutation(n)]


def train_map(
    y: np.ndarray, x: np.ndarray, config: PublishedHybrid, rng: np.random.Generator
) -> SupervisedMap:
    """Regress x on y with a multilayer perceptron, by mean squared error.

    Parameters
    ----------
    y, x : arrays of shape (n, d)
        Inputs and labels.
    config : PublishedHybrid
        Its `hidden`, `learning_rate`, `train_steps`, `batch` and `device` are used.
    rng : numpy.random.Generator
        Draws the initial weights and the batches, so that torch needs no seed.

    Returns
    -------
    SupervisedMap

    Raises
    ------
    MapError
        If torch is missing or the loss does not stay finite.
    RuntimeError
        If torch refuses the device.
    """
    try:
        import torch

        from pymc_multimodal.proposals.torch_setup import device_of, one_thread
    except ImportError as error:
        raise MapError("torch could not be imported.", "Install torch.") from error
    device = device_of(config.device)
    y_mean, y_sd, x_mean, x_sd = y.mean(axis=0), y.std(axis=0), x.mean(axis=0), x.std(axis=0)
    # A pool of threads that has been started makes later forks unsafe, too.
    with one_thread():
        inputs, labels = (
            torch.tensor(part, dtype=torch.float32, device=device)
            for part in ((y - y_mean) / y_sd, (x - x_mean) / x_sd)
        )
        parameters = []
        for fan_in, fan_out in pairwise((y.shape[1], *config.hidden, x.shape[1])):
            for shape in ((fan_out, fan_in), (fan_out,)):
                # The bounds of torch.nn.Linear.
                values = rng.uniform(-1.0, 1.0, shape) / np.sqrt(fan_in)
                parameters.append(torch.tensor(values, dtype=torch.float32, device=device))
        with torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
            for _ in range(config.train_steps):
                h, target = inputs, labels
                if config.batch is not None and config.batch < len(y):
                    rows = torch.from_numpy(rng.integers(len(y), size=config.batch)).to(device)
                    h, target = inputs[rows], labels[rows]
                for i in range(0, len(parameters), 2):
                    h = torch.nn.functional.linear(h, parameters[i], parameters[i + 1])
                    h = torch.tanh(h) if i + 2 < len(parameters) else h
                loss = torch.nn.functional.mse_loss(h, target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        arrays = [p.detach().cpu().numpy().astype(float) for p in parameters]
    if not np.isfinite(loss.item()) or not all(np.isfinite(a).all() for a in arrays):
        raise MapError(
            f"the regression's loss ended at {loss.item():g}.",
            f"Lower learning_rate, now {config.learning_rate:g}.",
        )
    layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    line = np.full(x.shape[1], np.inf)
    return SupervisedMap(layers, y_mean, y_sd, x_mean, x_sd, line)


def _fallback(k: int, error: Exception) -> Status:
    cause = f"no map was trained: {error.cause if isinstance(error, MapError) else error}"
    remedy = error.remedy if isinstance(error, MapError) else "Look at device= and at the memory."
    status = Status("no_map", "generator", f"{cause.rstrip('.')}. Its uncorrected draws come "
                    "from its Gaussian density.", remedy, mode=k)  # fmt: skip
    _log.warning("region %d: %s %s", k, status.cause, status.remedy)
    return status
