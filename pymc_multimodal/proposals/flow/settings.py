"""Settings of the network of a region."""

from __future__ import annotations

from dataclasses import dataclass

from pymc_multimodal import checks
from pymc_multimodal.proposals.device import check_device

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """Settings of a region's network, a masked autoregressive flow.

    Parameters
    ----------
    transforms : int
        Autoregressive layers, in alternating order of the coordinates.
    hidden : tuple of int
        Least widths of each layer's hidden layers; twice the dimension where that is more.
    steps : int
        Largest number of gradient steps of one region, on `batch` draws each.
    total_steps : int
        Gradient steps of all regions each time that densities are fitted, which a fit does
        several times; regions of the least expected acceptance come first.
    batch : int
        Draws of one gradient step.
    learning_rate : float
        Largest rate of the one-cycle schedule. In d > 20 dimensions it is multiplied by
        ``sqrt(20 / d)``.
    score_weight : float
        Weight of the score-matching term beside the negative log likelihood. The term is used
        where the chains have computed gradients anyway.
    min_acceptance : float
        No network is trained where jumps are expected to be accepted at least this often.
    min_effective : float
        No network is trained for a region of fewer effective draws.
    device : str
        A torch device such as "cpu" or "cuda"; "auto" is a GPU where there is one and a step of
        the training takes 1e9 floating-point operations or more. Draws are made there if a call
        takes 1e10 or more, and with NumPy otherwise.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    Papamakarios, Pavlakou and Murray (2017), "Masked autoregressive flow for density estimation",
    arXiv 1705.07057, fitted by likelihood and score matching.
    """

    transforms: int = 3
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 800
    total_steps: int = 6000
    batch: int = 256
    learning_rate: float = 2e-2
    score_weight: float = 1.5
    min_acceptance: float = 0.8
    min_effective: float = 80.0
    device: str = "auto"

    def __post_init__(self) -> None:
        checks.counts("Network", "hidden", self.hidden)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("transforms", "steps", "total_steps", "batch"):
            checks.count("Network", name, getattr(self, name))
        checks.positive("Network", "learning_rate", self.learning_rate, finite=True)
        checks.number("Network", "score_weight", self.score_weight, 0.0, finite=True)
        checks.share("Network", "min_acceptance", self.min_acceptance, closed=True)
        checks.number("Network", "min_effective", self.min_effective, 0.0)
        check_device("Network", "device", self.device)
