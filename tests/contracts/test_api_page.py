"""Every public name has a page in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pymc_multimodal as mm

API = Path(__file__).parents[2] / "docs" / "api.rst"


def test_the_api_page_lists_every_public_name_once():
    lists = re.findall(
        r"\.\. autosummary::\n    :toctree: api\n\n((?:    \w+\n)+)", API.read_text()
    )
    listed = [name.strip() for names in lists for name in names.splitlines()]
    assert sorted(listed) == sorted({*mm.__all__} - {"__version__"})
