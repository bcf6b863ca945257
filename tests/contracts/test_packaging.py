"""What is shipped: versions and dependencies agree, and a wheel has what it should."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pymc_multimodal as mm

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Names of conda-forge that differ.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def test_types_are_announced():
    assert (ROOT / "pymc_multimodal" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == mm.__version__
    recipe = (ROOT / "conda.recipe" / "recipe.yaml").read_text()
    assert re.search(r'^  version: "(.*)"$', recipe, re.MULTILINE)[1] == mm.__version__
    assert f"## [{mm.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_recipe_has_the_dependencies_of_the_package():
    recipe = (ROOT / "conda.recipe" / "recipe.yaml").read_text()
    listed = re.search(r"^  run:\n((?:    .*\n)+)", recipe, re.MULTILINE)[1]
    found = set(re.findall(r"^    - ([\w-]+)", listed, re.MULTILINE)) - {"python"}
    names = [re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]]
    assert found == {CONDA.get(name, name) for name in names}


def test_the_demo_needs_all_dependencies_but_torch():
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "dependencies.py", "--without", "torch", "zuko"],
        capture_output=True,
        text=True,
        check=True,
    )
    left_out = set(PROJECT["dependencies"]) - set(done.stdout.split("\n"))
    assert left_out == {"torch", "zuko"}


def test_commands_of_the_workflows_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = set(re.findall(r"run: make ([\w-]+)", path.read_text()))
        assert used <= targets, path.name


def test_a_wheel_contains_what_it_should(tmp_path, monkeypatch):
    pytest.importorskip("hatchling", reason="the wheel is built without a network")
    from hatchling.build import build_wheel

    monkeypatch.chdir(ROOT)
    wheel = tmp_path / build_wheel(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    check = importlib.import_module("check_wheel")
    assert check.faults_of(wheel) == []
