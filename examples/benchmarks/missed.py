"""How often the searches miss a mode: random models that are searched but not fitted.

A component counts as missed if climbs from most of its own draws end in an unknown mode. This is
checked after the search for modes, and again after the climbs of the challenge. The tempered search
of the challenge gets 20,000 evaluations, as after a short fit. Chains and endpoints are left out;
they would find some more modes. The script prints the models of calibration.py that have a missed
component. Run it with::

    python examples/benchmarks/missed.py --models 1600
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from random_models import FAMILIES, RandomModel, random_model

from pymc_multimodal.challenge.challenger import Challenger
from pymc_multimodal.challenge.climbs import beginnings, climb_from
from pymc_multimodal.challenge.settings import Challenge
from pymc_multimodal.search.finder import ModeFinder
from pymc_multimodal.search.modes import Modes
from pymc_multimodal.search.settings import ModeSearch

COUNTED, DRAWS = 0.01, 15


def missed(model: RandomModel, finder: ModeFinder, known: Modes) -> list[int]:
    """Components whose draws climb elsewhere; `finder` knows more afterwards."""
    lost = []
    for k in np.flatnonzero(model.weights >= COUNTED):
        x = model.components.draw(np.full(DRAWS, k), np.random.default_rng(k))
        found, labels = finder.extend(x)
        unknown = found.counterparts(known) < 0
        if np.mean(unknown[labels] & (labels >= 0)) > 0.5:
            lost.append(int(k))
    return lost


def searched(seed: int) -> tuple[ModeFinder, Modes]:
    # The streams of `fit_density`.
    rng = np.random.default_rng(seed).spawn(10)[0]
    finder = ModeFinder(random_model(seed).density(), ModeSearch(), rng, True)
    return finder, finder.search()


def judge(seed: int) -> tuple[list[int], list[int], int, int]:
    """Components missed by the search and after the climbs, and evaluations of both."""
    model = random_model(seed)
    finder, modes = searched(seed)
    evals = finder.density.n_logp_evals
    first = missed(model, finder, modes)
    finder, modes = searched(seed)
    challenge, density = Challenge(), finder.density
    rng = np.random.default_rng(seed).spawn(10)[8]
    challenger = Challenger(density, ModeSearch(), challenge, rng)
    challenger.seek(challenge.min_evals)
    trail = np.concatenate([r.trail for r in (challenger.pilot, challenger.ends) if r is not None])
    before, optima = density.n_logp_evals, finder.atlas.images()
    points = beginnings(density, optima, trail, challenger.reference, challenge.climbs, rng)
    modes = climb_from(finder, modes, points, 2 * challenge.min_evals)[1]
    climbs = density.n_logp_evals - before
    return first, missed(model, finder, modes), evals, climbs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1600)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.models)
    # The models of the last family are PyMC models, whose components are not known separately.
    seeds = [s for s in seeds if s % (len(FAMILIES) + 1) != len(FAMILIES)]
    counts, evals = np.zeros(2, dtype=int), []
    for seed in seeds:
        first, then, *cost = judge(seed)
        counts += [bool(first), bool(then)]
        evals.append(cost)
        if first:
            model = random_model(seed)
            lost = [", ".join(f"{model.weights[k]:.3f}" for k in part) for part in (first, then)]
            print(
                f"seed {seed}, {model.family}, {model.dim}-D: missed {lost[0]}; "
                f"after the climbs {lost[1] or 'none'}",
                flush=True,
            )
    n, (search, climbs) = len(seeds), np.mean(evals, axis=0)
    print(
        f"{n} models: a component missed in {counts[0]} ({counts[0] / n:.1%}) after the search "
        f"({search:,.0f} evaluations), in {counts[1]} ({counts[1] / n:.1%}) after the climbs "
        f"({climbs:,.0f} evaluations)"
    )


if __name__ == "__main__":
    main()
