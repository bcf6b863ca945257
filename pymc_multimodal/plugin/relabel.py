"""Draws whose labels are put in one order, for summaries of single components."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from pymc_multimodal._compat import add_group, get_dataset, group_names
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.merged_images import first_images, merged_modes
from pymc_multimodal.target import Orbit, Symmetry

__all__ = ["acts_as", "read_action", "read_labels", "relabel"]

_log = logging.getLogger("pymc.multimodal")

# What a symmetry may do to an entry x of a variable, as x -> sign * x + shift: keep it, change its
# sign, or turn a probability into that of the other outcome.
_MAPS = ((1.0, 0.0), (-1.0, 0.0), (-1.0, 1.0))
# Two entries are equal but for rounding if they differ by less. Conventional.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-6, 1e-9
# Standard deviation below which an entry counts as constant. Conventional.
MIN_SPREAD = 1e-12
# Standard deviation of the labels of components, which do not count in distances: their share of a
# squared distance is 1e-16. Conventional.
LABEL_SPREAD = 1e8

Source: TypeAlias = tuple[str, int, float, float]
"""Where an entry comes from: variable and flat index before the map, sign and shift."""


def read_action(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Read off what a symmetry does to each variable, from a draw and its image.

    Parameters
    ----------
    before, after : mappings of arrays
        The value of every variable at the draw, and at its image.

    Returns
    -------
    dict
        For each variable that changes, the list of the sources of its entries (`Source`); None
        where the image is no rearrangement.
    """
    old = {n: np.ravel(v) for n, v in before.items()}
    new = {n: np.ravel(v) for n, v in after.items()}
    changed = [n for n in old if not _equal(old[n], new[n])]
    sources = {n: [_source(n, old[n], float(target)) for target in new[n]] for n in changed}
    taken = {source[:2] for entries in sources.values() for source in entries if source}
    for name in changed:
        for i, target in enumerate(new[name]):
            if sources[name][i]:
                continue
            # From another variable that changes. An entry is the source of one entry only.
            others = (_source(n, old[n], float(target)) for n in changed if n != name)
            if source := next((s for s in others if s and s[:2] not in taken), None):
                sources[name][i] = source
                taken.add(source[:2])
    # Where entries are equal, one draw does not tell which of them moved.
    return {
        n: entries if len({e[:2] for e in entries if e}) == len(entries) else None
        for n, entries in sources.items()
    }


def acts_as(entries: list[Source], before: Mapping[str, np.ndarray], after: np.ndarray) -> bool:
    """Tell whether an action that was read off one draw maps another draw onto its image.

    Parameters
    ----------
    entries : list of Source
        The action on one variable.
    before : mapping of arrays
        The value of every variable at the other draw.
    after : array
        The variable at the image.
    """
    moved = [sign * np.ravel(before[n])[at] + shift for n, at, sign, shift in entries]
    return _equal(moved, np.ravel(after))


def read_labels(before: np.ndarray, after: np.ndarray) -> dict[str, list[int]] | None:
    """Read off how a symmetry changes the values of an indicator: the labels of components.

    Parameters
    ----------
    before, after : arrays of int, shape (n, ...)
        The indicators at n draws, and at the images of these.

    Returns
    -------
    dict or None
        ``labels``, the values that there are, and ``to``, what each becomes. None where equal
        values become different ones, more than one value is not seen, or the draws do not tell a
        change of values from one of places.
    """
    rows = [{"": row} for row in before]
    places = read_action(rows[0], {"": after[0]}).get("")
    if places and before[0].size > 1 and all(map(acts_as, repeat(places), rows, after)):
        return None
    labels = np.union1d(before, after)
    pairs = np.unique(np.stack([np.ravel(before), np.ravel(after)], axis=1), axis=0)
    to = dict(pairs.tolist())
    if len(to) < len(pairs) or len(set(to.values())) < len(pairs):
        return None
    left, free = (sorted(set(labels.tolist()) - set(s)) for s in (to, to.values()))
    if len(left) > 1:
        return None
    to.update(zip(left, free, strict=True))
    return {"labels": labels.tolist(), "to": [to[k] for k in labels.tolist()]}


def _equal(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE))


def _source(name: str, old: np.ndarray, target: float) -> Source | None:
    """Find the entry of a variable, and the map, that give a target; None if there is none."""
    for sign, shift in _MAPS:
        gap = np.abs(sign * old + shift - target)
        at = int(np.argmin(gap))
        if gap[at] <= RELATIVE_TOLERANCE * abs(target) + ABSOLUTE_TOLERANCE:
            return name, at, sign, shift
    return None


def _closed(names: list[str], actions: list[dict]) -> list[str]:
    """Leave out variables that have a source outside of the names, until there is none."""
    kept = [n for n in names if all(e[0] in names for action in actions for e in action.get(n, ()))]
    return kept if kept == names else _closed(kept, actions)


def relabel(idata: Any) -> Any:
    """Give exchangeable components, and signs, the same order in every draw.

    Every draw is moved by the element of the model's symmetry group that brings it closest to the
    first mode; distances are in standard deviations of that mode. Posterior expectations of
    functions that do not depend on the labels stay the same. Marginals, R-hat and summaries of
    single components describe one component afterwards.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With the group `modes` that `sample` writes and ``attach(idata)`` adds.

    Returns
    -------
    InferenceData or DataTree
        A copy whose draws are relabelled: the variables that the symmetry rearranges,
        Deterministics among them, and the values of indicators of components. Modes that were
        images of one another are one mode then, in the groups `modes` and `mode_posterior` and in
        the sample stat ``mode``; its weight is that of all images. A warning is logged for
        variables that change in another way; they and all modes stay as they are. Without a
        symmetry the copy is unchanged.

    Raises
    ------
    TypeError
        If `idata` is no InferenceData or DataTree.
    ValueError
        If there is no group `modes`, or it knows nothing of symmetries.

    Notes
    -----
    Where components overlap, their labels are a convention. Here each draw gets the labels of its
    nearest image; Stephens (2000, "Dealing with label switching in mixture models", J. R. Stat.
    Soc. B 62, 795-809) discusses such rules.
    """
    draws_given("relabel", idata)
    attributes = get_dataset(idata, "modes").attrs if "modes" in group_names(idata) else {}
    if "reference" not in attributes:
        raise ValueError(
            "These draws carry no record of the model's symmetry: there is no group 'modes' "
            "that knows of it. Call attach(idata), step.attach(idata) or attach(idata, fit, "
            "model=model) first."
        )
    out = idata.copy()
    posterior = get_dataset(idata, "posterior")
    actions, labels = _labels_as_entries(json.loads(attributes["symmetry"]), posterior)
    reference = json.loads(attributes["reference"])
    moved = {n for action in actions for n in action if n in posterior and n in reference}
    variables, symmetry, centre = _largest_group(posterior, actions, moved, labels)
    if lost := sorted(moved - set(variables.names)):
        _log.warning(
            "relabel left %s as they were, so that they may no longer belong to the other "
            "variables: compute them anew from these.",
            lost,
        )
    if symmetry is None:
        if not lost:
            _log.info(
                "relabel changed nothing: the fit knows of no symmetry of the model. (With "
                "symmetry=False, and by units, it looks for none: structure=False fits without "
                "units.)"
            )
        return out
    for name, own in labels.items():
        reference[name] = [np.arange(len(own)), np.full(len(own), LABEL_SPREAD)]
    mean, spread = np.concatenate([reference[n] for n in variables.names], axis=1)
    precision = np.diag(np.maximum(spread, MIN_SPREAD) ** -2.0)
    orbit = Orbit(symmetry, mean - centre, symmetry.metric(precision))

    def relabelled(dataset: xr.Dataset) -> xr.Dataset:
        rows = orbit.fold(variables.rows(dataset) - centre)[0] + centre
        return dataset.assign(variables.restored(dataset, rows))

    add_group(out, "posterior", relabelled(posterior))
    if not lost:
        _merge_images(out, variables, relabelled, spread)
    return out


def _merge_images(
    out: Any,
    variables: _Columns,
    relabelled: Callable[[xr.Dataset], xr.Dataset],
    spread: np.ndarray,
) -> None:
    """Make one mode of the modes that are images of one another, in place.

    Parameters
    ----------
    out : InferenceData or DataTree
    variables : _Columns
        The variables that the symmetry rearranges.
    relabelled : callable
        Relabels the draws of a dataset.
    spread : array of shape (d,)
        Standard deviations of their entries in the first mode.
    """
    modes = get_dataset(out, "modes")
    # A variable that is called like a column has another name for its location.
    columns = {n: f"{n}_location" if f"{n}_location" in modes else n for n in variables.names}
    # A dataset of draws: one chain, and a draw for each mode.
    places = xr.Dataset({n: modes[c].rename(mode="draw") for n, c in columns.items()})
    places = relabelled(places.expand_dims("chain"))
    modes = modes.assign({
        c: places[n].isel(chain=0, drop=True).rename(draw="mode") for n, c in columns.items()
    })  # fmt: skip
    first = first_images(modes, variables.rows(places), spread)
    add_group(out, "modes", merged_modes(modes, first))
    kept, number = np.unique(first, return_inverse=True)
    if "mode" in (stats := get_dataset(out, "sample_stats")):
        mode = stats["mode"]
        now = number[mode.values.astype(int)].astype(mode.dtype)
        add_group(out, "sample_stats", stats.assign(mode=mode.copy(data=now)))
    if "mode_posterior" in group_names(out):
        within = get_dataset(out, "mode_posterior").isel(mode=kept)
        parts = [relabelled(within.isel(mode=k, drop=True)) for k in range(len(kept))]
        joined = xr.concat(parts, dim="mode").transpose("chain", "draw", "mode", ...)
        joined = joined.assign_coords(mode=np.arange(len(kept)))
        joined.attrs = within.attrs
        add_group(out, "mode_posterior", joined)


def _labels_as_entries(
    actions: list[dict], posterior: xr.Dataset
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Write the actions on indicators as rearrangements of a vector of labels.

    Returns
    -------
    actions : list of dict
        Entry i of the vector comes from the label that becomes label i. None for indicators with
        other values than those whose action is known.
    labels : dict of arrays
        The labels of each indicator, in their order.
    """
    labels: dict[str, np.ndarray] = {}
    out = [dict(action) for action in actions]
    for name in {n for action in out for n, a in action.items() if isinstance(a, dict)}:
        found = [action[name] for action in out if isinstance(action.get(name), dict)]
        known = np.unique(np.concatenate([a["labels"] for a in found]))
        usable = name in posterior and all(len(a["labels"]) == len(known) for a in found)
        usable = usable and bool(np.isin(posterior[name].values, known).all())
        if usable:
            labels[name] = known
        for action in out:
            if isinstance(action.get(name), dict):
                comes_from = np.argsort(action[name]["to"])
                action[name] = [(name, int(k), 1.0, 0.0) for k in comes_from] if usable else None
    return out, labels


def _largest_group(
    posterior: xr.Dataset,
    actions: list[dict],
    moved: set[str],
    labels: Mapping[str, np.ndarray],
) -> tuple[_Columns, Symmetry | None, np.ndarray]:
    """Choose variables that a listed group rearranges, as many as possible.

    Returns
    -------
    columns : _Columns
        The variables.
    symmetry : Symmetry or None
        The group of their entries; None where no variable is left.
    centre : array of shape (d,)
        The point that the group fixes.
    """
    names = [n for n in moved if all(action.get(n, ()) is not None for action in actions)]
    names.sort(key=lambda n: (posterior[n][0, 0].size, n))
    while names := _closed(names, actions):
        own = {n: labels[n] for n in names if n in labels}
        sizes = {n: len(own[n]) if n in own else posterior[n][0, 0].size for n in names}
        columns = _Columns(sizes, own)
        try:
            return columns, *columns.symmetry(actions)
        except ValueError:
            # The matrices of a group that acts on long vectors are too large: drop the longest.
            names.pop()
    return _Columns({}, {}), None, np.zeros(0)


class _Columns:
    """Columns that the entries of some variables take, side by side.

    Parameters
    ----------
    sizes : dict
        Number of entries of each variable, by name.
    labels : dict of arrays
        Labels of components, for each variable that indicates components. In place of its
        entries, its columns have the numbers 0, 1, ... of the labels: what becomes of them is
        what an element of the group does to the labels.
    """

    def __init__(self, sizes: Mapping[str, int], labels: Mapping[str, np.ndarray]) -> None:
        self.labels = labels
        ends = np.cumsum([0, *sizes.values()])
        self.dim = int(ends[-1])
        self.where = {n: slice(a, b) for n, a, b in zip(sizes, ends, ends[1:], strict=False)}

    @property
    def names(self) -> list[str]:
        """The variables."""
        return list(self.where)

    def rows(self, dataset: xr.Dataset) -> np.ndarray:
        """Join the variables of each draw, shape (n, d)."""
        leading = ("chain", "draw") if "chain" in dataset.dims else ("draw",)
        n = int(np.prod([dataset.sizes[dim] for dim in leading]))
        parts = [
            np.tile(np.arange(len(self.labels[name])), (n, 1))
            if name in self.labels
            else dataset[name].transpose(*leading, ...).values.reshape(n, -1)
            for name in self.names
        ]
        return np.concatenate(parts, axis=1).astype(float)

    def restored(self, dataset: xr.Dataset, rows: np.ndarray) -> dict[str, xr.DataArray]:
        """Return the variables of a dataset with other values, given as rows of shape (n, d)."""
        variables = {n: dataset[n].transpose("chain", "draw", ...) for n in self.names}
        moved = {n: rows[:, self.where[n]] for n in variables}
        for name, labels in self.labels.items():
            # Column i holds the number of the label that has become label i.
            becomes = np.argsort(moved[name], axis=1)
            number = np.searchsorted(labels, variables[name].values.reshape(len(rows), -1))
            moved[name] = labels[np.take_along_axis(becomes, number, axis=1)]
        return {n: v.copy(data=moved[n].reshape(v.shape)) for n, v in variables.items()}

    def symmetry(self, actions: list[dict]) -> tuple[Symmetry, np.ndarray]:
        """Build the group of the entries, linear around a centre.

        Parameters
        ----------
        actions : list of dict
            See `read_action`.

        Returns
        -------
        symmetry : Symmetry
        centre : array of shape (d,)
            1/2 for probabilities that become those of the other outcome, 0 for other entries.

        Raises
        ------
        ValueError
            If the group is too large to be listed.
        """
        centre, generators = np.zeros(self.dim), []
        for action in actions:
            matrix = np.eye(self.dim)
            for name, where in self.where.items():
                for i, (source, at, sign, shift) in enumerate(action.get(name, ())):
                    row = where.start + i
                    matrix[row] = 0.0
                    matrix[row, self.where[source].start + at] = sign
                    centre[row] = centre[row] or shift / 2
            generators.append(matrix)
        return Symmetry(tuple(generators)), centre
