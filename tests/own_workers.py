"""The worker processes of this package that run now."""

from __future__ import annotations

import multiprocessing


def own_workers():
    """Return the processes; joblib keeps some of its own for the next call."""
    return [p for p in multiprocessing.active_children() if p.name == "multimodal-worker"]
