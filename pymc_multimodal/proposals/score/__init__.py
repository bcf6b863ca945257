"""Score matching with data-based initialisation (Koehler and Vuong 2023, arXiv 2310.01762).

`ScoreLangevin` holds the settings. Its `from_draws` makes a `ScoreGenerator` of stored draws
alone; inside a fit it builds proposals whose draws are corrected.
"""

from pymc_multimodal.proposals.score.build import ScoreLangevin
from pymc_multimodal.proposals.score.generator import ScoreGenerator

__all__ = ["ScoreGenerator", "ScoreLangevin"]
