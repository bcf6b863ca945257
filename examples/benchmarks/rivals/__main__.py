"""Posteriors with known answers by many samplers: errors of mode weights and evidence, and costs.

Each run of a method on a problem with a seed is a process of its own, which is killed at a limit of
CPU seconds, and one line of JSON. Runs that the file already holds are left out, so that a long
table can be stopped and continued. Methods need packages of their own: `requirements/` has a
file for each group, and ``--python`` names the interpreter of a group. A run whose package is
missing says which. Run it with::

    python examples/benchmarks/rivals --out rivals.jsonl --methods pymc_multimodal,sample_smc
    python examples/benchmarks/rivals --out rivals.jsonl --python nested=.venv-nested/bin/python
    python examples/benchmarks/rivals --out rivals.jsonl --report
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import argparse
import contextlib
import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from field_problems import PROBLEMS
from methods import METHODS
from problems import Problem
from tables import report
from weights import Runs

# Elapsed seconds of a run for each CPU second of its limit, on a machine that is shared.
# Conventional.
PATIENCE = 30.0
# A mode of at least this share is lost if less than that part of it is found. Conventional.
COUNTED, FOUND = 0.001, 0.05


def cpu_seconds() -> float:
    """CPU time of this process and of its children, so far."""
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def work(method: str, problem: Problem, seed: int) -> dict:
    """Run once in this process, and compare with the truth."""
    cpu = cpu_seconds()
    try:
        found = METHODS[method].run(problem, seed)
    except ModuleNotFoundError as error:
        group = METHODS[method].group
        return {"missing": f"{error.name}: pip install -r requirements/{group}.txt"}
    cpu = cpu_seconds() - cpu
    error = np.abs(found.shares - problem.truth)
    # An event and its contrary are both modes, or groups of them.
    truth = np.concatenate([problem.truth, 1 - problem.truth])
    share = np.concatenate([found.shares, 1 - found.shares])
    return {
        "cpu": round(cpu, 1),
        "evals": int(found.evaluations),
        "error": float(error.max()),
        "share_se": float(found.share_se),
        "lost": int(np.sum((truth >= COUNTED) & (share < FOUND * truth))),
        "log_z_error": float(found.log_z - problem.log_z),
        "log_z_se": float(found.log_z_se),
        "warnings": list(found.warnings),
    }


def in_child(method: str, problem: Problem, seed: int, limit: int, write: int) -> None:
    """Run once in this process, which ends here; write the record to a file descriptor."""
    most = int(cpu_seconds()) + limit
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    try:
        # Packages print.
        with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull):
            record = work(method, problem, seed)
    except Exception as error:
        record = {"failed": f"{type(error).__name__}: {error}"[:200]}
    os.write(write, json.dumps(record).encode())
    os._exit(0)


def run_apart(method: str, problem: Problem, seed: int, limit: int) -> dict:
    """Run once in a process of its own, which is killed at the limit."""
    if refusal := METHODS[method].refusal(problem):
        return {"refused": refusal}
    if METHODS[method].group == "jax":
        # JAX waits forever in a process that was forked from one with threads.
        script = [sys.executable, str(Path(__file__).parent), "--cpu", str(limit), "--alone"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*script, f"{method}/{problem.name}/{seed}"],
                stdout=subprocess.PIPE,
                timeout=PATIENCE * limit,
                check=False,
            )
            if done.stdout:
                return json.loads(done.stdout.splitlines()[-1])
        return {"killed": f"after {limit} CPU s"}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        in_child(method, problem, seed, limit, write)
    os.close(write)
    # A record is far smaller than what a pipe holds, so the child never waits for its reader.
    ends = time.monotonic() + PATIENCE * limit
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.1)
    with os.fdopen(read, "rb") as file:
        answer = file.read()
    return json.loads(answer) if answer else {"killed": f"after {limit} CPU s"}


def run_group(wanted: list[list], limit: int) -> None:
    """Do the runs of one environment in their order; print a line for each."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    problems: dict[str, Problem] = {}
    for method, name, seed in wanted:
        if name not in problems:
            problems[name] = PROBLEMS[name]()
        began = time.monotonic()
        record = {"method": method, "name": name, "seed": seed, "limit": limit}
        record |= run_apart(method, problems[name], seed, limit)
        print(json.dumps(record | {"seconds": round(time.monotonic() - began, 1)}), flush=True)


def empty_caches(folder: str) -> dict[str, str]:
    """Return an environment in which compiled code is kept in a folder."""
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    flags = ",".join([*([flags] if flags else []), f"base_compiledir={folder}/pytensor"])
    return {**os.environ, "PYTENSOR_FLAGS": flags, "NUMBA_CACHE_DIR": f"{folder}/numba"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--names", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cpu", type=int, default=120, help="CPU seconds of a run")
    parser.add_argument("--python", action="append", default=[], help="GROUP=INTERPRETER")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--cold", action="store_true", help="empty compile caches for each run")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    parser.add_argument("--group", help=argparse.SUPPRESS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.alone:
        method, name, seed = options.alone.split("/")
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        in_child(method, PROBLEMS[name](), int(seed), options.cpu, sys.stdout.fileno())
    if options.group:
        run_group(json.loads(options.group), options.cpu)
        return
    pythons = dict(entry.split("=", 1) for entry in options.python)
    runs = Runs(options.out)
    names, methods = options.names.split(","), options.methods.split(",")
    for kind, given, known in (("names", names, PROBLEMS), ("methods", methods, METHODS)):
        if unknown := set(given) - set(known):
            raise SystemExit(f"--{kind}: {sorted(unknown)} unknown; there are {', '.join(known)}")
    done = {(r["method"], r["name"], r["seed"]) for r in runs}
    wanted = [(m, n, s) for s in range(options.seeds) for n in names for m in methods]
    groups = defaultdict(list)
    for i, run in enumerate([] if options.report else [w for w in wanted if w not in done]):
        groups[METHODS[run[0]].group, i if options.cold else 0].append(run)
    for (group, _), some in groups.items():
        script = [pythons.get(group, sys.executable), str(Path(__file__).parent)]
        script += ["--cpu", str(options.cpu), "--group", json.dumps(some)]
        with (
            tempfile.TemporaryDirectory() as folder,
            subprocess.Popen(
                script,
                stdout=subprocess.PIPE,
                text=True,
                env=empty_caches(folder) if options.cold else None,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if "missing" not in (record := json.loads(line)):
                    runs.keep(record)
    print(report(runs))


if __name__ == "__main__":
    main()
