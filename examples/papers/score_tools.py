"""What the score_*.py scripts share: mixtures, the paper's plain run, and distances within modes.

Two ways of turning stored draws into more are compared. *ScoreLangevin* is the package's: the
score of a Gaussian mixture plus a network, noise averaged over steps, a stop that is chosen.
*Network alone* is as near to arXiv 2310.01762 as its description goes: one network on top of a
single Gaussian, vanilla score matching, Euler steps, a stop that is given.
"""

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import common
import numpy as np
from scipy.spatial.distance import cdist

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.components import whiten_components
from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
from pymc_multimodal.proposals.score.langevin import run_langevin
from pymc_multimodal.proposals.score.score_function import LearnedScore

OURS, PLAIN, STORED, NOISE = "ScoreLangevin", "network alone", "stored draws", "from N(0, I)"
STYLE = {OURS: "C0", PLAIN: "C1", STORED: "0.35", NOISE: "C3"}
# Of the plain run, in units in which modes have about unit variance.
STEP, STOP = 0.05, 3.0
# Most draws within a mode that distances are computed from.
PAIRS = 5000


def quiet() -> None:
    """Keep what a fit has to say for the tables."""
    logging.getLogger("pymc.multimodal").setLevel(logging.ERROR)


def two_normals(dim: int, distance: float, weight: float = 0.8) -> GaussianMixture:
    """Two normals of unit covariance along the diagonal, the heavier one on the negative side."""
    mean = np.full(dim, 0.5 * distance / np.sqrt(dim))
    return GaussianMixture(
        np.array([weight, 1 - weight]), np.stack([-mean, mean]), np.stack([np.eye(dim)] * 2)
    )


def label(target: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """Component that most likely made each row of x, shape (n,)."""
    return np.argmax(target.log_parts(x), axis=1)


@dataclass(frozen=True)
class PlainScore:
    """A score in the coordinates of the draws, and Euler steps with it."""

    learned: LearnedScore
    coordinates: AffineCoordinates

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Score at points of shape (n, d)."""
        return self.learned(self.coordinates.to_z(x)) @ self.coordinates.inverse

    def run(
        self, x: np.ndarray, rng: np.random.Generator, stop: float = STOP, step: float = STEP
    ) -> np.ndarray:
        """Euler scheme of Langevin dynamics from points of shape (n, d)."""
        eye = np.eye(x.shape[1])
        [end] = run_langevin(self, x, eye, step, [round(stop / step)], rng, averaged=False)
        return end


def plain_score(x: np.ndarray, rng: np.random.Generator, **settings) -> PlainScore:
    """Learn the score of draws by one network and vanilla score matching."""
    from pymc_multimodal.proposals.score.score_training import train_score

    one = GaussianMixture.from_covariances(
        np.ones(1), x.mean(axis=0)[None], np.atleast_2d(np.cov(x.T))[None]
    )
    coordinates, parts = whiten_components(x, one)
    z = coordinates.to_z(rng.permutation(x))
    held_out = len(z) // 5
    learned = train_score(
        LearnedScore(parts), z[held_out:], z[:held_out], ScoreLangevin(**settings), rng
    )
    return PlainScore(learned, coordinates)


def relative_error(score: Callable, x: np.ndarray, exact: np.ndarray) -> float:
    """``E |s - exact|^2 / E |exact|^2`` at draws x; arrays of shape (n, d)."""
    return float(np.sum((score(x) - exact) ** 2) / np.sum(exact**2))


def again(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Repeat the rows of x in random order until there are n."""
    return x[np.concatenate([rng.permutation(len(x)) for _ in range(-(-n // len(x)))])[:n]]


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Total variation distance of two vectors of shares."""
    return 0.5 * float(np.abs(np.asarray(a) - b).sum())


def within(made: list[np.ndarray], stored: list[np.ndarray], exact: list[np.ndarray]) -> dict:
    """Energy distance to the exact law within modes, of generated draws and of as many as stored.

    The stored draws are a distribution on finitely many points; the mean distance of such a
    distribution, over all sets of exact draws, is ``E|X - X'|`` over their number. The generated
    draws stand for the law that they are drawn from, whose distance is estimated without bias. So
    a ratio of 1 says: as good as so many exact draws, and 0 is perfect.

    Parameters
    ----------
    made, stored, exact : lists of arrays of shape (n, d)
        By mode; the sum over modes is returned, each weighted by its share of the stored draws.
    """
    total, gap = sum(map(len, stored)), {"made": 0.0, "stored": 0.0}
    for m, s, e in zip(made, stored, exact, strict=True):
        if min(map(len, (m, s, e))) < 2:
            continue
        share, m, e = len(s) / total, m[:PAIRS], e[:PAIRS]
        gap["made"] += share * common.energy_distance(m, e)
        gap["stored"] += share * cdist(e, e).sum() / (len(e) * (len(e) - 1)) / len(s)
    return gap


def study(
    target: GaussianMixture, m: int, rng: np.random.Generator, n: int = 20_000, **settings
) -> dict[str, dict]:
    """Learn from m draws of a mixture in both ways, generate n, and compare with what is known.

    The results of each way: `kept`, the total variation distance of the modes' shares from those
    of the stored draws; `error`, that from the truth; `score`, the relative squared score error;
    `made` and `stored`, see `within`; `noise`, the distance from the truth of shares after the
    same run from N(0, I); `seconds`.
    """
    x, pool = target.sample(m, rng), target.sample(n, rng)
    k = len(target.weights)
    home = label(target, x)

    def shares(points):
        return np.bincount(label(target, points), minlength=k) / len(points)

    def split(points):
        own = label(target, points)
        return [points[own == j] for j in range(k)]

    found = {STORED: {"error": total_variation(shares(x), target.weights), "shares": shares(x)}}
    start = rng.standard_normal((4_000, x.shape[1]))
    # Its import would count as training of whoever comes first.
    importlib.import_module("torch")
    for name in (OURS, PLAIN):
        began = time.monotonic()
        if name == OURS:
            fitted = ScoreLangevin.from_draws(
                x, config=ScoreLangevin(**settings), random_seed=int(rng.integers(2**31))
            )
            made = fitted.generate(n, rng)
            seconds = time.monotonic() - began
            noise, score = fitted.refresh(start, rng), fitted.score
            extra = {
                "clusters": len(fitted.clusters),
                "stop": fitted.trial.stop_time,
                "flagged": [s.code for s in fitted.statuses if s.level == "warning"],
            }
        else:
            score = plain_score(x, rng, **settings)
            made = score.run(again(x, n, rng), rng)
            seconds = time.monotonic() - began
            noise, extra = score.run(start, rng), {}
        found[name] = {
            "shares": shares(made),
            "kept": total_variation(shares(made), shares(x)),
            "error": total_variation(shares(made), target.weights),
            "noise": total_variation(shares(noise), target.weights),
            "noise shares": shares(noise),
            "score": relative_error(score, pool, target.score(pool)),
            "seconds": seconds,
            **within(split(made), [x[home == j] for j in range(k)], split(pool)),
            **extra,
        }
        found[name]["function"], found[name]["points"] = score, made
    found[STORED]["points"] = x
    return found


def plain(found: dict[str, dict]) -> dict[str, dict]:
    """Return what can be written down of a study."""
    return {
        name: {k: v for k, v in r.items() if k not in ("function", "points")}
        for name, r in found.items()
    }


def mean_of(records: list[dict], method: str, key: str) -> float:
    """Mean over data sets."""
    return float(np.mean([r[method][key] for r in records]))


def ratio_of(records: list[dict], method: str) -> float:
    """Ratio of mean distances within modes, generated over stored."""
    return mean_of(records, method, "made") / mean_of(records, method, "stored")


def method_columns(records: list[dict], method: str) -> dict[str, str]:
    """Cells of a table on one method, means over data sets."""
    return {
        "method": method,
        "shares moved": f"{mean_of(records, method, 'kept'):.4f}",
        "error": f"{mean_of(records, method, 'error'):.4f}",
        "of the data": f"{mean_of(records, STORED, 'error'):.4f}",
        "from N(0, I)": f"{mean_of(records, method, 'noise'):.3f}",
        "score error": f"{mean_of(records, method, 'score'):.4f}",
        "distance": f"{ratio_of(records, method):.2f}",
        "seconds": f"{mean_of(records, method, 'seconds'):.1f}",
    }
