"""What the constants of the package are worth: each one halved and doubled, on random models.

A constant that is neither sourced nor conventional is measured here. With each value the same
random models are fitted as in ``calibration.py``. The report gives, for each value, evaluations
relative to those with the present value (median over the models), the largest |error| / se of the
contrasts of weights and of the log evidences, components missed, and warnings. A value is good if
neither half nor double of it is better without being dearer. Runs in the file are left out. Run it
with::

    python examples/benchmarks/constants.py --out constants.jsonl
    python examples/benchmarks/constants.py --out constants.jsonl --report
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import calibration
import numpy as np
from weights import Runs

# Random models that fit within some seconds: several dimensions, families and numbers of modes.
SEEDS = (0, 1, 4, 9)
FACTORS = (0.5, 2.0)
# Modules of the package with the constants that they hold.
CONSTANTS: dict[str, tuple[str, ...]] = {}


@contextmanager
def changed(module: str, name: str, factor: float) -> Iterator[None]:
    """Multiply a constant of the package by a factor for the time of the context."""
    home = import_module(f"pymc_multimodal.{module}")
    value = getattr(home, name)
    other = type(value)(value * factor) if isinstance(value, int | float) else value * factor
    places = [m for m in _modules() if getattr(m, name, None) is value or m is home]
    for place in places:
        setattr(place, name, other)
    try:
        yield
    finally:
        for place in places:
            setattr(place, name, value)


def _modules() -> list:
    import sys

    return [m for n, m in list(sys.modules.items()) if n.startswith("pymc_multimodal") and m]


def scores(record: dict) -> list[float]:
    """Errors of one fit in units of their standard errors."""
    found = [record["log_z_error"] / record["log_z_se"]]
    if "contrast" in record:
        error = record["contrast"] - record["contrast_truth"]
        found.append(error / np.hypot(record["contrast_se"], record["contrast_truth_se"]))
    return [abs(score) for score in found]


def report(runs: list[dict]) -> str:
    """Table with a row for each value of each constant."""
    base = {r["seed"]: r for r in runs if r["constant"] == "none"}
    groups = defaultdict(list)
    for r in runs:
        groups[r["constant"], r["factor"]].append(r)
    lines = ["constant, factor: evaluations (ratio), largest |error|/se, missed, warnings"]
    for (name, factor), group in groups.items():
        fitted = [r for r in group if "error" not in r]
        ratio = np.median(
            [r["evals"] / base[r["seed"]]["evals"] for r in fitted if r["seed"] in base]
        )
        worst = max(max(scores(r)) for r in fitted)
        missed = sum(len(r["missed"]) for r in fitted)
        warned = sum(bool(r["warnings"]) for r in fitted)
        lines.append(f"{name}, {factor:g}: {ratio:.2f}, {worst:.1f}, {missed}, {warned}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    options = parser.parse_args()
    runs = Runs(options.out)
    if not options.report:
        settings = calibration.parse([])
        done = {(r["constant"], r["factor"], r["seed"]) for r in runs}
        cases = [("none", "", 1.0)]
        cases += [(m, n, f) for m, names in CONSTANTS.items() for n in names for f in FACTORS]
        for module, name, factor in cases:
            label = f"{module}.{name}" if name else "none"
            for seed in SEEDS:
                if (label, factor, seed) in done:
                    continue
                if name:
                    with changed(module, name, factor):
                        record = calibration.judge(seed, settings)
                else:
                    record = calibration.judge(seed, settings)
                runs.keep({"constant": label, "factor": factor, **record})
    print(report(runs))


if __name__ == "__main__":
    main()
