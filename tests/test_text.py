"""Tables of reports as text."""

import pytest

from pymc_multimodal._text import text_table


@pytest.mark.parametrize(
    ("place", "written"),
    [
        ("a=1, b=2", "a=1, b=2"),
        ("intercept=8.25, slope=-0.62, ...", "intercept=8.25, ..."),
        ("intercept_of_the_first_line=8.25, slope=-0.62", "intercept_of_the_first_line ..."),
    ],
)
def test_a_long_line_is_cut_between_items(place, written):
    header, row = text_table(("mode", "at"), [("0", place)], width=37)
    assert header == "mode  at"
    assert row == f"   0  {written}"
