"""The search for modes: climbs from many starts, batch by batch.

>>> search = begin_search(density, settings, symmetry, rng)  # doctest: +SKIP
>>> while not search.settled:  # doctest: +SKIP
...     search = find_modes(density, search, settings, rng)
>>> modes = modes_of(density, search, settings)  # doctest: +SKIP
"""

from pymc_multimodal.search.batches import (
    begin_search,
    climb_ends,
    climb_from,
    find_modes,
    find_more_modes,
)
from pymc_multimodal.search.curvature import negative_hessian, triangular
from pymc_multimodal.search.dear import screen_dear
from pymc_multimodal.search.missing import MAX_MISSING_SHARE, missing_share, missing_statuses
from pymc_multimodal.search.modes import Modes, highest_point, modes_of
from pymc_multimodal.search.optima import OptimumSet
from pymc_multimodal.search.screening import Screening, screen
from pymc_multimodal.search.screening_points import Described
from pymc_multimodal.search.settings import ModeSearch
from pymc_multimodal.search.starts import (
    StartDistribution,
    check_points,
    given_by_array,
    given_by_name,
    start_distribution,
)
from pymc_multimodal.search.state import Search
from pymc_multimodal.search.statuses import dropped_gradient_status
from pymc_multimodal.search.stopping import has_rare_modes

__all__ = [
    "MAX_MISSING_SHARE",
    "Described",
    "ModeSearch",
    "Modes",
    "OptimumSet",
    "Screening",
    "Search",
    "StartDistribution",
    "begin_search",
    "check_points",
    "climb_ends",
    "climb_from",
    "dropped_gradient_status",
    "find_modes",
    "find_more_modes",
    "given_by_array",
    "given_by_name",
    "has_rare_modes",
    "highest_point",
    "missing_share",
    "missing_statuses",
    "modes_of",
    "negative_hessian",
    "screen",
    "screen_dear",
    "start_distribution",
    "triangular",
]
