"""Engines for ``workers=`` and worker processes that the tests share."""

from __future__ import annotations

from pathlib import Path


class Here:
    """An engine with `map` alone, which does its tasks here.

    Attributes
    ----------
    tasks : list
        All that it was given.
    requests : list of int
        Points that each request has evaluated.
    """

    def __init__(self, n_workers=2, change=lambda task: task, failures=0):
        self.n_workers, self.change, self.failures = n_workers, change, failures
        self.tasks, self.requests = [], []

    def map(self, function, tasks):
        self.tasks += tasks
        if self.failures:
            self.failures -= 1
            raise OSError("the connection is gone")
        answers = [function(self.change(task)) for task in tasks]
        done = zip(tasks, answers, strict=True)
        self.requests.append(sum(sum(map(len, t.calls)) for t, a in done if a.kind == "done"))
        return answers


def alive(pid):
    """Tell whether a process runs; one that has ended may still have its number."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
