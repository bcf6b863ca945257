"""What a release says of itself is the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import pymc_multimodal as mm

ROOT = Path(__file__).parents[2]
# Names of packages on conda-forge that differ from those on PyPI.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def read(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("CITATION.cff", r"^version: (.*)$"),
        ("conda.recipe/recipe.yaml", r'^  version: "(.*)"$'),
        ("CHANGELOG.md", r"^## \[(.*)\]"),
    ],
)
def test_the_version_is_the_same_everywhere(path, pattern):
    assert re.search(pattern, read(path), re.MULTILINE)[1] == mm.__version__


def test_the_conda_recipe_needs_what_the_package_needs():
    needed = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    block = re.search(r"  run:\n(.*?)\n\n", read("conda.recipe/recipe.yaml"), re.DOTALL)[1]
    listed = {line.strip(" -").replace(" ", "") for line in block.splitlines() if "#" not in line}
    listed = {line for line in listed if not line.startswith("python")}
    names = {re.match(r"[\w-]+", line)[0]: line for line in needed}
    assert listed == {CONDA.get(n, line) for n, line in names.items()}


def test_addresses_agree():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    urls = project["urls"]
    assert f'repository-code: "{urls["Repository"]}"' in read("CITATION.cff")
    assert f"repository: {urls['Repository']}" in read("conda.recipe/recipe.yaml")
    assert f"documentation: {urls['Documentation']}" in read("conda.recipe/recipe.yaml")
    assert project["description"] in read("conda.recipe/recipe.yaml")
    assert f"git clone {urls['Repository']}" in read("README.md")
