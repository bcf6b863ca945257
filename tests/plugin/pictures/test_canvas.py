"""Figures and colours that all pictures share."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pymc_multimodal.plugin.pictures import canvas

# Machado, Oliveira and Fernandes (2009), severity 1: what is seen without red, green or blue cones.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
# CIE 1976 difference at which two colours of dots are told apart at a glance. Conventional.
TOLD_APART = 15.0


def lab(linear):
    """CIE L*a*b* of linear RGB, white point D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = np.maximum(xyz @ linear, 0.0) / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_are_told_apart_whatever_the_colour_blindness(kind):
    seen = []
    for colour in (*canvas.COLOURS, canvas.OTHERS, "#FFFFFF"):
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen.append(lab(np.clip(np.asarray(BLINDNESS[kind]) @ linear, 0.0, 1.0)))
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(a - b) > TOLD_APART


def test_a_new_figure_is_not_known_to_pyplot_and_can_be_saved(tmp_path):
    before = plt.get_fignums()
    figure, [axis] = canvas.Request("f").axes(1, (2.0, 1.0), lambda f: f.subplots())
    assert plt.get_fignums() == before
    assert isinstance(figure, Figure)
    axis.plot([0, 1])
    figure.savefig(tmp_path / "figure.png")
    np.testing.assert_array_equal(figure.get_size_inches(), (2.0, 1.0))


def test_a_figure_stays_in_pyplot_where_there_are_windows(monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "qt")
    figure = canvas.new_figure((1.0, 1.0))
    try:
        assert plt.fignum_exists(figure.number)
    finally:
        plt.close(figure)


def test_the_view_leaves_few_far_draws_outside(rng):
    near = rng.standard_normal(5000)
    assert canvas.view_of(near) is None
    low, high = canvas.view_of(np.append(near, [1e6, np.nan]))
    assert -6 < low < -2.5
    assert 2.5 < high < 6
    assert canvas.view_of(np.full(3, np.nan)) is None
    assert canvas.view_of(np.ones(10)) is None


def test_numbers_do_not_cover_one_another():
    _, [axis] = canvas.Request("f").axes(1, (4.0, 4.0), lambda f: f.subplots())
    axis.set(xlim=(0, 1), ylim=(0, 1))
    x = np.array([0.5, 0.51, 0.9, np.nan, 2.0])
    canvas.number_modes(axis, x, np.full(5, 0.5))
    assert [t.get_text() for t in axis.texts] == ["0", "2"]


@pytest.mark.parametrize(
    ("n", "named", "others"),
    [(1, 1, ""), (7, 7, ""), (8, 7, "mode 7"), (300, 7, "modes 7-299")],
)
def test_modes_without_a_colour_have_a_name_together(n, named, others):
    assert list(canvas.coloured(n)) == list(range(named))
    assert canvas.others_name(n) == others
