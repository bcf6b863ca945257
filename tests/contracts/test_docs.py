"""What the documentation promises about the code, read from both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pymc_multimodal

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.rst"))]


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
