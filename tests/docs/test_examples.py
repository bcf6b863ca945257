"""The Python blocks of the README and of the first pages of the documentation run as they stand."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
MARKDOWN = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
REST = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(path: str) -> list[str]:
    """Return the Python blocks of a page in their order."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return MARKDOWN.findall(text)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in REST.findall(text)]


def run(code: str, path: str) -> dict:
    names: dict = {"__name__": "__main__"}
    try:
        exec(compile(code, path, "exec"), names)
    finally:
        plt.close("all")
    return names


@pytest.mark.slow  # fits at the limits of a user's first run
@pytest.mark.parametrize("number", range(len(blocks("README.md"))))
def test_each_block_of_the_readme_runs_alone(number, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    names = run(blocks("README.md")[number], "README.md")
    fit = names.get("fit")
    if fit is not None:
        assert fit.n_modes == 4
        assert fit.weights.weight.sum() == pytest.approx(1.0)


@pytest.mark.slow  # all fits of a page
@pytest.mark.parametrize("path", ["docs/start.rst", "docs/tour.rst", "docs/label-switching.rst"])
def test_the_blocks_of_a_page_run_one_after_the_other(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run("\n".join(blocks(path)), path)


def test_blocks_are_found():
    assert len(blocks("README.md")) == 3
    assert len(blocks("docs/tour.rst")) == 8


def test_links_of_the_readme_are_absolute_and_lead_to_files():
    # A relative link works on GitHub and is broken on PyPI.
    pages = "https://pymc-multimodal.readthedocs.io/en/latest/"
    source = "https://github.com/pymc-multimodal/pymc-multimodal/"
    raw = "https://raw.githubusercontent.com/pymc-multimodal/pymc-multimodal/main/"
    for link in LINK.findall((ROOT / "README.md").read_text()):
        assert link.startswith("https://"), link
        if link.startswith(pages):
            page = link.removeprefix(pages).removesuffix(".html")
            assert any((ROOT / "docs" / f"{page}{end}").exists() for end in (".rst", ".md")), link
        elif link.startswith(raw):
            assert (ROOT / link.removeprefix(raw)).exists(), link
        elif link.startswith(source):
            assert (ROOT / re.sub(r"^(tree|blob)/main/", "", link.removeprefix(source))).exists()
