"""Draws with their labels put in one order, for summaries of single components."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pymc_multimodal._compat import add_group, get_dataset, group_names
from pymc_multimodal.target.group import Orbit, Symmetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

__all__ = ["acts_as", "read_action", "relabel"]

_log = logging.getLogger("pymc.multimodal")

# What a map may do to an entry x of a variable: keep it, change its sign, or turn a
# probability into that of the other outcome. As x -> sign * x + shift.
_WAYS = ((1.0, 0.0), (-1.0, 0.0), (-1.0, 1.0))


# Behind an entry after the map: the variable and flat index it comes from, sign and shift.
Source: TypeAlias = tuple[str, int, float, float]


def read_action(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict:
    """Read off what a symmetry does to each variable, from a draw and its image.

    Parameters
    ----------
    before, after : mappings of arrays
        The value of every variable at both.

    Returns
    -------
    dict
        For each variable that changes, a list with variable, flat index, sign and shift behind
        each entry; None where the image is no rearrangement.
    """
    old = {n: np.ravel(v) for n, v in before.items()}
    new = {n: np.ravel(v) for n, v in after.items()}
    changed = [n for n in old if not np.allclose(old[n], new[n], rtol=1e-6, atol=1e-9)]
    sources = {n: [_source(n, old[n], float(target)) for target in new[n]] for n in changed}
    taken = {source[:2] for entries in sources.values() for source in entries if source}
    for name in changed:
        for i, target in enumerate(new[name]):
            if sources[name][i]:
                continue
            # From another variable, if it is one that moves: a copy is taken once only.
            others = (_source(n, old[n], float(target)) for n in changed if n != name)
            if source := next((s for s in others if s and s[:2] not in taken), None):
                sources[name][i] = source
                taken.add(source[:2])
    # Equal entries leave open which one moved: that cannot be told from one draw.
    return {
        n: entries if len({e[:2] for e in entries if e}) == len(entries) else None
        for n, entries in sources.items()
    }


def acts_as(entries: list[Source], before: Mapping[str, np.ndarray], after: np.ndarray) -> bool:
    """Tell whether an action that was read off one draw takes another to its image."""
    moved = [sign * np.ravel(before[n])[at] + shift for n, at, sign, shift in entries]
    return bool(np.allclose(moved, np.ravel(after), rtol=1e-6, atol=1e-9))


def _source(name: str, old: np.ndarray, target: float) -> Source | None:
    for sign, shift in _WAYS:
        gap = np.abs(sign * old + shift - target)
        at = int(np.argmin(gap))
        if gap[at] <= 1e-6 * abs(target) + 1e-9:
            return name, at, sign, shift
    return None


def _closed(names: list[str], actions: list[dict]) -> list[str]:
    """Leave out variables that receive entries of variables which are not among the names."""
    kept = [n for n in names if all(e[0] in names for action in actions for e in action.get(n, ()))]
    return kept if kept == names else _closed(kept, actions)


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
    image (Stephens 2000, "Dealing with label switching in mixture models", discusses such rules).
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
    reference = get_dataset(idata, "mode_posterior").isel(mode=0)
    every = [n for n in names if n in reference]
    names = [n for n in every if all(a.get(n, ()) is not None for a in actions)]
    # A group that acts on long vectors is too large to be listed: the longest are left out.
    names.sort(key=lambda n: (posterior[n][0, 0].size, n))
    while names := _closed(names, actions):
        flat = _Flat({n: posterior[n] for n in names})
        try:
            symmetry, centre = flat.symmetry(actions)
            break
        except ValueError:
            names.pop()
    if lost := sorted(set(every) - set(names)):
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
                for i, (source, at, sign, shift) in enumerate(action.get(name, ())):
                    row = where.start + i
                    matrix[row] = 0.0
                    matrix[row, self.where[source].start + at] = sign
                    centre[row] = centre[row] or shift / 2
            generators.append(matrix)
        return Symmetry(tuple(generators)), centre

    def restored(self, values: np.ndarray) -> dict[str, xr.DataArray]:
        """Return the variables with other values."""
        return {
            n: v.copy(data=values[:, self.where[n]].reshape(v.shape))
            for n, v in self.variables.items()
        }
