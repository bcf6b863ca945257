"""Learning of a control: what it is trained on, and whether it is kept."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.lrds.control import Control, PathTerms
from pymc_multimodal.proposals.lrds.path_generator import Training
from pymc_multimodal.proposals.lrds.potential import Potential

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.lrds import LRDS
    from pymc_multimodal.proposals.lrds.path_generator import PathGenerator
    from pymc_multimodal.proposals.lrds.pool import Pool
    from pymc_multimodal.proposals.lrds.reference import Reference
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["fit_control", "path_ess"]

_log = logging.getLogger("pymc.multimodal")

# Proposals whose effective share is compared before and after.
JUDGED = 4000
# A quarter of the posterior-side draws that are trained on.
POSTERIOR = 5000


def path_ess(log_ratio: np.ndarray) -> float:
    """Effective share of weighted proposals with given log ratios, shape (n,)."""
    finite = log_ratio[np.isfinite(log_ratio)]
    if not len(finite):
        return 0.0
    w = np.exp(finite - finite.max())
    return float(w.sum() ** 2 / (w**2).sum() / len(log_ratio))


@dataclass(frozen=True)
class Known:
    """Points in z whose log density there is known: what paths are noised from."""

    z: np.ndarray
    logp: np.ndarray

    def plus(self, other: Known) -> Known:
        """Both together."""
        return Known(np.concatenate([self.z, other.z]), np.append(self.logp, other.logp))

    def ratios(self, reference: Reference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features of the points, and log ratios to the reference."""
        h, share = reference.features(0, self.z)
        return h, share, self.logp - reference.log_level(0, self.z)


def fit_control(
    generator: PathGenerator,
    pool: Pool,
    held_out: Pool,
    density: LogDensity | None,
    config: LRDS,
    budget: int,
    rng: np.random.Generator,
) -> tuple[Control | None, Training]:
    """Learn a control for a generator that has none, and judge it.

    Paths are noised afresh, each time they are used, from points whose log density is known:
    posterior-side draws, which cost no evaluation, and ends of the chain as it was. The loss is
    least where the control is right whatever the law of the paths, and on the posterior's side
    it sees what the chain itself would not visit. For ``loss="kl"``, which is an average over
    the chain's own paths, every step draws new ones: it ends when the evaluations are used up.

    Parameters
    ----------
    generator : PathGenerator
        With the reference alone.
    pool, held_out : Pool
        Draws to train on, and others to judge by.
    density : LogDensity, optional
        Without it there are only the pool's draws to train on.
    config : LRDS
    budget : int
        Most density evaluations.
    rng : numpy.random.Generator

    Returns
    -------
    control : Control or None
        None if the reference alone serves better.
    training : Training
    """
    # torch takes a second to import, and is needed only here.
    from pymc_multimodal.proposals.lrds.potential_training import Trainer
    from pymc_multimodal.proposals.torch_setup import device_of, seeded

    began, net, reference = time.monotonic(), config.network, generator.reference
    on_policy = config.loss == "kl" and density is not None
    rounds = 1 if density is None else max(net.rounds, 2) if on_policy else net.rounds
    each = budget // (rounds + 1)
    # A share of the evaluations goes to the first draws, and one to the last.
    steps = min(net.steps, (rounds - 1) * each // net.batch) if on_policy else net.steps
    before = _acceptance(generator, held_out, rng)
    first, log_ratio = _own_draws(generator, density, each, rng)
    ess_before, own, made = path_ess(log_ratio), first, len(log_ratio)
    inside = pool.pick(min(len(pool.x), 4 * POSTERIOR), rng)
    posterior = Known(
        generator.frame.into(pool.x[inside]), pool.logp[inside] + generator.frame.log_volume
    )
    maps = reference.control_maps()
    control = Control(
        Potential.random(generator.dim, maps.shape[1], net.hidden, _fading(reference), rng), maps
    )
    losses = []
    device = device_of(net.device)
    with seeded(rng, device) as outside:
        trainer = Trainer(
            control,
            config.loss,
            net.learning_rate,
            steps,
            net.regression_batch,
            net.tame,
            device,
        )
        trainer.know(*posterior.plus(own).ratios(reference))
        trainer.regress(net.regression_steps)
        for step in range(steps):
            if on_policy:
                assert density is not None
                if density.exhausted():
                    break
                now = generator.controlled(trainer.result())
                with outside():
                    path, logp, log_ratio = _own_paths(now, density, net.batch, rng)
                made += len(log_ratio)
                if len(logp) < 2:
                    continue
            else:
                due = step > 0 and step % (steps // rounds + 1) == 0
                if density is not None and due and not density.exhausted():
                    now = generator.controlled(trainer.result())
                    with outside():
                        more, log_ratio = _own_draws(now, density, each, rng)
                    own, made = own.plus(more), made + len(log_ratio)
                    trainer.know(*posterior.plus(own).ratios(reference))
                z, logp = _batch(posterior, own, net.batch, rng)
                path = reference.noising.forward(z, rng)
            value = logp - reference.log_level(0, path[0])
            losses.append(trainer.step(PathTerms.of(reference, path), value))
        control = trainer.result()
    trained = generator.controlled(control)
    after = _acceptance(trained, held_out, rng)
    last = _own_draws(trained, density, each, rng)[1]
    ess_after = path_ess(last)
    kept = after > before if density is None else _better(ess_before, ess_after, before, after)
    training = Training(
        kept=kept,
        acceptance=(before, after),
        path_ess=(ess_before, ess_after),
        finite=len(own.z) / max(1, made) if density is not None else 1.0,
        evaluations=made + len(last),
        seconds=time.monotonic() - began,
        loss=np.array(losses),
    )
    _log.debug("control: %s", training)
    return (control if kept else None), training


def _better(ess_before: float, ess_after: float, before: float, after: float) -> bool:
    """Tell whether proposals became more effective, and posterior-side draws do not object.

    The effective share of proposals does not see mass that they no longer reach; the expected
    acceptance, from held-out draws, does.
    """
    return ess_after > ess_before and after > 0.9 * before


def _fading(reference: Reference) -> np.ndarray:
    """Share of a log ratio that is left at each level, shape (K + 1,), as a first guess.

    Means and covariances are right in the reference: what it has wrong is cubic or higher, and
    fades with the third power of the signal's share of the spread.
    """
    return (1.0 + reference.noising.levels**2) ** -1.5


def _acceptance(generator: PathGenerator, held_out: Pool, rng: np.random.Generator) -> float:
    rows = held_out.pick(JUDGED, rng)
    return expected_acceptance(generator.path_log_ratio(held_out.x[rows], held_out.logp[rows], rng))


def _own_draws(
    generator: PathGenerator, density: LogDensity | None, n: int, rng: np.random.Generator
) -> tuple[Known, np.ndarray]:
    """Draw from the chain alone: points of finite density, and log ratios of all."""
    if density is None or not n:
        return Known(np.empty((0, generator.dim)), np.empty(0)), np.empty(0)
    path, logp, log_ratio = _own_paths(generator, density, n, rng)
    return Known(path[0], logp), log_ratio


def _own_paths(
    generator: PathGenerator, density: LogDensity, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw paths of the chain.

    Returns those with ends of finite density, their log densities in z, and log ratios of all.
    """
    path, x, log_own = generator.chain(n, rng)
    logp = np.full(n, -np.inf)
    inside = np.isfinite(log_own)
    logp[inside] = density.logp(x[inside])
    finite = np.isfinite(logp)
    log_ratio = np.full(n, -np.inf)
    log_ratio[inside] = logp[inside] - log_own[inside]
    return path[:, finite], logp[finite] + generator.frame.log_volume, log_ratio


def _batch(
    posterior: Known, own: Known, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pick points, half of them ends of the chain where there are any."""
    half = n // 2 if len(own.z) else 0
    a, b = rng.integers(len(posterior.z), size=n - half), rng.integers(len(own.z) or 1, size=half)
    return np.concatenate([posterior.z[a], own.z[b]]), np.append(posterior.logp[a], own.logp[b])
