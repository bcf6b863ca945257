"""Seconds on the CPU and on a GPU: data-heavy models, networks, and draws.

Rows are a logistic regression of 10^4 to 10^6 observations (log density and gradient of 64 points,
compiled by JAX), training steps of a flow with batches of 65,536 and a fit with LRDS in 100 and 500
dimensions, and 10^6 draws of both. Each is done once on each device that is there, after a
first time that compiles; what would begin after the budget is left out, and said so. The extras
``jax`` and ``flow`` are needed. Without a GPU the table has the CPU alone. Run it with::

    python examples/benchmarks/gpu.py
    python examples/benchmarks/gpu.py --budget 60 --largest 1
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.model import density_of
from pymc_multimodal.proposals import LRDS
from pymc_multimodal.proposals.flow.settings import Network
from pymc_multimodal.proposals.lrds import Control, Potential
from pymc_multimodal.proposals.lrds.settings import ControlNetwork
from pymc_multimodal.target import Density

OBSERVATIONS, COVARIATES, POINTS = (10_000, 100_000, 1_000_000), 10, 64
DIMS, BATCH, STEPS = (100, 500), 65_536, 1
# Draws in all, and of one call: they fit into the memory of a small machine.
DRAWS, AT_ONCE = 1_000_000, 20_000
# A flow takes one coordinate after the other, so that a GPU needs more rows.
FLOW_AT_ONCE = 100_000


def regression(n: int) -> pm.Model:
    """Return a logistic regression of n observations."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, COVARIATES))
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-x @ rng.standard_normal(COVARIATES)))
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 1.0, shape=COVARIATES)
        pm.Bernoulli("y", logit_p=pm.math.dot(x, b), observed=y)
    return model


def two_modes(d: int) -> Density:
    """Return two normals in d dimensions."""
    means = np.array([[-1.0], [1.0]]) * np.ones(d)

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = x[:, None] - means
        logs = -10.0 * np.einsum("nki,nki->nk", step, step)
        total = np.logaddexp(logs[:, 0], logs[:, 1])
        share = np.exp(logs - total[:, None])
        return total, -20.0 * np.einsum("nk,nki->ni", share, step)

    return Density(function, d, prior=lambda n, rng: 2.0 * rng.standard_normal((n, d)))


def data_heavy(n: int, device: str) -> Callable[[], Any]:
    """Evaluate points of the regression; JAX puts them on the device."""
    import jax

    density = density_of(regression(n), compile_kwargs={"mode": "JAX"})
    x = 0.1 * np.random.default_rng(1).standard_normal((POINTS, COVARIATES))

    def evaluate() -> None:
        with jax.default_device(jax.devices("gpu" if device == "cuda" else device)[0]):
            density.logp_and_grad(x)

    evaluate()
    return evaluate


def flow(d: int, device: str) -> Callable[[], Any]:
    """Train a flow for a few steps."""
    from pymc_multimodal.proposals.flow.training import train

    rng = np.random.default_rng(0)
    z, held_out = rng.standard_normal((BATCH, d)), rng.standard_normal((512, d))
    settings = Network(steps=STEPS, total_steps=STEPS, batch=BATCH, device=device)
    return lambda: train(z, -z, held_out, settings, rng)


def flow_draws(d: int, device: str) -> Callable[[], Any]:
    """Draw from a flow, in parts."""
    from pymc_multimodal.proposals import FlowDensity
    from pymc_multimodal.proposals.elliptical import student_t
    from pymc_multimodal.proposals.flow.training import train

    rng = np.random.default_rng(0)
    z = rng.standard_normal((2_000, d))
    layers = train(z, -z, z[:512], Network(steps=1, total_steps=1, device="cpu"), rng)
    defensive = student_t(z, np.full(d, np.inf), np.zeros(d))
    q = FlowDensity(np.zeros(d), np.eye(d), layers, defensive, 0.0, device=device)

    def draw() -> None:
        for _ in range(DRAWS // FLOW_AT_ONCE):
            q.sample(FLOW_AT_ONCE, rng)

    return draw


class Learned:
    """A fit with LRDS, and draws of its generator."""

    def __init__(self, d: int, device: str) -> None:
        self.d, self.device = d, device
        self.fit: Any = None

    def learn(self) -> None:
        """Fit, with a control that is trained in any case."""
        network = ControlNetwork(
            steps=20, regression_steps=20, min_acceptance=1.1, device=self.device
        )
        self.fit = fit_density(
            two_modes(self.d),
            FitConfig(generator=LRDS(network=network), challenge=False, max_evals=60_000),
        )

    def draw(self) -> None:
        """Draw ends of controlled paths, in parts.

        Where no control was kept, one of random weights serves: it takes as long.
        """
        rng, chain = np.random.default_rng(2), self.fit.kernel.generator.chain
        if chain.control is None:
            maps, levels = chain.reference.control_maps(), chain.reference.noising.levels
            hidden = ControlNetwork().hidden
            potential = Potential.random(self.d, maps.shape[1], hidden, 1.0 / (1.0 + levels), rng)
            chain = chain.with_control(Control(potential, maps))
        for _ in range(DRAWS // AT_ONCE):
            chain.draw_points(AT_ONCE, rng)


def devices() -> list[str]:
    """Return the devices of torch that are there: the CPU, and a GPU."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def rows(largest: int) -> Iterator[tuple[str, Callable[[str], Callable[[], Any]]]]:
    """Name each row, and what prepares it for a device."""
    for n in OBSERVATIONS[:largest]:
        yield f"{POINTS} points of {n:,} observations", lambda on, n=n: data_heavy(n, on)
    for d in DIMS[:largest]:
        name = f"flow, {d}-D, {STEPS} step of {BATCH:,}"
        yield name, lambda on, d=d: flow(d, on)
        yield f"{DRAWS:,} draws of a flow, {d}-D", lambda on, d=d: flow_draws(d, on)
    for d in DIMS[:largest]:
        learned: dict[str, Learned] = {}

        def learn(on: str, d: int = d, learned: dict[str, Learned] = learned) -> Any:
            learned[on] = Learned(d, on)
            return learned[on].learn

        yield f"fit with LRDS, {d}-D", learn
        yield f"{DRAWS:,} draws of it", lambda on, learned=learned: learned[on].draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=240.0, help="seconds")
    parser.add_argument("--largest", type=int, default=3, help="sizes of each kind")
    options = parser.parse_args()
    began, there = time.monotonic(), devices()
    if "cuda" not in there:
        print("No GPU was found: the table has the CPU alone.")
    print("work, " + ", ".join(f"{name} s" for name in there), flush=True)
    for name, prepare in rows(options.largest):
        found = []
        for device in there:
            if time.monotonic() - began > options.budget:
                found.append("left out (budget)")
                continue
            try:
                work = prepare(device)
                since = time.perf_counter()
                work()
                found.append(f"{time.perf_counter() - since:.2f}")
            except (ImportError, RuntimeError, KeyError, AttributeError) as error:
                found.append(f"failed ({type(error).__name__}: {error})")
        print(f"{name}, {', '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
