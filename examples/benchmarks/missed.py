"""How often the searches miss a mode: random models that are searched but not fitted.

A component counts as missed if climbs from most of its own draws end in an unknown mode. This is
checked after the search for modes, after the further starts of the screening, and again after the
climbs of the challenge. The tempered search of the challenge gets 20,000 evaluations, as after a
short fit. The values of a screening, draws, chains and endpoints are left out; they would find some
more modes. The script prints the models of calibration.py that have a missed component. Run it
with::

    python examples/benchmarks/missed.py --models 1600
    python examples/benchmarks/missed.py --first-seed 161 --models 1 --searches 20

The second line searches one model twenty times.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from random_models import FAMILIES, RandomModel, random_model

from pymc_multimodal.challenge import (
    Challenge,
    Reference,
    begin_challenge,
    climb_starts,
    climb_within,
    extend_particles,
)
from pymc_multimodal.search import (
    ModeSearch,
    Search,
    begin_search,
    climb_from,
    find_modes,
    find_more_modes,
    modes_of,
)
from pymc_multimodal.search.screening import FURTHER_BATCH, MAX_FURTHER, MAX_RARE
from pymc_multimodal.search.stopping import has_rare_modes
from pymc_multimodal.target.density import Density

COUNTED, DRAWS = 0.01, 15
SETTINGS = ModeSearch()


def missed(model: RandomModel, density: Density, search: Search) -> list[int]:
    """Components whose draws climb to modes that the search does not know."""
    lost, known = [], modes_of(density, search, SETTINGS)
    for k in np.flatnonzero(model.weights >= COUNTED):
        x = model.components.draw(np.full(DRAWS, k), np.random.default_rng(k))
        search, labels = climb_from(density, search, SETTINGS, x)
        unknown = modes_of(density, search, SETTINGS).counterparts(known) < 0
        if np.mean(unknown[labels] & (labels >= 0)) > 0.5:
            lost.append(int(k))
    return lost


def searched(density: Density, seed: int) -> Search:
    """Return the search of a fit with this seed, before it is challenged."""
    rng = np.random.default_rng(seed).spawn(10)[0]
    search = begin_search(density, SETTINGS, True, rng)
    while not search.settled:
        search = find_modes(density, search, SETTINGS, rng)
    return search


def with_further_starts(density: Density, search: Search, seed: int) -> Search:
    """Return the search after the further starts of a cheap density."""
    rng, n = np.random.default_rng(seed).spawn(10)[1], search.counts.starts
    while (done := search.counts.starts - n) < MAX_FURTHER or (
        done < MAX_RARE and has_rare_modes(search, SETTINGS)
    ):
        search = find_more_modes(density, search, SETTINGS, FURTHER_BATCH, rng)
    return search


def count_missed(model: RandomModel, seed: int) -> tuple[list[list[int]], list[int]]:
    """Components missed by the search, with further starts, and after the climbs; evaluations."""
    challenge, density, evals = Challenge(), model.density(), []

    def price() -> None:
        evals.append(density.n_logp_evals - sum(evals))

    search = searched(density, seed)
    price()
    first = missed(model, model.density(), search)
    search = with_further_starts(density, search, seed)
    price()
    further = missed(model, model.density(), search)
    rng = np.random.default_rng(seed).spawn(10)[8]
    reference = Reference(search.centre, search.spread, density.period)
    state = begin_challenge(challenge, density.dim)
    state = extend_particles(density, reference, state, challenge.min_evals, rng)
    runs = [run for run in (state.pilot, state.particles) if run is not None]
    particles = np.concatenate([run.intermediate for run in runs])
    optima = search.optima.images()
    points = climb_starts(density, optima, particles, reference, challenge.climbs, rng)
    search, _ = climb_within(density, search, SETTINGS, points, 2 * challenge.min_evals)
    price()
    return [first, further, missed(model, model.density(), search)], evals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1600)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--searches", type=int, default=1)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.models)
    # The models of the last family are PyMC models, whose components are not known separately.
    seeds = [s for s in seeds if s % (len(FAMILIES) + 1) != len(FAMILIES)]
    counts, evals = np.zeros(3, dtype=int), []
    for seed in seeds:
        model = random_model(seed)
        for i in range(args.searches):
            lost, cost = count_missed(model, seed + i)
            counts += [bool(part) for part in lost]
            evals.append(cost)
            if lost[0]:
                names = [", ".join(f"{model.weights[k]:.3f}" for k in p) or "none" for p in lost]
                print(
                    f"seed {seed}, {model.family}, {model.dim}-D: missed {names[0]}; with further "
                    f"starts {names[1]}; after the climbs {names[2]}",
                    flush=True,
                )
    n, each = len(evals), np.mean(evals, axis=0)
    for i, after in enumerate(("the search", "further starts", "the climbs of the challenge")):
        print(
            f"{n} searches: a component missed in {counts[i]} ({counts[i] / n:.1%}) after {after} "
            f"({each[i]:,.0f} evaluations)"
        )


if __name__ == "__main__":
    main()
