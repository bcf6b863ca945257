"""What the LRDS scripts on shapes share: generators from exact local draws, and their quality.

Where a script asks what a generator makes of local draws, not how they were found, exact draws of
a gallery target stand for those of the regions' chains, and the target's own weights for those of
the bridge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp

PROPOSALS = 20_000


class Learned(NamedTuple):
    """A generator, the density it was learned for, and the gallery's target."""

    generator: object
    density: object
    target: object


def density_of(target, gradient: bool = False):
    """Density of a gallery target by its NumPy function; compiled where gradients are needed."""
    from pymc_multimodal.model.build import density_of
    from pymc_multimodal.target.density import Density

    if gradient:
        return density_of(target.model)
    return Density(lambda x: (target.log_density(x), None), target.dim, has_gradient=False)


def component(target, x: np.ndarray) -> np.ndarray:
    """Most probable component of each point, shape (n,)."""
    return target.membership(x).argmax(axis=1)


def local_draws(target, density, draws: int, rng: np.random.Generator, chains: int = 16):
    """Exact draws of each component as `RegionDraws`, `draws` for each component in all."""
    from pymc_multimodal.regions.draws import RegionDraws

    regions, d, each = len(target.weights), target.dim, draws // chains
    found: list[list[np.ndarray]] = [[] for _ in range(regions)]
    while min(sum(map(len, parts)) for parts in found) < chains * each:
        x = target.draws(4 * chains * each, rng)
        label = component(target, x)
        for k, parts in enumerate(found):
            parts.append(x[label == k])
    x = [np.concatenate(parts)[: chains * each].reshape(chains, each, d) for parts in found]
    logp = [density.logp(part.reshape(-1, d)).reshape(chains, each) for part in x]
    best = [part.reshape(-1, d)[values.argmax()] for part, values in zip(x, logp, strict=True)]
    ones = np.ones(regions)
    return RegionDraws(
        x=tuple(x),
        logp=tuple(logp),
        grad=tuple(np.empty((chains, each, 0)) for _ in x),
        centre=np.stack(best),
        ess=chains * each * ones,
    )


def learn(target, config, seed: int, draws: int = 4000, density=None) -> Learned:
    """Learn a generator from exact local draws and exact weights."""
    density = density or density_of(target)
    rng = np.random.default_rng([seed, 10])
    local = local_draws(target, density, draws, rng)
    fitted = config.regional.fit_regions(local, density.period, rng)
    generator = config.build(fitted, local, target.weights, rng, density)
    return Learned(generator, density, target)


def proposals(learned: Learned, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the chain alone, shape (n, d), and their log ratios (n,)."""
    _, x, log_own = learned.generator.chain(n, rng)
    log_ratio = np.full(n, -np.inf)
    inside = np.isfinite(log_own)
    log_ratio[inside] = learned.density.logp(x[inside]) - log_own[inside]
    return x, log_ratio


def corrected(learned: Learned, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weighted proposals with the defence, as the exact chain has them: points and weights."""
    offered = learned.generator.propose(n, rng)
    log_ratio = np.full(n, -np.inf)
    inside = np.isfinite(offered.minus_log_q)
    log_ratio[inside] = learned.density.logp(offered.x[inside]) + offered.minus_log_q[inside]
    weight = np.exp(log_ratio - log_ratio.max())
    return offered.x[inside], weight[inside] / weight[inside].sum()


def resampled(x: np.ndarray, weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws picked by weight: what correction by importance gives."""
    return x[rng.choice(len(x), size=n, p=weight)]


def ess(log_ratio: np.ndarray) -> float:
    """Effective share of proposals with given log ratios."""
    from pymc_multimodal.proposals.lrds.control_fit import path_ess

    return path_ess(log_ratio)


def bounds(learned: Learned, log_ratio: np.ndarray, n: int, rng) -> tuple[float, float]:
    """ELBO and EUBO less the log evidence: means of log ratios of proposals and of exact draws."""
    exact = learned.target.draws(n, rng)
    logp = learned.density.logp(exact)
    above = learned.generator.path_log_ratio(exact, logp, rng).mean()
    below = log_ratio[np.isfinite(log_ratio)].mean()
    return float(below - learned.target.log_z), float(above - learned.target.log_z)


def log_evidence_error(learned: Learned, log_ratio: np.ndarray) -> float:
    """Error of the evidence that weighted proposals give."""
    return float(logsumexp(log_ratio) - np.log(len(log_ratio)) - learned.target.log_z)


# ------------------------------------------------------------------ distances


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Exact 2-Wasserstein distance of two samples of the same size."""
    cost = cdist(a, b, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Maximum mean discrepancy, Gaussian kernel of the median distance, 0 where it is negative."""
    half = 2.0 * np.median(pdist(b)) ** 2

    def mean(x: np.ndarray, y: np.ndarray, same: bool) -> float:
        kernel = np.exp(-cdist(x, y, "sqeuclidean") / half)
        return (kernel.sum() - same * len(x)) / (len(x) * (len(y) - same))

    return float(np.sqrt(max(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), 0.0)))


def sliced_ks(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, directions: int = 64
) -> float:
    """Mean over random directions of the Kolmogorov-Smirnov distance of projections."""
    w = rng.standard_normal((a.shape[1], directions))
    w /= np.linalg.norm(w, axis=0)
    return float(np.mean([_ks(p, q) for p, q in zip((a @ w).T, (b @ w).T, strict=True)]))


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    both = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def variation(shares: np.ndarray, truth: np.ndarray) -> float:
    """Total variation of weights."""
    return float(0.5 * np.abs(np.asarray(shares) - truth).sum())


def three_references(quick: bool, regression_steps: int, steps: int) -> dict:
    """Configs of a mixture, the same with a control trained briefly, and an energy-based model."""
    from pymc_multimodal import LRDS, ControlNetwork
    from pymc_multimodal.proposals.lrds.energy import EnergyNetwork

    network = ControlNetwork(
        worth_it=2.0,  # train however good the reference is
        regression_steps=100 if quick else regression_steps,
        steps=20 if quick else steps,
    )
    energy = EnergyNetwork(steps=20 if quick else 500)
    return {
        "mixture": LRDS(train=False),
        "mixture, control": LRDS(network=network),
        "energy-based": LRDS(reference="ebm", train=False, energy=energy),
    }
