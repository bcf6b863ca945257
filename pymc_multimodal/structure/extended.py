"""Several points of every unit at the same hubs, which give an unbiased marginal density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.climbs import climb_units, evaluations_of_look
from pymc_multimodal.structure.conditional import Guess, log_sum
from pymc_multimodal.structure.explanations import SAME_OPTIMUM

if TYPE_CHECKING:
    from pymc_multimodal.structure.conditional import Conditional, UnitMixtures
    from pymc_multimodal.structure.explanations import Explanations
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["Extended", "UnitProposals"]

# Numbers of an array at a time. Measured: smaller arrays, which stay in the processor's cache, are
# three times quicker than larger ones.
MAX_NUMBERS = 500_000
# Newton steps from where the slopes at an anchor lead, unless `choose_points` finds that none do as
# well. Measured: examples/benchmarks/structure.py
NEWTON_STEPS = 1
# Evaluations of each explanation that tell whether it has stayed at its anchor.
STAYED = 2


@dataclass(frozen=True, eq=False)
class Extended:
    r"""M points :math:`z_{im}` of each of N units at n values of the hubs, with their weights.

    With :math:`w_{im} = \gamma_i(z_{im}, g) / q_i(z_{im} | g)`, the mean over the points of
    :math:`h(g) \prod_i \frac1M \sum_m w_{im}` is the marginal density of the hubs (Andrieu and
    Roberts 2009, doi:10.1214/07-AOS574).

    Attributes
    ----------
    g : array of shape (n, H)
    z : array of shape (n, M, N, b)
    log_weight : array of shape (n, M, N)
    log_value : array of shape (n, M, N)
        Log density of each unit.
    log_hubs : array of shape (n,)
    conditional : Conditional
        What the points were drawn from.
    """

    g: np.ndarray
    z: np.ndarray
    log_weight: np.ndarray
    log_value: np.ndarray
    log_hubs: np.ndarray
    conditional: Conditional

    def __len__(self) -> int:
        return len(self.g)

    def beside(self, other: Extended) -> Extended:
        """Return these points and others from the same densities."""
        z, log_weight, log_value = (
            np.concatenate([getattr(own, name) for own in (self, other)], axis=1)
            for name in ("z", "log_weight", "log_value")
        )
        return replace(self, z=z, log_weight=log_weight, log_value=log_value)

    @cached_property
    def log_mean(self) -> np.ndarray:
        """Log of the mean weight of each unit, shape (n, N)."""
        out: np.ndarray = log_sum(self.log_weight, axis=1) - np.log(self.z.shape[1])
        return out

    @property
    def log_marginal(self) -> np.ndarray:
        """Log of the estimated marginal density of the hubs, shape (n,)."""
        out: np.ndarray = self.log_hubs + self.log_mean.sum(axis=1)
        return out

    @cached_property
    def share(self) -> np.ndarray:
        """Share of each point in its unit's weight, shape (n, M, N)."""
        top = np.maximum(self.log_weight.max(axis=1, keepdims=True), -1e300)
        weight = np.exp(self.log_weight - top)
        out: np.ndarray = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
        return out

    def chosen(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Choose one point of each unit by its weight.

        Returns
        -------
        z : array of shape (n, N, b)
        logp : array of shape (n,)
            Log density of the whole.
        """
        place = self.places(rng.random((len(self), 1, self.z.shape[2])))[:, 0]
        row, unit = np.indices(place.shape)
        logp = self.log_hubs + self.log_value[row, place, unit].sum(axis=1)
        return self.z[row, place, unit], logp

    def places(self, u: np.ndarray) -> np.ndarray:
        """Choose points by their weights: uniform numbers (n, m, N) to indices of points."""
        cumulative = np.cumsum(self.share, axis=1)[:, None]
        place = (u[:, :, None] * cumulative[:, :, -1:] >= cumulative).sum(axis=2)
        out: np.ndarray = np.minimum(place, self.z.shape[1] - 1)
        return out

    @cached_property
    def log_normals(self) -> np.ndarray:
        """Logs of the explanations' normal approximations at the points, shape (K, n, M, N)."""
        return self.conditional.log_normals(self.z)

    @cached_property
    def label(self) -> np.ndarray:
        """Explanation of each point, shape (n, M, N): that of the largest normal approximation."""
        out: np.ndarray = np.argmax(self.log_normals, axis=0)
        return out

    def mass(self, label: np.ndarray | None = None) -> np.ndarray:
        """Share of each explanation in its unit's weight, (n, N, K), by `label` or other labels."""
        label, share = self.label if label is None else label, self.share
        k = len(self.log_normals)
        return np.stack([np.sum(share, axis=1, where=label == j) for j in range(k)], axis=2)

    def doubt(self, group: np.ndarray | None) -> np.ndarray:
        """Share of each unit's weight of which the explanation is not clear, shape (n, N).

        It is the mean of `doubts`, which has the parameters.
        """
        out: np.ndarray = (self.share * self.doubts(group)).sum(axis=1)
        return out

    def doubts(self, group: np.ndarray | None) -> np.ndarray:
        """Probability of all explanations but the most probable one at each point, (n, M, N).

        Parameters
        ----------
        group : array of int, shape (N, K), or None
            As in `Explanations`.
        """
        parts = self.log_normals
        p = np.exp(parts - np.maximum(parts.max(axis=0), -1e300))
        total = np.maximum(p.sum(axis=0), 1e-300)
        if group is not None:
            k = range(len(p))
            p = np.stack([sum(p[i] * (group[:, i] == j) for i in k) for j in k])
        out: np.ndarray = 1.0 - p.max(axis=0) / total
        return out


@dataclass(frozen=True, eq=False)
class UnitProposals:
    """Proposals of all units at given hubs.

    Attributes
    ----------
    units : Units
    mixtures : UnitMixtures
    spread : array of shape (N, b)
        Unit of length of the units' coordinates.
    points : int
        Points M of each unit.
    steps : int
        Newton steps from where the slopes at an anchor lead.
    """

    units: Units
    mixtures: UnitMixtures
    spread: np.ndarray
    points: int
    steps: int = NEWTON_STEPS

    @property
    def rows(self) -> int:
        """Number of hubs that are treated at a time."""
        n, b = self.mixtures.inside.shape
        parts = n * (self.mixtures.n_densities + 4 * b)
        return max(1, int(MAX_NUMBERS // (self.points * parts)))

    @property
    def evaluations(self) -> int:
        """Number of evaluations for each of the hubs beside those of the points."""
        b = self.mixtures.inside.shape[1]
        if not self.units.n_hubs or not self.steps:
            return 0
        looks = (self.steps + 1) * evaluations_of_look(b) + STAYED
        return looks * self.mixtures.n_explanations

    def with_anchors(self, anchors: Explanations) -> UnitProposals:
        """Return proposals with other anchors, whose explanations have no parts yet."""
        return replace(self, mixtures=replace(self.mixtures, anchors=anchors, parts=None))

    def draw(
        self,
        density: Density,
        g: np.ndarray,
        rng: np.random.Generator,
        given: np.ndarray | None = None,
    ) -> Extended:
        """Draw and evaluate points of all units.

        Parameters
        ----------
        density : Density
        g : array of shape (n, H)
        rng : numpy.random.Generator
        given : array of shape (p, N, b), optional
            One of the points of each unit at the first p hubs.

        Returns
        -------
        Extended
        """
        return self.draw_around(density, g, self.explained(density, g), rng, given)

    def draw_around(
        self,
        density: Density,
        g: np.ndarray,
        guess: Guess,
        rng: np.random.Generator,
        given: np.ndarray | None = None,
    ) -> Extended:
        """Draw and evaluate points of all units around explanations that are known, as `draw`."""
        units, m = self.units, self.points
        conditional = self.conditional(guess)
        z = conditional.sample(m, rng, given)
        x = units.scatter(np.repeat(g, m, axis=0), z.reshape(-1, *z.shape[2:]))
        terms = density.terms(x)
        value = units.by_unit(terms).reshape(z.shape[:3])
        weight = value - log_sum(conditional.log_parts(z))
        hubs = units.of_hubs(terms).reshape(len(g), m)[:, 0]
        weight[np.isnan(weight)] = -np.inf
        return Extended(g, z, weight, value, hubs, conditional)

    def conditional(self, guess: Guess) -> Conditional:
        """Return the mixtures with given explanations."""
        return self.mixtures.conditional(guess, self.points)

    def _nearer(self, density: Density, g: np.ndarray, guess: Guess) -> Guess:
        """Leave explanations at their anchor where the density is larger than where expected.

        The slope of one that has just parted from another leads astray.
        """
        n, n_units, k, b = guess.mean.shape
        at_anchor = self.mixtures.at_anchor(g)
        both = np.stack([guess.mean, at_anchor]).transpose(1, 0, 3, 2, 4)
        x = self.units.scatter(np.repeat(g, 2 * k, axis=0), both.reshape(-1, n_units, b))
        value = self.units.by_unit(density.terms(x)).reshape(n, 2, k, n_units).swapaxes(2, 3)
        stay = value[:, 1] > value[:, 0]
        return replace(guess, mean=np.where(stay[..., None], at_anchor, guess.mean))

    def explained(self, density: Density, g: np.ndarray) -> Guess:
        """Return the explanations at hubs: those at an anchor, followed by Newton steps."""
        guess = self.mixtures.at(g)
        n, n_units, k, b = guess.mean.shape
        if not g.shape[1] or not self.steps:
            return guess
        guess = self._nearer(density, g, guess)
        rows, begun = (n * k, n_units, b), guess.mean.swapaxes(1, 2)
        width = np.linalg.norm(guess.scale, axis=-1).swapaxes(1, 2)
        ends = climb_units(
            density,
            self.units,
            np.repeat(g, k, axis=0),
            begun.reshape(rows),
            self.spread,
            self.steps,
            width.reshape(rows),
        )
        mean = ends.z.reshape(begun.shape).swapaxes(1, 2)
        scale = ends.scale.reshape(n, k, n_units, b, b).swapaxes(1, 2)
        log_mass = ends.log_mass.reshape(n, k, n_units).swapaxes(1, 2)
        there = np.isfinite(guess.log_mass) & np.isfinite(log_mass)
        for j in range(1, k):
            for i in range(j):
                step = (mean[:, :, j] - mean[:, :, i]) / np.linalg.norm(scale[:, :, i], axis=-1)
                there[:, :, j] &= ~there[:, :, i] | ((step**2).sum(axis=-1) > SAME_OPTIMUM)
        # One that was lost on the way stays where it was expected, with its share at the anchor.
        known = np.isfinite(guess.log_mass)
        with np.errstate(invalid="ignore"):
            relative = guess.log_mass - guess.log_mass.max(axis=2, keepdims=True)
        top = np.where(there, log_mass, -np.inf).max(axis=2, keepdims=True)
        expected = np.where(known, np.where(np.isfinite(top), top, 0.0) + relative, -np.inf)
        return Guess(
            np.where(there[..., None], mean, guess.mean),
            np.where(there[..., None, None], scale, guess.scale),
            np.where(there, log_mass, expected),
        )
