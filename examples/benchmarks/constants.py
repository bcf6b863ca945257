"""Measure the constants of the package: fit random models with each one halved and doubled.

The package marks a constant that has no source and is no convention with a comment that names this
script. For each such number the script fits the same random models as ``calibration.py``, with half
and with twice the value. The table has, for each value, the evaluations relative to those with the
present value (median over the models), the largest |error| / se of the log evidences and of the
contrasts of weights, the components that were missed, and the fits with a warning. A constant is
uncritical if all of these stay as they are. Constants of the generators are varied with the
generator that uses them. Runs that the file holds are left out, so that the script can be stopped
and taken up again. Run it with::

    python examples/benchmarks/constants.py --out constants.jsonl
    python examples/benchmarks/constants.py --out constants.jsonl --report
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import calibration
import numpy as np
from weights import Runs

import pymc_multimodal

MARK = "Measured: examples/benchmarks/constants.py"
# Random models of five, one, one and one dimensions with three, one, three and one regions: all
# constants take some hours on one core.
SEEDS = (0, 2, 3, 6)
FACTORS = (0.5, 2.0)


def marked_constants() -> list[tuple[str, str]]:
    """Return module and name of every number whose comment names this script."""
    root = Path(pymc_multimodal.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        lines = path.read_text().splitlines()
        module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.Assign) and MARK in _comment_above(lines, node.lineno - 1):
                found += [(module, name) for name in _names(node.targets[0])]
    return [(m, n) for m, n in found if isinstance(getattr(import_module(m), n), int | float)]


def _comment_above(lines: list[str], row: int) -> str:
    """Join the comment that ends above a row, whose lines may be those of several constants."""
    first = row
    while first and (lines[first - 1].startswith("#") or lines[first - 1].startswith(")")):
        first -= 1
    return " ".join(line.lstrip("# ") for line in lines[first:row])


def _names(target: ast.expr) -> list[str]:
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    return [part.id for part in parts if isinstance(part, ast.Name)]


@contextmanager
def changed(module: str, name: str, factor: float) -> Iterator[None]:
    """Multiply a constant by a factor wherever the package has imported it."""
    home = import_module(module)
    value = getattr(home, name)
    other = type(value)(value * factor) if isinstance(value, int) else value * factor
    package = [m for n, m in list(sys.modules.items()) if n.startswith("pymc_multimodal")]
    places = [m for m in package if m is home or vars(m).get(name) is value]
    for place in places:
        setattr(place, name, other)
    try:
        yield
    finally:
        for place in places:
            setattr(place, name, value)


def generator_of(module: str) -> str:
    """Name of the generator that uses the constants of a module."""
    names = ("lrds", "score", "published")
    return next((n for n in names if f"proposals.{n}" in module), "hybrid")


def scores(record: dict) -> list[float]:
    """Errors of one fit in units of their standard errors."""
    found = [record["log_z_error"] / record["log_z_se"]]
    if "contrast" in record:
        error = record["contrast"] - record["contrast_truth"]
        found.append(error / np.hypot(record["contrast_se"], record["contrast_truth_se"]))
    return [abs(score) for score in found]


def report(runs: list[dict]) -> str:
    """Table with a row for each value of each constant."""
    base = {(r["generator"], r["seed"]): r for r in runs if r["constant"] == "none"}
    groups = defaultdict(list)
    for r in runs:
        groups[r["constant"], r["factor"], r["generator"]].append(r)
    lines = ["constant,factor,evaluations,largest |error| / se,missed,warnings"]
    for (name, factor, generator), group in groups.items():
        fitted = [r for r in group if "error" not in r]
        if not fitted:
            lines.append(f"{name},{factor:g},no fit: {group[0]['error'][:60]},,,")
            continue
        ratio = np.median([r["evals"] / base[generator, r["seed"]]["evals"] for r in fitted])
        worst = max(max(scores(r)) for r in fitted)
        missed = sum(len(r["missed"]) for r in fitted)
        warned = sum(bool(r["warnings"]) for r in fitted)
        lines.append(f"{name},{factor:g},{ratio:.2f},{worst:.1f},{missed},{warned}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", default="", help="only modules whose name holds this")
    parser.add_argument("--list", action="store_true", help="only list the constants")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    options = parser.parse_args()
    constants = [c for c in marked_constants() if options.modules in c[0]]
    if options.list:
        print("\n".join(f"{module}.{name}" for module, name in constants))
        return
    runs = Runs(options.out)
    if not options.report:
        done = {(r["constant"], r["factor"], r["generator"], r["seed"]) for r in runs}
        generators = list(dict.fromkeys(generator_of(module) for module, _ in constants))
        cases = [("", "none", 1.0, generator) for generator in generators]
        cases += [(m, n, f, generator_of(m)) for m, n in constants for f in FACTORS]
        for module, name, factor, generator in cases:
            label = f"{module.removeprefix('pymc_multimodal.')}.{name}" if module else name
            settings = calibration.parse(["--generator", generator, "--exact", "5000"])
            for seed in SEEDS:
                if (label, factor, generator, seed) in done:
                    continue
                if module:
                    with changed(module, name, factor):
                        record = calibration.judge(seed, settings)
                else:
                    record = calibration.judge(seed, settings)
                runs.keep({"constant": label, "factor": factor, **record})
    print(report(runs))


if __name__ == "__main__":
    main()
