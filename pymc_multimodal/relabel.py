"""Draws with their labels put in one order, for summaries of single components."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal._compat import add_group, get_dataset, group_names
from pymc_multimodal.symmetry import Orbit, Symmetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

__all__ = ["acts_as", "read_action", "relabel"]

_log = logging.getLogger("pymc.multimodal")

# What a map may do to an entry x of a variable: keep it, change its sign, or turn a
# probability into that of the other outcome. As x -> sign * x + shift.
_WAYS = ((1.0, 0.0), (-1.0, 0.0), (-1.0, 1.0))


def read_action(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict:
    """Read off what a symmetry does to each variable, from a draw and its image.

    Parameters
    ----------
    before, after : mappings of arrays
        The value of every variable at both.

    Returns
    -------
    dict
        For each variable that changes, a list with the old flat index, sign and shift behind
        each entry; None where the image is no rearrangement.
    """
    out: dict[str, list | None] = {}
    for name, value in before.items():
        old, new = np.ravel(value), np.ravel(after[name])
        if np.allclose(old, new, rtol=1e-6, atol=1e-9):
            continue
        entries = [_source(old, float(target)) for target in new]
        known = [e for e in entries if e is not None]
        # Equal entries leave open which one moved: that cannot be told from one draw.
        rearranged = len({at for at, *_ in known}) == len(entries)
        out[name] = known if rearranged else None
    return out


def acts_as(entries: list[tuple[int, float, float]], before: Any, after: Any) -> bool:
    """Tell whether an action that was read off one draw takes another to its image."""
    at, sign, shift = (np.array(part) for part in zip(*entries, strict=True))
    moved = sign * np.ravel(before)[at.astype(int)] + shift
    return bool(np.allclose(moved, np.ravel(after), rtol=1e-6, atol=1e-9))


def _source(old: np.ndarray, target: float) -> tuple[int, float, float] | None:
    for sign, shift in _WAYS:
        gap = np.abs(sign * old + shift - target)
        at = int(np.argmin(gap))
        if gap[at] <= 1e-6 * abs(target) + 1e-9:
            return at, sign, shift
    return None


def relabel(idata: Any) -> Any:
    """Give exchangeable components, and signs, the same order in every draw.

    Every draw is moved by the element of the model's symmetry group that brings it closest to
    the first mode (coordinates in units of that mode's standard deviations). Posterior
    expectations of functions that do not depend on labels stay as they are; marginals, R-hat and
    summaries of single components begin to mean something.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With the groups `modes` and `mode_posterior` that `sample` writes and
        ``step.attach(idata)`` adds.

    Returns
    -------
    InferenceData or DataTree
        A copy with a relabelled posterior: variables that a symmetry rearranges, Deterministics
        among them. All else, the draws' modes in ``sample_stats`` too, is as it was. A copy
        without changes where the model has no symmetry.

    Raises
    ------
    ValueError
        If there is no group `modes` written with a fit.

    Notes
    -----
    Where components overlap, their labels are a convention: the order goes by the nearest
    image (Stephens 2000 discusses such rules).
    """
    attributes = get_dataset(idata, "modes").attrs if "modes" in group_names(idata) else {}
    if "symmetry" not in attributes:
        raise ValueError(
            "These draws carry no record of the model's symmetry: there is no group 'modes' "
            "written with a fit. Call step.attach(idata), or attach(idata, fit), first."
        )
    out = idata.copy()
    actions = json.loads(attributes["symmetry"])
    posterior = get_dataset(idata, "posterior")
    names = sorted({n for a in actions for n in a if n in posterior})
    lost = [n for n in names if any(a.get(n, ()) is None for a in actions)]
    reference = get_dataset(idata, "mode_posterior").isel(mode=0)
    names = [n for n in names if n not in lost and n in reference]
    # A group that acts on long vectors is too large to be listed: the longest are left out.
    names.sort(key=lambda n: (posterior[n][0, 0].size, n))
    while names:
        flat = _Flat({n: posterior[n] for n in names})
        try:
            symmetry, centre = flat.symmetry(actions)
            break
        except ValueError:
            lost.append(names.pop())
    if lost:
        _log.warning("relabel left %s as they were: compute them anew from the others.", lost)
    if not names:
        return out
    near = np.concatenate([reference[n].values.reshape(reference.sizes["draw"], -1)
                           for n in names], axis=1)  # fmt: skip
    spread = np.maximum(near.std(axis=0), 1e-12)
    orbit = Orbit(symmetry, near.mean(axis=0) - centre, symmetry.metric(np.diag(spread**-2.0)))
    moved = orbit.fold(flat.values - centre)[0] + centre
    add_group(out, "posterior", posterior.assign(flat.restored(moved)))
    return out


class _Flat:
    """The variables of a posterior side by side: rows of all their entries."""

    def __init__(self, variables: dict[str, xr.DataArray]) -> None:
        self.variables = {n: v.transpose("chain", "draw", ...) for n, v in variables.items()}
        parts = [v.values.reshape(v.shape[0] * v.shape[1], -1) for v in self.variables.values()]
        self.values = np.concatenate(parts, axis=1).astype(float)
        ends = np.cumsum([0, *(p.shape[1] for p in parts)])
        self.where = {n: slice(a, b) for n, a, b in zip(variables, ends, ends[1:], strict=False)}

    def symmetry(self, actions: list[dict]) -> tuple[Symmetry, np.ndarray]:
        """Group of the entries, linear about a centre: 1/2 for probabilities, 0 for others."""
        d = self.values.shape[1]
        centre, generators = np.zeros(d), []
        for action in actions:
            matrix = np.eye(d)
            for name, where in self.where.items():
                if name not in action:
                    continue
                entries = action[name]
                block = np.zeros((len(entries), len(entries)))
                for i, (at, sign, shift) in enumerate(entries):
                    block[i, at] = sign
                    centre[where][i] = centre[where][i] or shift / 2
                matrix[where, where] = block
            generators.append(matrix)
        return Symmetry(tuple(generators)), centre

    def restored(self, values: np.ndarray) -> dict[str, xr.DataArray]:
        """Return the variables with other values."""
        return {
            n: v.copy(data=values[:, self.where[n]].reshape(v.shape))
            for n, v in self.variables.items()
        }
