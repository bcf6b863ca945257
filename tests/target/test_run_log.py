"""The log of what a fit has evaluated and measured since its last checkpoint."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from pymc_multimodal.target import run_log
from pymc_multimodal.target.evaluation import Evaluation
from pymc_multimodal.target.run_log import InUse, RunLog, Stored

X = np.arange(6.0).reshape(3, 2)
GIVEN = Evaluation(np.array([1.0, -np.inf, np.nan]), X * 2, 1, ValueError("no value.\nmore"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.log"


def opened(path, number=7):
    log = RunLog()
    log.open(path, number)
    return log


@pytest.fixture
def written(path):
    """A log with a measurement, and a chunk that was evaluated twice."""
    log = opened(path)
    assert log.once("price", lambda: (0.1, 2)) == (0.1, 2.0)
    for _ in range(2):
        log.add("function", X, GIVEN, (0.25, 0.2))
    log.add(
        "terms", X[:1], Evaluation(np.array([2.0], np.float32), np.empty(0), 0, None), (0.5, 0.5)
    )
    log.close()
    return path


def assert_given(stored):
    assert isinstance(stored, Stored)
    assert stored.seconds == 0.25
    np.testing.assert_array_equal(stored.evaluation.logp, GIVEN.logp)
    np.testing.assert_array_equal(stored.evaluation.grad, GIVEN.grad)
    assert stored.evaluation.n_raised == 1
    assert type(stored.evaluation.error).__name__ == "ValueError"
    assert str(stored.evaluation.error) == "no value"


def test_what_was_written_is_read_once(written):
    log = opened(written)
    assert log.measured == {"price": (0.1, 2.0)}
    assert log.once("price", lambda: pytest.fail("measured again")) == (0.1, 2.0)
    assert log.spent > 0
    for _ in range(2):
        assert_given(log.take("function", X))
    assert log.take("function", X) is None
    assert log.take("terms", X) is None
    assert log.take("terms", X[:1]).evaluation.logp.dtype == np.float32
    log.remove()
    assert not written.exists()


def test_a_point_serves_to_see_whether_the_density_is_the_same(written):
    log = opened(written)
    x, logp = log.points()
    np.testing.assert_array_equal(x, X[:1])
    np.testing.assert_array_equal(logp, [1.0])
    log.close()
    assert len(RunLog().points()[1]) == 0


def test_a_log_of_another_checkpoint_is_emptied(written):
    opened(written, number=8).close()
    log = opened(written, number=8)
    assert not log.measured
    assert log.take("function", X) is None
    log.close()


def test_what_was_not_asked_for_stays_after_a_checkpoint(written):
    log = opened(written)
    log.take("function", X)
    log.follow(8)
    log.close()
    log = opened(written, number=8)
    # The time before the checkpoint is in the checkpoint.
    assert log.spent == 0.0
    assert_given(log.take("function", X))
    assert log.take("function", X) is None
    log.close()


def test_an_entry_that_is_not_whole_ends_the_log(written):
    data = written.read_bytes()
    for n in range(len(data)):
        written.write_bytes(data[:n])
        log = opened(written)
        for stored in iter(lambda: log.take("function", X), None):  # noqa: B023
            assert_given(stored)
        # It is appended to where the last whole entry ends.
        log.add("function", X[:2], GIVEN, (0.25, 0.2))
        log.close()
        log = opened(written)
        assert log.take("function", X[:2]) is not None
        log.close()


def test_a_bit_that_flips_ends_the_log(written, rng):
    data = written.read_bytes()
    for bit in rng.integers(0, 8 * len(data), 100):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        written.write_bytes(changed)
        log = opened(written)
        assert log.measured in ({}, {"price": (0.1, 2.0)})
        for stored in iter(lambda: log.take("function", X), None):  # noqa: B023
            assert_given(stored)
        log.close()


def test_one_process_has_a_log_open(written):
    log = opened(written)
    with pytest.raises(InUse, match="another process"):
        opened(written)
    log.close()


def test_a_full_disk_is_told_and_ends_nothing(path, monkeypatch):
    class Disk:
        full = False

        def __init__(self, *args, **kwargs):
            self.file = open(*args, **kwargs)

        def write(self, data):
            if not Disk.full:
                return self.file.write(data)
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(run_log, "open", Disk, raising=False)
    log, told = opened(path), []
    log.on_fault = told.append
    log.once("a", lambda: (1.0,))
    size, Disk.full = path.stat().st_size, True
    assert log.once("b", lambda: (2.0,)) == (2.0,)
    log.add("function", X, GIVEN, (0.25, 0.2))
    assert [error.errno for error in told] == [errno.ENOSPC]
    assert path.stat().st_size == size
    Disk.full = False
    # After the next checkpoint it is written again.
    log.follow(8)
    log.add("function", X, GIVEN, (0.25, 0.2))
    log.close()
    log = opened(path, number=8)
    assert_given(log.take("function", X))
    log.close()


def test_without_a_file_measurements_are_known():
    log = RunLog()
    assert log.once("a", lambda: (1,)) == (1.0,)
    assert log.once("a", lambda: (2,)) == (1.0,)
    log.add("function", X, GIVEN, (0.25, 0.2))
    log.follow(3)
    assert log.take("function", X) is None
    assert log.measured == {"a": (1.0,)}
