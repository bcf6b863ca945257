"""CPU time of one draw, after the fit: `pm.sample(step=...)`, `mm.sample` and NUTS, in one process.

Cheap densities, so that what is measured is the samplers themselves; one chain, and four of
`mm.sample`. The median of several runs of so many draws each. Run it with::

    python examples/benchmarks/draws.py --draws 4000 --repeats 5
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm

import pymc_multimodal as mm
from pymc_multimodal.gallery import TARGETS

QUIET = {"progressbar": False, "compute_convergence_checks": False, "random_seed": 1}


def symmetric_pair() -> pm.Model:
    """Two normal modes that a reflection exchanges, in two dimensions."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=2)
        modes = [-5.0 * pm.math.sum((x - at) ** 2) for at in (2.0, -2.0)]
        pm.Potential("modes", pm.math.logsumexp(pm.math.stack(modes)))
    return model


MODELS: dict[str, Callable[[], pm.Model]] = {
    "symmetric_pair": symmetric_pair,
    "two_modes_8": lambda: TARGETS["two_modes_8"]().model,
    "forty_modes": lambda: TARGETS["forty_modes"]().model,
    "two_bananas_10": lambda: TARGETS["two_bananas_10"]().model,
}


def microseconds(draw: Callable[[int], object], draws: int, repeats: int) -> float:
    """Median CPU time of one further draw: that of a long run without that of a short one."""
    draw(100)
    times = []
    for _ in range(repeats):
        spent = []
        for n in (100, 100 + draws):
            began = time.process_time()
            draw(n)
            spent.append(time.process_time() - began)
        times.append((spent[1] - spent[0]) / draws)
    return 1e6 * float(np.median(times))


def row(name: str, draws: int, repeats: int) -> str:
    """Line of the table."""
    with MODELS[name]():
        step = mm.MultimodalDiffusion(random_seed=1, quiet=True, progressbar=False)
        one = {"chains": 1, "cores": 1, **QUIET}

        def by_step(n: int) -> object:
            return pm.sample(n, tune=0, step=step, **one)

        def by_sample(n: int) -> object:
            return mm.sample(n, chains=4, fit=step.fit, quiet=True, **QUIET)

        nuts = pm.NUTS()

        def by_nuts(n: int) -> object:
            return pm.sample(n, tune=0, step=nuts, **one)

        costs = [microseconds(f, draws, repeats) for f in (by_step, by_sample, by_nuts)]
    costs[1] /= 4
    return f"{name}, {step.fit.kernel.jumps}, " + ", ".join(f"{c:.0f}" for c in costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", help="comma separated names (default: all)")
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    print("model, jumps a draw, pm.sample(step=...), mm.sample, NUTS (us a draw)")
    for name in options.targets.split(",") if options.targets else MODELS:
        print(row(name, options.draws, options.repeats), flush=True)


if __name__ == "__main__":
    main()
