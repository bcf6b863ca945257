"""What is no checkpoint of this fit is refused, and the file is left as it was."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from densities import two_modes
from killed import Killed, killing

import pymc_multimodal as mm
from pymc_multimodal.fit import Checkpoint, FitConfig, checkpoint, fit_density
from pymc_multimodal.status import FitError

TARGET = two_modes(dim=2, distance=6.0, weights=(0.4, 0.6))
LOOSE = FitConfig(target_se=0.05)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A checkpoint of a fit that was killed at its eighth stage."""
    path = tmp_path_factory.mktemp("stopped") / "fit.checkpoint"
    kept = Checkpoint(path, write_share=np.inf)
    with pytest.raises(Killed):
        fit_density(TARGET.density(), LOOSE, report=killing(8), checkpoint=kept)
    return path


@pytest.fixture
def other(stopped, tmp_path):
    """A copy of it."""
    path = tmp_path / "fit.checkpoint"
    path.write_bytes(stopped.read_bytes())
    return path


def refused(path, said, density=None, config=LOOSE, **more):
    """The file is refused before anything is evaluated but a few points that are known."""
    density = density or TARGET.density()
    before = path.read_bytes()
    with pytest.raises(FitError, match=said) as error:
        fit_density(density, config, checkpoint=Checkpoint(path), **more)
    assert str(path) in str(error.value)
    assert density.n_logp_evals <= checkpoint.CHECKED
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"random_seed": 1}, "another random_seed: 0 then, 1 now"),
        ({"target_se": 0.02}, "another target_se: 0.05 then, 0.02 now"),
        ({"max_evals": 50_000}, "another max_evals: None then, 50000 now"),
        ({"modes": mm.ModeSearch(max_starts=64)}, "another modes"),
        ({"symmetry": mm.Symmetry((-np.eye(2),))}, "another symmetry"),
        ({"challenge": False}, "another challenge"),
    ],
)
def test_other_settings_are_refused(other, change, said):
    refused(other, said, config=replace(LOOSE, **change))


def test_another_model_is_refused(other):
    refused(other, "was written for a model with coordinates", two_modes(dim=3).density())
    data = two_modes(dim=2, distance=6.0, weights=(0.4, 0.6), log_z=1.31)
    refused(other, "before the model or its data changed", data.density())


def test_another_share_of_limits_is_refused(tmp_path):
    path, config = tmp_path / "fit.checkpoint", replace(LOOSE, max_evals=20_000)
    kept = Checkpoint(path, write_share=np.inf)
    with pytest.raises(Killed):
        fit_density(TARGET.density(), config, report=killing(4), checkpoint=kept)
    refused(path, "another share of its limits", config=config, share=0.75)


def rewritten(path, change):
    """The same file with another text."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(parts["checkpoint.json"])
    change(content)
    parts["checkpoint.json"] = json.dumps(content).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("name", ["format_version", "package_version"])
def test_another_version_is_refused(other, name):
    rewritten(other, lambda content: content.update({name: 77}))
    refused(other, "was written by pymc-multimodal .* delete the file to begin anew")


@pytest.mark.parametrize("name", ["os.system", "fit.Run", "target.Density"])
def test_a_class_that_is_no_part_of_a_state_is_refused(other, name):
    def change(content):
        content["kept"]["attributes"]["newest"]["attributes"]["result"]["class"] = name

    rewritten(other, change)
    refused(other, f"damaged .*'{name}' is no class of a fit")


def test_a_file_that_was_cut_is_refused(other, rng):
    data = other.read_bytes()
    for n in (0, 1, 100, *rng.integers(0, len(data), 10), len(data) - 1):
        other.write_bytes(data[:n])
        refused(other, "is no checkpoint of a fit, or it is damaged.*delete this one")


def test_what_is_no_checkpoint_is_refused(other):
    other.write_text("something else")
    refused(other, "no checkpoint of a fit")
    fit_density(TARGET.density(), LOOSE).save(other)
    refused(other, "no checkpoint of a fit")


def test_bits_that_flip_are_noticed_or_change_nothing(other, rng):
    """Bits of names and check sums, of values, and of what nobody reads, such as dates."""
    data = other.read_bytes()
    content = json.loads(zipfile.ZipFile(other).read("checkpoint.json"))
    noticed = 0
    for bit in rng.integers(0, 8 * len(data), 60):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        other.write_bytes(changed)
        try:
            Checkpoint(other)
        except FitError:
            noticed += 1
        else:
            with zipfile.ZipFile(other) as archive:
                assert json.loads(archive.read("checkpoint.json")) == content
                assert archive.testzip() is None
    assert noticed > 50
