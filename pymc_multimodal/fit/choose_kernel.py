"""The kernel of the kept draws: how many jumps a draw needs, and what speaks against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.kernel import Kernel, choose_jumps, jump_acceptance, propose
from pymc_multimodal.status import Status
from pymc_multimodal.target.errors import unstable

if TYPE_CHECKING:
    from pymc_multimodal.evidence import BridgeSamples, Weights
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.target.target import Target

__all__ = ["choose_kernel", "draws_by_weight", "kernel_statuses", "stored_ratios"]

# Draws and proposals between which acceptance is measured: the standard error of a mean of 400
# probabilities is at most 0.025. Conventional.
MEASURED_DRAWS = 400
# Draws whose log density is evaluated a second time. Conventional.
REPEATED_DRAWS = 128
# Mean acceptance below which jumps hardly ever connect the modes. Conventional.
MIN_ACCEPTANCE = 0.02
# Draws without an accepted jump that are too many, and the share of the posterior from which on
# such places are reported. Conventional.
LONG_RUN, MAX_STICKY_SHARE = 100, 0.01


def choose_kernel(
    target: Target,
    kernel: Kernel,
    draws: RegionDraws,
    weights: Weights,
    rng: np.random.Generator,
    *,
    proposed: np.ndarray | None = None,
    repeat: bool = True,
) -> tuple[Kernel, list[Status]]:
    """Choose how many jumps a draw makes, by the measured acceptance of jumps.

    Parameters
    ----------
    target : Target
    kernel : Kernel
    draws : RegionDraws
    weights : Weights
    rng : numpy.random.Generator
    proposed : array of shape (n,), optional
        Log ratios of target to proposal at proposals that are evaluated already, so that no fresh
        ones are needed; see `stored_ratios`.
    repeat : bool
        Whether some draws are evaluated a second time, which shows a density that is random.

    Returns
    -------
    kernel : Kernel
    statuses : list of Status
    """
    x, logp = draws_by_weight(draws, weights, MEASURED_DRAWS, rng)
    ratios = logp + kernel.generator.minus_log_q(x, rng)
    if proposed is None:
        proposed = propose(target, kernel, MEASURED_DRAWS, rng).log_ratio
    acceptance = jump_acceptance(ratios, proposed)
    kernel = choose_jumps(kernel, acceptance, dear=target.density.dear)
    if not repeat:
        return kernel, kernel_statuses(acceptance, kernel.jumps)
    again = target.logp(x[:REPEATED_DRAWS])
    statuses = unstable(again, logp[:REPEATED_DRAWS], target.density.resolution)
    return kernel, statuses + kernel_statuses(acceptance, kernel.jumps)


def kernel_statuses(acceptance: np.ndarray, jumps: int) -> list[Status]:
    """Return what the acceptance of jumps, shape (n,), at draws of the posterior tells.

    Parameters
    ----------
    acceptance : array of shape (n,)
        Probability that one jump is accepted at each draw.
    jumps : int
        Jumps of a draw.
    """
    mean = float(acceptance.mean())
    if mean < MIN_ACCEPTANCE:
        return [
            Status("acceptance", "kernel",
                   f"jumps between modes are accepted with probability {mean:.3f} only.",
                   "Draws will be strongly correlated: draw more, and rely on the weights of the "
                   "mode table rather than on the frequencies of the draws.")
        ]  # fmt: skip
    sticky = float(np.mean(acceptance * jumps < 1.0 / LONG_RUN))
    if sticky <= MAX_STICKY_SHARE:
        return []
    return [
        Status("sticky", "kernel",
               f"a share of {sticky:.1%} of the posterior is where proposals are far too rare: "
               f"chains that come there accept no jump for more than {LONG_RUN} draws.",
               "The tails are heavier than those of the generator, or the generator misses a part "
               "of the posterior: look at R-hat and ESS of the draws, and draw more.")
    ]  # fmt: skip


def stored_ratios(
    kernel: Kernel, samples: BridgeSamples, weights: Weights, rng: np.random.Generator
) -> np.ndarray:
    """Log ratios of evaluated proposals of the regions, each region by its weight, shape (n,).

    Those that lie in another region than their own were not evaluated, and are left out.

    Parameters
    ----------
    kernel : Kernel
    samples : BridgeSamples
    weights : Weights
    rng : numpy.random.Generator
    """
    known = [np.flatnonzero(np.isfinite(logp)) for logp in samples.logp]
    counts = np.array([len(rows) for rows in known])
    mass = np.where(np.isfinite(weights.weight), weights.weight, 0.0) * (counts > 0)
    mass = mass if mass.sum() > 0 else (counts > 0).astype(float)
    if not mass.sum():
        return np.full(1, -np.inf)
    regions = rng.choice(len(samples), size=MEASURED_DRAWS, p=mass / mass.sum())
    pairs = [(k, known[k][rng.integers(counts[k])]) for k in regions]
    x = np.stack([samples.points[k][i] for k, i in pairs])
    logp = np.array([samples.logp[k][i] for k, i in pairs])
    return logp + kernel.generator.minus_log_q(x, rng)


def draws_by_weight(
    draws: RegionDraws, weights: Weights, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pick draws of the regions, each region by its weight.

    Parameters
    ----------
    draws : RegionDraws
    weights : Weights
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    x, logp : arrays of shape (n, d) and (n,)
    """
    mass = np.where(np.isfinite(weights.weight), weights.weight, 0.0)
    # Where no weight is known every region counts alike.
    mass = mass if mass.sum() > 0 else np.ones(len(mass))
    regions = rng.choice(len(draws), size=n, p=mass / mass.sum())
    rows = [rng.integers(draws.logp[k].size) for k in regions]
    pairs = list(zip(regions, rows, strict=True))
    x = [draws.x[k].reshape(-1, draws.x[k].shape[-1])[i] for k, i in pairs]
    return np.stack(x), np.array([draws.logp[k].ravel()[i] for k, i in pairs])
