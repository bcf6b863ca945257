"""The search for modes: multi-start optimisation, merging, and what the search may have missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.curvature import barriers, negative_hessian
from pymc_multimodal.search.modes import Modes
from pymc_multimodal.search.optima import OptimumSet
from pymc_multimodal.search.optimise import climb, climb_by_differences, climb_without_gradient
from pymc_multimodal.search.settings import ModeSearch
from pymc_multimodal.search.starts import Starts
from pymc_multimodal.search.symmetries import check_symmetry, find_symmetry
from pymc_multimodal.status import Status
from pymc_multimodal.target.errors import same_density
from pymc_multimodal.target.group import Symmetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.target.density import Density

__all__ = ["ModeFinder", "ModeSearch", "Modes"]

# Saddles that a search leaves on both sides at most; later ones are just not modes.
MAX_ESCAPES = 24
# Dimensions up to which Powell's method costs little more than differences do.
POWELL_DIM = 10
# Starts that every mode is to be found by, or 2 when there were plenty: where there are basins
# that one start in fifty falls into, there may be others that one in a few hundred does.
HITS, PLENTY = 10, 1024
# Fewest starts, as long as they cost no more evaluations than a small part of a fit.
LEAST, CHEAP = 512, 20_000
# Climbs by differences, which are dear, that tell the others of the modes' curvature.
SCOUTS = 4


class ModeFinder:
    """Searches for the modes of a density, and can go on from points found later.

    Parameters
    ----------
    density : Density
    config : ModeSearch
    rng : numpy.random.Generator
    symmetry : Symmetry or bool
        Group whose orbits count as one mode each; True looks for one after the first batch.

    Raises
    ------
    ModelError
        If there is nothing to start from.
    """

    def __init__(
        self,
        density: Density,
        config: ModeSearch,
        rng: np.random.Generator,
        symmetry: Symmetry | bool = False,
    ) -> None:
        self.density, self.config = density, config
        self.symmetry: Symmetry | None = None
        self._wanted = symmetry
        # Whether an optimum was met whose image has another density.
        self.broken = False
        self._sought = False
        self.starts = Starts(density, config, rng)
        self.spread = self.starts.spread
        self.atlas = OptimumSet(self.spread)
        self.n_starts = self.n_unfinished = self.n_runaway = 0
        self.n_flat = self.n_escapes = self.n_negligible = 0
        self.points: list[np.ndarray] = []
        self.point_optima: list[np.ndarray] = []
        self.begun: list[np.ndarray] = []
        self.optima: list[np.ndarray] = []
        # Highest known pass between pairs of optima, as log density.
        self.saddles: dict[tuple[int, int], float] = {}

    def search(self, proceed: Callable[[], bool] = lambda: True) -> Modes:
        """Optimise from batches of starts until a batch brings no new mode.

        Parameters
        ----------
        proceed : callable
            Asked before each further batch; False ends the search.

        Raises
        ------
        ModelError
            If the log density is not finite at any start.
        """
        batch = self.starts.first()
        least, first = 2 * len(batch), self.density.n_logp_evals
        if self._method() == "differences" and len(batch) > SCOUTS:
            self._add(batch[:SCOUTS])
            batch = batch[SCOUTS:]
        while len(batch):
            before = len(self._summits())
            self._add(batch)
            if not self._sought and len(self.atlas.x):
                self._seek_symmetry()
            # At least two batches, and nothing new in the last.
            enough = self.n_starts >= least and len(self._summits()) <= before
            if self._method() == "lbfgs" and self.density.n_logp_evals - first < CHEAP:
                enough &= self.n_starts >= LEAST
            size = min(self.n_starts, self.config.max_starts - self.n_starts)
            often = HITS if self.n_starts < PLENTY else 2
            settled = enough and self._fewest() >= often
            if self.starts.fixed or size <= 0 or settled or not proceed():
                break
            batch = self.starts.draw(size, self.atlas.images())
        return self._result()

    def _seek_symmetry(self) -> None:
        """Look for a symmetry, or check the given one; count orbits from now on."""
        self._sought = True
        old, starts = self.atlas, np.concatenate(self.begun)
        # Which points it is tested at shall not depend on the seed of the fit.
        rng = np.random.default_rng(0)
        if self._wanted is False:
            return
        if isinstance(self._wanted, Symmetry):
            check_symmetry(self._wanted, self.density, starts)
            self.symmetry = self._wanted
        else:
            self.symmetry = find_symmetry(self.density, old.x, old.logp, starts, self.spread, rng)
        if self.symmetry is None:
            return
        metric = self.symmetry.metric(np.diag(self.spread**-2))
        self.atlas = OptimumSet(self.spread, self.symmetry, metric)
        index = np.full(len(old.x) + 1, -1)
        for i in np.argsort(-old.logp):
            x, logp = old.x[i : i + 1], old.logp[i : i + 1]
            index[i] = self.atlas.nearest(self.density, x, logp)[0]
            if index[i] < 0:
                index[i] = self._examine(old.x[i], float(old.logp[i]), converged=True)
        self.atlas.remember(old, index)
        self.optima = [index[labels] for labels in self.optima]
        self.point_optima = [index[labels] for labels in self.point_optima]
        self.saddles = {}
        self._merge()

    def _fewest(self) -> int:
        """Count the starts that ended in the mode which the fewest ended in."""
        mode_of = self._mode_of()
        labels = mode_of[np.concatenate(self.optima)]
        hits = np.bincount(labels[labels >= 0], minlength=mode_of.max() + 1)
        return int(hits.min(initial=self.n_starts))

    def extend(self, points: np.ndarray) -> tuple[Modes, np.ndarray]:
        """Climb from points that chains have reached; they do not count as starts.

        Returns the modes, and the mode of each point, -1 for none.
        """
        labels = self._add(points, count=False)
        return self._result(), self._mode_of()[labels]

    # ---------------------------------------------------------- one batch

    def _add(self, starts: np.ndarray, count: bool = True) -> np.ndarray:
        """Optimise from a batch of starts; returns the optimum of each, -1 for none."""
        x, logp, path, path_row, converged = self._optimise(starts)
        ended = self.n_runaway, self.n_flat
        labels = self._place(x, logp, converged)
        if not count:
            self.n_runaway, self.n_flat = ended
        else:
            self.n_starts += len(starts)
            self.n_unfinished += int(np.sum(np.isneginf(logp))) * self.density.exhausted()
            self.begun.append(starts)
            self.optima.append(labels)
        self.points.append(path)
        self.point_optima.append(labels[path_row])
        self._merge()
        return labels

    def _optimise(self, starts: np.ndarray) -> tuple:
        config, density, method = self.config, self.density, self._method()
        if method in ("lbfgs", "gradient_descent") and not density.has_gradient:
            raise ValueError(
                f"optimiser={method!r} needs a gradient, which this model does not have; "
                "use 'differences', 'powell' or 'nelder_mead'."
            )
        if method in ("lbfgs", "gradient_descent"):
            memory = 10 if method == "lbfgs" else 0
            iterations = config.max_iter * (1 if memory else 10)
            return climb(density, starts, self.spread, memory=memory, max_iter=iterations)
        if method == "differences":
            return climb_by_differences(density, starts, self._root(), max_iter=config.max_iter)
        return climb_without_gradient(
            density, starts, self.spread, method=method, max_iter=config.max_iter
        )

    def _method(self) -> str:
        if self.config.optimiser is not None or self.density.has_gradient:
            return self.config.optimiser or "lbfgs"
        return "powell" if self.density.dim <= POWELL_DIM else "differences"

    def _root(self) -> np.ndarray:
        """Coordinates that make the modes known so far round, in units of the starts' spread."""
        if not len(best := self._summits()):
            return np.diag(self.spread)
        scale = self.atlas.scale[best]
        # A triangular root of the mean covariance, without squaring its condition number.
        root = np.swapaxes(np.linalg.qr(np.concatenate(scale.swapaxes(1, 2)), mode="r"), 0, 1)
        return root / np.sqrt(np.mean(np.sum(root**2, axis=1) / self.spread**2))

    def _place(self, x: np.ndarray, logp: np.ndarray, converged: np.ndarray) -> np.ndarray:
        """Assign each end point to an optimum, adding those that are new."""
        labels = self.atlas.nearest(self.density, x, logp)
        # Highest first, so that unfinished climbs are compared with the summit they approach.
        for i in np.argsort(-logp):
            if labels[i] >= 0:
                continue
            again = self.atlas.nearest(self.density, x[i : i + 1], logp[i : i + 1])[0]
            labels[i] = again if again >= 0 else self._examine(x[i], logp[i], bool(converged[i]))
        return labels

    def _examine(self, x: np.ndarray, logp: float, converged: bool, depth: int = 0) -> int:
        """Decide what an end point is: an optimum (its index) or none (-1)."""
        density, spread = self.density, self.spread
        if not np.isfinite(logp):
            return -1
        if self.symmetry is not None:
            images = np.stack(self.symmetry.generators) @ x
            self.broken |= not same_density(density.logp(images), np.full(len(images), logp))
            x = self.atlas.towards_first(x)
        hessian = negative_hessian(density, x, spread)
        scaled = hessian * np.outer(spread, spread)
        values, vectors = np.linalg.eigh(scaled)
        if np.abs(values).max() < 1e-2:
            # The density does not change over the whole spread of the starts.
            self.n_flat += 1
            return -1
        curved = values > 1e-2
        if density.has_gradient:
            gradient = density.logp_and_grad(x[None])[1][0] * spread
            along = vectors.T @ gradient
            decrement = float(np.sum(along[curved] ** 2 / values[curved]))
            saddle = values.min() < -1e-3 * max(1.0, np.abs(values).max())
            if saddle and depth < 2 and self.n_escapes < MAX_ESCAPES:
                # A saddle: leave it on both sides. Kinks and steps of a rough density look
                # like saddles wherever a climb ends, so the escapes are rationed.
                self.n_escapes += 1
                ends = [self._leave(x, spread * vectors[:, 0] * s, depth) for s in (1, -1)]
                return max(ends, key=lambda k: self.atlas.logp[k] if k >= 0 else -np.inf)
            if decrement > 1e-6 and converged:
                newton = spread * (vectors[:, curved] @ (along[curved] / values[curved]))
                better = density.wrap(x + newton)[None]
                value = density.logp(better)[0]
                if value >= logp:
                    x, logp = better[0], float(value)
            slope = float(np.linalg.norm(along[~curved])) if not curved.all() else 0.0
            if slope > 0.5 or (not converged and decrement > 1.0):
                # Still climbing, along a direction that does not curve: there is no summit.
                self.n_runaway += 1
                return -1
        if values.min() < -1e-3 * max(1.0, np.abs(values).max()) and density.has_gradient:
            return -1
        again = self.atlas.nearest(density, x[None], np.array([logp]))[0]
        return again if again >= 0 else self.atlas.add(x, logp, hessian)

    def _leave(self, x: np.ndarray, direction: np.ndarray, depth: int) -> int:
        start = self.density.wrap(x + 0.05 * direction)[None]
        end, logp, _, _, converged = climb(
            self.density, start, self.spread, max_iter=self.config.max_iter
        )
        again = self.atlas.nearest(self.density, end, logp)[0]
        if again >= 0:
            return int(again)
        return self._examine(end[0], float(logp[0]), bool(converged[0]), depth + 1)

    # ---------------------------------------------------------- merging

    def _merge(self) -> None:
        """Join optima between which the density has no barrier worth the name."""
        atlas = self.atlas
        if len(atlas.x) < 2:
            return
        near = atlas.neighbours(self.density)
        new = np.array([(i, j) for i, j in near if (i, j) not in self.saddles])
        if len(new):
            height = barriers(self.density, atlas.x, atlas.logp, atlas.scale, new)
            lower = np.minimum(atlas.logp[new[:, 0]], atlas.logp[new[:, 1]])
            self.saddles.update(
                {(int(i), int(j)): v for (i, j), v in zip(new, lower - height, strict=True)}
            )
        atlas.join(self.saddles, self.config.barrier)

    # ---------------------------------------------------------- result

    def _summits(self) -> np.ndarray:
        """Index of the highest optimum of each mode that matters, highest first."""
        group, logp = self.atlas.group, self.atlas.logp
        if not len(group):
            return np.empty(0, dtype=int)
        best = [max(np.flatnonzero(group == g), key=lambda i: logp[i]) for g in np.unique(group)]
        best = sorted(best, key=lambda i: -logp[i])
        mass = self.atlas.log_mass[best]
        # Laplace's estimate errs by nats where a mode is not Gaussian, more so in high
        # dimension: only what is out of reach of such errors is left out.
        matters = mass > mass.max() - self.config.negligible - 0.5 * self.density.dim
        self.n_negligible = int(np.sum(~matters))
        return np.array(best, dtype=int)[matters]

    def _mode_of(self) -> np.ndarray:
        """Mode of each optimum; one more entry serves the label -1."""
        mode_of = np.full(len(self.atlas.x) + 1, -1)
        for k, b in enumerate(self._summits()):
            mode_of[:-1][self.atlas.group == self.atlas.group[b]] = k
        return mode_of

    def _result(self) -> Modes:
        atlas = self.atlas
        given = self.config.locations is not None
        statuses: list[Status] = []
        if self.n_flat:
            statuses.append(
                Status("flat", "modes", f"{self.n_flat} starts ended where the density is flat.",
                       "They were not counted as modes.", level="info")
            )  # fmt: skip
        if self.n_unfinished:
            statuses.append(
                Status("unfinished", "modes",
                       f"{self.n_unfinished} of {self.n_starts} climbs were cut off by a limit of "
                       "the fit: modes may be missing.", "Raise the limit.")
            )  # fmt: skip
        if not len(atlas.x):
            return self._runaway(statuses)
        best, mode_of = self._summits(), self._mode_of()
        labels = mode_of[np.concatenate(self.optima)]
        hits = np.bincount(labels[labels >= 0], minlength=len(best))
        n, once = self.n_starts, int(np.sum(hits == 1))
        unseen = once / n
        # Poisson bound on the number of singletons; the rule of three when there are none.
        upper = min(1.0, 3.0 / n if once == 0 else (once + 2 * np.sqrt(once) + 3) / n)
        if self.n_negligible:
            statuses.append(
                Status("negligible", "modes",
                       f"{self.n_negligible} further optima hold next to no mass.",
                       "They were left out.", level="info")
            )  # fmt: skip
        if self.n_runaway:
            statuses.append(
                Status("runaway", "modes",
                       f"{self.n_runaway} of {self.n_starts} starts ran away uphill.",
                       "A hierarchical model may want its non-centred form.", level="warning")
            )  # fmt: skip
        if once and not given:
            statuses.append(
                Status("singletons", "modes",
                       f"{once} of {len(best)} modes were found by one start of {n} only, so "
                       f"about {unseen:.1%} of the starts' basins are unseen.",
                       "Raise ModeSearch.max_starts or give more starts.")
            )  # fmt: skip
        points = np.concatenate(self.points)
        point_modes = mode_of[np.concatenate(self.point_optima)]
        return Modes(
            locations=atlas.x[best],
            log_density=atlas.logp[best],
            scale=atlas.scale[best],
            hits=hits,
            optima=atlas.x[mode_of[:-1] >= 0],
            optimum_modes=mode_of[:-1][mode_of[:-1] >= 0],
            points=points,
            point_modes=point_modes,
            spread=self.spread,
            n_starts=self.n_starts,
            unseen_start_mass=float("nan") if given else unseen,
            unseen_start_mass_upper=float("nan") if given else upper,
            singletons=hits == 1,
            statuses=tuple(statuses),
        )

    def _runaway(self, statuses: list[Status]) -> Modes:
        # Prior draws are where the mass may be; the climbs' paths lead away from it.
        points = np.concatenate(self.begun)
        logp = self.density.logp(points)
        statuses.append(
            Status("runaway", "modes",
                   f"none of {self.n_starts} starts reached a proper optimum: the density grows "
                   "without end along some direction, or is flat.",
                   "Sampled from short chains as one region; a hierarchical model wants its "
                   "non-centred form.")
        )  # fmt: skip
        typical = np.argsort(-logp)[len(logp) // 2]
        return Modes(
            locations=points[typical][None],
            log_density=logp[typical][None],
            scale=np.diag(self.spread)[None],
            hits=np.array([self.n_starts]),
            optima=points[typical][None],
            optimum_modes=np.zeros(1, dtype=int),
            points=points,
            point_modes=np.zeros(len(points), dtype=int),
            spread=self.spread,
            n_starts=self.n_starts,
            unseen_start_mass=float("nan"),
            unseen_start_mass_upper=float("nan"),
            singletons=np.zeros(1, dtype=bool),
            runaway=True,
            statuses=tuple(statuses),
        )
