"""What the documentation promises about the code, read from both."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pymc_multimodal

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.rst"))]


def codes():
    """Codes of all statuses that the package makes."""
    for path in sorted((ROOT / "pymc_multimodal").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "")
            if name == "Status" and node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_every_status_is_explained():
    page = (ROOT / "docs" / "statuses.rst").read_text()
    explained = {
        code
        for entry in re.findall(r"^    \* - (``.*)$", page, re.MULTILINE)
        for code in re.findall(r"``(\w+)``", entry)
    }
    assert explained == set(codes())


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"\]\(([^):#]+)\)|python (examples/[\w/]+\.py)", text)
    missing = [name for pair in named for name in pair if name and not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_public_names_that_are_used_exist(page):
    used = re.findall(r"\bmm\.(\w+)", (ROOT / page).read_text())
    assert not [name for name in used if not hasattr(pymc_multimodal, name)]
