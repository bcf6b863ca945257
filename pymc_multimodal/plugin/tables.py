"""The table of modes, and a fit in one line."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from typing import Any, ClassVar

import pandas as pd
import xarray as xr

from pymc_multimodal import checks
from pymc_multimodal._text import html_list
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.modes_group import modes_from_fit, modes_group
from pymc_multimodal.plugin.unit_table import TEXT_WIDTH, elements, formatted, unit_table
from pymc_multimodal.plugin.units_group import has_units
from pymc_multimodal.status import Status, counted, told, with_error

__all__ = ["ModeTable", "mode_table", "modes_given", "summary_line"]

# Columns of the table, in order; then come the locations.
_COLUMNS = (
    "weight",
    "weight_se",
    "status",
    "log_evidence",
    "log_evidence_se",
    "images",
    "hits",
    "ess",
    "r_hat",
    "pareto_k",
)
# Variables of the group `modes` that are neither in the table nor locations.
_LEFT_OUT = ("acceptance", "crossings", "weight_interval")
# Weights in the line of text. Conventional.
MAX_WEIGHTS_IN_LINE = 5


class ModeTable(pd.DataFrame):
    """A table of modes, whose text fits into 80 columns and leaves no column out.

    What is computed from it is an ordinary DataFrame.

    Attributes
    ----------
    statuses : tuple of str
        The warnings of the fit in words, each with its remedy; the text shows them.
    """

    _metadata: ClassVar[list[str]] = ["statuses"]
    statuses: tuple[str, ...] = ()

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        """Write numbers to the digits that their errors leave, in blocks of columns."""
        table = formatted(self)
        text = table.to_string(line_width=TEXT_WIDTH, max_rows=pd.get_option("display.max_rows"))
        said = [textwrap.fill(s, TEXT_WIDTH, subsequent_indent="    ") for s in self.statuses]
        return "\n".join([text, *said])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Write the table for a notebook, with the warnings below it."""
        return f"{formatted(self)._repr_html_()}{html_list(self.statuses)}"


def mode_table(idata: Any, *, max_elements: int = 6) -> pd.DataFrame:
    """Return one row per mode, or per explanation of a unit: weight, diagnostics and location.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`, which ``sample`` writes and ``attach`` adds; or a fit, whose
        locations are unconstrained coordinates.
    max_elements : int
        Variables with more elements have no location columns.

    Returns
    -------
    pandas.DataFrame
        Indexed by mode, heaviest first. Where the column `images` is there, a row stands for as
        many modes, and its weight and evidence are those of all of them together.

        Of a posterior that falls apart into units: indexed by unit and explanation. Its attribute
        `regions` is the table of the modes of the hubs, `combinations` has the joint modes of
        more than a hundredth of the posterior. Of draws, the location of an explanation is that of
        its optimum at the most probable of the hubs that were looked at.

    Raises
    ------
    TypeError
        If `idata` is neither draws nor a fit, or `max_elements` is no whole number.
    ValueError
        If there is no group `modes`.
    """
    checks.count("mode_table", "max_elements", max_elements, 0)
    modes = modes_given("mode_table", idata, max_elements)
    table = pd.DataFrame(index=pd.Index(modes["mode"].values, name="mode"))
    for name in _COLUMNS:
        # Without a fit, a variable of the model may have the name of a column.
        if name not in modes or modes[name].dims != ("mode",):
            continue
        # The number of images says nothing where each mode stands for itself.
        if name != "images" or (modes[name] != 1).any():
            table[name] = modes[name].values
    for name in (str(n) for n in modes.data_vars if n not in {*_COLUMNS, *_LEFT_OUT}):
        if "mode" not in modes[name].dims:
            continue
        values = modes[name].transpose("mode", ...)
        if values[0].size <= max_elements:
            for label, column in elements(name, values):
                table[label] = column
    regions = ModeTable(table)
    regions.statuses = _in_words(modes)
    return unit_table(modes, regions, max_elements) if has_units(modes) else regions


def _in_words(modes: xr.Dataset) -> tuple[str, ...]:
    """Return the warnings that the group `modes` holds, in words."""
    found = [Status(**s) for s in json.loads(modes.attrs.get("statuses", "[]"))]
    return tuple(told([s for s in found if s.level == "warning"]))


def modes_given(owner: str, idata: Any, max_elements: int | None = None) -> xr.Dataset:
    """Return the group `modes` of draws, or build it from a fit.

    Parameters
    ----------
    owner : str
        The function that was called.
    idata : InferenceData, DataTree or Fit
    max_elements : int, optional
        Of a fit, variables with more unconstrained coordinates are left out.
    """
    if not isinstance(idata, Fit):
        return modes_group(draws_given(owner, idata))
    variables = [name.partition("[")[0] for name in idata.names]
    sizes = Counter(variables)
    locations = {
        name: ("mode", idata.modes.locations[:, i])
        for i, (name, of) in enumerate(zip(idata.names, variables, strict=True))
        if max_elements is None or sizes[of] <= max_elements
    }
    return modes_from_fit(idata, xr.Dataset(locations))


def summary_line(fit: Fit) -> str:
    """Return one line of text: modes, weights, log evidence, what was searched, and the cost."""
    w, challenge = fit.weights, fit.challenge
    weights = ""
    if fit.n_modes > 1:
        pairs = list(zip(w.weight, w.weight_se, strict=True))
        shown = ", ".join(with_error(x, se) for x, se in pairs[:MAX_WEIGHTS_IN_LINE])
        weights = f", weights {shown}" + (", ..." if len(pairs) > MAX_WEIGHTS_IN_LINE else "")
    climbs = searched = starts = ""
    if challenge is not None and challenge.n_climbs:
        climbs = f" and {counted(challenge.n_climbs, 'further climb')}"
    if (seen := fit.modes.seen_basin_mass) < 1.0:
        searched = f"modes to which less than {seen:.2g} of the prior leads may be missing; "
    # A fit by units climbs for each unit, and not from starts of all coordinates.
    if fit.units is None and fit.modes.n_starts:
        starts = f" from {counted(fit.modes.n_starts, 'start')}"
    return (
        f"Found {fit.described_modes}{starts}{climbs}{weights}; "
        f"log evidence {with_error(w.total, w.total_se)}; {searched}"
        f"{fit.described_cost}, {sum(fit.seconds.values()):.1f} s."
    )
