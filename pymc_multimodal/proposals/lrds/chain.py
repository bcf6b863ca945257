"""The reverse chain in the coordinates of the model: its draws, and their densities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.control import draw_ends, draw_paths, log_path_density
from pymc_multimodal.proposals.on_device import draw_on

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from pymc_multimodal.proposals.lrds.affine import AffineMap
    from pymc_multimodal.proposals.lrds.control import Control
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain
    from pymc_multimodal.proposals.lrds.windows import Windows

__all__ = ["ChainDraws", "ReverseChain"]

# Numbers in the largest array of one pass over paths: 16 MB. Conventional; it bounds the memory.
CHUNK_NUMBERS = 2_000_000
# Fewest paths of one pass, whatever their memory. Conventional.
MIN_CHUNK = 64


@dataclass(frozen=True, eq=False)
class ChainDraws:
    """Draws of the reverse chain.

    Attributes
    ----------
    path : array of shape (K + 1, n, d)
        In the coordinates z, level 0 first; K = 0 where draws carry no path.
    x : array of shape (n, d)
        Ends of the paths in the coordinates of the model, circular ones wrapped.
    log_density : array of shape (n,)
        Log of ``q(y, path) / [F(path | y) r(y | x)]`` per unit of volume in x, with y the unrolled
        end, F the noising and r the law of copies. The log density of the target minus this is the
        log ratio of the draw. It is ``-inf`` outside of all windows.
    inside : bool array of shape (n,)
        Whether the end lies in a window.
    """

    path: np.ndarray
    x: np.ndarray
    log_density: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True, eq=False)
class ReverseChain:
    """The chain of a reference, with a control or without, in the coordinates of the model.

    Attributes
    ----------
    reference : ReferenceChain
    coordinates : AffineMap
        Coordinates z that the reference runs in.
    windows : Windows
        Windows on circular coordinates that the reference was made in.
    control : Control or None
        None for the reference alone.
    device : str
        Where many ends are drawn (`draw_on`).
    """

    reference: ReferenceChain
    coordinates: AffineMap
    windows: Windows
    control: Control | None = None
    device: str = "cpu"

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return len(self.windows.period)

    @property
    def auxiliary(self) -> bool:
        """Whether draws carry a path; a reference that is exact and left alone has a density."""
        return self.control is not None or not self.reference.exact

    def with_control(self, control: Control | None) -> ReverseChain:
        """Return the same chain with another control."""
        return replace(self, control=control)

    def draw(self, n: int, rng: np.random.Generator) -> ChainDraws:
        """Draw n paths."""
        path, log_q = self._draw_paths(n, rng)
        y = self.coordinates.to_x(path[0])
        log_copy = self.windows.log_probability(y, self._log_reference)
        inside = np.isfinite(log_copy)
        log_density = np.where(inside, self._log_in_x(path, log_q, log_copy), -np.inf)
        return ChainDraws(path, self.windows.wrap(y), log_density, inside)

    def draw_points(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of n paths without keeping the other levels.

        Returns
        -------
        array of shape (m, d)
            Without the ends outside of all windows, so that m <= n.
        """
        z = self._draw_ends(n, rng) if self.auxiliary else self.reference.sample(n, rng)
        y = self.coordinates.to_x(z)
        inside = np.isfinite(self.windows.log_probability(y, self._log_reference))
        return self.windows.wrap(y[inside])

    def draw_paths(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n paths in the coordinates of the model, noise first.

        A reference that is exact and left alone is drawn from at once; its paths are those of the
        noising, which have the law of its reverse.

        Returns
        -------
        array of shape (K + 1, n, d)
            Circular coordinates unrolled, but for the ends.
        """
        path, _ = self._draw_paths(n, rng)
        if not self.auxiliary:
            path = self.reference.noising.forward(path[0], rng)
        x = np.stack([self.coordinates.to_x(z) for z in path[::-1]])
        x[-1] = self.windows.wrap(x[-1])
        return x

    def log_density(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`ChainDraws.log_density` of given points, their copies and paths drawn afresh.

        Parameters
        ----------
        x : array of shape (n, d)
        rng : numpy.random.Generator

        Returns
        -------
        array of shape (n,)
        """
        parts = [np.empty(0)]
        for rows in self._chunks(len(x)):
            y, log_copy = self.windows.draw_copy(x[rows], self._log_reference, rng)
            z = self.coordinates.to_z(y)
            path = self.reference.noising.forward(z, rng) if self.auxiliary else z[None]
            parts.append(self._log_in_x(path, self._log_path(path), log_copy))
        return np.concatenate(parts)

    def log_ratio(self, x: np.ndarray, logp: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Log ratios of target to chain at points (n, d) of log densities `logp`, shape (n,)."""
        return logp - self.log_density(x, rng)

    # ---------------------------------------------------------- paths in the coordinates z

    def _draw_paths(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Paths, shape (K + 1, n, d), and their log densities, shape (n,)."""
        if not self.auxiliary:
            z = self.reference.sample(n, rng)
            return z[None], self._log_path(z[None])
        parts = [
            draw_paths(self.reference, self.control, size, rng)
            for size in self._chunk_sizes(n) or [0]
        ]
        path, log_q = zip(*parts, strict=True)
        return np.concatenate(path, axis=1), np.concatenate(log_q)

    def _draw_ends(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends in the coordinates z, shape (n, d), on the device where that is worth it."""

        def in_parts(draw: Callable[[int, np.random.Generator], np.ndarray]) -> np.ndarray:
            parts = [draw(size, rng) for size in self._chunk_sizes(n)]
            return np.concatenate([*parts, np.empty((0, self.dim))])

        def by_numpy() -> np.ndarray:
            return in_parts(lambda size, rng: draw_ends(self.reference, self.control, size, rng))

        def by_torch(device: torch.device) -> np.ndarray:
            from pymc_multimodal.proposals.lrds.torch_paths import TorchPaths

            return in_parts(TorchPaths(self.reference, self.control, device).ends)

        return draw_on(self.device, n * self._work_of_an_end(), rng, by_numpy, by_torch)

    def _work_of_an_end(self) -> float:
        """Floating-point operations of the products of matrices by which an end is drawn."""
        d, weights = self.dim, 2 * self.reference.n_components * self.dim**2
        if self.control is not None:
            groups, hidden = self.control.potential.group_bias.shape
            # Whitening and maps of the groups; the network there and back.
            weights += 2 * groups * d**2 + 2 * hidden * (groups * d + hidden)
        return 2.0 * self.reference.noising.steps * weights

    def _log_path(self, path: np.ndarray) -> np.ndarray:
        """Log density of paths under the chain, shape (n,)."""
        if self.auxiliary:
            return log_path_density(self.reference, self.control, path)
        parts = [self.reference.log_level(0, path[0, rows]) for rows in self._chunks(path.shape[1])]
        return np.concatenate([*parts, np.empty(0)])

    def _log_in_x(self, path: np.ndarray, log_q: np.ndarray, log_copy: np.ndarray) -> np.ndarray:
        """`ChainDraws.log_density` of paths with log densities `log_q`."""
        noise = self.reference.noising.log_density(path) if self.auxiliary else 0.0
        return log_q - noise - log_copy - self.coordinates.log_volume

    def _log_reference(self, y: np.ndarray) -> np.ndarray:
        """Log density of the reference at unrolled points, up to a constant: the law of copies."""
        return self.reference.log_level(0, self.coordinates.to_z(y))

    # ---------------------------------------------------------- passes of bounded memory

    def _chunks(self, n: int) -> list[slice]:
        rows = max(MIN_CHUNK, CHUNK_NUMBERS // (self.reference.n_components * self.dim))
        return [slice(first, min(first + rows, n)) for first in range(0, n, rows)]

    def _chunk_sizes(self, n: int) -> list[int]:
        return [rows.stop - rows.start for rows in self._chunks(n)]
