"""Memory of many draws that `pm.sample` streams into a Zarr store.

The peak of the resident memory beyond what the process held after the fit, for two numbers of
draws, each in a process of its own. PyMC's Zarr trace needs ``zarr<3`` and ``numcodecs<0.16``. Run
it with::

    python examples/benchmarks/stream.py --draws 20000 1000000
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Newer versions of numcodecs ask for this before they read what PyMC's trace writes.
os.environ.setdefault("NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE", "1")

import pymc as pm
import zarr
from draws import symmetric_pair
from growth import peak
from pymc.backends.zarr import ZarrTrace

import pymc_multimodal as mm


def run(draws: int) -> str:
    """Sample once, in this process; a line of the table."""
    with symmetric_pair(), tempfile.TemporaryDirectory() as folder:
        step = mm.MultimodalDiffusion(random_seed=1, quiet=True, progressbar=False)
        before, began = peak(), time.process_time()
        pm.sample(
            draws,
            tune=0,
            step=step,
            chains=1,
            cores=1,
            trace=ZarrTrace(store=zarr.DirectoryStore(folder), draws_per_chunk=1000),
            return_inferencedata=False,
            compute_convergence_checks=False,
            progressbar=False,
            random_seed=1,
        )
        cost = 1e6 * (time.process_time() - began) / draws
        return f'"{draws:,}", {peak() - before:.0f}, {cost:.0f}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    if options.one:
        print(run(options.one))
        return
    print("draws, peak of the memory (MB), CPU us a draw")
    for draws in options.draws:
        script = [sys.executable, "-W", "ignore", __file__, "--one", str(draws)]
        done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
