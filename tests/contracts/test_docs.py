"""What the documentation promises about the code, read from both."""

from __future__ import annotations

import ast
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


@pytest.fixture(scope="module")
def marks():
    """Whether the functions of a test's name are slow, in some cases slow, or quick."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                texts = [ast.unparse(mark) for mark in node.decorator_list]
                if "pytest.mark.slow" in texts:
                    mark = "slow"
                else:
                    partly = any("pytest.mark.slow" in text for text in texts)
                    mark = "in some cases" if partly else "quick"
                found.setdefault(node.name, set()).add(mark)
    return found


# A cell of the column of tests, and in it a name and what the parentheses behind it say.
CELL = re.compile(r"- (``test_.*?)(?=\n    \* -|\n\n|\Z)", re.DOTALL)
NAMED = re.compile(r"``(test_\w+)``(?:\s+\(([^)]*)\))?")


def test_the_table_of_faults_names_tests_that_there_are_and_marks_the_slow_ones(marks):
    named = []
    for cell in CELL.findall((ROOT / "docs" / "faults.rst").read_text()):
        together = re.search(r"\((?:all|both) slow\)", cell) is not None
        named += [(name, together or "slow" in note) for name, note in NAMED.findall(cell)]
    assert len(named) > 100
    assert not [name for name, _ in named if name not in marks]
    assert not [name for name, slow in named if marks[name] == {"slow"} and not slow]
    assert not [name for name, slow in named if marks[name] == {"quick"} and slow]
