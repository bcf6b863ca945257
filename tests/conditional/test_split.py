import numpy as np

from pymc_multimodal.conditional import find_split
from pymc_multimodal.target.density import Density


def named(names, **more):
    return Density(lambda x: (np.zeros(len(x)), np.zeros_like(x)), len(names), names=names, **more)


def test_small_variables_are_hubs():
    names = ["mean", "spread_log__", *(f"beta[{i}]" for i in range(200)), "noise_log__"]
    split = find_split(named(names))
    assert split.hubs.tolist() == [0, 1, 202]
    assert split.names == ("mean", "spread_log__", "noise_log__")
    x = np.arange(2 * 203.0).reshape(2, 203)
    np.testing.assert_array_equal(split.join(x[:, split.hubs], x[:, split.rest]), x)


def test_a_density_without_small_variables_or_with_many_of_them_has_no_hubs():
    assert find_split(named([f"x[{i}]" for i in range(300)])) is None
    assert find_split(named([f"x[{i}]" for i in range(300)] + [f"a{i}" for i in range(40)])) is None
    assert find_split(named(["a", "b[0]", "b[1]", "b[2]", "b[3]", "b[4]"])) is None


def test_circular_coordinates_are_hubs_alone():
    names = ["angle", *(f"beta[{i}]" for i in range(200))]
    period = np.full(201, np.inf)
    period[0] = 2 * np.pi
    assert find_split(named(names, period=period)) is not None
    period[7] = 2 * np.pi
    assert find_split(named(names, period=period)) is None
