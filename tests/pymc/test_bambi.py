"""Models that Bambi builds are sampled as others; runs where Bambi is installed."""

import numpy as np
import pandas as pd
import pytest

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset


def test_a_model_of_bambi_is_sampled_and_predicts(rng):
    bambi = pytest.importorskip("bambi")
    x = np.linspace(-1.0, 1.0, 40)
    data = pd.DataFrame({"x": x, "y": 1.0 + 2.0 * x + rng.normal(0.0, 0.3, 40)})
    model = bambi.Model("y ~ x", data)
    model.build()
    idata = mm.sample(500, model=model.backend.model, random_seed=1, quiet=True, progressbar=False)
    posterior = get_dataset(idata, "posterior")
    design = np.stack([np.ones_like(x), x], axis=1)
    exact, *_ = np.linalg.lstsq(design, data["y"].to_numpy(), rcond=None)
    # The priors of Bambi are wide: the mean is that of least squares but for a part of its error.
    spread = 0.3 * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    found = [float(posterior[name].mean()) for name in ("Intercept", "x")]
    np.testing.assert_array_less(np.abs(np.array(found) - exact), 0.3 * spread)
    assert mm.mode_table(idata).shape[0] == 1
    model.predict(idata)
    assert get_dataset(idata, "posterior")["mu"].shape[-1] == 40
