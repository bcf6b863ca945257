"""The table of a posterior that falls apart into units: one row for each explanation."""

from __future__ import annotations

import textwrap
from typing import ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from pymc_multimodal.plugin.units_group import LOCATION
from pymc_multimodal.status import counted, with_error

__all__ = ["LISTED_WEIGHT", "TEXT_WIDTH", "UnitTable", "elements", "formatted", "unit_table"]

# Width of the text of a table: that of a terminal. Conventional.
TEXT_WIDTH = 80
# Significant digits of numbers without an error. Conventional.
_DIGITS = 4
# Rows and combinations that the text of a table shows. Conventional: a screen.
MAX_ROWS, MAX_COMBINATIONS = 40, 20
# Explanations of a smaller weight are not in the table, as they are not counted
# (`structure.result.COUNTED_WEIGHT`).
LISTED_WEIGHT = 1e-3


class UnitTable(pd.DataFrame):
    """A table of the explanations of units, whose text fits into 80 columns.

    What is computed from it is an ordinary DataFrame. The text leaves out rows beyond the fortieth;
    the table has them all.

    Attributes
    ----------
    regions : pandas.DataFrame
        One row for each region of the hubs: the table of modes of other posteriors.
    combinations : pandas.DataFrame
        Combinations of explanations that hold more than a hundredth of the posterior: weight,
        standard error, and the explanation of each unit.
    """

    _metadata: ClassVar[list[str]] = ["regions", "combinations"]
    regions: pd.DataFrame
    combinations: pd.DataFrame

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        """Write regions of the hubs if there are several, units, and combinations."""
        parts = []
        if len(self.regions) > 1:
            parts.append(f"Modes of the hubs\n{self.regions!r}")
        shown, left_out = _shown(self)
        parts.append(_as_text(shown) + left_out)
        if len(self.combinations):
            parts.append(_of_combinations(self.combinations, str(self.index.names[0])))
        return "\n\n".join(parts)

    __str__ = __repr__


def unit_table(modes: xr.Dataset, regions: pd.DataFrame, max_elements: int) -> UnitTable:
    """Return one row for each explanation of each unit.

    Parameters
    ----------
    modes : xarray.Dataset
        The group `modes`, with units.
    regions : pandas.DataFrame
        The table of the regions of the hubs.
    max_elements : int
        Variables with more elements for each unit have no location columns.
    """
    weight = modes["unit_weight"].values
    unit, explanation = np.nonzero(weight > LISTED_WEIGHT)
    name = str(modes.attrs.get("unit_dim") or "unit")
    index = pd.MultiIndex.from_arrays(
        [modes["unit"].values[unit], explanation],
        names=[name if name != "explanation" else "unit", "explanation"],
    )
    columns = {
        "weight": weight[unit, explanation],
        "weight_se": modes["unit_weight_se"].values[unit, explanation],
    }
    for variable in (str(n) for n in modes.data_vars if str(n).startswith(LOCATION)):
        values = modes[variable].stack(mode=("unit", "explanation")).transpose("mode", ...)
        values = values[unit * weight.shape[1] + explanation].reset_coords(drop=True)
        if values[0].size <= max_elements:
            label = variable.removeprefix(LOCATION)
            for column, of_element in elements(label, values):
                # A variable of the model may be called like a column.
                columns[f"{column}_location" if column in columns else column] = of_element
    table = UnitTable(pd.DataFrame(columns, index=index))
    table.regions = regions
    table.combinations = _combinations(modes)
    return table


def elements(name: str, values: xr.DataArray) -> list[tuple[str, np.ndarray]]:
    """Return a label, with coordinates, and the values over the first axis of each element."""
    found = []
    for index in np.ndindex(*values.shape[1:]):
        coords = [
            str(values.coords[dim].values[i]) if dim in values.coords else str(i)
            for dim, i in zip(values.dims[1:], index, strict=True)
        ]
        label = f"{name}[{', '.join(coords)}]" if coords else name
        found.append((label, values.values[(slice(None), *index)]))
    return found


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Write numbers to the digits that their errors leave; errors stand behind the numbers."""
    text = pd.DataFrame(index=table.index)
    for position, name in enumerate(map(str, table.columns)):
        values = table.iloc[:, position]
        if f"{name}_se" in table.columns:
            pairs = zip(values, table[f"{name}_se"], strict=True)
            text[f"{name} ± se"] = [with_error(x, se) for x, se in pairs]
        elif not name.endswith("_se") or name.removesuffix("_se") not in table.columns:
            text[name] = [f"{x:.{_DIGITS}g}" if isinstance(x, float) else x for x in values]
    return text


def _combinations(modes: xr.Dataset) -> pd.DataFrame:
    which = modes["combination_explanation"].transpose("combination", "unit")
    table = pd.DataFrame(
        {
            "weight": modes["combination_weight"].values,
            "weight_se": modes["combination_weight_se"].values,
        },
        index=pd.RangeIndex(len(which), name="combination"),
    )
    of_units = pd.DataFrame(which.values, index=table.index, columns=modes["unit"].values)
    return pd.concat([table, of_units], axis=1)


def _as_text(table: pd.DataFrame) -> str:
    return formatted(pd.DataFrame(table)).to_string(line_width=TEXT_WIDTH, max_rows=None)


def _shown(table: UnitTable) -> tuple[pd.DataFrame, str]:
    """Return the rows that the text shows, and what it says of the others.

    Where there are too many, units with one explanation are left out first.
    """
    rows = pd.DataFrame(table)
    if len(rows) <= MAX_ROWS:
        return rows, ""
    units = rows.index.get_level_values(0)
    count = units.to_series().groupby(units.to_numpy(), sort=False).transform("size").to_numpy()
    several = count > 1
    parts = []
    if (~several).any():
        parts.append(f"{counted(int((~several).sum()), 'unit')} with one explanation")
    shown = rows[several] if several.any() else rows
    left = len(shown) - MAX_ROWS
    if left > 0:
        # No unit is cut in two.
        last, units = MAX_ROWS, shown.index.get_level_values(0)
        while 0 < last and units[last - 1] == units[last]:
            last -= 1
        last = last or MAX_ROWS
        more = shown.iloc[last:]
        n_units = more.index.get_level_values(0).nunique()
        parts.append(f"{counted(len(more), 'row')} of {counted(n_units, 'further unit')}")
        shown = shown.iloc[:last]
    return shown, "\n" + textwrap.fill(f"Left out of this text: {' and '.join(parts)}.", TEXT_WIDTH)


def _of_combinations(table: pd.DataFrame, unit: str) -> str:
    """Write each combination by the units whose explanation is not the first."""
    lines = ["Combinations above 1 % of the posterior (other units have explanation 0)"]
    which = table.iloc[:, 2:]
    pairs = zip(table["weight"], table["weight_se"], strict=True)
    numbers = [with_error(x, se) for x, se in pairs][:MAX_COMBINATIONS]
    width = max(map(len, numbers)) + 2
    for number, (_, row) in zip(numbers, which.iterrows(), strict=False):
        groups = []
        for k in sorted(set(row) - {0}):
            own = [str(u) for u, e in zip(which.columns, row, strict=True) if e == k]
            groups.append(f"{k} in {unit} {', '.join(own)}")
        text = "; ".join(groups) or "0 in all"
        lines += textwrap.wrap(
            text, TEXT_WIDTH, initial_indent=number.ljust(width), subsequent_indent=" " * width
        )
    if len(table) > MAX_COMBINATIONS:
        lines.append(f"and {counted(len(table) - MAX_COMBINATIONS, 'further combination')}")
    return "\n".join(lines)
