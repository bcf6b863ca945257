"""The effective share of weighted proposals."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.proposals.lrds import path_ess


def test_path_ess_is_that_of_weighted_draws():
    assert path_ess(np.zeros(10)) == pytest.approx(1.0)
    assert path_ess(np.array([1000.0, -np.inf, -np.inf, np.nan])) == pytest.approx(0.25)
    assert path_ess(np.log([1.0, 3.0])) == pytest.approx(16 / 20)
    assert path_ess(np.full(3, -np.inf)) == 0.0
