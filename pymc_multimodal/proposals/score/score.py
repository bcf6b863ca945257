"""Langevin dynamics from stored draws with a learned score."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.util import find_spec
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal._compat import ess
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.families import RegionalFamilies
from pymc_multimodal.proposals.score.langevin import Curve, sharpness, watch
from pymc_multimodal.proposals.score.langevin_paths import ScoreProposals, pooled
from pymc_multimodal.proposals.score.overlap import MIN_OVERLAP, analyse, covariance
from pymc_multimodal.proposals.score.parts import find_parts, make_frame
from pymc_multimodal.proposals.score.score_function import LearnedScore
from pymc_multimodal.proposals.score.score_generator import ExactScore, ScoreGenerator
from pymc_multimodal.proposals.score.stored import read_draws
from pymc_multimodal.status import FitError, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.proposals.score.overlap import Components
    from pymc_multimodal.proposals.score.score_function import Frame, GaussianParts
    from pymc_multimodal.proposals.score.stored import Stored
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["ScoreLangevin"]

_log = logging.getLogger("pymc.multimodal")

_CHOICES = {
    "objective": ("implicit", "denoising", "exact"),
    "trace": ("auto", "exact", "hutchinson"),
    "integrator": ("averaged", "euler"),
}
# Largest draws of a trial run, and times at which it is looked at.
MAX_TRIAL, LOOKS = 1000, 12
# Numbers that the metrics of a trial run's draws may take.
MAX_NUMBERS = 2e7
# Longest trial, in relaxation times of a Gaussian mode and in steps.
LONGEST, MAX_STEPS = 30.0, 1000
# Curvature times step of a step size that is chosen, and of one that is too large.
SAFE, LARGE, UNSTABLE = 0.4, 1.0, 2.0
# Stands where no trial has been run yet.
_NONE = np.empty(0)
_UNSEEN = Curve(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, 0.0)


@dataclass(frozen=True)
class ScoreLangevin:
    """Vanilla score matching with data-based initialisation.

    The score of the draws is learned by score matching, as that of a Gaussian mixture plus a
    small network, and Langevin dynamics is run from the draws themselves and stopped early:
    modes keep the weights of the draws, and the run refreshes them within modes. Use it on
    stored draws by `from_draws`, without any density, or as ``generator=`` of a fit, where
    corrected draws are exact.

    Parameters
    ----------
    objective : {"implicit", "denoising", "exact"}
        Vanilla (implicit) score matching; denoising score matching, whose score is that of the
        draws with noise; or the model's own score.
    trace : {"auto", "exact", "hutchinson"}
        The divergence in the implicit objective. The network's has a closed form that costs no
        more in high dimension, which "auto" takes; "hutchinson" estimates it.
    noise : float
        Noise of the denoising objective, in standard deviations of a mode.
    max_components : int
        Most components of the mixture of all draws.
    width : int
        Width of the network's two hidden layers.
    steps, batch : int
        Steps of Adam, and draws in each; training ends early where held-out draws gain nothing.
    learning_rate : float
    step_size, stop : float, optional
        Of the Langevin run, both in units in which a Gaussian mode has covariance one and
        forgets its start as ``exp(-t)``. By default chosen: the step by the score's curvature,
        the time by how soon held-out draws see the start forgotten.
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
        Where the network is trained: "cpu", "cuda", another name torch knows, or "auto".

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Koehler and Vuong (2023), arXiv 2310.01762. The mixture, the network's early stopping and
    the averaged noise are additions; the plain scheme is ``integrator="euler"``.
    """

    objective: str = "implicit"
    trace: str = "auto"
    noise: float = 0.1
    max_components: int = 40
    width: int = 64
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 3e-3
    step_size: float | None = None
    stop: float | None = None
    integrator: str = "averaged"
    min_overlap: float = MIN_OVERLAP
    path_steps: int = 6
    defensive: float = 0.1
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"ScoreLangevin({name}={getattr(self, name)!r}): choose from {choices}."
                )
        for name, least in (("max_components", 1), ("width", 1), ("steps", 0), ("batch", 2),
                            ("path_steps", 0)):  # fmt: skip
            checks.count("ScoreLangevin", name, getattr(self, name), least)
        for name, high in (("noise", np.inf), ("learning_rate", np.inf), ("step_size", np.inf),
                           ("stop", np.inf), ("min_overlap", 1.0), ("defensive", 1.0)):  # fmt: skip
            value = getattr(self, name)
            if value is None and name in ("step_size", "stop"):
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"ScoreLangevin({name}={value!r}) must be a number.")
            if not 0 < float(value) < high:
                raise ValueError(
                    f"ScoreLangevin({name}={value}) must lie between 0 and {high:g}, both excluded."
                )
        check_device("ScoreLangevin", "device", self.device)
        if self.stop is not None and self.step_size is not None and self.stop < self.step_size:
            raise ValueError(
                f"ScoreLangevin(stop={self.stop}, step_size={self.step_size}): the run would be "
                "shorter than a step."
            )

    # ------------------------------------------------------------------ without a density

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
            Fitted to draws of a similar posterior, such as that before data were updated: what
            it learned is the start, where held-out draws find that better than a new one.
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
        if not isinstance(config, ScoreLangevin):
            raise TypeError(f"config={config!r} must be a ScoreLangevin(...).")
        if previous is not None and not isinstance(previous, ScoreGenerator):
            raise TypeError(f"previous={previous!r} must be what from_draws() returned.")
        if (score is not None) != (config.objective == "exact"):
            raise ValueError(
                f"objective={config.objective!r} with score={score!r}: stored draws have no exact "
                "score, so give score= with objective='exact' and only then."
            )
        if score is not None and transforms:
            raise ValueError("transforms and score= do not go together: the score is of the draws.")
        rng = np.random.default_rng(random_seed)
        stored = read_draws(draws, var_names, transforms)
        if score is not None:
            some = np.asarray(score(stored.x[:8]))
            if some.shape != stored.x[:8].shape or not np.isfinite(some).all():
                raise ValueError(
                    f"score= gave an array of shape {some.shape} at {len(stored.x[:8])} draws, or "
                    f"NaN: it has to give finite rows of {stored.x.shape[1]} numbers."
                )
        mask = stored.held_out(rng)
        if mask.sum() < 4:
            raise ValueError("draws leave too few distinct rows to hold out; sample more.")
        with threadpool_limits(1, user_api="blas"):
            fitted = config._learn(stored, mask, rng, exact=score, previous=previous)
        for status in fitted.statuses:
            if status.level == "warning":
                _log.warning("%s", status)
        return fitted

    def _learn(
        self,
        stored: Stored,
        mask: np.ndarray,
        rng: np.random.Generator,
        *,
        exact: Callable[[np.ndarray], np.ndarray] | None = None,
        previous: ScoreGenerator | None = None,
        parts: GaussianParts | None = None,
        gradient: np.ndarray | None = None,
    ) -> ScoreGenerator:
        """Fit everything; rows of `mask` are held out, `parts` are in the draws' coordinates."""
        train, held_out = stored.x[~mask], stored.x[mask]
        if parts is None:
            frame, parts, dropped = find_parts(train, held_out, self.max_components, rng)
        else:
            frame, parts, dropped = make_frame(train, parts)
        statuses = [*stored.statuses, *dropped]
        z, other = frame.to_z(train), frame.to_z(held_out)
        learned = _best_start(LearnedScore(parts), frame, other, previous, statuses)
        slope = None if gradient is None else gradient[~mask] @ frame.basis
        if exact is None:
            learned = self._train(learned, z, other, slope, rng, statuses)
        components = _from_draws(analyse(learned.parts, rng, min_overlap=self.min_overlap),
                                 learned.parts, frame, stored)  # fmt: skip
        factors = np.stack(
            [
                np.linalg.cholesky(covariance(learned.parts, components.cluster == c))
                for c in range(len(components))
            ]
        )
        score = learned if exact is None else ExactScore(exact, frame)
        fitted = ScoreGenerator(
            config=self, stored=stored, frame=frame, learned=score, parts=learned.parts,
            factors=factors, components=components, curve=_UNSEEN, step_size=0.0,
            objective=float(np.mean(learned.objective(other))) if exact is None else np.nan,
            statuses=tuple(statuses),
        )  # fmt: skip
        return self._plan(fitted, z, other, rng)

    def _train(
        self,
        learned: LearnedScore,
        z: np.ndarray,
        held_out: np.ndarray,
        slope: np.ndarray | None,
        rng: np.random.Generator,
        statuses: list[Status],
    ) -> LearnedScore:
        if self.objective == "exact" and slope is None:
            statuses.append(
                Status("score", "generator", "objective='exact' needs gradients, which this model "
                       "does not have: the score is that of a Gaussian mixture alone.",
                       "Use objective='implicit' or 'denoising'.")
            )  # fmt: skip
            return learned
        if not self.steps:
            return learned
        if find_spec("torch") is None:
            statuses.append(
                Status("no_torch", "generator", "torch is not installed: the score is that of "
                       "a Gaussian mixture alone.", "Install torch.")
            )  # fmt: skip
            return learned
        from pymc_multimodal.proposals.score.score_training import train_score

        return train_score(learned.parts, z, held_out, self, rng, slope, learned.network)

    def _plan(
        self, fitted: ScoreGenerator, z: np.ndarray, held_out: np.ndarray, rng: np.random.Generator
    ) -> ScoreGenerator:
        """Choose the step size and the stopping time by a trial run from the training draws."""
        # A matrix for each of them: in many dimensions fewer.
        most = max(100, min(MAX_TRIAL, int(MAX_NUMBERS / z.shape[1] ** 2)))
        some = z[rng.permutation(len(z))[:most]]
        metric = fitted.factors[fitted.label_z(some)]
        sharp = sharpness(fitted.learned, some[:300], metric[:300], rng)
        step = self.step_size or min(SAFE, SAFE / sharp)
        statuses = list(fitted.statuses)
        if step * sharp > LARGE:
            cause = (
                f"step_size={step:.3g} is too large: the score's curvature is {sharp:.3g}, and "
                f"steps from {UNSTABLE / sharp:.3g} on diverge."
            )
            remedy = f"Use {SAFE / sharp:.2g} or less, or leave it to be chosen."
            if step * sharp > UNSTABLE:
                raise FitError(f"{cause} {remedy}")
            statuses.append(Status("step_size", "generator", cause, remedy))
        if self.stop is None:
            last = max(2, round(min(LONGEST, MAX_STEPS * step) / step))
        elif self.step_size is None:
            # The step fits the time asked for, and not the other way about.
            last = max(2, int(np.ceil(self.stop / step - 1e-9)))
            step = self.stop / last
        else:
            last = max(1, round(self.stop / step))
        marks = [0, *np.unique(np.geomspace(1, last, LOOKS).round().astype(int))]
        curve = watch(
            fitted.learned, some, held_out, metric, fitted.label_z, step, marks, rng,
            averaged=self.integrator == "averaged",
            stop=None if self.stop is None else step * last,
        )  # fmt: skip
        if len(curve.time) < len(marks):
            raise FitError(
                f"the Langevin run left the draws for good after time {curve.time[-1]:.3g} with "
                f"step_size={step:.3g}. Use a smaller one, or more draws."
            )
        fitted = replace(fitted, curve=curve, step_size=float(step))
        return replace(fitted, statuses=(*statuses, *fitted.judge()))

    # ------------------------------------------------------------------ inside a fit

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
        start = tuple(fitted.densities)
        if density is not None and np.isfinite(density.period).any():
            status = Status(
                "circular", "generator", "the score is not learned on circular coordinates: "
                "proposals are those of the regional mixture.", "Use generator='hybrid'.",
            )  # fmt: skip
            return ScoreProposals(start, weights, fallbacks=(status,))
        # After a limit no network is trained any more.
        late = density is not None and density.exhausted()
        config = replace(self, steps=0) if late else self
        data = pooled(fitted, local, weights, rng)
        gradient = data.gradient if self.objective == "exact" else None
        try:
            with threadpool_limits(1, user_api="blas"):
                learned = config._learn(data.stored, data.held_out, rng, parts=data.parts,
                                        gradient=gradient)  # fmt: skip
                return ScoreProposals.best(start, weights, learned, data, rng)
        except (FitError, np.linalg.LinAlgError, RuntimeError, ValueError) as error:
            status = Status(
                "score", "generator", f"no score was learned: {error}",
                "Proposals are those of the regional mixture.",
            )  # fmt: skip
            return ScoreProposals(start, weights, fallbacks=(status,))


def _best_start(
    new: LearnedScore,
    frame: Frame,
    held_out: np.ndarray,
    previous: ScoreGenerator | None,
    statuses: list[Status],
) -> LearnedScore:
    """Choose the new mixture or what was learned before, whichever held-out draws prefer."""
    if previous is None:
        return new
    old = previous.learned
    if not isinstance(old, LearnedScore) or previous.frame.basis.shape != frame.basis.shape:
        statuses.append(
            Status("previous", "generator", "previous= was not used: it has other coordinates, "
                   "or no learned score.", "", level="info")
        )  # fmt: skip
        return new
    # Taken over as it stands, or moved and scaled along with the draws.
    mean = previous.frame.inverse @ (frame.centre - previous.frame.centre)
    moved = old.moved(mean, previous.frame.inverse @ frame.basis)
    candidates = {"a new mixture": new, "the previous score": moved, "the previous shape": old}
    values = {name: float(np.mean(c.objective(held_out))) for name, c in candidates.items()}
    best = min(values, key=values.__getitem__)
    statuses.append(
        Status("previous", "generator", f"held-out draws preferred {best} as the start.",
               level="info")
    )  # fmt: skip
    return candidates[best]


def _from_draws(
    found: Components, parts: GaussianParts, frame: Frame, stored: Stored
) -> Components:
    """Weights and places of the clusters as the stored draws have them, with sampling errors."""
    label = found.cluster[parts.label(frame.to_z(stored.x))]
    n, c = len(label), len(found)
    weights = np.bincount(label, minlength=c) / n
    effective = np.full(c, float(n))
    if stored.chains:
        each = (label[:, None] == np.arange(c)).astype(float)
        known = ess(each.reshape(stored.chains, -1, c), method="mean")
        effective = np.where(np.isfinite(known), np.minimum(known, n), n)
    locations = np.stack(
        [
            stored.x[label == k].mean(axis=0) if (label == k).any() else frame.to_x(m[None])[0]
            for k, m in enumerate(found.locations)
        ]
    )
    error = np.sqrt(weights * (1 - weights) / effective)
    return replace(found, weights=weights, weights_se=error, locations=locations)
