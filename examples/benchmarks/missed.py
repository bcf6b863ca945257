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
    modes_of,
)
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


def count_missed(seed: int) -> tuple[list[int], list[int], int, int]:
    """Components missed by the search and after the climbs, and evaluations of both."""
    model, challenge = random_model(seed), Challenge()
    density = model.density()
    search = searched(density, seed)
    evals = density.n_logp_evals
    first = missed(model, density, search)
    rng = np.random.default_rng(seed).spawn(10)[8]
    reference = Reference(search.centre, search.spread, density.period)
    state = begin_challenge(challenge, density.dim)
    state = extend_particles(density, reference, state, challenge.min_evals, rng)
    runs = [run for run in (state.pilot, state.particles) if run is not None]
    particles = np.concatenate([run.intermediate for run in runs])
    before, optima = density.n_logp_evals, search.optima.images()
    points = climb_starts(density, optima, particles, reference, challenge.climbs, rng)
    search, _ = climb_within(density, search, SETTINGS, points, 2 * challenge.min_evals)
    climbs = density.n_logp_evals - before
    return first, missed(model, density, search), evals, climbs


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
        first, then, *cost = count_missed(seed)
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
