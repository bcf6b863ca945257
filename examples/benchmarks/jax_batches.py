"""Points a second of a compiled log density with its gradient: Numba, and JAX in large batches.

CPU time and wall-clock time of one request of many points, and of ``values`` without the gradient,
on the mixture of forty normals, by turns. It needs the extra ``jax``. Run it with::

    python examples/benchmarks/jax_batches.py --target forty_modes --repeats 5
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model import density_of

POINTS = 131_072


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="forty_modes", choices=sorted(TARGETS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model, rng = TARGETS[options.target]().model, np.random.default_rng(0)
    densities = {m: density_of(model, compile_kwargs={"mode": m}) for m in ("NUMBA", "JAX")}
    x = 10.0 * rng.standard_normal((POINTS, densities["JAX"].dim))
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(options.repeats + 1):
        for mode, density in densities.items():
            for what in ("logp_and_grad", "values"):
                cpu, began = time.process_time(), time.perf_counter()
                getattr(density, what)(x)
                took = time.process_time() - cpu, time.perf_counter() - began
                if repeat:  # the first one compiles
                    spent.setdefault((mode, what), []).append(took)
    print("mode, call, thousand points a CPU second, thousand points a second")
    for (mode, what), times in spent.items():
        cpu, wall = POINTS / np.median(times, axis=0) / 1000
        print(f"{mode}, {what}, {cpu:.0f}, {wall:.0f}")


if __name__ == "__main__":
    main()
