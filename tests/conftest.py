"""What every test may use: a seeded generator, a fitted model, and pictures without a screen."""

import hashlib
import os
import signal

os.environ["MPLBACKEND"] = "Agg"
# Before NumPy is imported: threads only spin on matrices as small as those of the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import models
import numpy as np
import pytest
from clocks import Clock

import pymc_multimodal as mm
from pymc_multimodal.model import compiled
from pymc_multimodal.search import screening
from pymc_multimodal.target import density

# A shell lets commands in the background ignore Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DEAR_SECONDS = 0.02
"""Seconds of an evaluation from which on a call has one point, in tests: ten times the default."""


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own, seeded by its name alone: the same in every run."""
    digest = hashlib.sha256(request.node.name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The machine's clocks, which a test can set forward."""
    return Clock(monkeypatch, runs=True)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Clocks that stand still until a test sets them forward."""
    return Clock(monkeypatch, runs=False)


@pytest.fixture(autouse=True, scope="session")
def short_screenings():
    """Screenings of a few thousand points in place of two seconds, unless a number is given.

    No point counts as dear, as some do on a busy machine: two fits of one seed would differ.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "MAX_POINTS", 2**11)
        patch.setattr(screening, "MAX_FURTHER", 64)
        patch.setattr(screening, "MAX_RARE", 64)
        patch.setattr(screening, "DEAR_SECONDS", 0.1)
        yield


@pytest.fixture(autouse=True, scope="session")
def calls_of_many_points():
    """Calls of many points on a busy machine, too.

    A point of a model that the Python linker compiles takes about two milliseconds, and from these
    on a call has one point: some fits would take four times as long now and then.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "DEAR_SECONDS", DEAR_SECONDS)
        patch.setattr(compiled, "DEAR_SECONDS", DEAR_SECONDS)
        yield


@pytest.fixture(scope="session")
def four_modes():
    """`models.four_modes`; tests that change it put it back."""
    return models.four_modes()


@pytest.fixture(scope="session")
def four_modes_fit(four_modes):
    """A fit of `four_modes` with all stages."""
    return mm.fit(four_modes, random_seed=11, progressbar=False, quiet=True)
