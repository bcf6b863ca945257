"""Stored draws as one array, with a way back to named variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.status import Status, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["StoredDraws", "read_draws"]

# Fewest distinct draws that anything is learned from. Conventional: a fifth of them, four, judge.
MIN_DISTINCT_DRAWS = 20
# Distinct draws for each coordinate below which the spread is known badly. Conventional.
MIN_DRAWS_PER_COORDINATE = 5
# Share of distinct draws below which repeated ones have a status. Conventional.
MIN_DISTINCT_SHARE = 0.9
# Range of a coordinate, relative to its size, at which it is constant. Conventional: rounding is
# 2e-16.
MIN_RELATIVE_RANGE = 1e-12
# Share of the draws that are held out. Conventional.
HELD_OUT_SHARE = 0.2
# Blocks of consecutive draws of a chain that are held out together, since neighbours are alike.
# Measured: examples/benchmarks/constants.py.
BLOCKS_PER_CHAIN = 25
# An angle that is cut at its seam has more than this share of the draws within this distance of
# both pi and -pi. Conventional.
SEAM_SHARE, SEAM_DISTANCE = 0.01, 0.3
# Distance from pi that the farthest draw of such an angle does not exceed. Conventional.
SEAM_REACH = 0.1
# Names that a status lists at most.
MAX_NAMES = 8

_FORWARD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.log,
    "logit": lambda p: np.log(p) - np.log1p(-p),
}
_BACK: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.exp,
    "logit": lambda y: 1.0 / (1.0 + np.exp(-y)),
}


@dataclass(frozen=True)
class StoredDraws:
    """Draws of named variables as the rows of one array.

    Attributes
    ----------
    x : array of shape (n, d)
        On the scale that is learned on.
    shapes : dict
        Shape of each variable, in the order of the columns.
    transforms : dict
        "log" or "logit" for variables that are learned on another scale.
    chains : int
        Number of chains that the rows come from, one after the other; 0 for rows in no order.
    statuses : tuple of Status
        What is wrong with the draws.
    """

    x: np.ndarray
    shapes: dict[str, tuple[int, ...]]
    transforms: dict[str, str]
    chains: int
    statuses: tuple[Status, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        return tuple(
            f"{name}[{','.join(map(str, index))}]" if shape else name
            for name, shape in self.shapes.items()
            for index in np.ndindex(*shape)
        )

    @property
    def columns(self) -> Iterator[tuple[str, slice]]:
        """Name of each variable with its columns."""
        first = 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            yield name, slice(first, first + size)
            first += size

    def to_dict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of shape (n, ...) by variable, on the variables' own scale; x is (n, d)."""
        variables = {}
        for name, columns in self.columns:
            values = x[:, columns].reshape(len(x), *self.shapes[name])
            if name in self.transforms:
                values = _BACK[self.transforms[name]](values)
            variables[name] = values
        return variables

    def held_out(self, rng: np.random.Generator) -> np.ndarray:
        """Choose rows to judge by: a mask of shape (n,). No copy of them is among the others.

        Rows of chains are held out in blocks, rows in no order at random.
        """
        n = len(self.x)
        _, row_value = np.unique(self.x, axis=0, return_inverse=True)
        row_value = row_value.ravel()
        block = row_value
        if self.chains:
            block = np.arange(n) // max(1, n // (self.chains * BLOCKS_PER_CHAIN))
        n_blocks = block.max() + 1
        chosen = rng.permutation(n_blocks)[: max(1, round(HELD_OUT_SHARE * n_blocks))]
        mask = np.isin(block, chosen)
        mask &= ~np.isin(row_value, row_value[~mask])
        return mask


def read_draws(
    draws: Any,
    var_names: Sequence[str] | None = None,
    transforms: Mapping[str, str] | None = None,
) -> StoredDraws:
    """Read and check stored draws.

    Parameters
    ----------
    draws : InferenceData, DataTree, Dataset, mapping or array
        With a group ``posterior``, or the Dataset itself, with dimensions chain and draw; a
        mapping of arrays of shape (n, ...); or an array of shape (n,), (n, d) or
        (chains, draws, d).
    var_names : sequence of str, optional
        Variables to keep.
    transforms : mapping, optional
        "log" for positive variables, "logit" for those between 0 and 1.

    Returns
    -------
    StoredDraws

    Raises
    ------
    TypeError, ValueError
        If they are no draws, not finite, too few, or all equal.
    """
    arrays, chains = _arrays(draws)
    if var_names is not None:
        arrays = _chosen(arrays, var_names)
    kinds = dict(transforms or {})
    if unknown := set(kinds) - set(arrays):
        raise ValueError(
            f"transforms names {sorted(unknown)}, which the draws do not have; they have "
            f"{sorted(arrays)}."
        )
    arrays = {
        name: _transformed(name, _finite(name, value), kinds.get(name))
        for name, value in arrays.items()
    }
    shapes = {name: value.shape[1:] for name, value in arrays.items()}
    x = np.concatenate([v.reshape(len(v), -1) for v in arrays.values()], axis=1)
    stored = StoredDraws(x, shapes, kinds, chains)
    varying = np.ptp(x, axis=0) > MIN_RELATIVE_RANGE * (1.0 + np.abs(x).max(axis=0))
    n_distinct = len(np.unique(x, axis=0))
    _check_enough(stored, varying, n_distinct)
    statuses = _number_statuses(stored, varying, n_distinct) + _seam_statuses(stored, varying)
    return replace(stored, statuses=tuple(statuses))


def _chosen(arrays: dict[str, np.ndarray], var_names: str | Sequence[str]) -> dict[str, np.ndarray]:
    names = [var_names] if isinstance(var_names, str) else var_names
    if missing := [v for v in names if v not in arrays]:
        raise ValueError(
            f"var_names holds {missing}, which the draws do not have; they have {sorted(arrays)}."
        )
    if not len(names):
        raise ValueError("var_names=[] leaves no variable; leave it out for all of them.")
    return {name: arrays[name] for name in names}


def _arrays(draws: Any) -> tuple[dict[str, np.ndarray], int]:
    """Variables as arrays of shape (n, ...), and the number of chains: 0 for unordered rows."""
    if not isinstance(draws, xr.Dataset) and (
        isinstance(draws, xr.DataTree) or hasattr(draws, "groups")
    ):
        if "posterior" not in group_names(draws):
            raise ValueError(
                f"draws has the groups {group_names(draws)} and none called 'posterior'. Give what "
                "pm.sample has returned."
            )
        draws = get_dataset(draws, "posterior")
    if isinstance(draws, xr.Dataset):
        return _arrays_of_dataset(draws)
    if isinstance(draws, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in draws.items()}
        lengths = {v.shape[:1] for v in arrays.values()}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(
                f"draws has arrays of shapes {[v.shape for v in arrays.values()]}: give an array "
                "for each variable, all with the number of draws as their first length."
            )
        return arrays, 0
    x = np.asarray(draws)
    if x.dtype == object or x.ndim not in (1, 2, 3) or not x.size:
        raise TypeError(
            f"draws={type(draws).__name__} of shape {x.shape} cannot be read; give an "
            "InferenceData or an array of shape (n, d)."
        )
    if x.ndim == 3:
        return {"x": x.reshape(-1, x.shape[2])}, len(x)
    return {"x": x.reshape(len(x), -1)}, 0


def _arrays_of_dataset(draws: xr.Dataset) -> tuple[dict[str, np.ndarray], int]:
    if not {"chain", "draw"} <= set(draws.dims):
        raise ValueError(
            f"draws has the dimensions {sorted(map(str, draws.dims))}; a posterior has 'chain' "
            "and 'draw'. Give the group 'posterior' of what pm.sample has returned."
        )
    arrays = {}
    for name, value in draws.data_vars.items():
        if {"chain", "draw"} <= set(value.dims):
            ordered = value.transpose("chain", "draw", ...).values
            arrays[str(name)] = ordered.reshape(-1, *ordered.shape[2:])
    return arrays, int(draws.sizes["chain"])


def _finite(name: str, value: np.ndarray) -> np.ndarray:
    """Return the draws of a variable as floats; raise unless they are finite real numbers."""
    if not np.issubdtype(value.dtype, np.number) or np.iscomplexobj(value):
        raise TypeError(
            f"draws of {name!r} are of dtype {value.dtype}; give real numbers, or leave the "
            "variable out by var_names."
        )
    value = value.astype(float)
    if bad := int(np.sum(~np.isfinite(value))):
        raise ValueError(
            f"draws of {name!r} hold {bad} values that are NaN or infinite; drop those draws "
            "or leave the variable out by var_names."
        )
    return value


def _transformed(name: str, value: np.ndarray, kind: str | None) -> np.ndarray:
    if kind is None:
        return value
    if kind not in _FORWARD:
        raise ValueError(f"transforms[{name!r}]={kind!r}: choose from {sorted(_FORWARD)}.")
    if not np.all(value > 0) or (kind == "logit" and not np.all(value < 1)):
        raise ValueError(
            f"transforms[{name!r}]={kind!r} is for values "
            f"{'between 0 and 1' if kind == 'logit' else 'above 0'}, and {name!r} has draws from "
            f"{np.min(value):.4g} to {np.max(value):.4g}. Leave the transform out, or give another."
        )
    out: np.ndarray = _FORWARD[kind](value)
    return out


def _check_enough(stored: StoredDraws, varying: np.ndarray, n_distinct: int) -> None:
    """Raise ValueError for draws that nothing can be learned from."""
    if not varying.any():
        raise ValueError(
            f"draws holds {counted(len(stored.x), 'row')}, all of them equal: there is no "
            "distribution to learn."
        )
    if n_distinct < MIN_DISTINCT_DRAWS:
        raise ValueError(
            f"draws has {counted(n_distinct, 'distinct row')}; at least "
            f"{MIN_DISTINCT_DRAWS} are needed. Sample more."
        )
    if n_distinct <= varying.sum():
        raise ValueError(
            f"draws has {counted(n_distinct, 'distinct row')} for "
            f"{counted(int(varying.sum()), 'coordinate')}: in some directions "
            "they do not vary at all. Sample more, or choose fewer variables by "
            "var_names."
        )


def _number_statuses(stored: StoredDraws, varying: np.ndarray, n_distinct: int) -> list[Status]:
    """Statuses of few draws, repeated draws and constant coordinates."""
    n, found = len(stored.x), []
    wanted = MIN_DRAWS_PER_COORDINATE * varying.sum()
    if n_distinct < wanted:
        found.append(
            Status("few_draws", "proposals",
                   f"{counted(n_distinct, 'distinct draw')} for "
                   f"{counted(int(varying.sum()), 'coordinate')} leave the spread "
                   "uncertain in most directions.", f"Store at least {wanted}.")
        )  # fmt: skip
    if n_distinct < MIN_DISTINCT_SHARE * n:
        found.append(
            Status("duplicates", "proposals",
                   f"only {n_distinct} of {n} draws are distinct: weights and shape are known as "
                   f"well as from {n_distinct} draws.", "Run longer chains, or thin less.")
        )  # fmt: skip
    if not varying.all():
        names = [m for m, v in zip(stored.names, varying, strict=True) if not v]
        found.append(
            Status("constant", "proposals",
                   f"{', '.join(names[:MAX_NAMES])} did not vary: generated draws repeat the "
                   "value.", "Leave constants out by var_names.")
        )  # fmt: skip
    return found


def _seam_statuses(stored: StoredDraws, varying: np.ndarray) -> list[Status]:
    """Statuses of coordinates that look like angles with draws on both sides of their seam."""
    found = []
    for j in np.flatnonzero(varying):
        column = stored.x[:, j]
        reach = np.abs(column).max()
        at_ends = min(
            np.mean(column > np.pi - SEAM_DISTANCE), np.mean(column < SEAM_DISTANCE - np.pi)
        )
        if np.pi - SEAM_REACH < reach <= np.pi + 1e-9 and at_ends > SEAM_SHARE:
            found.append(
                Status("seam", "proposals",
                       f"{stored.names[j]} fills both ends of (-pi, pi): if it is an angle, the "
                       "seam cuts a mode in two.", "Store its cosine and sine instead.")
            )  # fmt: skip
    return found
