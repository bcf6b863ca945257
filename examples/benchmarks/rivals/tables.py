"""Tables of the runs, in the form of reStructuredText's csv-table."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

OURS = "pymc_multimodal"
# An answer is wrong if an error of a share, or of log Z in nats, is larger than these, and larger
# than so many stated standard errors of log Z. Conventional: ten times the default `target_se`
# for a share, and a tenth of what model comparison calls weak evidence.
WRONG_SHARE, WRONG_LOG_Z, WRONG_Z = 0.1, 0.3, 4.0
HEAD = (
    "target, method, runs, error, log Z, in its errors, lost, evaluations, CPU s, "
    "evaluations x squared error, remarks"
)


def wrong(run: dict) -> bool:
    """Whether a mode is lost, or a share or the log evidence of an answer is wrong."""
    if not run["error"] <= WRONG_SHARE or run["lost"]:
        return True
    gap = abs(run["log_z_error"])
    return bool(gap > WRONG_LOG_Z and gap > WRONG_Z * run["log_z_se"])


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def row(name: str, method: str, runs: list[dict]) -> str:
    """Return one line: root mean squares over the seeds, medians of costs, and what was told."""
    answers = [r for r in runs if "error" in r]
    ended = ("killed", "refused", "failed")
    remarks = sorted({f"{k}: {r[k]}" for r in runs for k in ended if k in r})
    if not answers:
        text = "; ".join(remarks).replace('"', "'")
        return f'{name}, {method}, {len(runs)}, , , , , , , , "{text}"'

    def rms(values: list[float]) -> float:
        return float(np.sqrt(np.mean(np.square(values))))

    z = [abs(r["log_z_error"]) / max(r["log_z_se"], 1e-12) for r in answers]
    silent = sum(wrong(r) and not r["warnings"] for r in answers)
    told = sorted({w for r in answers for w in r["warnings"]})
    remarks += [f"{silent} wrong without a warning"] if silent else []
    remarks += [", ".join(told)] if told else []
    product = [r["evals"] * r["error"] ** 2 for r in answers]
    cells = [
        name,
        method,
        f"{len(answers)} of {len(runs)}" if len(answers) < len(runs) else str(len(runs)),
        number(rms([r["error"] for r in answers]), 4),
        number(rms([r["log_z_error"] for r in answers]), 3),
        number(max(z), 1) if np.isfinite(answers[0]["log_z_se"]) else "",
        str(sum(r["lost"] > 0 and not r["warnings"] for r in answers)),
        f'"{np.median([r["evals"] for r in answers]):,.0f}"',
        number(float(np.median([r["cpu"] for r in answers])), 1),
        number(float(np.mean(product)), 2),
        '"' + "; ".join(remarks) + '"' if remarks else "",
    ]
    return ", ".join(cells)


def beaten(groups: dict[tuple[str, str], list[dict]]) -> list[str]:
    """Say where another method's evaluations times squared error, or CPU seconds, are lower."""
    lines = []
    for name in dict.fromkeys(n for n, _ in groups):
        mine = [r for r in groups.get((name, OURS), []) if "error" in r]
        for method in (m for n, m in groups if n == name and m != OURS):
            other = [r for r in groups[name, method] if "error" in r and not wrong(r)]
            if not other or (name, OURS) not in groups:
                continue
            if not mine or all(wrong(r) for r in mine):
                lines.append(f"{name}: {method} has a right answer, {OURS} has none")
                continue
            kinds = {
                "error": lambda r: r["error"],
                "evaluations x squared error": lambda r: r["evals"] * r["error"] ** 2,
                "CPU s": lambda r: r["cpu"],
            }
            worse = [
                kind
                for kind, of in kinds.items()
                if np.mean([of(r) for r in mine]) > np.mean([of(r) for r in other])
            ]
            if worse:
                lines.append(f"{name}: {method} is ahead in {', '.join(worse)}")
    return lines


def report(runs: list[dict]) -> str:
    """Return the table of all runs, and where this package is not first."""
    groups: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for r in runs:
        groups[r["name"], r["method"]].append(r)
    order = list(dict.fromkeys(r["name"] for r in runs))
    lines = [HEAD]
    for name in order:
        own = [(m, g) for (n, m), g in groups.items() if n == name]
        lines += [row(name, m, g) for m, g in sorted(own, key=lambda e: e[0] != OURS)]
    return "\n".join([*lines, "", *beaten(groups)])
