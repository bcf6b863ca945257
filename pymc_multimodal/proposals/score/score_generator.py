"""The fitted result: fresh draws from stored ones, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.proposals.score.langevin import run
from pymc_multimodal.status import FitError, Status

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.langevin import Curve
    from pymc_multimodal.proposals.score.overlap import Components
    from pymc_multimodal.proposals.score.score import ScoreLangevin
    from pymc_multimodal.proposals.score.score_function import Frame, GaussianParts, LearnedScore
    from pymc_multimodal.proposals.score.stored import Stored

__all__ = ["ExactScore", "ScoreGenerator"]

# Points that are run together.
CHUNK = 10_000
# p-value under which a trial run is called different from held-out draws; memory and distance to
# the nearest start beyond which its points are called copies, or smeared.
LEVEL, REMEMBERED, NEAR, FAR = 0.01, 0.15, 0.7, 1.4


@dataclass(frozen=True)
class ExactScore:
    """A given score of the draws' coordinates, in those of the frame."""

    function: Callable[[np.ndarray], np.ndarray]
    frame: Frame

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Score at each row, shape (n, r)."""
        return np.asarray(self.function(self.frame.to_x(z)), dtype=float) @ self.frame.basis


@dataclass(frozen=True, repr=False)
class ScoreGenerator:
    """Early-stopped Langevin dynamics from stored draws; made by `ScoreLangevin.from_draws`.

    Attributes
    ----------
    config : ScoreLangevin
    stored : Stored
        The draws, with the names and shapes of their variables.
    frame : Frame
        Coordinates in which the score is learned.
    learned : LearnedScore or ExactScore
    parts : GaussianParts
        The Gaussian mixture behind the component analysis.
    factors : array of shape (C, r, r)
        Preconditioner of the run in each cluster, factored.
    components : Components
        The component analysis.
    curve : Curve
        What a trial run did over time, and the stop that was chosen.
    step_size : float
    objective : float
        Held-out implicit objective: the squared score error up to a constant of the draws, in
        the frame's coordinates. NaN for a given score.
    statuses : tuple of Status
    """

    config: ScoreLangevin
    stored: Stored
    frame: Frame
    learned: LearnedScore | ExactScore
    parts: GaussianParts
    factors: np.ndarray
    components: Components
    curve: Curve
    step_size: float
    objective: float
    statuses: tuple[Status, ...]

    def __repr__(self) -> str:
        """Say in one line what was learned."""
        n, d = self.stored.x.shape
        return (
            f"<ScoreGenerator of {n} draws of {d} coordinates: {len(self.components)} clusters, "
            f"stop at {self.curve.stop:.3g}>"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return self.stored.names

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before using the draws."""
        return tuple(str(s) for s in self.statuses if s.level == "warning")

    # ------------------------------------------------------------------ draws

    def generate(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Fresh draws, each from its own run; every stored draw starts as many as any other.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator or int, optional

        Returns
        -------
        array of shape (n, d)
            On the scale that was learned on, see `to_dict`.

        Raises
        ------
        FitError
            If a run diverged.
        TypeError, ValueError
            If n is no whole number, or negative.
        """
        checks.count("generate", "n", n, 0)
        rng = np.random.default_rng(rng)
        m = len(self.stored.x)
        rounds = [rng.permutation(m) for _ in range(-(-n // m))]
        rows = np.concatenate([*rounds, np.empty(0, dtype=int)])[:n]
        out = np.empty((n, self.stored.x.shape[1]))
        for at in range(0, n, CHUNK):
            out[at : at + CHUNK] = self._refresh(self.stored.x[rows[at : at + CHUNK]], rng)
        return out

    def refresh(self, x: np.ndarray, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Run from given points instead of the stored draws, both of shape (n, d)."""
        x = np.asarray(x, dtype=float)
        if x.ndim != 2 or x.shape[1] != len(self.names) or not np.isfinite(x).all():
            raise ValueError(
                f"refresh(x=...) of shape {x.shape} holds no points: give finite ones, of shape "
                f"(n, {len(self.names)})."
            )
        return self._refresh(x, np.random.default_rng(rng))

    def _refresh(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        z = self.frame.to_z(x)
        home = self.label_z(z)
        mark = [round(self.curve.stop / self.step_size)]
        averaged = self.config.integrator == "averaged"
        for c in np.unique(home):
            inside = home == c
            [z[inside]] = run(
                self.learned, z[inside], self.factors[c], self.step_size, mark, rng,
                averaged=averaged,
            )  # fmt: skip
        if not np.isfinite(z).all():
            raise FitError(
                f"the Langevin run diverged with step_size={self.step_size:.3g}. Use a smaller "
                "one, or more draws."
            )
        return self.frame.to_x(z)

    def to_dict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of shape (n, ...) by variable, transforms undone; x has shape (n, d)."""
        return self.stored.to_dict(np.asarray(x, dtype=float))

    # ------------------------------------------------------------------ what was learned

    def score(self, x: np.ndarray) -> np.ndarray:
        """Learned score at points of shape (n, d), in their coordinates; shape (n, d)."""
        return self.learned(self.frame.to_z(np.asarray(x, dtype=float))) @ self.frame.inverse

    def score_error(self, x: np.ndarray, gradient: np.ndarray) -> float:
        r"""Squared error of the score, relative to the size of the exact one.

        .. math:: E |s - \nabla \log \mu|^2 \, / \, E |\nabla \log \mu|^2

        Parameters
        ----------
        x, gradient : arrays of shape (n, d)
            Draws that nothing was fitted to, and the exact gradients there.
        """
        exact = np.asarray(gradient, dtype=float) @ self.frame.basis
        miss = self.learned(self.frame.to_z(np.asarray(x, dtype=float))) - exact
        return float(np.sum(miss**2) / np.sum(exact**2))

    def label(self, x: np.ndarray) -> np.ndarray:
        """Cluster of each row, shape (n,), numbered as in `components`."""
        return self.label_z(self.frame.to_z(np.asarray(x, dtype=float)))

    def label_z(self, z: np.ndarray) -> np.ndarray:
        """Cluster of rows in the frame's coordinates."""
        out: np.ndarray = self.components.cluster[self.parts.label(z)]
        return out

    # ------------------------------------------------------------------ judgement

    def judge(self) -> list[Status]:
        """Say what the trial run showed."""
        curve, found = self.curve, []
        if (p := curve.at(curve.p_value)) < LEVEL:
            found.append(
                Status("shape", "generator",
                       f"the run can be told from held-out draws at its stop (p = {p:.3f}): the "
                       "learned score is not good enough.", "Store more draws.")
            )  # fmt: skip
        memory, copies = curve.at(curve.memory), curve.at(curve.copies)
        if copies > FAR:
            found.append(
                Status("smeared", "generator",
                       f"points of the run are {copies:.1f} times as far from the nearest stored "
                       "draw as fresh draws are: thin shapes, or many modes, are smeared.",
                       "Raise max_components, or store more draws.")
            )  # fmt: skip
        if memory > REMEMBERED or copies < NEAR:
            found.append(
                Status("copies", "generator",
                       f"the run stops at {curve.stop:.3g} before it forgot its start "
                       f"(correlation {memory:.2f}, distance to the nearest stored draw "
                       f"{copies:.2f} of a fresh one's): generated draws are worth not many more "
                       "than the stored ones.",
                       "Leave stop to be chosen, or store more draws, so that a longer run keeps "
                       "the shape.")
            )  # fmt: skip
        if len(self.components) == 1:
            found.append(
                Status("one_cluster", "generator",
                       "all draws lie in one cluster: whether there are modes that no draw came "
                       "from cannot be known from them.", "", level="info")
            )  # fmt: skip
        elif "mixes" in self.components.pairs(curve.stop).values():
            found.append(
                Status("mixing", "generator",
                       "some clusters mix within the run: their shares are those of the learned "
                       "score.", "See components.verdict.", level="info")
            )  # fmt: skip
        return [*found, *self._bounds()]

    def _bounds(self) -> list[Status]:
        """Variables whose draws never leave a half-line or (0, 1), and generated ones do."""
        x = self.stored.x
        made = self.generate(min(500, len(x)), np.random.default_rng(0))
        found, at = [], 0
        for name, shape in self.stored.shapes.items():
            size = int(np.prod(shape))
            old, new = x[:, at : at + size], made[:, at : at + size]
            at += size
            if name in self.stored.transforms or not size:
                continue
            positive, share = bool(np.all(old > 0)), bool(np.all((old > 0) & (old < 1)))
            outside = np.mean((new <= 0) | (new >= 1) if share else new <= 0) if positive else 0.0
            if outside:
                kind = "logit" if share else "log"
                found.append(
                    Status("bounds", "generator",
                           f"{outside:.1%} of the generated values of {name} lie beyond a bound "
                           "that its draws keep.", f"Give transforms={{{name!r}: {kind!r}}}.")
                )  # fmt: skip
        return found

    def report(self) -> str:
        """Say what is and what is not guaranteed, in plain words."""
        n, d = self.stored.x.shape
        curve, parts = self.curve, self.components
        weights = ", ".join(
            f"{w:.3f}±{e:.3f}" for w, e in zip(parts.weights, parts.weights_se, strict=True)
        )
        gap = max(
            (parts.overlap[i, j] for i in range(len(parts.cluster)) for j in range(i)
             if parts.cluster[i] != parts.cluster[j]),
            default=0.0,
        )  # fmt: skip
        bounds = ", ".join(f"{b:.3g}" for b in parts.log_sobolev)
        lines = [
            f"{n} stored draws of {d} coordinates; {len(parts)} clusters of "
            f"{len(parts.cluster)} components.",
            f"Run: {round(curve.stop / self.step_size)} steps of {self.step_size:.3g}, to time "
            f"{curve.stop:.3g}, from the draws themselves.",
            "",
            "Guaranteed: nothing beyond the stored draws. No density corrects these draws.",
            f"- The weights are those of the stored draws, {weights} (sampling error).",
            "- A mode that no stored draw came from is not generated, and not known of.",
            "",
            "Measured on held-out draws:",
            f"- energy distance {curve.at(curve.distance):.2g}, two-sample test "
            f"p = {curve.at(curve.p_value):.2f};",
            f"- correlation with the start {curve.at(curve.memory):.3f}, distance to the nearest "
            f"stored draw {curve.at(curve.copies):.2f} of that of fresh draws;",
            f"- {curve.at(curve.moved):.1%} of the points ended in another cluster than they "
            "started in.",
            "",
            "By theory, as far as the fitted components are right (arXiv 2310.01762, Theorem 2):",
            f"- log-Sobolev constant of each cluster at most {bounds}; of the whole at most "
            f"{parts.log_sobolev_all:.3g}.",
            f"- largest overlap between clusters {gap:.2g}.",
            *[f"- {line}" for line in parts.verdict(curve.stop).splitlines()],
        ]
        if warnings := self.warnings:
            lines += ["", "Warnings:", *[f"- {w}" for w in warnings]]
        return "\n".join(lines)
