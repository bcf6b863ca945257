"""Every script of the examples says with --help what it does."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
# Functions of the shared modules that read options with argparse.
SHARED = {"common.parse", "common.compare_once", "common_lrds.options"}


def is_script(path):
    return any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        for node in ast.parse(path.read_text()).body
    )


SCRIPTS = sorted(p for p in FOLDER.rglob("*.py") if is_script(p))


def calls_of(path):
    """Return each call of a file, by the name of its function."""
    tree = ast.parse(path.read_text())
    return {ast.unparse(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_every_script_has_help(path):
    calls = calls_of(path)
    parser = calls.get("argparse.ArgumentParser")
    if parser is None:
        assert SHARED & set(calls), f"{path.name} reads no options with argparse"
    else:
        assert "description" in {k.arg for k in parser.keywords}
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_shared_functions_read_options_with_a_description():
    for name in ("common", "common_lrds"):
        parser = calls_of(FOLDER / "papers" / f"{name}.py")["argparse.ArgumentParser"]
        assert "description" in {k.arg for k in parser.keywords}


@pytest.mark.parametrize("name", ["benchmarks/eight_schools.py", "papers/lrds_shapes.py"])
def test_help_is_printed_and_nothing_is_run(name, monkeypatch, capsys):
    """In this process, which has imported already what takes a script seconds to import."""
    path = FOLDER / name
    # As Python does: the folder of the script comes first.
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code
    printed = capsys.readouterr().out
    first = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
    assert " ".join(first.split()) in " ".join(printed.split())
    if "lrds_shapes" in name:
        assert "--pipeline" in printed
