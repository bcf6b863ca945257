"""Fits that end as if their process had been killed, in a test that goes on."""

from __future__ import annotations


class Killed(BaseException):
    """The end of a process."""


def killing(n):
    """A report that ends the fit at the n-th stage it hears of."""
    heard = []

    def report(stage, text):
        if stage in ("plan", "preview", "forecast"):
            return
        heard.append(stage)
        if len(heard) == n:
            raise Killed

    return report
