"""Draws of exchangeable components are put in one order, and nothing else is changed."""

import logging

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from models import four_modes, one_dimensional, tilted_signs

from pymc_multimodal import MultimodalDiffusion, attach, mode_table, relabel, sample
from pymc_multimodal._compat import get_dataset, load, rhat, save
from pymc_multimodal.gallery import symmetric_mixture
from pymc_multimodal.plugin.merged_images import first_images, merged_modes
from pymc_multimodal.plugin.relabel import acts_as, read_action, read_labels


@pytest.fixture(scope="module")
def mixture():
    target = symmetric_mixture()
    with target.model:
        idata = sample(500, random_seed=1, quiet=True, challenge=False)
    return idata


def test_what_a_map_does_is_read_from_a_draw_and_its_image():
    before = {"mu": np.array([1.0, 2.0]), "w": np.array(0.3), "s": np.array([[1.0, 4.0]]),
              "total": np.array(3.0), "odd": np.array([1.0, 2.0])}  # fmt: skip
    after = {"mu": np.array([2.0, 1.0]), "w": np.array(0.7), "s": np.array([[-1.0, 4.0]]),
             "total": np.array(3.0), "odd": np.array([1.0, 5.0])}  # fmt: skip
    action = read_action(before, after)
    assert action["mu"] == [("mu", 1, 1.0, 0.0), ("mu", 0, 1.0, 0.0)]
    assert action["w"] == [("w", 0, -1.0, 1.0)]
    assert action["s"] == [("s", 0, -1.0, 0.0), ("s", 1, 1.0, 0.0)]
    assert "total" not in action
    assert action["odd"] is None


def test_what_one_draw_leaves_open_is_left_alone():
    # Which of two equal entries moved?
    swap = read_action({"d": np.array([0.0, 1.0, 1.0])}, {"d": np.array([1.0, 1.0, 0.0])})
    assert swap["d"] is None
    # The largest of three, as a number: seen from 1 it is x -> 1 - x, and from 2 it is not.
    entries = read_action({"k": np.array(1.0)}, {"k": np.array(0.0)})["k"]
    assert acts_as(entries, {"k": np.array(0.0)}, np.array(1.0))
    assert not acts_as(entries, {"k": np.array(2.0)}, np.array(2.0))


def test_labels_are_read_from_indicators():
    before = np.array([[0, 0, 1, 2], [1, 0, 2, 2]])
    to = np.array([2, 0, 1])
    assert read_labels(before, to[before]) == {"labels": [0, 1, 2], "to": [2, 0, 1]}
    # One value that is not seen is what is left.
    two = np.array([[0, 0, 1, 0], [1, 0, 1, 1]])
    assert read_labels(two, to[two]) == {"labels": [0, 1, 2], "to": [2, 0, 1]}
    # Values that become two values; and values that may have changed their places instead.
    assert read_labels(before, np.array([[2, 0, 0, 1], [0, 2, 1, 1]])) is None
    assert read_labels(np.array([[0, 1], [1, 0]]), np.array([[1, 0], [0, 1]])) is None
    assert read_labels(np.array([0, 1]), np.array([1, 0])) == {"labels": [0, 1], "to": [1, 0]}


def test_variables_that_trade_places_and_their_copies_are_read():
    before = {"a": 1.0, "b": 2.0, "copy_a": 1.0, "copy_b": 2.0, "v": np.array([4.0, 5.0])}
    after = {"a": 2.0, "b": 1.0, "copy_a": 2.0, "copy_b": 1.0, "v": np.array([4.0, -5.0])}
    action = read_action(before, after)
    assert action["a"] == [("b", 0, 1.0, 0.0)]
    assert action["b"] == [("a", 0, 1.0, 0.0)]
    # A copy is a component of its own: the map of all of them has to be a rearrangement.
    assert action["copy_a"] == [("copy_b", 0, 1.0, 0.0)]
    assert action["copy_b"] == [("copy_a", 0, 1.0, 0.0)]
    assert action["v"] == [("v", 0, 1.0, 0.0), ("v", 1, -1.0, 0.0)]


def test_components_that_are_variables_of_their_own():
    y = np.random.default_rng(3).normal(np.repeat([-3.0, 3.0], 10), 0.6)
    with pm.Model():
        low, high = pm.Normal("low", 0.0, 5.0), pm.Normal("high", 0.0, 5.0)
        s_low, s_high = pm.HalfNormal("s_low", 1.0), pm.HalfNormal("s_high", 1.0)
        pm.Deterministic("gap", high - low)
        comp = [pm.Normal.dist(low, s_low), pm.Normal.dist(high, s_high)]
        pm.Mixture("y", w=[0.5, 0.5], comp_dists=comp, observed=y)
        idata = sample(200, random_seed=1, quiet=True, challenge=False)
    assert get_dataset(idata, "modes")["weight"].values.tolist() == [0.5, 0.5]
    posterior = get_dataset(relabel(idata), "posterior")
    side = np.sign(posterior["low"].values)
    assert (side == side[0, 0]).all()
    assert (np.sign(posterior["high"].values) == -side).all()
    np.testing.assert_allclose(posterior["gap"], posterior["high"] - posterior["low"])


def test_variables_that_no_order_can_be_read_from_are_named(caplog):
    with symmetric_mixture().model as model:
        mu = model["mu"]
        pm.Deterministic("gaps", abs(mu[:, None] - mu))
        pm.Deterministic("which", mu.argmax())
        pm.Deterministic("long", pt.repeat(mu, 300))
        idata = sample(100, chains=2, random_seed=1, quiet=True, challenge=False, target_se=0.1)
    with caplog.at_level(logging.WARNING, logger="pymc.multimodal"):
        after = get_dataset(relabel(idata), "posterior")
    assert "'long'" in caplog.text
    before = get_dataset(idata, "posterior")
    for name in ("long", "gaps"):
        np.testing.assert_array_equal(after[name], before[name])
    order = after["mu"].values[..., 0] < after["mu"].values[..., 1]
    assert order.mean() in (0.0, 1.0)


def test_components_are_in_one_order(mixture):
    before = get_dataset(mixture, "posterior")
    after = get_dataset(relabel(mixture), "posterior")
    order = before["mu"].values[..., 0] < before["mu"].values[..., 1]
    assert 0.4 < order.mean() < 0.6
    order = after["mu"].values[..., 0] < after["mu"].values[..., 1]
    assert order.mean() in (0.0, 1.0)
    # Components move as a whole, and functions that do not depend on labels stay.
    swapped = before["mu"].values[..., 0] != after["mu"].values[..., 0]
    for name in ("mu", "sigma"):
        there = np.where(swapped[..., None], before[name].values[..., ::-1], before[name].values)
        np.testing.assert_allclose(after[name].values, there)
    w = before["w"].values
    np.testing.assert_allclose(after["w"].values, np.where(swapped, 1.0 - w, w))
    assert rhat(after["mu"].values).max() < 1.02


def test_images_are_one_mode_afterwards(mixture):
    before, after = get_dataset(mixture, "modes"), get_dataset(relabel(mixture), "modes")
    assert before.sizes["mode"] == 2
    assert after.sizes["mode"] == 1
    assert after["images"].values.tolist() == [2]
    np.testing.assert_allclose(after["weight"], [1.0])
    np.testing.assert_allclose(after["weight_interval"], [[1.0, 1.0]])
    np.testing.assert_allclose(after["log_evidence"], [before.attrs["log_evidence"]])
    np.testing.assert_allclose(after["mu"].values[0], before["mu"].values[0])
    assert (get_dataset(relabel(mixture), "sample_stats")["mode"] == 0).all()
    within = get_dataset(relabel(mixture), "mode_posterior")
    assert dict(within.sizes)["mode"] == 1
    order = within["mu"].values[..., 0] < within["mu"].values[..., 1]
    assert order.mean() in (0.0, 1.0)
    assert len(mode_table(relabel(mixture))) == 1


def test_modes_that_are_no_images_keep_their_entries():
    evidence = np.array([-1.0, -1.0, -1.0, -2.0])
    k = len(evidence)
    modes = xr.Dataset(
        {
            "weight": ("mode", np.array([0.3, 0.3, 0.3, 0.1])),
            "weight_se": ("mode", np.full(k, 0.01)),
            "weight_interval": (("mode", "bound"), np.tile([0.1, 0.4], (k, 1))),
            "images": ("mode", np.ones(k, dtype=int)),
            "log_evidence": ("mode", evidence),
            "hits": ("mode", np.array([5, 5, 7, 3])),
        }
    )
    # The second is an image of the first; the third has the same evidence in another place.
    places = np.array([[0.0, 1.0], [0.0, 1.0], [9.0, 1.0], [0.0, 1.0]])
    first = first_images(modes, places, np.ones(2))
    assert first.tolist() == [0, 0, 2, 3]
    merged = merged_modes(modes, first)
    np.testing.assert_allclose(merged["weight"], [0.6, 0.3, 0.1])
    np.testing.assert_allclose(merged["weight_se"], [0.02, 0.01, 0.01])
    np.testing.assert_allclose(merged["weight_interval"][0], [0.2, 0.8])
    np.testing.assert_allclose(merged["log_evidence"], [-1.0 + np.log(2), -1.0, -2.0])
    assert merged["images"].values.tolist() == [2, 1, 1]
    assert merged["hits"].values.tolist() == [5, 7, 3]


def test_what_was_given_is_not_changed(mixture):
    before = get_dataset(mixture, "posterior").copy(deep=True)
    again = relabel(relabel(mixture))
    assert before.identical(get_dataset(mixture, "posterior"))
    np.testing.assert_allclose(
        get_dataset(again, "posterior")["mu"], get_dataset(relabel(mixture), "posterior")["mu"]
    )


def test_draws_from_a_file_can_be_relabelled(mixture, tmp_path):
    save(mixture, tmp_path / "draws.nc")
    there = relabel(load(tmp_path / "draws.nc"))
    here = relabel(mixture)
    for name in ("mu", "sigma", "w"):
        np.testing.assert_array_equal(
            get_dataset(there, "posterior")[name], get_dataset(here, "posterior")[name]
        )


def test_draws_of_the_step_are_relabelled_without_the_fit(tmp_path):
    """A product of signs: of 64 modes, images stand for most, and draws lie in all of them."""
    with tilted_signs():
        step = MultimodalDiffusion(random_seed=1, challenge=False, structure=False, quiet=True)
        idata = pm.sample(
            60,
            tune=0,
            chains=2,
            cores=1,
            step=step,
            progressbar=False,
            compute_convergence_checks=False,
        )
    save(idata, tmp_path / "draws.nc")
    alone, whole = relabel(attach(load(tmp_path / "draws.nc"))), relabel(step.attach(idata))
    p = get_dataset(alone, "posterior")["p"].values
    np.testing.assert_array_equal(p, get_dataset(whole, "posterior")["p"].values)
    assert len(np.unique(np.sign(p).reshape(-1, 6), axis=0)) <= 2
    assert list(get_dataset(alone, "modes")["images"]) == [32, 32]
    assert list(mode_table(alone)["images"]) == [32, 32]


def test_signs_are_made_one(caplog):
    with four_modes():
        idata = sample(200, random_seed=1, quiet=True, challenge=False)
    assert get_dataset(idata, "modes").sizes["mode"] == 4
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        posterior = get_dataset(relabel(idata), "posterior")
    assert not caplog.records
    signs = np.sign(posterior["x"].values)
    assert (signs == signs[0, 0]).all()
    np.testing.assert_allclose(posterior["square"], posterior["x"] ** 2)


def test_without_symmetry_nothing_changes():
    with one_dimensional("x"):
        idata = sample(100, random_seed=1, quiet=True, challenge=False)
    before = get_dataset(idata, "posterior")
    np.testing.assert_array_equal(get_dataset(relabel(idata), "posterior")["x"], before["x"])


def test_draws_of_others_are_refused():
    from pymc_multimodal._compat import PYMC6

    if PYMC6:
        idata = xr.DataTree.from_dict({"posterior": xr.Dataset()})
    else:
        import arviz as az

        idata = az.InferenceData(posterior=xr.Dataset())
    with pytest.raises(ValueError, match=r"attach\(idata\)"):
        relabel(idata)
