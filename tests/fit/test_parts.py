"""Parts of a step are made once, and leave the stream behind them."""

from __future__ import annotations

import json

import numpy as np

from pymc_multimodal.fit.codec import decode, encode
from pymc_multimodal.fit.parts import Part, Parts


def made(parts, rng, calls):
    """Draw in a part that has a part inside, and after it."""
    once = parts.drawing(rng)

    def inner():
        calls.append("inner")
        return rng.spawn(2)[1].normal(size=2)

    def outer():
        calls.append("outer")
        return once("inner", inner) + rng.normal()

    return once("outer", outer), rng.normal(), rng.spawn(1)[0].normal()


def test_a_part_that_has_ended_is_not_made_again_and_the_stream_stands_behind_it():
    parts, calls = Parts(), []
    first = made(parts, np.random.default_rng([3, 4]), calls)
    assert calls == ["outer", "inner"]
    # As in a file.
    node, arrays = encode(parts.ended, {Part: "Part"})
    known = Parts()
    known.ended = decode(json.loads(json.dumps(node)), arrays, {"Part": Part})
    again = made(known, np.random.default_rng([3, 4]), calls)
    assert calls == ["outer", "inner"]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parts_inside_of_a_part_are_dropped_when_it_has_ended():
    parts, seen = Parts(), []
    parts.keep = lambda: seen.append(list(parts.ended))
    made(parts, np.random.default_rng(1), [])
    assert seen == [["inner"], ["outer"]]
