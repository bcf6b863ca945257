"""The result of a fit: everything needed to draw from the posterior, and to judge the draws."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.emulation import EmulatedGenerator, EmulatedJump
from pymc_multimodal.fit.choose_kernel import draws_by_weight
from pymc_multimodal.fit.report import FitReport, report_of
from pymc_multimodal.fit.saving import read_fit, write_fit
from pymc_multimodal.kernel import MAX_JUMPS, Jump
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.regions import ChainDiagnostics
from pymc_multimodal.status import FitError, Status, counted, with_error
from pymc_multimodal.target.errors import equal_logp
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.challenge import ChallengeResult
    from pymc_multimodal.emulation import Emulator
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.fit.images import Orbits
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.kernel import Kernel
    from pymc_multimodal.moves.local import MoveState
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.search import Modes, Screening
    from pymc_multimodal.structure import UnitModes
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.history import Evaluations

__all__ = ["Fit", "check_unchanged", "fit_without_chains"]

# By the status that says how a fit without chains was made: the setting that fits with chains.
WITH_CHAINS = {
    "units": "structure=False",
    "conditional": "structure=False",
    "emulated": "emulation=False",
}


@dataclass(frozen=True, repr=False)
class Fit:
    """Result of a fit: everything needed to draw from the posterior and to judge the draws.

    Regions are numbered by weight, heaviest first. A fit is plain data: `save` writes it to a file,
    `Fit.load` reads it, and ``fit=`` uses it again with the same model.

    Attributes
    ----------
    config : FitConfig
    names : tuple of str
        Unconstrained coordinates.
    modes : Modes
    draws : RegionDraws
    chains : ChainDiagnostics
    weights : Weights
    kernel : Kernel
    challenge : ChallengeResult or None
        What the challenge found; None where there was none.
    statuses : tuple of Status
    n_logp_evals, n_grad_evals : int
        Evaluations spent by the fit: points at which the log density, and its gradient with
        it, were computed.
    seconds : dict
        Wall-clock seconds of each stage.
    orbits : Orbits or None
        Where the density is symmetric: how the regions fitted stand for all modes.
    screening : Screening or None
        What was looked at by values alone; its points are among the evaluations.
    evaluations : Evaluations or None
        All points that were evaluated, where each evaluation is dear.
    emulator : Emulator or None
        The cheap stand-in for an expensive density by which the posterior was found. It is not
        saved.
    units : UnitModes or None
        Where the posterior falls apart into units, of which some have several explanations: the
        explanations of each, with their weights.
    evals_by_step : dict or None
        Evaluations of the log density in each stage; None in a fit that an earlier version saved.
    """

    config: FitConfig
    names: tuple[str, ...]
    modes: Modes
    draws: RegionDraws
    chains: ChainDiagnostics
    weights: Weights
    kernel: Kernel
    challenge: ChallengeResult | None
    statuses: tuple[Status, ...]
    n_logp_evals: int
    n_grad_evals: int
    seconds: dict[str, float]
    orbits: Orbits | None = None
    screening: Screening | None = None
    evaluations: Evaluations | None = None
    emulator: Emulator | None = None
    units: UnitModes | None = None
    evals_by_step: dict[str, int] | None = None

    def __repr__(self) -> str:
        """Write the report of `summary`; the arrays are in the attributes."""
        return repr(self.summary())

    def _repr_html_(self) -> str:
        """Write the report for a notebook."""
        return self.summary()._repr_html_()

    def summary(self) -> FitReport:
        """Return a report: what was found, whether to trust it, and what to do if not.

        It has the modes with their weights, the stages with their cost, a verdict, and the
        remedies of all warnings. ``print`` writes it as text, a notebook as tables.

        Returns
        -------
        FitReport
        """
        return report_of(self)

    @property
    def described(self) -> str:
        """What was found, in one line."""
        w = self.weights
        return (
            f"{counted(len(self.names), 'coordinate')}: {self.described_modes}, log "
            f"evidence {with_error(w.total, w.total_se)}, {self.described_cost}"
        )

    @property
    def n_screened(self) -> int:
        """Points that were looked at by value alone; `n_logp_evals` counts them."""
        return 0 if self.screening is None else self.screening.n_points

    @property
    def described_cost(self) -> str:
        """Evaluations in words; points that were screened are named apart."""
        text = counted(self.n_logp_evals - self.n_screened, "density evaluation")
        return text + (f" and {self.n_screened} points screened" if self.n_screened else "")

    @property
    def n_modes(self) -> int:
        """Number of regions."""
        return len(self.modes)

    @property
    def described_modes(self) -> str:
        """Number of modes in words; images are counted, and the rows that stand for them named.

        Where the posterior falls apart into units: numbers of units, of explanations, and of
        combinations of these.
        """
        if self.units is not None:
            of_hubs = f", {self.n_modes} modes of the hubs" if self.n_modes > 1 else ""
            return self.units.found + of_hubs
        total = int(self.images.sum())
        if not self.modes.hits.any():
            return "no mode, one point"
        text = "one mode" if total == 1 else f"{total} modes"
        return text if total == self.n_modes else f"{text} in {counted(self.n_modes, 'row')}"

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row of unconstrained points, shape (n,)."""
        return (self.orbits or self.kernel.partition).label(x)

    @property
    def images(self) -> np.ndarray:
        """Number of modes, equal but for their labels, that each mode stands for, shape (K,)."""
        if self.orbits is None or self.orbits.listed:
            return np.ones(self.n_modes, dtype=int)
        return self.orbits.images

    def target(self, density: Density) -> Target:
        """Return what the kernel samples: the density, folded where it is symmetric."""
        cells = None if self.orbits is None else self.orbits.cells
        return Target(density, cells, gradient=self.draws.grad[0].shape[-1] > 0)

    def randomise_image(self, points: MoveState, rng: np.random.Generator) -> MoveState:
        """Turn points of the kernel into draws of the density: random images of them."""
        return points if self.orbits is None else self.orbits.randomise(points, rng)

    def local_draws(self, k: int) -> np.ndarray:
        """Draws inside region k, shape (n, d)."""
        x = self.draws.x[k]
        return x.reshape(-1, x.shape[-1])

    def generate(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Fast draws of the learned approximation, without the correction that makes them exact.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator or int, optional
            A generator, or a seed for one.

        Returns
        -------
        array of shape (n, d)
            Unconstrained points. As close to the posterior as the generator is; draws of
            `pm.sample` are corrected, these are not.

        Raises
        ------
        TypeError, ValueError
            If n is no whole number, or negative, or rng is no seed.
        """
        checks.count("generate", "n", n, 0)
        rng = checks.generator("generate", "rng", rng)
        x = self.kernel.generator.generate(n, rng)
        return x if self.orbits is None else self.orbits.cells.scatter(x, rng)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to a file, which `Fit.load` reads.

        The file is a zip archive of JSON and NumPy arrays, without the model and its data. Unlike a
        pickle, it can be read by other versions of Python and of this package, and reading it
        executes nothing. An emulator is left out: draws of the fit that is read are as exact, but
        cost more evaluations.

        Parameters
        ----------
        path : str or path-like
            Where to write; a file of that name is replaced.

        Raises
        ------
        FitError
            If a setting of the fit is an object of the user's own.
        OSError
            If the file cannot be written; an earlier file of that name is then kept.

        Examples
        --------
        >>> fit.save("eight_schools.fit")  # doctest: +SKIP
        >>> fit = mm.Fit.load("eight_schools.fit")  # doctest: +SKIP
        >>> idata = mm.sample(fit=fit, model=model)  # doctest: +SKIP
        """
        write_fit(without_emulator(self), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Fit:
        """Read a fit that `save` has written.

        The draws that it gives are those of the fit that was saved, for the same seed. That it
        belongs to a model and its data is checked when it is used with them.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Fit

        Raises
        ------
        FitError
            If the file is no saved fit, is damaged, or was written by a newer version.
        OSError
            If the file cannot be read.
        """
        fit = read_fit(path)
        if not isinstance(fit, cls):
            raise FitError(
                f"load({os.fspath(path)!r}): the file holds {type(fit).__name__}, which is no "
                f"{cls.__name__}. Give a file that {cls.__name__}.save has written."
            )
        return fit

    def starts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent starting points for n chains: local draws allocated by weight."""
        return draws_by_weight(self.draws, self.weights, n, rng)[0]

    def log_ratios(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios of the density to the generator's at local draws, picked by weight.

        The density is not evaluated: the draws keep its values.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator

        Returns
        -------
        log_ratio : array of shape (n,)
            Up to a constant; one path is drawn where proposals have paths.
        mode : array of int, shape (n,)
        """
        x, logp = draws_by_weight(self.draws, self.weights, n, rng)
        mode = self.label(x)
        if self.orbits is not None and self.orbits.listed:
            # The generator knows one cell, on which the density is that of all images.
            x = self.orbits.cells.fold(x)
            logp = logp + self.orbits.cells.log_multiplicity(x)
        return logp + self.kernel.generator.minus_log_q(x, rng), mode

    def check_density(self, density: Density) -> None:
        """Raise if the density is not the one this fit was made for.

        Raises
        ------
        FitError
            If coordinates differ, or the log density at the modes has changed.
        """
        if density.names != self.names:
            raise FitError(
                f"fit= was made for a model with coordinates {self.names[:8]}, this model has "
                f"{density.names[:8]}. Fit this model anew."
            )
        check_unchanged(density, self.modes.locations, self.modes.log_density, "fit= was made")


def check_unchanged(density: Density, x: np.ndarray, then: np.ndarray, what: str) -> None:
    """Raise if a density has changed.

    Parameters
    ----------
    density : Density
    x : array of shape (n, d)
        Points, such as modes.
    then : array of shape (n,)
        Their log densities as they were.
    what : str
        Beginning of the message, such as "fit= was made".

    Raises
    ------
    FitError
    """
    now = density.logp(x)
    equal = equal_logp(now, then, density.resolution)
    if not equal.all():
        k = int(np.argmin(equal))
        raise FitError(
            f"{what} before the model or its data changed: the log density at mode "
            f"{k} was {then[k]:.6f} and is {now[k]:.6f} now, a difference of "
            f"{now[k] - then[k]:.3g} nats. Fit again."
        )


def fit_without_chains(
    run: Run,
    modes: Modes,
    draws: RegionDraws,
    weights: Weights,
    kernel: Kernel,
    statuses: Sequence[Status],
    **more: Any,
) -> Fit:
    """Return the fit of regions in which no chains ran, the heaviest first.

    Parameters
    ----------
    run : Run
        It gives the settings, the costs and further statuses.
    modes, draws, weights, kernel
        Of the regions, in any order.
    statuses : sequence of Status
    **more
        Further attributes of the fit.

    Returns
    -------
    Fit
    """
    order, k = np.argsort(-weights.weight, kind="stable"), len(weights.weight)
    largest_se = float(np.max(weights.weight_se)) if k > 1 else 0.0
    setting = next((WITH_CHAINS[s.code] for s in statuses if s.code in WITH_CHAINS), None)
    remedy = "Raise target_se"
    remedy += f"; {setting} fits with chains in every region, which costs more." if setting else "."
    return Fit(
        config=replace(run.settings, generator=Hybrid(), evaluations=None),
        names=run.density.names,
        modes=modes.take(order),
        draws=draws.take(order),
        chains=ChainDiagnostics.unknown(k),
        weights=weights.take(order),
        kernel=kernel.take(order),
        challenge=None,
        statuses=(*statuses, *run.statuses(largest_se, complete=True, remedy=remedy)),
        n_logp_evals=run.evals,
        n_grad_evals=run.gradient_evals,
        seconds=run.seconds(),
        evals_by_step=run.evals_by_step(),
        **more,
    )


def without_emulator(fit: Fit) -> Fit:
    """Return the fit without its emulator, of which the compiled model is a part.

    Exact draws are then proposed by the densities of the regions.
    """
    if fit.emulator is None:
        return fit
    kernel, generator = fit.kernel, fit.kernel.generator
    assert isinstance(generator, EmulatedGenerator)
    moves = tuple(
        Jump(MAX_JUMPS) if isinstance(move, EmulatedJump) else move for move in kernel.moves
    )
    plain = replace(kernel, generator=generator.mixture, moves=moves)
    return replace(fit, kernel=plain, emulator=None)
