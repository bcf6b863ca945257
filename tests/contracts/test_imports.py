"""What `import pymc_multimodal` costs beyond `import pymc`."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Packages that take from a tenth of a second to some seconds to import.
LARGE = ("matplotlib", "scipy.stats", "sklearn", "torch", "zuko")

SCRIPT = """
import sys
import pymc
before = set(sys.modules)
import pymc_multimodal
print(*sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def added():
    """Modules that the package imports, and `import pymc` does not."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


@pytest.mark.parametrize("package", LARGE)
def test_large_packages_are_imported_when_they_are_needed(added, package):
    found = [name for name in added if name == package or name.startswith(f"{package}.")]
    assert not found


def test_the_gallery_is_imported_when_it_is_asked_for(added):
    assert "pymc_multimodal.plugin" in added
    assert not [name for name in added if name.startswith("pymc_multimodal.gallery")]
