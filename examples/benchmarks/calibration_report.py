"""Tables of a calibration run: coverage, missed modes, and the bound for silent errors."""

from __future__ import annotations

import csv
import io

import numpy as np
from scipy.stats import beta

LEVELS = {"68 %": 0.994458, "95 %": 1.959964}
# Standard errors. A run is wrong if the error of an estimate is larger.
WRONG = 5.0
TITLES = {
    "contrast": "contrast of weights",
    "log_z": "log Z",
    "evidence": "log evidence of each mode",
}
DIMENSIONS = ((1, 2), (3, 5), (6, 12), (13, 30))


def z_of(runs: list[dict], name: str) -> np.ndarray:
    """(estimate - truth) / se of contrasts, log Z or modes' evidences, of runs that have them."""
    if name == "log_z":
        rows = [(r["log_z_error"], r["log_z_se"]) for r in runs]
    elif name == "evidence":
        rows = [
            pair
            for r in runs
            for pair in zip(r.get("evidence_errors", ()), r.get("evidence_se", ()), strict=True)
        ]
    else:
        rows = [
            (
                r["contrast"] - r["contrast_truth"],
                np.hypot(r["contrast_se"], r["contrast_truth_se"]),
            )
            for r in runs
            if "contrast" in r
        ]
    error, se = np.array(rows, dtype=float).reshape(-1, 2).T
    # An unknown error covers every estimate; an error of zero covers only the truth.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, error / se)


def largest_z(run: dict) -> float:
    return max(np.abs(z_of([run], name)).max(initial=0.0) for name in ("log_z", "contrast"))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial probability after k successes among n."""
    tail = (1 - level) / 2
    low = beta.ppf(tail, k, n - k + 1) if k else 0.0
    high = beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def upper_bound(k: int, n: int, level: float = 0.95) -> float:
    """One-sided upper bound; about 3 / n if k = 0 and n is large."""
    return float(beta.ppf(level, k + 1, n - k)) if k < n else 1.0


def _share(k: int, n: int) -> str:
    if not n:
        return ""
    p = k / n
    return f"{p:.1%} ± {np.sqrt(max(p * (1 - p), 0.25 / n) / n):.1%}"


def _coverage_row(name: str, runs: list[dict], kind: str) -> list[str]:
    z = np.abs(z_of(runs, kind))
    covered = [_share(int((z <= limit).sum()), len(z)) for limit in LEVELS.values()]
    rms = f"{np.sqrt(np.mean(z**2)):.2f}" if len(z) else ""
    # A few runs with large errors would hide the typical run.
    typical = f"{np.median(z) / 0.6745:.2f}" if len(z) else ""
    return [name, str(len(z)), *covered, rms, typical, f"{z.max(initial=0.0):.1f}"]


def groups(runs: list[dict]) -> dict[str, list[dict]]:
    """Split runs by warning, family and dimension."""
    found = {
        "all": runs,
        "without a warning": [r for r in runs if not r["warnings"]],
        "and challenged well": [r for r in runs if not r["warnings"] and well_challenged(r)],
        "with a warning": [r for r in runs if r["warnings"]],
    }
    for family in dict.fromkeys(r["family"] for r in runs):
        found[family] = [r for r in runs if r["family"] == family]
    for low, high in DIMENSIONS:
        found[f"{low}-{high} dimensions"] = [r for r in runs if low <= r["dim"] <= high]
    return {name: group for name, group in found.items() if group}


def table(head: list[str], rows: list[list]) -> str:
    """Table as reStructuredText, for the documentation."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    first, *lines = text.getvalue().splitlines()
    rows = "\n".join(f"    {line}" for line in lines)
    return f".. csv-table::\n    :header: {first}\n\n{rows}"


def well_challenged(run: dict) -> bool:
    """Whether the tempered search had enough independent endpoints to judge the fit."""
    return "challenge" not in run["infos"] and run["challenged_by"] > 0


def silent_errors(runs: list[dict]) -> str:
    """Say how many runs were wrong or missed a mode, with and without a warning."""
    wrong = [r for r in runs if largest_z(r) > WRONG]
    missed = [r for r in runs if r["missed"]]
    kinds = {
        f"wrong by more than {WRONG:g} standard errors": wrong,
        "with a missed mode": missed,
        "either": [r for r in runs if r in wrong or r in missed],
    }
    silent = [r for r in runs if not r["warnings"]]
    judged = [r for r in silent if well_challenged(r)]
    rows = []
    for name, found in kinds.items():
        quiet = [r for r in found if r in silent]
        passed = [r for r in quiet if r in judged]
        rows.append([
            name, _share(len(found), len(runs)), str(len(found) - len(quiet)),
            _bounded(len(quiet), len(silent)), _bounded(len(passed), len(judged)),
            ", ".join(str(r["seed"]) for r in quiet[:20]),
        ])  # fmt: skip
    head = ["runs", "share", "warned", "unwarned", "and challenged well", "seeds of unwarned ones"]
    return table(head, rows)


def _bounded(k: int, n: int) -> str:
    return f"{k} of {n} (below {upper_bound(k, n):.2%})" if n else "0 of 0"


def seed_ranges(runs: list[dict]) -> str:
    """Name the seeds that were run: '0-57, 400-431'."""
    seeds = np.unique([r["seed"] for r in runs])
    parts = np.split(seeds, np.flatnonzero(np.diff(seeds) > 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def report(records: list[dict]) -> str:
    """Tables of the records of each generator, as reStructuredText."""
    parts = []
    for generator in dict.fromkeys(r["generator"] for r in records):
        mine = [r for r in records if r["generator"] == generator]
        runs = [r for r in mine if "error" not in r]
        head = ["", "n", "68 %", "95 %", "rms z", "68 % point", "largest"]
        parts.append(
            f"{generator}: {len(mine)} models (seeds {seed_ranges(mine)}), "
            f"{len(mine) - len(runs)} not fitted, "
            f"{sum(not r['warnings'] for r in runs)} without a warning, "
            f"{np.mean([r['cpu'] for r in runs]):.1f} CPU s and "
            f"{np.mean([r['evals'] for r in runs]):,.0f} evaluations each"
        )
        for kind, title in TITLES.items():
            if not len(z_of(runs, kind)):
                continue
            rows = [_coverage_row(name, group, kind) for name, group in groups(runs).items()]
            parts.append(table([title, *head[1:]], rows))
        parts.append(silent_errors(runs))
    return "\n\n".join(parts)
