"""Learning of a control: what it is trained on, and whether it is kept."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.lrds.control import Control, ControlTraining
from pymc_multimodal.proposals.lrds.evaluated import (
    EvaluatedPaths,
    EvaluatedPoints,
    evaluate_chain,
    path_ess,
)
from pymc_multimodal.proposals.lrds.potential import Potential

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import torch

    from pymc_multimodal.proposals.lrds.chain import ReverseChain
    from pymc_multimodal.proposals.lrds.control_training import ControlTrainer
    from pymc_multimodal.proposals.lrds.pool import PooledDraws, SplitDraws
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain
    from pymc_multimodal.proposals.lrds.settings import ControlNetwork
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["fit_control"]

_log = logging.getLogger("pymc.multimodal")

# Held-out draws by which the expected acceptance is compared before and after: a standard error of
# about 1 %. Conventional.
HELD_OUT_DRAWS = 4000
# Most posterior-side draws that are trained on. Conventional; the number bounds the memory.
POSTERIOR_DRAWS = 20_000
# Share of the expected acceptance before training that has to be left after it, where the
# effective share of the proposals rises. Measured: examples/benchmarks/constants.py
MIN_ACCEPTANCE_LEFT = 0.9
# Fewest paths with finite densities of which a step of the "kl" loss can be made: the loss is
# centred by their mean.
MIN_PATHS = 2


def fit_control(
    chain: ReverseChain,
    draws: SplitDraws,
    density: LogDensity | None,
    network: ControlNetwork,
    loss: str,
    max_evaluations: int,
    rng: np.random.Generator,
) -> tuple[Control | None, ControlTraining]:
    """Learn a control for a chain that has none, and judge it.

    Every path that is trained on is noised afresh from a point whose log density is known:
    posterior-side draws, which cost no evaluation, and ends of the chain. The loss is least where
    the control is right, whatever the law of the paths; posterior-side draws reach where the chain
    itself does not go. The loss "kl" is an average over the paths of the chain itself. Therefore
    every step draws new ones, and training ends when the evaluations are used up.

    Parameters
    ----------
    chain : ReverseChain
        The reference alone.
    draws : SplitDraws
        Draws to train on, and others to judge by.
    density : LogDensity or None
        Without it, the control is trained on the draws alone.
    network : ControlNetwork
    loss : {"stepwise", "log-variance", "kl"}
    max_evaluations : int
        Most density evaluations.
    rng : numpy.random.Generator

    Returns
    -------
    control : Control or None
        None if the reference alone serves better.
    training : ControlTraining
    """
    # torch takes a second to import, and is needed only here.
    from pymc_multimodal.proposals.lrds.control_training import ControlTrainer
    from pymc_multimodal.proposals.torch_setup import seeded, step_work, trained_on

    began = time.monotonic()
    plan = _plan(network, loss, density, max_evaluations)
    acceptance_before = _acceptance(chain, draws.held_out, rng)
    first = evaluate_chain(chain, density, plan.round_size, rng)
    posterior = _posterior_points(chain, draws.training, rng)
    initial = _initial_control(chain, network.hidden, rng)

    def train(device: torch.device) -> tuple[_PathTraining, Control]:
        with seeded(rng, device) as unseeded:
            trainer = ControlTrainer(chain.reference, initial, loss, network, plan.steps, device)
            training = _PathTraining(chain, density, plan, trainer, unseeded)
            training.regress(posterior, first, network.regression_steps)
            if plan.on_policy:
                training.train_on_policy(rng)
            else:
                training.train_off_policy(posterior, first.ends, rng)
            return training, trainer.control()

    groups, hidden, d = initial.potential.first.shape
    rows = plan.batch * len(initial.potential.scale)
    work = step_work(max(network.regression_batch, rows), (d, hidden * groups, hidden, 1))
    # The kernels of the reference: three products with a matrix for each component of a point, and
    # two for each group.
    work += 2.0 * rows * d**2 * (3 * chain.reference.n_components + 2 * groups)
    training, control = trained_on(network.device, train, work)
    trained = chain.with_control(control)
    acceptance = acceptance_before, _acceptance(trained, draws.held_out, rng)
    last = evaluate_chain(trained, density, plan.round_size, rng)
    ess = path_ess(first.log_ratio), path_ess(last.log_ratio)
    report = ControlTraining(
        kept=_improved(acceptance, None if density is None else ess),
        acceptance=acceptance,
        path_ess=ess,
        finite_share=training.finite / max(1, training.drawn) if density is not None else 1.0,
        evaluations=training.drawn + len(last.log_ratio),
        seconds=time.monotonic() - began,
        loss=training.trainer.losses(),
    )
    _log.debug("control: %s", report)
    return (control if report.kept else None), report


@dataclass(frozen=True)
class _Plan:
    """How the evaluations of a training are spent.

    Attributes
    ----------
    on_policy : bool
        Whether every step draws paths of the chain as it is then.
    rounds : int
        Rounds of draws of the chain, that before the training included.
    round_size : int
        Draws of one round; as many are drawn after the training, to judge it.
    steps, batch : int
        Steps on paths, and paths of one step.
    """

    on_policy: bool
    rounds: int
    round_size: int
    steps: int
    batch: int


def _plan(
    network: ControlNetwork, loss: str, density: LogDensity | None, max_evaluations: int
) -> _Plan:
    """Share the evaluations equally among the rounds and the judgement at the end."""
    on_policy = loss == "kl" and density is not None
    rounds = 1 if density is None else network.rounds
    if on_policy:
        # One round comes before the training; the evaluations of the others are for its steps.
        rounds = max(rounds, 2)
    size = max_evaluations // (rounds + 1)
    steps = network.steps
    if on_policy:
        steps = min(steps, (rounds - 1) * size // network.batch)
    return _Plan(on_policy, rounds, size, steps, network.batch)


class _PathTraining:
    """Steps of a trainer, and the draws of the chain that they take.

    Parameters
    ----------
    chain : ReverseChain
    density : LogDensity or None
    plan : _Plan
    trainer : ControlTrainer
    unseeded : callable
        Makes a context in which torch is as the user left it, for evaluations of the density.

    Attributes
    ----------
    drawn, finite : int
        Ends of the chain that were drawn, and those at which the target is finite.
    """

    def __init__(
        self,
        chain: ReverseChain,
        density: LogDensity | None,
        plan: _Plan,
        trainer: ControlTrainer,
        unseeded: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.chain, self.density, self.plan = chain, density, plan
        self.trainer, self.unseeded = trainer, unseeded
        self.drawn = self.finite = 0

    def regress(self, posterior: EvaluatedPoints, first: EvaluatedPaths, steps: int) -> None:
        """Regress the potential on the log ratios of the first points."""
        self._count(first)
        self.trainer.set_points(posterior, first.ends)
        self.trainer.regress(steps)

    def train_off_policy(
        self, posterior: EvaluatedPoints, own: EvaluatedPoints, rng: np.random.Generator
    ) -> None:
        """Train on paths noised from posterior-side draws and from ends of the chain."""
        between = self.plan.steps // self.plan.rounds + 1
        for step in range(self.plan.steps):
            due = step > 0 and step % between == 0
            if due and self.density is not None and not self.density.exhausted():
                own = own.joined_with(self._evaluate(self.plan.round_size, rng).ends)
                self.trainer.set_points(posterior, own)
            self.trainer.train_on_batch(self.plan.batch)

    def train_on_policy(self, rng: np.random.Generator) -> None:
        """Train on paths of the controlled chain, until the evaluations are used up."""
        for _ in range(self.plan.steps):
            if self.density is None or self.density.exhausted():
                break
            paths = self._evaluate(self.plan.batch, rng)
            if len(paths.logp) >= MIN_PATHS:
                self.trainer.train_on_paths(paths.path, paths.logp)

    def _evaluate(self, n: int, rng: np.random.Generator) -> EvaluatedPaths:
        """Draw n paths of the chain with the control as it is now."""
        chain = self.chain.with_control(self.trainer.control())
        with self.unseeded():
            paths = evaluate_chain(chain, self.density, n, rng)
        self._count(paths)
        return paths

    def _count(self, paths: EvaluatedPaths) -> None:
        self.drawn += len(paths.log_ratio)
        self.finite += len(paths.logp)


def _posterior_points(
    chain: ReverseChain, draws: PooledDraws, rng: np.random.Generator
) -> EvaluatedPoints:
    """Posterior-side draws, chosen by probability."""
    rows = draws.choose_rows(min(len(draws.x), POSTERIOR_DRAWS), rng)
    coordinates = chain.coordinates
    return EvaluatedPoints(
        coordinates.to_z(draws.x[rows]), draws.logp[rows] + coordinates.log_volume
    )


def _initial_control(chain: ReverseChain, hidden: int, rng: np.random.Generator) -> Control:
    """Return a control with a random potential, close to zero."""
    maps = chain.reference.control_maps()
    scale = _signal_cubed(chain.reference)
    return Control(Potential.random(chain.dim, maps.shape[1], hidden, scale, rng), maps)


def _signal_cubed(reference: ReferenceChain) -> np.ndarray:
    """Share of a log ratio that is left at each level, shape (K + 1,), as a first guess.

    The reference has the right means and covariances. Its log ratio is therefore of third order or
    higher, and fades with the third power of ``(1 + c^2)^{-1/2}``, the share that the signal has
    in the spread.
    """
    return (1.0 + reference.noising.levels**2) ** -1.5


def _acceptance(chain: ReverseChain, held_out: PooledDraws, rng: np.random.Generator) -> float:
    """Return the expected acceptance of jumps of the chain, from held-out draws."""
    rows = held_out.choose_rows(HELD_OUT_DRAWS, rng)
    return expected_acceptance(chain.log_ratio(held_out.x[rows], held_out.logp[rows], rng))


def _improved(acceptance: tuple[float, float], ess: tuple[float, float] | None) -> bool:
    """Whether proposals are better after training than before.

    The effective share of proposals does not show mass that they no longer reach. The expected
    acceptance, from held-out draws, does. Without a density there is no effective share.
    """
    before, after = acceptance
    if ess is None:
        return after > before
    return ess[1] > ess[0] and after > MIN_ACCEPTANCE_LEFT * before
