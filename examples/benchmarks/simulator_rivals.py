"""The source of a plume (examples/expensive_simulator.py) by other methods: evaluations and errors.

The share of the source north of the axis and log Z are compared with quadrature. The solver is
linear in the source, so a table of adjoint solutions over the dispersion gives its results in less
than a millisecond: every method evaluates that, and evaluations are counted. Nothing is installed:
a method whose package is missing says which one it needs (``pip install dynesty pyvbmc``). Run it
with::

    python examples/benchmarks/simulator_rivals.py --seeds 3
    python examples/benchmarks/simulator_rivals.py --methods dynesty,pyvbmc --seeds 1
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from expensive_simulator import NOISE, THICKNESS, TRUTH, WELLS, WIDTH, Aquifer, X, Y
from scipy.interpolate import CubicSpline
from scipy.sparse.linalg import splu
from scipy.special import logsumexp, ndtr, ndtri

# Prior: ranges of the place, medians and spreads of the log rate and log dispersion.
LOW, HIGH = np.array([100.0, 100.0]), np.array([700.0, 900.0])
MEDIAN, SPREAD = np.log([4.0, 5.0]), np.array([0.25, 0.5])
AXIS = 500.0
# Dispersions of the table, in spreads around the median. Conventional.
TABLE = np.linspace(-5.0, 5.0, 81)
# Nodes of the quadrature for east, north, rate and dispersion. Conventional.
NODES = (121, 161, 61, 61)


class Source:
    """Posterior of the source on the unit cube of prior probabilities; evaluations are counted."""

    def __init__(self) -> None:
        aquifer, rng = Aquifer(), np.random.default_rng(1)
        readings = aquifer.at_wells @ aquifer.concentration(**TRUTH)
        self.readings = readings + NOISE * rng.standard_normal(len(WELLS))
        adjoint = []
        for z in TABLE:
            system = aquifer.advection + np.exp(MEDIAN[1] + SPREAD[1] * z) * aquifer.dispersion
            adjoint.append(splu(system.T.tocsc()).solve(aquifer.at_wells.T))
        self._adjoint = CubicSpline(TABLE, np.array(adjoint))
        self.calls = 0

    def per_rate(self, place: np.ndarray, z: float) -> np.ndarray:
        """Compute readings (n, 4) of sources of rate one at places (n, 2); z: of the dispersion."""
        east = np.exp(-0.5 * ((X - place[:, :1]) / WIDTH) ** 2)
        north = np.exp(-0.5 * ((Y - place[:, 1:]) / WIDTH) ** 2)
        adjoint = self._adjoint(z).reshape(len(X), len(Y), -1)
        by_east = np.tensordot(east, adjoint, axes=1)
        out = np.einsum("nj,njw->nw", north, by_east)
        return 1e3 / THICKNESS * out / (east.sum(axis=1) * north.sum(axis=1))[:, None]

    def outputs(self, u: np.ndarray) -> np.ndarray:
        """Compute readings (4,) for prior probabilities (4,)."""
        self.calls += 1
        place = LOW + (HIGH - LOW) * u[:2]
        rate = np.exp(MEDIAN[0] + SPREAD[0] * ndtri(u[2]))
        return rate * self.per_rate(place[None], float(ndtri(u[3])))[0]

    def log_likelihood(self, u: np.ndarray) -> float:
        """Log likelihood of prior probabilities (4,)."""
        return float(self.log_of(self.outputs(np.clip(u, 1e-12, 1 - 1e-12))))

    def log_of(self, outputs: np.ndarray) -> np.ndarray:
        """Log likelihood of readings (..., 4)."""
        gap = (outputs - self.readings) / NOISE
        return -0.5 * (gap**2).sum(axis=-1) - len(WELLS) * np.log(NOISE * np.sqrt(2 * np.pi))

    def truth(self) -> tuple[float, float]:
        """Log Z and the share north of the axis, by midpoints."""
        u = [(np.arange(n) + 0.5) / n for n in NODES]
        east = LOW[0] + (HIGH[0] - LOW[0]) * u[0]
        north = LOW[1] + (HIGH[1] - LOW[1]) * u[1]
        place = np.stack(np.meshgrid(east, north, indexing="ij"), axis=-1).reshape(-1, 2)
        rate = np.exp(MEDIAN[0] + SPREAD[0] * ndtri(u[2]))
        total = []
        for z in ndtri(u[3]):
            own = self.per_rate(place, float(z))
            total.append(logsumexp([self.log_of(r * own) for r in rate], axis=0))
        mass = logsumexp(total, axis=0) - np.log(np.prod(NODES))
        log_z = logsumexp(mass)
        return float(log_z), float(np.exp(logsumexp(mass[place[:, 1] > AXIS]) - log_z))


@dataclass(frozen=True)
class Answer:
    """What a method says: NaN where it says nothing."""

    log_z: float
    log_z_se: float
    share: float
    evaluations: int


def model_of(source: Source):
    """Return the PyMC model; the readings of the solver are an output."""
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.compile.ops import wrap_py

    @wrap_py([pt.dvector], [pt.dvector])
    def solver(x):
        u = np.concatenate([(x[:2] - LOW) / (HIGH - LOW), ndtr((np.log(x[2:]) - MEDIAN) / SPREAD)])
        return source.outputs(np.clip(u, 1e-12, 1 - 1e-12))

    with pm.Model() as model:
        east = pm.Uniform("east", LOW[0], HIGH[0])
        north = pm.Uniform("north", LOW[1], HIGH[1])
        rate = pm.LogNormal("rate", MEDIAN[0], SPREAD[0])
        dispersion = pm.LogNormal("dispersion", MEDIAN[1], SPREAD[1])
        mean = solver(pt.stack([east, north, rate, dispersion]))
        pm.Normal("reading", mean, NOISE, observed=source.readings)
    return model


def by_emulation(source: Source, seed: int) -> Answer:
    """Return this package's answer; draws cost nothing."""
    import pymc_multimodal as pmm

    model = model_of(source)
    emulation = pmm.Emulation(min_seconds=0.0, draws="weighted")
    fit = pmm.fit(model, emulation=emulation, random_seed=seed, progressbar=False)
    idata = pmm.sample(2000, model=model, fit=fit, random_seed=seed, progressbar=False)
    share = float((idata["posterior"]["north"].values > AXIS).mean())
    return Answer(fit.weights.total, fit.weights.total_se, share, fit.n_logp_evals)


def by_dynesty(source: Source, seed: int) -> Answer:
    """Nested sampling with 250 live points, and no more than its defaults."""
    import dynesty

    sampler = dynesty.NestedSampler(
        source.log_likelihood, lambda u: u, 4, nlive=250, rstate=np.random.default_rng(seed)
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    weight = np.exp(found.logwt - found.logz[-1])
    north = LOW[1] + (HIGH[1] - LOW[1]) * found.samples[:, 1] > AXIS
    share = float(weight @ north / weight.sum())
    return Answer(float(found.logz[-1]), float(found.logzerr[-1]), share, source.calls)


def by_vbmc(source: Source, seed: int) -> Answer:
    """Variational Bayesian Monte Carlo with its defaults, on the prior's normal scores."""
    from pyvbmc import VBMC

    def log_density(z: np.ndarray) -> float:
        z = np.ravel(z)
        prior = -0.5 * z @ z - 2.0 * np.log(2 * np.pi)
        return source.log_likelihood(ndtr(z)) + float(prior)

    np.random.seed(seed)  # noqa: NPY002  # PyVBMC takes no generator.
    start = np.zeros((1, 4))
    inner, outer = np.full((1, 4), 1.5), np.full((1, 4), np.inf)
    run = VBMC(log_density, start, -outer, outer, -inner, inner, options={"display": "off"})
    posterior, found = run.optimize()
    draws, _ = posterior.sample(20_000)
    north = LOW[1] + (HIGH[1] - LOW[1]) * ndtr(draws[:, 1]) > AXIS
    return Answer(float(found["elbo"]), float(found["elbo_sd"]), float(north.mean()), source.calls)


def by_smc(source: Source, seed: int) -> Answer:
    """PyMC's sequential Monte Carlo with 1,000 draws in each of two chains."""
    import pymc as pm

    with model_of(source):
        idata = pm.sample_smc(1000, chains=2, cores=1, random_seed=seed, progressbar=False)
    values = []
    for chain in np.asarray(idata["sample_stats"]["log_marginal_likelihood"]):
        stages = np.concatenate([np.ravel(v) for v in chain]).astype(float)
        values.append(stages[np.isfinite(stages)][-1])
    share = float((idata["posterior"]["north"].values > AXIS).mean())
    return Answer(float(np.mean(values)), float(np.std(values)), share, source.calls)


METHODS: dict[str, Callable[[Source, int], Answer]] = {
    "emulation": by_emulation,
    "dynesty": by_dynesty,
    "pyvbmc": by_vbmc,
    "sample_smc": by_smc,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    source = Source()
    log_z, share = source.truth()
    print(f"truth: log Z {log_z:.3f}, share {share:.4f}")
    print("method, seed, evaluations, log Z error, its stated se, share error, seconds", flush=True)
    for name in args.methods.split(","):
        for seed in range(args.seeds):
            source.calls, began = 0, time.monotonic()
            try:
                found = METHODS[name](source, seed)
            except ImportError as error:
                print(f"{name}: {error.name} is not installed: pip install {error.name}")
                break
            print(
                f"{name}, {seed}, {found.evaluations}, {found.log_z - log_z:.3f}, "
                f"{found.log_z_se:.3f}, {found.share - share:.3f}, {time.monotonic() - began:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
