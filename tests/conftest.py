"""What every test may use: a seeded generator, and pictures without a screen."""

import hashlib
import os

import numpy as np
import pytest

os.environ["MPLBACKEND"] = "Agg"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own: seeded by its name, the same in every run and order."""
    digest = hashlib.sha256(request.node.nodeid.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
