"""What `import pymc_multimodal` costs beyond `import pymc`; imports of what is not there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Packages that take from a tenth of a second to some seconds to import.
LARGE = ("matplotlib", "scipy.stats", "sklearn", "torch", "zuko")

SCRIPT = """
import sys
import numpy as np
import pymc
before = set(sys.modules)
import pymc_multimodal
print(*sorted(set(sys.modules) - before))
from densities import exact_local, gaussian
from pymc_multimodal.proposals import Hybrid
rng = np.random.default_rng(0)
local = exact_local(gaussian(np.zeros(3), np.eye(3)), lambda x: np.zeros(len(x), int), 1, rng)
[density] = Hybrid().fit_regions(local, np.full(3, np.inf), rng).densities
assert density.family == "gaussian"
print(*sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def printed():
    """What a process of its own has imported, in two lines: see `SCRIPT`."""
    tests = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent)))},
    )  # fmt: skip
    return [line.split() for line in run.stdout.splitlines()]


@pytest.fixture
def added(printed):
    """Modules that the package imports, and `import pymc` does not."""
    return printed[0]


@pytest.mark.parametrize("package", LARGE)
def test_large_packages_are_imported_when_they_are_needed(added, package):
    found = [name for name in added if name == package or name.startswith(f"{package}.")]
    assert not found


def test_the_gallery_is_imported_when_it_is_asked_for(added):
    assert "pymc_multimodal.plugin" in added
    assert not [name for name in added if name.startswith("pymc_multimodal.gallery")]


def test_torch_is_imported_for_networks_only(printed):
    """A region that needs no network had been fitted by then."""
    assert "pymc_multimodal.proposals.elliptical_fit" in printed[1]
    assert not {"torch", "zuko"} & set(printed[1])


def test_scripts_within_strings_import_what_there_is():
    """Slow tests run scripts in processes of their own, of which no linter knows."""
    statement = re.compile(r"^from (pymc_multimodal[\w.]*) import ([\w, ]+)$", re.MULTILINE)
    missing = []
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        for module, names in statement.findall(path.read_text()):
            try:
                found = importlib.import_module(module)
                missing += [
                    f"{path.name}: {module}.{name}"
                    for name in re.findall(r"\w+(?: as \w+)?", names)
                    if not hasattr(found, name.partition(" ")[0])
                ]
            except ModuleNotFoundError:
                missing.append(f"{path.name}: {module}")
    assert not missing
