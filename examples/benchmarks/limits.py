"""Whether limits are kept, and what there is at a limit.

Each target is fitted with several `max_evals` and several `max_seconds`, each fit in a process of
its own. The table has what was spent, and of what there is: the modes, the largest error of a
weight where the weights are known, in stated errors where these are known, and the warnings. One
JSON line is written for each fit; fits that the file already holds are left out. Run it with::

    python examples/benchmarks/limits.py --out limits.jsonl
    python examples/benchmarks/limits.py --targets lennard_jones_13 --seconds 40
    python examples/benchmarks/limits.py --out limits.jsonl --report
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import growth
import numpy as np
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model.build import density_of
from pymc_multimodal.status import FitError
from pymc_multimodal.target.density import Density

EVALS, SECONDS = (500, 1_500, 5_000, 50_000), (2.0, 10.0, 40.0)
NAMES = (
    "four_modes_6",
    "four_modes_6_slow",
    "many_wells_16",
    "lennard_jones_13",
    "normals_1000",
    "two_modes_1000",
    "two_bananas_10",
    "forty_modes",
)
# Seconds of an evaluation of `four_modes_6_slow`, a black box.
PRICE = 0.01


class ManyWells:
    """Products of N densities in (x, y): exp(-x^4 + 6 x^2 + x / 2) times a normal density of y."""

    weights = None

    def __init__(self, pairs: int) -> None:
        self.dim = 2 * pairs

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = x[:, 0::2], x[:, 1::2]
        grad = np.empty_like(x)
        grad[:, 0::2], grad[:, 1::2] = -4.0 * a**3 + 12.0 * a + 0.5, -b
        return np.sum(-(a**4) + 6.0 * a**2 + 0.5 * a - 0.5 * b**2, axis=1), grad


class LennardJones:
    """A cluster of atoms in a harmonic trap, in units of the pair potential, at temperature 1 / 4.

    The pair potential is 4 (r^-12 - r^-6), continued linearly in r^2 below r = 0.75.
    """

    weights = None
    # Inverse temperature, stiffness of the trap, and the least squared distance.
    BETA, TRAP, LEAST = 4.0, 0.5, 0.75**2

    def __init__(self, atoms: int) -> None:
        self.atoms, self.dim = atoms, 3 * atoms
        self.first, self.second = np.triu_indices(atoms, 1)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = x.reshape(len(x), self.atoms, 3)
        apart = r[:, self.first] - r[:, self.second]
        square = np.einsum("npk,npk->np", apart, apart)
        near = np.maximum(square, self.LEAST)
        sixth = near**-3
        slope = 4.0 * (-6.0 * sixth**2 + 3.0 * sixth) / near
        energy = np.sum(4.0 * (sixth**2 - sixth) + slope * (square - near), axis=1)
        pull = 2.0 * slope[:, :, None] * apart
        grad = self.TRAP * r
        for side, sign in ((self.first, 1.0), (self.second, -1.0)):
            np.add.at(grad, (slice(None), side), sign * pull)
        energy = energy + 0.5 * self.TRAP * np.sum(r**2, axis=(1, 2))
        return -self.BETA * energy, -self.BETA * grad.reshape(x.shape)


def numpy_target(name: str) -> tuple[growth.Mixture | ManyWells | LennardJones, float] | None:
    """Return a target and the standard deviation of its prior; None for one of the gallery."""
    kind, _, size = name.removesuffix("_slow").rpartition("_")
    if kind == "four_modes":
        means = 3.0 * np.random.default_rng(3).standard_normal((4, int(size)))
        return growth.Mixture(np.array([0.4, 0.3, 0.2, 0.1]), means, 0.5), 3.0
    if kind == "many_wells":
        return ManyWells(int(size)), 2.0
    if kind == "lennard_jones":
        return LennardJones(int(size)), 1.2
    return None if name in TARGETS else growth.target(name)


def density_named(name: str) -> tuple[Density, growth.Mixture | ManyWells | LennardJones | None]:
    """Return the density of a target, and what knows its weights unless it is of the gallery."""
    found = numpy_target(name)
    if found is None:
        return density_of(TARGETS[name]().model), None
    function, scale = found
    dim = function.dim

    def prior(n: int, rng: np.random.Generator) -> np.ndarray:
        return scale * rng.standard_normal((n, dim))

    if not name.endswith("_slow"):
        return Density(function, dim, prior=prior), function

    def slow(x: np.ndarray) -> tuple[np.ndarray, None]:
        time.sleep(PRICE * len(x))
        return function(x)[0], None

    return Density(slow, dim, has_gradient=False, prior=prior), function


def errors(fit, function) -> dict:
    """Largest error of a weight, and in stated errors; nothing where the weights are unknown."""
    if function is None or function.weights is None:
        return {}
    component = function.component(fit.modes.locations)
    k = len(function.weights)
    weight = np.bincount(component, fit.weights.weight, minlength=k)
    variance = np.bincount(component, fit.weights.weight_se**2, minlength=k)
    gap = np.abs(weight - function.weights)
    with np.errstate(invalid="ignore"):
        score = gap / np.maximum(np.sqrt(variance), 1e-12)
    found = np.bincount(component, minlength=k) > 0
    known = found & np.isfinite(score)
    return {
        "found": int(found.sum()),
        "of": k,
        "error": float(gap.max()),
        "score": float(score[known].max()) if known.any() else None,
        "unknown": int((found & ~known).sum()),
    }


def run(name: str, limit: dict, seed: int) -> dict:
    """Fit once, in this process."""
    density, function = density_named(name)
    before, began = density.n_logp_evals, time.monotonic()
    line = {"name": name, "limit": limit, "seed": seed}
    try:
        fit = fit_density(density, FitConfig(random_seed=seed, **limit))
    except FitError as error:
        line["raised"] = str(error)
        fit = None
    spent = {"evals": density.n_logp_evals - before, "seconds": time.monotonic() - began}
    if fit is not None:
        line |= {"modes": fit.n_modes, **errors(fit, function)}
        line["statuses"] = sorted({s.code for s in fit.statuses if s.level == "warning"})
    return line | spent


def run_apart(name: str, limit: dict, seed: int) -> dict:
    """Fit once in a process of its own."""
    one = json.dumps([name, limit, seed])
    script = [sys.executable, __file__, "--one", one]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(r: dict) -> str:
    """Line of the table for one fit."""
    (key, limit), error = next(iter(r["limit"].items())), ""
    if "error" in r:
        score = "unknown" if r["score"] is None else f"{r['score']:.1f}"
        error = f"{r['found']} of {r['of']}, {r['error']:.4f}, {score}"
    else:
        error = f"{r.get('modes', 0)}, , "
    what = r["raised"] if "raised" in r else " ".join(r["statuses"])
    return f'{r["name"]}, {key}={limit:,g}, "{r["evals"]:,}", {r["seconds"]:.1f}, {error}, {what}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", help="comma separated names (default: the table)")
    parser.add_argument("--evals", help="comma separated limits (default: the table)")
    parser.add_argument("--seconds", help="comma separated limits (default: the table)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(*json.loads(options.one))))
        return
    runs = Runs(options.out)
    if not options.report:
        names = NAMES if options.targets is None else options.targets.split(",")
        given = options.evals is not None or options.seconds is not None
        evals = [int(n) for n in (options.evals or "").split(",") if n] if given else EVALS
        seconds = [float(n) for n in (options.seconds or "").split(",") if n] if given else SECONDS
        limits = [{"max_evals": n} for n in evals] + [{"max_seconds": s} for s in seconds]
        done = [(r["name"], r["limit"], r["seed"]) for r in runs]
        for name in names:
            for limit in limits:
                if (name, limit, options.seed) not in done:
                    runs.keep(run_apart(name, limit, options.seed))
                    print(row(runs[-1]), flush=True)
    print("target, limit, evaluations, seconds, modes, error, error in se, warnings")
    print("\n".join(row(r) for r in runs))


if __name__ == "__main__":
    main()
