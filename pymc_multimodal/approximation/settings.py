"""Settings of the first answer."""

from __future__ import annotations

from dataclasses import dataclass

from pymc_multimodal import checks

__all__ = ["FirstAnswer"]


@dataclass(frozen=True)
class FirstAnswer:
    """How a fit is ended early: by importance sampling from densities at the modes.

    The fit ends there if every condition below holds for draws that no density was fitted to.
    Otherwise it goes on, and begins with what was found.

    Parameters
    ----------
    rounds : int
        Most samples that are judged. Before each, the densities are fitted to the earlier samples.
    min_ess : float
        Least effective sample size, as a share of the sample.
    min_mode_ess : float
        The same within each mode, for a sample of 2,000 draws. For n > 2,000 draws it is divided by
        ``sqrt(n / 2000)``.
    max_pareto_k : float
        Largest tail index of the importance ratios, overall and within each mode. Ratios that are
        less than 5 times their mean need not satisfy it. Within one of several modes it may be
        larger by what the largest of so many estimates has by chance, up to what is reliable
        (0.7 for thousands of ratios; Vehtari et al. 2024).
    max_ratio : float
        Largest importance ratio, relative to the mean, for a sample of 2,000 draws. For n > 2,000
        draws it is multiplied by ``sqrt(n / 2000)``.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range.
    """

    # Measured: examples/benchmarks/exits.py
    rounds: int = 16
    # Measured: examples/benchmarks/exits.py (all limits).
    min_ess: float = 0.5
    min_mode_ess: float = 0.4
    # Below 1/2 the ratios have a variance (Vehtari et al. 2024).
    max_pareto_k: float = 0.5
    max_ratio: float = 20.0

    def __post_init__(self) -> None:
        owner = type(self).__name__
        checks.count(owner, "rounds", self.rounds)
        checks.share(owner, "min_ess", self.min_ess)
        checks.share(owner, "min_mode_ess", self.min_mode_ess)
        checks.positive(owner, "max_pareto_k", self.max_pareto_k)
        checks.positive(owner, "max_ratio", self.max_ratio)
