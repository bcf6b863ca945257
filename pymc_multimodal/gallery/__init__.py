"""Targets whose answer is known, as PyMC models.

A synthetic target has one vector variable ``x`` with a wide normal prior, and a Potential that
divides the prior out. So the density is exactly that of the target, while draws from the prior are
wide starting points that do not depend on the modes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pymc_multimodal.gallery.base import GalleryTarget
from pymc_multimodal.gallery.gaussian import (
    forty_modes,
    gaussian_mixture_100d,
    many_modes,
    mixture_2d,
    two_modes,
    unimodal_gaussian,
)
from pymc_multimodal.gallery.lattice import phi4
from pymc_multimodal.gallery.models import (
    eight_schools_centered,
    eight_schools_noncentered,
    symmetric_mixture,
)
from pymc_multimodal.gallery.shapes import (
    checkerboard,
    five_bananas,
    rings,
    skew_normal_mixture,
    student_t_modes,
    torus,
    two_bananas,
)

__all__ = [
    "TARGETS",
    "GalleryTarget",
    "checkerboard",
    "eight_schools_centered",
    "eight_schools_noncentered",
    "five_bananas",
    "forty_modes",
    "gaussian_mixture_100d",
    "many_modes",
    "mixture_2d",
    "phi4",
    "rings",
    "skew_normal_mixture",
    "student_t_modes",
    "symmetric_mixture",
    "torus",
    "two_bananas",
    "two_modes",
    "unimodal_gaussian",
]

TARGETS: dict[str, Callable[[], GalleryTarget]] = {
    "unimodal_gaussian_5": unimodal_gaussian,
    "mixture_2d_well": partial(mixture_2d, "well"),
    "mixture_2d_weak": partial(mixture_2d, "weak"),
    "mixture_2d_overlap": partial(mixture_2d, "overlap"),
    "two_modes_8": partial(two_modes, 8),
    "two_modes_16": partial(two_modes, 16),
    "two_modes_16_medium": partial(two_modes, 16, "medium"),
    "two_modes_16_hard": partial(two_modes, 16, "hard"),
    "two_modes_16_hard_rotated": partial(two_modes, 16, "hard", rotated=True),
    "two_modes_32": partial(two_modes, 32),
    "two_modes_64": partial(two_modes, 64),
    "two_modes_64_hard": partial(two_modes, 64, "hard"),
    "two_modes_128": partial(two_modes, 128),
    "many_modes_4": partial(many_modes, 4),
    "many_modes_16": partial(many_modes, 16),
    "many_modes_64": partial(many_modes, 64),
    "forty_modes": forty_modes,
    "forty_modes_unequal": partial(forty_modes, ratio=4.0),
    "gaussian_mixture_100d": gaussian_mixture_100d,
    "rings": rings,
    "checkerboard": checkerboard,
    "torus": torus,
    "skew_normal_mixture_20": skew_normal_mixture,
    "two_bananas_10": two_bananas,
    "five_bananas": five_bananas,
    "student_t_modes_10": student_t_modes,
    "student_t_modes_50": partial(student_t_modes, 50),
    "student_t_concentric_10": partial(student_t_modes, concentric=True),
    "phi4_32": phi4,
    "phi4_32_field": partial(phi4, field=2e-3),
    "symmetric_mixture": symmetric_mixture,
    "eight_schools_centered": eight_schools_centered,
    "eight_schools_noncentered": eight_schools_noncentered,
}
