"""The generator that learns a score: from stored draws alone, and inside a fit."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.families import RegionalFamilies
from pymc_multimodal.proposals.score.generator import ScoreGenerator
from pymc_multimodal.proposals.score.langevin_paths import LangevinPath
from pymc_multimodal.proposals.score.learn import LearningData, learn_score
from pymc_multimodal.proposals.score.path_proposals import ScoreProposals
from pymc_multimodal.proposals.score.pooled import pool_draws
from pymc_multimodal.proposals.score.settings import ScoreSettings
from pymc_multimodal.proposals.score.stored import read_draws
from pymc_multimodal.status import FitError, Status
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.proposals.score.pooled import PooledDraws
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["ScoreLangevin"]

_log = logging.getLogger("pymc.multimodal")

# Fewest held-out draws. Conventional: means over them need a standard error.
MIN_HELD_OUT_DRAWS = 4
# Draws at which a score that was given is tried.
SCORE_TRIAL_DRAWS = 8
# Lengths of paths, in relaxation times of a Gaussian mode, and rates at which the start is
# forgotten that are tried. Measured: examples/benchmarks/constants.py.
PATH_TIMES, PATH_RATES = (0.1, 0.3), (1.0, 4.0)
# Gain in expected acceptance from which paths are used. Measured:
# examples/benchmarks/constants.py.
MIN_ACCEPTANCE_GAIN = 0.02


@dataclass(frozen=True)
class ScoreLangevin(ScoreSettings):
    """Vanilla score matching with data-based initialisation.

    The score of the draws is learned by score matching, as that of a Gaussian mixture plus a
    small network. Langevin dynamics is run from the draws themselves and stopped early: modes keep
    the weights of the draws, and the run refreshes the draws within modes. Use it on stored draws
    by `from_draws`, without any density, or as ``generator=`` of a fit, where corrected draws are
    exact.

    Parameters
    ----------
    objective : {"implicit", "denoising", "exact"}
        Vanilla (implicit) score matching; denoising score matching, whose score is that of the
        draws with noise; or the model's own score.
    trace : {"auto", "exact", "hutchinson"}
        The divergence in the implicit objective. The network's has a closed form that costs no
        more in high dimension, which "auto" takes; "hutchinson" estimates it.
    noise_sd : float
        Standard deviation of the noise of the denoising objective, in those of a mode.
    max_components : int
        Most components of the mixture of all draws.
    width : int
        Width of the network's two hidden layers.
    training_steps : int
        Steps of Adam; 0 leaves the network out. Training ends early where held-out draws gain
        nothing.
    batch_size : int
        Draws in each step.
    learning_rate : float
        Largest step of Adam.
    step_size : float, optional
        Step of the Langevin run, in units in which a Gaussian mode has covariance one and
        forgets its start as ``exp(-t)``. By default chosen by the score's curvature.
    stop_time : float, optional
        Length of the run in the same units. By default chosen as the time at which held-out draws
        find the start forgotten.
    integrator : {"averaged", "euler"}
        Noise averaged over two steps, or the plain scheme of the paper, whose spread is too wide
        for any step.
    min_overlap : float
        Overlap from which two components count as one cluster.
    path_steps : int
        Langevin steps of the proposals inside a fit; 0 for none.
    defensive : float
        Share of proposals inside a fit that take no steps, which bounds their log ratios.
    device : str
        Where the network is trained: "cpu", "cuda", another name torch knows, or "auto":
        "cuda" where there is one and a step of the training takes 1e9 floating-point operations.
        `generate` draws there if the run of a cluster takes 1e10 or more, and with NumPy otherwise.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is out of range, or if `stop_time` is shorter than `step_size`.

    Notes
    -----
    Koehler and Vuong (2023), arXiv 2310.01762. The mixture, the network's early stopping and
    the averaged noise are additions; the plain scheme is ``integrator="euler"``.
    """

    @classmethod
    def from_draws(
        cls,
        draws: Any,
        *,
        config: ScoreLangevin | None = None,
        var_names: Sequence[str] | None = None,
        transforms: Mapping[str, str] | None = None,
        score: Callable[[np.ndarray], np.ndarray] | None = None,
        previous: ScoreGenerator | None = None,
        random_seed: int | np.random.Generator | None = None,
    ) -> ScoreGenerator:
        """Learn from stored draws alone.

        Parameters
        ----------
        draws : InferenceData, DataTree, Dataset, mapping or array
            A posterior, a mapping of arrays of shape (n, ...), or an array of shape (n, d) or
            (chains, draws, d).
        config : ScoreLangevin, optional
        var_names : sequence of str, optional
            Variables to learn; by default all.
        transforms : mapping, optional
            "log" for positive variables and "logit" for those between 0 and 1: they are learned
            on the whole line, so that generated draws stay within their bounds.
        score : callable, optional
            ``(n, d) -> (n, d)``: the exact score, for ``objective="exact"``.
        previous : ScoreGenerator, optional
            Fitted to draws of a similar posterior, such as that before data were updated. The fit
            starts from what it learned where held-out draws prefer that to a new mixture.
        random_seed : int or numpy.random.Generator, optional

        Returns
        -------
        ScoreGenerator

        Raises
        ------
        TypeError, ValueError
            If the draws cannot be read, hold NaN, are all equal or too few.
        FitError
            If a step size that was given makes the run diverge.
        """
        config = cls() if config is None else config
        checks.kind("from_draws", "config", config, ScoreLangevin)
        if previous is not None and not isinstance(previous, ScoreGenerator):
            raise TypeError(
                f"from_draws(previous={previous!r}) must be what an earlier from_draws() returned."
            )
        if (score is not None) != (config.objective == "exact"):
            raise ValueError(
                f"objective={config.objective!r} with score={score!r}: stored draws have no exact "
                "score, so give score= with objective='exact' and only then."
            )
        if score is not None and transforms:
            raise ValueError(
                f"from_draws(transforms={dict(transforms)!r}, score=...): score= is the gradient "
                "with respect to the draws as they are given, not as they are transformed. Leave "
                "transforms= out, and give transformed draws with their score."
            )
        rng = checks.generator("from_draws", "random_seed", random_seed)
        stored = read_draws(draws, var_names, transforms)
        if score is not None:
            _check_score(score, stored.x[:SCORE_TRIAL_DRAWS])
        held_out = stored.held_out(rng)
        if held_out.sum() < MIN_HELD_OUT_DRAWS:
            raise ValueError(
                f"from_draws(draws=...): {int(held_out.sum())} draws are left to test what is "
                f"learned from the others, and {MIN_HELD_OUT_DRAWS} are needed. Sample more."
            )
        data = LearningData(stored, held_out, score=score, previous=previous)
        with threadpool_limits(1, user_api="blas"):
            generator = learn_score(config, data, rng)
        for status in generator.statuses:
            if status.level == "warning":
                _log.warning("%s", status)
        return generator

    @property
    def regional(self) -> RegionalFamilies:
        """Fit of the elliptical densities that bridge the weights and start the proposals."""
        return RegionalFamilies(families=("gaussian", "mixture"))

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> ScoreProposals:
        """Learn the score of the weighted draws and make proposals of it.

        With ``objective="exact"`` the network is regressed on the gradients that the chains
        computed, so that no density is needed later.
        """
        if density is not None and is_circular(density.period).any():
            status = Status(
                "circular", "proposals", "the score is not learned on circular coordinates: "
                "proposals are those of the regional mixture.", "Use generator='hybrid'.",
            )  # fmt: skip
            return ScoreProposals(fitted.densities, weights, fallbacks=(status,))
        # After a limit no network is trained any more.
        late = density is not None and density.exhausted()
        settings = replace(self, training_steps=0) if late else self
        pooled = pool_draws(fitted, local, weights, rng)
        data = LearningData(
            pooled.stored, pooled.held_out, mixture=pooled.mixture,
            gradient=pooled.gradient if self.objective == "exact" else None,
        )  # fmt: skip
        try:
            with threadpool_limits(1, user_api="blas"):
                generator = learn_score(settings, data, rng)
                return _choose_paths(fitted.densities, weights, generator, pooled, rng)
        except (FitError, np.linalg.LinAlgError, RuntimeError, ValueError) as error:
            _log.debug("no score was learned", exc_info=True)
            status = Status(
                "score", "proposals", f"no score was learned: {error}",
                "Proposals are those of the regional mixture.",
            )  # fmt: skip
            return ScoreProposals(fitted.densities, weights, fallbacks=(status,))


def _check_score(score: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> None:
    """Raise ValueError unless a score gives finite rows of the right length."""
    values = np.asarray(score(x))
    if values.shape != x.shape or not np.isfinite(values).all():
        raise ValueError(
            f"score= gave an array of shape {values.shape} at {len(x)} draws, or NaN: it has to "
            f"give finite rows of {x.shape[1]} numbers."
        )


def _choose_paths(
    densities: tuple[RegionDensity, ...],
    weights: np.ndarray,
    generator: ScoreGenerator,
    pooled: PooledDraws,
    rng: np.random.Generator,
) -> ScoreProposals:
    """Choose the paths, or none, whose jumps held-out draws expect to be accepted most."""
    settings = generator.config
    statuses = tuple(s for s in generator.statuses if s.stage != "draws")

    def proposals(path: LangevinPath | None, *found: Status) -> ScoreProposals:
        return ScoreProposals(
            densities, weights, path, settings.defensive, uncorrected=generator,
            fallbacks=(*statuses, *found),
        )  # fmt: skip

    def acceptance(path: LangevinPath | None) -> float:
        return expected_acceptance(
            pooled.test_logp + proposals(path).minus_log_q(pooled.test_x, rng)
        )

    if not settings.path_steps:
        return proposals(None)
    cores = [q.undefended for q in densities if isinstance(q.undefended, EllipticalMixture)]
    starts = [q for q in densities if isinstance(q, EllipticalMixture)]
    assert len(cores) == len(starts) == len(densities)
    best, without = None, acceptance(None)
    accepted = without + MIN_ACCEPTANCE_GAIN
    inverse = generator.coordinates.inverse
    factors = np.stack(
        [np.linalg.cholesky(inverse @ q.gaussian.moments()[1] @ inverse.T) for q in cores]
    )
    for time in PATH_TIMES:
        for rate in PATH_RATES:
            path = LangevinPath(
                generator.learned, generator.coordinates, tuple(starts), factors,
                time / settings.path_steps, rate, settings.path_steps,
            )  # fmt: skip
            if (value := acceptance(path)) > accepted:
                best, accepted = path, value
    where = "are Langevin paths" if best else "start and end in the regional mixture"
    status = Status(
        "paths", "proposals", f"corrected proposals {where}: held-out draws expect jumps to be "
        f"accepted with probability {accepted if best else without:.2f}, {without:.2f} without "
        "paths.", level="info",
    )  # fmt: skip
    return proposals(best, status)
