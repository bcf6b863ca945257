"""Stored draws as one array, whatever they come in, with a way back to named variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Stored", "read_draws"]

# Fewest distinct draws that anything is learned from.
MIN_DRAWS = 20
# Distinct draws per coordinate under which the spread is known badly.
FEW = 5
# Consecutive draws of a chain that are held out together, since neighbours are alike.
BLOCKS = 25

_FORWARD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.log,
    "logit": lambda p: np.log(p) - np.log1p(-p),
}
_BACK: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log": np.exp,
    "logit": lambda y: 1.0 / (1.0 + np.exp(-y)),
}


@dataclass(frozen=True)
class Stored:
    """Draws of named variables, flattened.

    Attributes
    ----------
    x : array of shape (n, d)
        On the scale that is learned on.
    shapes : dict
        Shape of each variable, in the order of the columns.
    transforms : dict
        "log" or "logit" for variables that are learned on another scale.
    chains : int
        Chains that the rows come from, one after the other; 0 for rows in no order.
    statuses : tuple of Status
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

    def to_dict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of shape (n, ...) by variable, on the variables' own scale."""
        out, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            part = x[:, at : at + size].reshape(len(x), *shape)
            out[name] = _BACK[self.transforms[name]](part) if name in self.transforms else part
            at += size
        return out

    def held_out(self, rng: np.random.Generator, share: float = 0.2) -> np.ndarray:
        """Mask of the rows to judge by, shape (n,); no copy of them is among the others.

        Rows of chains are held out in blocks, rows of one array at random.
        """
        n = len(self.x)
        _, same = np.unique(self.x, axis=0, return_inverse=True)
        same = same.ravel()
        block = same
        if self.chains:
            block = np.arange(n) // max(1, n // (self.chains * BLOCKS))
        count = block.max() + 1
        chosen = rng.permutation(count)[: max(1, round(share * count))]
        mask = np.isin(block, chosen)
        mask &= ~np.isin(same, same[~mask])
        return mask


def read_draws(
    draws: Any,
    var_names: Sequence[str] | None = None,
    transforms: Mapping[str, str] | None = None,
) -> Stored:
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

    Raises
    ------
    TypeError, ValueError
        If they are no draws, not finite, too few, or all equal.
    """
    arrays, chains = _arrays(draws)
    if var_names is not None:
        if isinstance(var_names, str):
            var_names = [var_names]
        if missing := [v for v in var_names if v not in arrays]:
            raise ValueError(
                f"var_names holds {missing}, which the draws do not have; they have "
                f"{sorted(arrays)}."
            )
        if not len(var_names):
            raise ValueError("var_names=[] leaves no variable; leave it out for all of them.")
        arrays = {name: arrays[name] for name in var_names}
    chosen = dict(transforms or {})
    for name, value in arrays.items():
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
        arrays[name] = _transform(name, value, chosen.get(name))
    if unknown := set(chosen) - set(arrays):
        raise ValueError(f"transforms names {sorted(unknown)}, which the draws do not have.")
    shapes = {name: value.shape[1:] for name, value in arrays.items()}
    x = np.concatenate([v.reshape(len(v), -1) for v in arrays.values()], axis=1)
    stored = Stored(x, shapes, chosen, chains)
    return Stored(x, shapes, chosen, chains, tuple(_judge(stored)))


def _arrays(draws: Any) -> tuple[dict[str, np.ndarray], int]:
    """Variables as arrays of shape (n, ...), and the number of chains: 0 for unordered rows."""
    if isinstance(draws, xr.DataTree) or hasattr(draws, "groups"):
        if not isinstance(draws, xr.Dataset) and "posterior" in group_names(draws):
            draws = get_dataset(draws, "posterior")
        elif not isinstance(draws, xr.Dataset):
            raise ValueError(
                f"draws has the groups {group_names(draws)} and none called 'posterior'."
            )
    if isinstance(draws, xr.Dataset):
        if not {"chain", "draw"} <= set(draws.dims):
            raise ValueError(
                f"draws has the dimensions {sorted(map(str, draws.dims))}; a posterior has "
                "'chain' and 'draw'."
            )
        arrays = {}
        for name, value in draws.data_vars.items():
            if {"chain", "draw"} <= set(value.dims):
                ordered = value.transpose("chain", "draw", ...).values
                arrays[str(name)] = ordered.reshape(-1, *ordered.shape[2:])
        return arrays, int(draws.sizes["chain"])
    if isinstance(draws, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in draws.items()}
        lengths = {v.shape[:1] for v in arrays.values()}
        if len(lengths) != 1 or () in lengths:
            raise ValueError("draws is a mapping whose values are no arrays of one first length.")
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


def _transform(name: str, value: np.ndarray, kind: str | None) -> np.ndarray:
    if kind is None:
        return value
    if kind not in _FORWARD:
        raise ValueError(f"transforms[{name!r}]={kind!r}: choose from {sorted(_FORWARD)}.")
    if not np.all(value > 0) or (kind == "logit" and not np.all(value < 1)):
        raise ValueError(
            f"transforms[{name!r}]={kind!r} does not fit: draws lie outside its range."
        )
    out: np.ndarray = _FORWARD[kind](value)
    return out


def _judge(stored: Stored) -> list[Status]:
    """Raise for draws that nothing can be learned from; say what else is wrong with them."""
    x, found = stored.x, []
    n = len(x)
    distinct = len(np.unique(x, axis=0))
    varying = np.ptp(x, axis=0) > 1e-12 * (1.0 + np.abs(x).max(axis=0))
    if not varying.any():
        raise ValueError(f"draws holds {n} equal rows: there is no distribution to learn.")
    if distinct < MIN_DRAWS:
        raise ValueError(
            f"draws has {distinct} distinct rows; at least {MIN_DRAWS} are needed. Sample more."
        )
    if distinct <= varying.sum():
        raise ValueError(
            f"draws has {distinct} distinct rows for {varying.sum()} coordinates: in some "
            "directions they do not vary at all. Sample more, or choose fewer variables by "
            "var_names."
        )
    if distinct < FEW * varying.sum():
        found.append(
            Status("few_draws", "draws",
                   f"{distinct} distinct draws for {varying.sum()} coordinates leave the spread "
                   "uncertain in most directions.", f"Store at least {FEW * varying.sum()}.")
        )  # fmt: skip
    if distinct < 0.9 * n:
        found.append(
            Status("duplicates", "draws",
                   f"only {distinct} of {n} draws are distinct: weights and shape are known as "
                   "well as so many draws tell.", "Run longer chains, or thin less.")
        )  # fmt: skip
    if not varying.all():
        names = [m for m, v in zip(stored.names, varying, strict=True) if not v]
        found.append(
            Status("constant", "draws",
                   f"{', '.join(names[:8])} did not vary: generated draws repeat the value.",
                   "Leave out by var_names what is no unknown.")
        )  # fmt: skip
    for j in np.flatnonzero(varying):
        column = x[:, j]
        inside = np.abs(column).max() <= np.pi + 1e-9
        ends = min(np.mean(column > np.pi - 0.3), np.mean(column < 0.3 - np.pi))
        if inside and ends > 0.01 and np.abs(column).max() > np.pi - 0.1:
            found.append(
                Status("seam", "draws",
                       f"{stored.names[j]} fills both ends of (-pi, pi): if it is an angle, the "
                       "seam cuts a mode in two.",
                       "Store its cosine and sine instead.")
            )  # fmt: skip
    return found
