"""Which elements of the variables tell the modes apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.plugin.pictures.elements import Element

__all__ = ["separating", "what_separates"]

# Draws by which elements are chosen, at most and at least, and numbers in their array, which bound
# the memory of many elements (32 MB). Conventional.
N_JUDGED, LEAST_JUDGED, MAX_NUMBERS = 4000, 400, 4_000_000
# Draws of a mode from which on their mean stands for it; its place does otherwise. Conventional.
MIN_DRAWS = 5
# Share of an element's variance that is between the modes, given the elements chosen before, below
# which it is not chosen any more. Conventional: a twentieth is not seen in a picture.
MIN_SHARE = 0.05
# Share of an element's variance that those chosen before leave: it is a copy of them if the rest is
# smaller. Conventional.
COPY = 1e-3
# Digits of the shares that are compared: the first of elements that do equally well is chosen.
DIGITS = 2
# What is taken off the share of an element of whole numbers, and of a constant one: where shares
# are equal, pictures show continuous elements. Less than a digit, and more than any share.
# Conventional.
OF_WHOLE_NUMBERS, OF_A_CONSTANT = 0.1 * 10.0**-DIGITS, 2.0


def separating(
    elements: Sequence[Element], mode: np.ndarray, n_modes: int, least: int, most: int
) -> list[Element]:
    """Choose the elements that separate the modes best, in their own order.

    Each next element is the one with the largest share of its variance between the modes, after a
    linear regression on those chosen before, so that none is a copy of others. All modes count
    alike: a light mode is to be seen as well.

    Parameters
    ----------
    elements : sequence of Element
    mode : array of int, shape (n,)
        Mode of each draw.
    n_modes : int
    least, most : int
        Numbers of elements that are returned. All are, if there are no more than `most`; otherwise
        `least` of them, and more that separate the modes.

    Returns
    -------
    list of Element
    """
    least, most = min(least, len(elements)), min(most, len(elements))
    if len(elements) <= most:
        return list(elements)
    chosen = _chosen(elements, mode, n_modes, (least, most))
    if not chosen:
        # Of a single mode the first are shown, continuous ones before others.
        chosen = dict.fromkeys(np.argsort(_behind(elements), kind="stable")[:most].tolist(), 0.0)
    return [elements[i] for i in sorted(chosen)]


def what_separates(
    elements: Sequence[Element], n_all: int, mode: np.ndarray, n_modes: int
) -> str | None:
    """Say how many elements are shown, and which of them separate the modes.

    Parameters
    ----------
    elements : sequence of Element
        Those that are shown.
    n_all : int
        Elements that there are.
    mode : array of int, shape (n,)
        Mode of each draw.
    n_modes : int

    Returns
    -------
    str or None
        None if all are shown.
    """
    n = len(elements)
    if n == n_all:
        return None
    title = f"{n} of {n_all} elements"
    shares = _chosen(elements, mode, n_modes, (n, n))
    # An element may separate the modes only together with those that were chosen before it.
    apart = [rank for rank, share in enumerate(shares.values(), 1) if share >= MIN_SHARE]
    if not apart:
        return title
    best = set(list(shares)[: apart[-1]])
    # Others separate them by themselves, but tell no more than the best.
    best |= {
        i
        for i, element in enumerate(elements)
        if max(_chosen([element], mode, n_modes, (1, 1)).values()) >= MIN_SHARE
    }
    if len(best) == n:
        return f"{title}: these separate the modes best"
    names = [elements[i].label for i in sorted(best)]
    verb = "separates" if len(names) == 1 else "separate"
    return f"{title}: {', '.join(names)} {verb} the modes"


def _chosen(
    elements: Sequence[Element], mode: np.ndarray, n_modes: int, bounds: tuple[int, int]
) -> dict[int, float]:
    """Choose at least and at most so many elements, the best first, each with its share.

    Returns
    -------
    dict of int to float
        Share of an element's variance that is between the modes, given those before it. Empty if
        there are not two modes.
    """
    least, most = bounds
    rows, n_between = _deviations(elements, mode, n_modes)
    if n_between < 2:
        return {}
    whole, behind = np.square(rows).sum(axis=0), _behind(elements)
    chosen: dict[int, float] = {}
    while len(chosen) < most:
        left = np.square(rows).sum(axis=0)
        between = np.square(rows[:n_between]).sum(axis=0)
        share = np.where(left > COPY * whole, between / np.maximum(left, 1e-300), 0.0)
        share = np.round(share, DIGITS) - behind
        share[list(chosen)] = -np.inf
        best = int(np.argmax(share))
        if share[best] < MIN_SHARE and len(chosen) >= least:
            break
        chosen[best] = float(share[best])
        squared = left[best]
        if squared > 0:
            rows = rows - np.outer(rows[:, best], rows[:, best] @ rows / squared)
    return chosen


def _behind(elements: Sequence[Element]) -> np.ndarray:
    """Return what is taken off the share of each element: continuous ones come first."""
    constant = np.array([np.ptp(e.values) == 0 for e in elements])
    whole = np.array([not np.issubdtype(e.values.dtype, np.floating) for e in elements])
    return np.where(constant, OF_A_CONSTANT, np.where(whole, OF_WHOLE_NUMBERS, 0.0))


def _deviations(
    elements: Sequence[Element], mode: np.ndarray, n_modes: int
) -> tuple[np.ndarray, int]:
    """Return rows whose squares sum to the variance of each element, between modes first.

    Returns
    -------
    rows : array of shape (m + n, elements)
        Means of the modes less their mean, and draws less the mean of their mode, each times the
        root of its share.
    m : int
        Modes with a mean or a place.
    """
    judged = min(max(MAX_NUMBERS // len(elements), LEAST_JUDGED), N_JUDGED)
    stride = max(1, len(mode) // judged)
    mode = mode[::stride]
    x = np.stack([e.values[::stride] for e in elements], axis=1)
    centre, scale = np.mean(x, axis=0), np.std(x, axis=0)
    x = (x - centre) / np.where(scale > 0, scale, 1.0)
    places = np.stack([e.places for e in elements], axis=1)
    means = (places - centre) / np.where(scale > 0, scale, 1.0)
    inner = []
    for k in range(n_modes):
        own = x[mode == k]
        if len(own) >= MIN_DRAWS:
            means[k] = own.mean(axis=0)
            inner.append((own - means[k]) / np.sqrt(len(own)))
    means = means[np.isfinite(means).all(axis=1)]
    m = len(means)
    if m < 2:
        return x, m
    parts = [(means - means.mean(axis=0)) / np.sqrt(m)]
    parts += [d / np.sqrt(len(inner)) for d in inner]
    return np.concatenate(parts), m
