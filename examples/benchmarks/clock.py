"""CPU seconds of a first and of a second run: `mm.sample`, `pm.sample_smc` and nutpie, by part.

Each run is a process of its own, with empty compile caches (cold) and then with those that the
first run has filled (warm). CPU seconds are those of the imports and those of the model and the
draws; of `mm.sample` also those of compiling and of each step of the fit. nutpie needs its package
(`rivals/requirements/jax.txt`), and is left out without it. Run it with::

    python examples/benchmarks/clock.py
    python examples/benchmarks/clock.py --models two_modes_8 --methods mm.sample
    python -X importtime -c "import pymc_multimodal" 2>&1 | sort -t "|" -k 2 -n | tail -30
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

METHODS = ("mm.sample", "pm.sample_smc", "nutpie")
MODELS = ("two_modes_8", "forty_modes", "two_groups")
# Draws of each of four chains. PyMC's defaults.
DRAWS, CHAINS = 1_000, 4
HEAD = (
    "model, method, import cold, warm, all else cold, warm, of which compiling cold, warm, "
    "parts of the warm run"
)
# Steps of the fit that take less than this part of the run are not named. Conventional.
NAMED = 0.05


def build(name: str) -> Any:
    """Return a model: two of the gallery, and a normal mixture of forty observations."""
    import numpy as np
    import pymc as pm

    from pymc_multimodal.gallery import TARGETS

    if name in TARGETS:
        return TARGETS[name]().model
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(-2, 1, 15), rng.normal(2, 1, 25)])
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, 5.0, shape=2)
        scale = pm.HalfNormal("scale", 1.0)
        weight = pm.Dirichlet("weight", np.ones(2))
        pm.NormalMixture("y", w=weight, mu=mean, sigma=scale, observed=data)
    return model


class Clock:
    """CPU seconds of functions by name; what one calls of the others is not counted twice."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = 0.0

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is timed."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            began = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                whole = time.process_time() - began
                self.spent[name] = self.spent.get(name, 0.0) + whole - self._inner
                self._inner = outer + whole

        return timed


def sample_ours(model: Any, clock: Clock) -> None:
    """Fit and draw; time compiling, the steps of the fit, and the InferenceData."""
    import pymc_multimodal as mm
    from pymc_multimodal.fit import loop
    from pymc_multimodal.plugin import fitting, sampler

    def run_step(step: Any, *arguments: Any) -> Any:
        return clock.wrap(step.name, plain)(step, *arguments)

    plain, loop.run_step = loop.run_step, run_step
    fitting.density_of = clock.wrap("compiling", fitting.density_of)
    for name in ("to_inference_data", "_check_convergence"):
        setattr(sampler, name, clock.wrap(name.strip("_"), getattr(sampler, name)))
    mm.sample(DRAWS, model=model, chains=CHAINS, random_seed=1, progressbar=False)


def sample_others(method: str, model: Any, clock: Clock) -> None:
    """Draw by another sampler."""
    import pymc as pm

    if method == "pm.sample_smc":
        # Each stage evaluates one compiled function of the prior and one of the likelihood.
        pm.smc.kernels._logp_forw = clock.wrap("compiling", pm.smc.kernels._logp_forw)
        with model:
            pm.sample_smc(chains=CHAINS, cores=1, random_seed=1, progressbar=False)
        return
    import nutpie

    compiled = clock.wrap("compiling", nutpie.compile_pymc_model)(model)
    nutpie.sample(compiled, chains=CHAINS, cores=1, seed=1, progress_bar=False)


def child(method: str, name: str) -> None:
    """Run once in this process; print a record."""
    import logging
    import warnings

    began = time.process_time()
    import pymc

    if method == "mm.sample":
        import pymc_multimodal  # noqa: F401
    if method == "nutpie":
        import nutpie  # noqa: F401
    imported = time.process_time() - began
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    model, clock = build(name), Clock()
    began = time.process_time()
    if method == "mm.sample":
        sample_ours(model, clock)
    else:
        sample_others(method, model, clock)
    total = time.process_time() - began
    record = {"import": imported, "run": total, "parts": clock.spent, "pymc": pymc.__version__}
    print("\n" + json.dumps(record))


def measure(method: str, name: str, folder: str) -> dict[str, Any]:
    """Run in a process whose compiled code is kept in a folder."""
    given = os.environ.get("PYTENSOR_FLAGS")
    flags = [*([given] if given else []), f"base_compiledir={folder}/pytensor"]
    environment = {**os.environ, "PYTENSOR_FLAGS": ",".join(flags), "NUMBA_CACHE_DIR": folder}
    done = subprocess.run(
        [sys.executable, __file__, "--child", f"{method}/{name}"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child.split("/"))
        return
    print(HEAD)
    for name in options.models.split(","):
        for method in options.methods.split(","):
            if method == "nutpie" and importlib.util.find_spec("nutpie") is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                cold, warm = (measure(method, name, folder) for _ in range(2))
            cells = [f"{r[k]:.1f}" for k in ("import", "run") for r in (cold, warm)]
            cells += [f"{r['parts'].get('compiling', 0.0):.1f}" for r in (cold, warm)]
            parts = sorted(warm["parts"].items(), key=lambda e: -e[1])
            named = [f"{k} {v:.2f}" for k, v in parts if v > NAMED * warm["run"]]
            print(f'{name}, {method}, {", ".join(cells)}, "{"; ".join(named)}"', flush=True)


if __name__ == "__main__":
    main()
