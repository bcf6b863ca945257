"""Methods by name: where each is, what it needs, and for which problems it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from answers import Answer
from problems import Problem


@dataclass(frozen=True)
class Method:
    """A sampler.

    Attributes
    ----------
    module, function : str
        ``function(problem, seed, **settings)`` of a module here returns an `Answer`.
    group : str
        The environment: ``requirements/GROUP.txt`` has the packages.
    most_dim : int
        Dimension up to which its authors made it.
    needs_gradient : bool
    settings : dict
    """

    module: str
    function: str
    group: str
    most_dim: int = 1_000
    needs_gradient: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def refusal(self, problem: Problem) -> str | None:
        """Why the method is not tried, or None."""
        if problem.dim > self.most_dim:
            return f"made for up to {self.most_dim} dimensions"
        if self.needs_gradient and not problem.has_gradient:
            return "needs a gradient"
        return None

    def run(self, problem: Problem, seed: int) -> Answer:
        """Run the method in this process."""
        function: Callable[..., Answer] = getattr(import_module(self.module), self.function)
        return function(problem, seed, **self.settings)


METHODS: dict[str, Method] = {
    "pymc_multimodal": Method("by_model", "pymc_multimodal", "pymc"),
    "sample_smc": Method("by_model", "sample_smc", "pymc", settings={"kernel": "IMH"}),
    "sample_smc_mh": Method("by_model", "sample_smc", "pymc", settings={"kernel": "MH"}),
    "tempered_smc": Method("by_model", "tempered_smc", "pymc"),
    "laplace": Method("by_model", "laplace", "pymc", needs_gradient=True),
    "nutpie": Method("by_model", "nutpie", "jax", needs_gradient=True),
    "blackjax_nss": Method("by_jax", "blackjax_nss", "jax", needs_gradient=True),
    "persistent_smc": Method("by_jax", "persistent_smc", "jax", needs_gradient=True),
    "extras_smc": Method("by_jax", "extras_smc", "jax", needs_gradient=True),
    "jaxns": Method("by_jax", "jaxns", "jax", needs_gradient=True),
    # Up to some 60 dimensions (nautilus' documentation, "FAQs").
    "nautilus": Method("by_density", "nautilus", "nested", most_dim=60),
    "pocomc": Method("by_density", "pocomc", "nested"),
    "dynesty": Method("by_density", "dynesty", "nested"),
    "dynesty_rslice": Method("by_density", "dynesty", "nested", settings={"sample": "rslice"}),
    "ultranest": Method("by_density", "ultranest", "nested"),
    # Up to ten dimensions, or a little more (PyVBMC's documentation, "When should I use PyVBMC?").
    "pyvbmc": Method("by_density", "pyvbmc", "vbmc", most_dim=10),
    "reddemcee": Method("by_density", "reddemcee", "tempering"),
}
