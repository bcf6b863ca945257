"""What can be drawn: elements of variables with their draws and places, from draws or a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pymc_multimodal import checks
from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.tables import modes_given
from pymc_multimodal.plugin.unit_table import elements

__all__ = ["Element", "Shown", "mode_of_draws", "select", "shown", "take_names"]

# Dimension of all draws together, which no dimension of a model is called.
_DRAWS = "__draws__"
# Local draws of a fit that are shown. Conventional.
N_FROM_FIT = 4000


@dataclass(frozen=True)
class Element:
    """One number of a model's variables.

    Attributes
    ----------
    variable, label : str
    coords : dict
        Coordinate of each dimension of the variable.
    values : array of shape (n,)
        Its draws.
    places : array of shape (K,)
        Its value at each mode; NaN where it is not known.
    """

    variable: str
    label: str
    coords: dict[str, Any]
    values: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Shown:
    """Draws with their modes.

    Attributes
    ----------
    elements : tuple of Element
    mode : array of int, shape (n,)
        Mode of each draw.
    modes : xarray.Dataset
        The group `modes`.
    sampled : bool
        Whether chains made the draws; those of a fit are picked by the weights.
    """

    elements: tuple[Element, ...]
    mode: np.ndarray
    modes: xr.Dataset
    sampled: bool

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return self.modes.sizes["mode"]


def shown(
    owner: str,
    idata: Any,
    var_names: Sequence[str] | str | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Shown:
    """Return draws with their modes, of the chosen variables and coordinates.

    Parameters
    ----------
    owner : str
        The function that was called.
    idata : InferenceData, DataTree or Fit
    var_names : str or sequence of str, optional
        With ``~`` before each, all other variables.
    coords : mapping, optional
        Coordinates to keep, by dimension.

    Raises
    ------
    TypeError
        If something has the wrong type.
    ValueError
        If there is no group `modes` or no draws, or there is no such variable or coordinate.
    """
    modes = modes_given(owner, idata)
    whole = _of_fit(idata, modes) if isinstance(idata, Fit) else _of_draws(owner, idata, modes)
    kept = select(owner, whole.elements, var_names, coords)
    return Shown(kept, whole.mode, modes, whole.sampled)


def select(
    owner: str,
    found: Sequence[Element],
    var_names: Sequence[str] | str | None,
    coords: Mapping[str, Any] | None,
) -> tuple[Element, ...]:
    """Return the elements of some variables, and with some coordinates, as ArviZ chooses them."""
    known = list(dict.fromkeys(e.variable for e in found))
    names = take_names(owner, var_names, known)
    kept = [e for name in names for e in found if e.variable == name]
    if coords is None:
        return tuple(kept)
    checks.kind(owner, "coords", coords, Mapping)
    for dim, wanted in coords.items():
        there = list(dict.fromkeys(e.coords[dim] for e in kept if dim in e.coords))
        if not there:
            dims = sorted({d for e in kept for d in e.coords})
            raise ValueError(
                f"{owner}(coords=...) names the dimension {dim!r}, which these variables do not "
                f"have; they have {dims}."
            )
        chosen = _coordinates(owner, dim, wanted, there)
        kept = [e for e in kept if dim not in e.coords or e.coords[dim] in chosen]
    return tuple(kept)


def take_names(
    owner: str, var_names: Sequence[str] | str | None, known: Sequence[str]
) -> list[str]:
    """Return the chosen variables; names that begin with ``~`` are left out."""
    if var_names is None:
        return list(known)
    names: list[Any] = [var_names] if isinstance(var_names, str) else []
    if isinstance(var_names, Iterable) and not isinstance(var_names, str):
        names = list(var_names)
    if not names or not all(isinstance(n, str) for n in names):
        raise TypeError(
            f"{owner}(var_names={var_names!r}) must be a name of a variable or a list of names, "
            f"such as {[*known][:1]}."
        )
    left_out = [n.startswith("~") and n not in known for n in names]
    if any(left_out) and not all(left_out):
        raise ValueError(
            f"{owner}(var_names={names}) has names with ~ and names without: give either what is "
            "shown, or what is left out."
        )
    asked = [n.removeprefix("~") if out else n for n, out in zip(names, left_out, strict=True)]
    if missing := sorted(set(asked) - {*known}):
        raise ValueError(
            f"{owner}(var_names=...) holds {missing}, which the posterior does not have; it has "
            f"{sorted(known)}."
        )
    kept = [n for n in known if n not in asked] if any(left_out) else list(dict.fromkeys(asked))
    if not kept:
        raise ValueError(
            f"{owner}(var_names={names}) leaves out all variables: there is nothing to draw. Leave "
            f"out fewer of {sorted(known)}."
        )
    return kept


def _coordinates(owner: str, dim: str, wanted: Any, there: list[Any]) -> list[Any]:
    """Return the coordinates of one dimension that are wanted: a value, several, or a slice."""
    if isinstance(wanted, slice):
        try:
            first = 0 if wanted.start is None else there.index(wanted.start)
            last = len(there) - 1 if wanted.stop is None else there.index(wanted.stop)
        except ValueError:
            raise ValueError(
                f"{owner}(coords=...) has {wanted} for {dim!r}; the coordinates are {there}."
            ) from None
        return there[first : last + 1 : wanted.step]
    several = isinstance(wanted, Iterable) and not isinstance(wanted, str)
    values = list(np.ravel(wanted)) if isinstance(wanted, np.ndarray | xr.DataArray) else None
    values = values if values is not None else (list(wanted) if several else [wanted])
    if missing := [v for v in values if v not in there]:
        raise ValueError(
            f"{owner}(coords=...) has {missing} for {dim!r}; the coordinates are {there}."
        )
    return values


# ------------------------------------------------------------------ from draws


def _of_draws(owner: str, idata: Any, modes: xr.Dataset) -> Shown:
    mode = mode_of_draws(owner, idata)
    places = _places(modes)
    found = []
    for name, variable in get_dataset(idata, "posterior").data_vars.items():
        if not (np.issubdtype(variable.dtype, np.number) or variable.dtype == bool):
            continue
        rest = [d for d in variable.dims if d not in ("chain", "draw")]
        values = variable.transpose("chain", "draw", *rest)
        flat = values.values.reshape(-1, *values.shape[2:]).astype(float)
        dims = {d: values.coords[d].values for d in rest if d in values.coords}
        array = xr.DataArray(flat, dims=(_DRAWS, *rest), coords=dims)
        labels = elements(str(name), array)
        for index, (label, column) in zip(np.ndindex(*flat.shape[1:]), labels, strict=True):
            coords = {
                str(d): _plain(dims[d][i]) if d in dims else i
                for d, i in zip(rest, index, strict=True)
            }
            nowhere = np.full(modes.sizes["mode"], np.nan)
            found.append(Element(str(name), label, coords, column, places.get(label, nowhere)))
    return Shown(tuple(found), mode.ravel(), modes, sampled=True)


def mode_of_draws(owner: str, idata: Any) -> np.ndarray:
    """Return the mode of each draw, shape (chains, draws).

    Raises
    ------
    ValueError
        If there are no draws, or they do not say to which modes they belong.
    """
    groups = group_names(idata)
    stats = get_dataset(idata, "sample_stats") if "sample_stats" in groups else xr.Dataset()
    if "posterior" not in groups or "mode" not in stats:
        raise ValueError(
            f"{owner}(idata): the draws do not say to which modes they belong, because there is "
            "no variable 'mode' in the group 'sample_stats'. Give draws of this sampler, or a fit."
        )
    if set(stats["mode"].dims) != {"chain", "draw"}:
        raise ValueError(
            f"{owner}(idata): the variable 'mode' in the group 'sample_stats' has the dimensions "
            f"{stats['mode'].dims}; it needs 'chain' and 'draw'."
        )
    mode: np.ndarray = stats["mode"].transpose("chain", "draw").values.astype(int)
    return mode


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own type; dates stay what they are."""
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "iufbU" else value


def _places(modes: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the value at each mode, by label of the element."""
    out: dict[str, np.ndarray] = {}
    for name, variable in modes.data_vars.items():
        if "mode" in variable.dims and np.issubdtype(variable.dtype, np.number):
            plain = str(name).removesuffix("_location")
            values = variable.transpose("mode", ...).reset_coords(drop=True)
            for label, column in elements(plain, values.astype(float)):
                # The location of a variable called like a column comes after that column.
                out[label] = column
    return out


# ------------------------------------------------------------------ from a fit


def _of_fit(fit: Fit, modes: xr.Dataset) -> Shown:
    """Return local draws by unconstrained coordinate, in proportion to the weights."""
    rng = np.random.default_rng(fit.config.random_seed)
    x = fit.starts(N_FROM_FIT, rng)
    if fit.orbits is not None:
        x = fit.orbits.cells.scatter(x, rng)
    found = []
    for i, label in enumerate(fit.names):
        variable, _, inside = label.partition("[")
        places = np.full(fit.n_modes, np.nan)
        places[:] = fit.modes.locations[:, i]
        found.append(Element(variable, label, _indices(variable, inside), x[:, i], places))
    return Shown(tuple(found), fit.label(x), modes, sampled=False)


def _indices(variable: str, inside: str) -> dict[str, Any]:
    """Return the indices of ``x[1,2]`` by the names that ArviZ gives dimensions without one."""
    parts = inside.rstrip("]").split(",") if inside else []
    return {
        f"{variable}_dim_{j}": int(part) if part.strip().isdecimal() else part
        for j, part in enumerate(parts)
    }
