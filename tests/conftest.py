"""What every test may use: a seeded generator, and pictures without a screen."""

import hashlib
import os

os.environ["MPLBACKEND"] = "Agg"
# Before NumPy is imported: threads only spin on matrices as small as those of the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own, seeded by its name alone: the same in every run."""
    digest = hashlib.sha256(request.node.name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
