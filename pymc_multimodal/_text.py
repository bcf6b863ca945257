"""Tables as text and as HTML, for the reports of results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

__all__ = ["html_list", "html_table", "span", "text_table"]

# Cells of a table in a notebook; the colours are those of the notebook's own theme.
_CELL = "padding: 2px 10px; text-align: {align}; vertical-align: top"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int = 80) -> list[str]:
    """Write a table in lines of text; the last column is flush left, the others flush right.

    A line of more than `width` characters is cut off, with three dots: after the last whole item
    of the last column that fits, where its items are separated by commas.
    """
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = [c.rjust(w) for c, w in zip(row[:-1], widths[:-1], strict=True)]
        line = "  ".join([*padded, row[-1]]).rstrip()
        lines.append(line if len(line) <= width else _cut(line, width, len(line) - len(row[-1])))
    return lines


def _cut(line: str, width: int, start: int) -> str:
    """Cut a line off, within the items that begin at `start` if one of them fits."""
    items = line[start : width - len(", ...") + 1].rpartition(",")[0]
    if items and start < width:
        return f"{line[:start]}{items}, ..."
    return f"{line[: width - 4].rstrip(', ')} ..."


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in HTML, without borders; the last column is flush left."""

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = [
            f'<{tag} style="{_CELL.format(align="left" if i == len(cells) - 1 else "right")}">'
            f"{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"


def html_list(items: Sequence[str]) -> str:
    """Write a list in HTML; nothing for no items."""
    inside = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{inside}</ul>" if items else ""


def span(values: np.ndarray, digits: str = ".3g") -> str:
    """Write the smallest and the largest of some numbers, or the number if there is one.

    Parameters
    ----------
    values : array
        NaN is left out.
    digits : str
        Format of a number.
    """
    finite = values[~np.isnan(values)]
    if not finite.size:
        return "not known"
    low, high = (format(v, digits) for v in (finite.min(), finite.max()))
    return low if low == high else f"{low} to {high}"
