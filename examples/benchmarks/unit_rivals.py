"""Models of units by NUTS, sample_smc, nutpie and this package: errors of shares and of log Z.

The share is the part of the draws in which a unit (for `groups_30` the mean g) is on its upper
side; the error is the largest of all units. The methods run with their default settings, four
chains one after the other. Nothing is installed: nutpie is left out where it is missing. CPU
seconds include compiling, for all methods alike. Run it with::

    python examples/benchmarks/unit_rivals.py --seeds 3 --out unit_rivals.jsonl
    python examples/benchmarks/unit_rivals.py --out unit_rivals.jsonl --report
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm
from unit_models import MODELS, UnitModel

import pymc_multimodal as mm

NAMES = ("wells_16", "population_20", "population_200", "groups_30")
# Draws of each of four chains.
DRAWS, CHAINS = 1000, 4


def flat(posterior) -> dict[str, np.ndarray]:
    """Return draws of all chains by variable."""
    values = {name: np.asarray(posterior[name]) for name in posterior.data_vars}
    return {name: v.reshape(-1, *v.shape[2:]) for name, v in values.items()}


def by_nuts(seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Draw with `pm.sample`."""
    found = pm.sample(
        DRAWS,
        chains=CHAINS,
        cores=1,
        random_seed=seed,
        progressbar=False,
        compute_convergence_checks=False,
    )
    return flat(found.posterior), np.nan


def by_nutpie(seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Draw with nutpie."""
    import nutpie

    compiled = nutpie.compile_pymc_model(pm.modelcontext(None))
    found = nutpie.sample(
        compiled, draws=DRAWS, chains=CHAINS, cores=1, seed=seed, progress_bar=False
    )
    return flat(found.posterior), np.nan


def by_smc(seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Draw with `pm.sample_smc`."""
    found = pm.sample_smc(
        DRAWS * 2,
        chains=CHAINS,
        cores=1,
        random_seed=seed,
        progressbar=False,
        compute_convergence_checks=False,
    )
    log_z = [
        np.asarray(c, dtype=object).ravel()[-1]
        for c in found.sample_stats["log_marginal_likelihood"].values
    ]
    ends = [v[-1] if isinstance(v, list) else v for v in log_z]
    return flat(found.posterior), float(np.mean(np.array(ends, dtype=float)))


def by_ours(seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Draw with `mm.sample`."""
    found = mm.sample(DRAWS, chains=CHAINS, random_seed=seed, progressbar=False)
    return flat(found.posterior), float(found["modes"].attrs["log_evidence"])


METHODS: dict[str, Callable[[int], tuple[dict[str, np.ndarray], float]]] = {
    "pymc_multimodal": by_ours,
    "NUTS": by_nuts,
    "nutpie": by_nutpie,
    "sample_smc": by_smc,
}


def run(method: str, name: str, truth: UnitModel, seed: int) -> dict:
    """Draw once, and compare with the truth."""
    began = time.process_time()
    with truth.model:
        draws, log_z = METHODS[method](seed)
    cpu = time.process_time() - began
    share = truth.is_upper(draws).mean(axis=0)
    return {
        "method": method,
        "name": name,
        "seed": seed,
        "cpu": cpu,
        "share": float(np.abs(share - truth.upper).max()),
        "log_z": log_z - truth.log_evidence,
    }


def report(lines: list[dict]) -> None:
    """Print the worst of the seeds of each model and method."""
    print(
        "{:16}{:18}{:>6}{:>9}{:>10}{:>8}".format(
            "model", "method", "runs", "share", "log Z", "CPU s"
        )
    )
    for name in NAMES:
        for method in METHODS:
            own = [r for r in lines if (r["name"], r["method"]) == (name, method)]
            if own:
                share, cpu = max(r["share"] for r in own), np.median([r["cpu"] for r in own])
                gap = max(abs(r["log_z"]) for r in own)
                print(f"{name:16}{method:18}{len(own):6d}{share:9.3f}{gap:10.3f}{cpu:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    logging.getLogger("pymc.multimodal").setLevel(logging.ERROR)
    lines = [json.loads(v) for v in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(r["method"], r["name"], r["seed"]) for r in lines}
    for name in [] if args.report else args.names.split(","):
        truth = MODELS[name]()
        for method in args.methods.split(","):
            for seed in range(args.seeds):
                if (method, name, seed) in done:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        record = run(method, name, truth, seed)
                    except ImportError as error:
                        print(f"{method}: {error}")
                        break
                lines.append(record)
                with args.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(record, flush=True)
    report(lines)


if __name__ == "__main__":
    main()
