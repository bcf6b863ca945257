"""A fit in a file: the same draws, the same numbers, and nothing that is executed."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from densities import Banana, Mixture, two_modes
from same import assert_same
from scipy import sparse
from structured import wells

import pymc_multimodal as mm
from pymc_multimodal import kernel
from pymc_multimodal._version import __version__
from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.fit.codec import CodecError, decode, encode
from pymc_multimodal.fit.saving import CLASSES
from pymc_multimodal.model import density_of
from pymc_multimodal.status import FitError

TARGET = two_modes(dim=2, distance=6.0, weights=(0.4, 0.6))
MIRRORED = Mixture([[-3.0, 3.0], [3.0, -3.0]], [np.eye(2)] * 2, [0.5, 0.5])

MANY = Mixture(
    [[10.0 * i, 10.0 * j] for i in range(-2, 3) for j in range(-2, 3)],
    [np.eye(2)] * 25,
    np.full(25, 0.04),
)

SMALL_MAPS = mm.PublishedHybrid(train_steps=20, pairs=100, score_draws=100, ode_steps=10)

FITS = {
    "hybrid": (TARGET, {}),
    "lrds": (TARGET, {"generator": "lrds", "max_evals": 30_000}),
    "published": (TARGET, {"generator": SMALL_MAPS, "challenge": False}),
    "score": (TARGET, {"generator": mm.ScoreLangevin(training_steps=50)}),
    "exact_score": (TARGET, {"generator": mm.ScoreLangevin(training_steps=50, objective="exact")}),
    "nearest": (TARGET, {"regions": mm.Regions(method="nearest"), "challenge": False}),
    "linear": (TARGET, {"regions": mm.Regions(kernel="linear"), "challenge": False}),
    "rbf": (TARGET, {"regions": mm.Regions(kernel="rbf"), "challenge": False}),
    "many_modes": (MANY, {"max_evals": 15_000}),
    "laplace": (TARGET, {"max_evals": 1000}),
    "symmetric": (MIRRORED, {"symmetry": mm.Symmetry((-np.eye(2),))}),
    "bent": (Banana(dim=6, bend=2.0), {}),
    "points": (TARGET, {"modes": mm.ModeSearch(starts=TARGET.means, radius=None)}),
}


@pytest.fixture(scope="module")
def fit():
    return fit_density(TARGET.density(), FitConfig(target_se=0.05))


@pytest.fixture
def saved(fit, tmp_path):
    path = tmp_path / "two modes.fit"
    fit.save(path)
    return path


@pytest.mark.parametrize("name", FITS)
def test_a_fit_survives_a_file(name, tmp_path, rng):
    target, settings = FITS[name]
    density = target.density()
    fit = fit_density(density, FitConfig(target_se=0.05, **settings))
    fit.save(tmp_path / "a.fit")
    again = Fit.load(str(tmp_path / "a.fit"))
    assert_same(fit, again)
    assert repr(fit) == repr(again)
    again.check_density(density)
    x = rng.normal(0.0, 4.0, (200, 2))
    np.testing.assert_array_equal(fit.label(x), again.label(x))
    for a, b in zip(
        *((f.generate(50, 3), f.starts(20, np.random.default_rng(3))) for f in (fit, again)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    proposed = [f.kernel.generator.propose(50, np.random.default_rng(4)) for f in (fit, again)]
    np.testing.assert_array_equal(proposed[0].minus_log_q, proposed[1].minus_log_q)
    if name == "symmetric":
        assert fit.orbits is not None
        np.testing.assert_array_equal(fit.orbits.cells.fold(x), again.orbits.cells.fold(x))


def test_the_file_of_a_bent_ridge_has_its_triangular_map(tmp_path):
    """What the case "bent" is to store."""
    target, settings = FITS["bent"]
    fit = fit_density(target.density(), FitConfig(target_se=0.05, **settings))
    fit.save(tmp_path / "a.fit")
    with zipfile.ZipFile(tmp_path / "a.fit") as archive:
        assert b'"proposals.TriangularMap"' in archive.read("fit.json")


def test_a_fit_by_units_survives_a_file(tmp_path):
    density = density_of(wells())
    structure = mm.Structure(units=["d", "v"])
    fit = fit_density(density, FitConfig(structure=structure))
    fit.save(tmp_path / "units.fit")
    again = Fit.load(tmp_path / "units.fit")
    assert_same(fit, again)
    assert repr(fit) == repr(again)
    assert again.config.structure == structure
    again.check_density(density)
    draws = []
    for f in (fit, again):
        rng, target = np.random.default_rng(3), f.target(density)
        state = kernel.init(target, f.kernel, f.starts(20, rng), rng)
        proposed = kernel.propose(target, f.kernel, 20 * f.kernel.jumps, rng)
        state, _ = kernel.step(target, f.kernel, state, proposed, rng, 0)
        draws.append((state.points.x, f.generate(30, 4)))
    for a, b in zip(*draws, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_setting_of_a_generator_can_be_saved():
    known = {name for names in CLASSES.values() for name in names}
    configs = {"Hybrid", "LRDS", "PublishedHybrid", "ScoreLangevin"}
    assert configs | {"Network", "ControlNetwork", "EnergyNetwork"} <= known
    assert {"ModeSearch", "Regions", "LocalSampling", "Challenge", "Symmetry"} <= known


def test_the_format_is_open(saved, fit):
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        content = json.loads(archive.read("fit.json"))
        names = archive.namelist()
    assert content["package_version"] == __version__
    assert content["fit"]["class"] == "fit.Fit"
    arrays = np.load(saved, allow_pickle=False)  # NumPy takes it for an npz archive
    stored = content["fit"]["attributes"]["modes"]["attributes"]["locations"]["array"]
    np.testing.assert_array_equal(arrays[f"arrays/{stored}"], fit.modes.locations)
    assert set(names) == {"fit.json", *(f"arrays/{i}.npy" for i in range(len(names) - 1))}


# ------------------------------------------------------------------ what is refused


def rewritten(path, change):
    """The same file with another fit.json."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(parts["fit.json"])
    parts["fit.json"] = json.dumps(change(content) or content).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def test_a_newer_format_is_refused(saved):
    def newer(content):
        content.update(format_version=99, package_version="77.1")

    with pytest.raises(FitError, match=r"saved by pymc-multimodal 77.1 in format 99.*Update"):
        Fit.load(rewritten(saved, newer))


@pytest.mark.parametrize(
    "name", ["os.system", "fit.Run", "builtins.eval", "target.Density", "search.Nothing"]
)
def test_a_class_that_is_no_part_of_a_fit_is_refused(name, saved):
    def other(content):
        content["fit"]["attributes"]["modes"]["class"] = name

    with pytest.raises(FitError, match=f"'{name}' is no class of a fit"):
        Fit.load(rewritten(saved, other))


def test_a_record_without_one_of_its_fields_is_refused(saved):
    def shorter(content):
        del content["fit"]["attributes"]["modes"]["attributes"]["locations"]

    with pytest.raises(FitError, match=r"a search\.Modes has no 'locations'"):
        Fit.load(rewritten(saved, shorter))


def test_what_is_no_fit_is_refused(tmp_path, saved):
    path = tmp_path / "text.fit"
    path.write_text("no archive")
    with pytest.raises(FitError, match="no saved fit, or it is damaged"):
        Fit.load(path)
    np.savez(tmp_path / "arrays.npz", x=np.ones(3))
    with pytest.raises(FitError, match="no saved fit"):
        Fit.load(tmp_path / "arrays.npz")
    with pytest.raises(FitError, match="the file is no fit of this package"):
        Fit.load(rewritten(saved, lambda content: {"format": "something else"}))
    with pytest.raises(FileNotFoundError):
        Fit.load(tmp_path / "nothing")


def test_another_object_is_no_fit(saved):
    def part(content):
        content["fit"] = content["fit"]["attributes"]["config"]

    with pytest.raises(FitError, match=r"which is no Fit\. Give a file"):
        Fit.load(rewritten(saved, part))


@pytest.mark.parametrize(
    "node", [{"same": 10_000}, {"array": 10_000}, {"what": 1}, {"float": "1/0"}]
)
def test_a_damaged_record_is_refused(saved, node):
    def damaged(content):
        content["fit"]["attributes"]["seconds"] = node

    with pytest.raises(FitError, match="damaged"):
        Fit.load(rewritten(saved, damaged))


def test_a_file_that_was_cut_is_refused(saved):
    data = saved.read_bytes()
    saved.write_bytes(data[: len(data) // 2])
    with pytest.raises(FitError, match="damaged"):
        Fit.load(saved)


def test_objects_of_the_user_are_named_and_the_file_is_kept(fit, saved):
    before = saved.read_bytes()
    search = replace(fit.config.modes)
    object.__setattr__(search, "locations", [{"x": TARGET}])
    strange = replace(fit, config=replace(fit.config, modes=search))
    with pytest.raises(FitError, match=r"config\.modes\.locations\[0\]\['x'\] is a densities.Mix"):
        strange.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_fit_of_another_model_is_refused_when_it_is_used(saved):
    again = Fit.load(saved)
    with pytest.raises(FitError, match="model or its data changed"):
        again.check_density(MIRRORED.density())


# ------------------------------------------------------------------ values


def test_values_come_back_as_they_were():
    shared = np.arange(3.0)
    value = {
        "numbers": [1, 2**70, 0.1, -0.0, float("inf"), float("-inf"), True, None],
        "nested": ((1, (2,)), [[], ()], {}),
        "arrays": (shared, shared, np.float32(0.1), np.arange(6).reshape(2, 3).T, np.array("text")),
        (1, 2): slice(1, None),
    }
    node, arrays = encode(value, {})
    again = decode(json.loads(json.dumps(node, allow_nan=False)), arrays, {})
    assert_same({**value, (1, 2): None}, {**again, (1, 2): None})
    assert again[1, 2] == slice(1, None)
    assert again["arrays"][0] is again["arrays"][1]
    assert np.isnan(decode(*encode(float("nan"), {}), {}))


def test_arrays_keep_their_order_in_memory(rng):
    base = rng.normal(size=(5, 4, 3))
    views = (
        base[:, ::2],
        base[::-1, :, 1],
        base.transpose(1, 0, 2),
        np.broadcast_to(base[0], (2, 4, 3)),
        base[1:1],
        np.asfortranarray(base),
    )
    node, arrays = encode(views, {})
    files = [np.array(a, order="K") for a in arrays]
    assert_same(views, decode(json.loads(json.dumps(node)), files, {}))


def test_steps_that_are_damaged_are_refused():
    node, arrays = encode(np.zeros((4, 4))[:, ::2], {})
    for steps in ([32], [32, "16"], [2**50, 2**50]):
        with pytest.raises(CodecError, match="steps of an array"):
            decode({**node, "strides": steps}, arrays, {})


def test_sparse_matrices_come_back(rng):
    matrix = sparse.random(6, 4, 0.5, "csr", random_state=rng)
    again = decode(*encode(matrix, {}), {})
    np.testing.assert_array_equal(again.toarray(), matrix.toarray())


@pytest.mark.parametrize(
    ("indices", "shape"), [([0, 4], [2, 4]), ([0, -1], [2, 4]), ([0, 1], [2**70, 4])]
)
def test_sparse_matrices_that_point_outside_are_refused(indices, shape):
    """SciPy's products read at the indices that a matrix has, wherever that is."""
    node, arrays = encode(sparse.csr_matrix(np.eye(2, 4)), {})
    damaged = [np.ones(2), np.array(indices, dtype=np.int32), arrays[2]]
    with pytest.raises(CodecError, match="damaged"):
        decode({**node, "shape": shape}, damaged, {})


def test_objects_from_outside_are_written_by_name():
    function = print
    node, arrays = encode([function, 1.0], {}, {"printer": function})
    assert node == [{"outside": "printer"}, 1.0]
    assert decode(node, arrays, {}, {"printer": len}) == [len, 1.0]
    with pytest.raises(CodecError):
        decode(node, arrays, {})


@pytest.mark.parametrize("value", [print, object(), np.array([print]), {1, 2}, [lambda: 0]])
def test_other_objects_are_not_written(value):
    with pytest.raises(CodecError):
        encode(value, {})


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        (None, TypeError, r"save\(path=None\) must be the name of a file"),
        (5, TypeError, r"save\(path=5\) must be the name of a file"),
        (".", IsADirectoryError, "is a folder: give the name of a file"),
        ("nowhere/a.fit", FileNotFoundError, "there is no folder 'nowhere'"),
    ],
)
def test_what_is_no_name_of_a_file_is_refused(fit, path, kind, said):
    with pytest.raises(kind, match=said):
        fit.save(path)
    with pytest.raises((kind, FileNotFoundError)):
        Fit.load(path)
