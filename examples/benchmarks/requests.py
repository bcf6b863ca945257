"""Ideal speed-up of fits and draws by workers, from the requests for evaluations alone.

Nothing is timed. An engine without processes counts the points of each request, as they come from
`pymc_multimodal.sample`: the fit, and the draws. If each evaluation takes as long, and sending
takes no time, W workers need ``ceil(n / W)`` rounds for a request of n points that go to workers
one by one. The ideal speed-up is the number of evaluations over the number of rounds. Evaluations
count as dear ones, and points are not screened, which would be in large requests. Run it with::

    python examples/benchmarks/requests.py --seeds 3
    python examples/benchmarks/requests.py --names two_modes,plume --stages
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph import Apply, Op
from simulator_models import plume, plume_outputs

import pymc_multimodal as mm
from pymc_multimodal.plugin import fitting
from pymc_multimodal.target.tasks import Answer, Task

WORKERS = (16, 64, 1000)
DRAWS, CHAINS = 1000, 4
# Means of the normals with unit variance, and their weights.
FOUR = 3.0 * np.array([[1, 1, 1, 1, 1, 1], [-1, 1, -1, 1, -1, 1], [1, -1, 1, -1, 1, -1],
                       [-1, -1, -1, -1, -1, -1]])  # fmt: skip
TWO = 2.0 * np.array([[1.0, 1.0], [-1.0, -1.0]])
WEIGHTS = {2: np.array([0.7, 0.3]), 4: np.array([0.4, 0.3, 0.2, 0.1])}
PRIOR_SD = 5.0


class Values(Op):
    """A function of vectors without gradient, as of a program of another language."""

    __props__ = ("function", "n_outputs")

    def __init__(self, function: Callable[..., np.ndarray], n_outputs: int) -> None:
        self.function, self.n_outputs = function, n_outputs

    def make_node(self, *inputs):
        return Apply(self, [pt.as_tensor(i) for i in inputs], [pt.vector(shape=(self.n_outputs,))])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.atleast_1d(self.function(*inputs)).astype(float)


def log_mixture(x: np.ndarray, means: np.ndarray, xp=np):
    """Log density of normals at one point, relative to that of the prior."""
    logs = -0.5 * ((x - means) ** 2).sum(axis=1) + np.log(WEIGHTS[len(means)])
    top = xp.max(logs)
    return top + xp.log(xp.sum(xp.exp(logs - top))) + 0.5 * (x**2).sum() / PRIOR_SD**2


def mixture(means: np.ndarray, gradient: bool) -> pm.Model:
    """Return normals with or without gradient."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, PRIOR_SD, shape=means.shape[1])
        if gradient:
            pm.Potential("mixture", log_mixture(x, means, pt))
        else:
            op = Values(lambda value: log_mixture(value, means), 1)
            pm.Potential("mixture", op(x)[0])
    return model


def plume_model(hidden: bool) -> pm.Model:
    """Where a plume comes from, by a solver without gradient, whose outputs may be hidden."""
    simulator = plume()
    seen, noise = simulator.seen, simulator.noise[0]

    def outputs(x, y, q, d):
        return plume_outputs(np.array([[x, y, q, d]]))[0]

    def log_likelihood(x, y, q, d):
        return -0.5 * (((outputs(x, y, q, d) - seen) / noise) ** 2).sum()

    with pm.Model() as model:
        theta = [pm.Uniform("x"), pm.Uniform("y"), pm.Normal("q"), pm.Normal("d")]
        if hidden:
            pm.Potential("c", Values(log_likelihood, 1)(*theta)[0])
        else:
            pm.Normal("c", Values(outputs, len(seen))(*theta), noise, observed=seen)
    return model


CASES: dict[str, tuple[str, Callable[[], pm.Model]]] = {
    "four_modes": ("4 modes in 6-D, gradient", lambda: mixture(FOUR, True)),
    "two_modes": ("2 modes, gradient", lambda: mixture(TWO, True)),
    "four_modes_values": ("4 modes in 6-D, none", lambda: mixture(FOUR, False)),
    "two_modes_values": ("2 modes, none", lambda: mixture(TWO, False)),
    "plume": ("slow_plume, outputs seen", lambda: plume_model(False)),
    "plume_values": ("slow_plume, values alone", lambda: plume_model(True)),
}


@dataclass
class Ideal:
    """An engine that does every task here, and counts: each evaluation takes a second.

    Attributes
    ----------
    requests : list of (str, list of int)
        Stage of each request, and points of its tasks.
    stage : str
    n_workers : int
        What the package is told.
    """

    requests: list[tuple[str, list[int]]] = field(default_factory=list)
    stage: str = ""
    n_workers: int = max(WORKERS)

    def map(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        answers = [function(task) for task in tasks]
        pairs = zip(tasks, answers, strict=True)
        sizes = [sum(map(len, t.calls)) for t, a in pairs if a.kind == "done"]
        if sum(sizes):
            self.requests.append((self.stage, sizes))
        return [a._replace(slowest=1.0) if a.slowest else a for a in answers]


def rounds(sizes: Sequence[int], workers: int) -> int:
    """Length of a request, in evaluations: each task goes to the worker that is free first."""
    if max(sizes) == 1:
        return -(-len(sizes) // workers)
    load = np.zeros(workers, dtype=int)
    for n in sizes:
        load[load.argmin()] += n
    return int(load.max())


def run(name: str, seed: int) -> tuple[Ideal, object]:
    """Fit and draw."""
    engine, model = Ideal(), CASES[name][1]()
    settings = {} if "gradient" in CASES[name][0] else {"emulation": mm.Emulation(min_seconds=0.0)}
    compiled, fit_density = fitting.density_of, fitting.fit_density

    def dear(*args, **kwargs):
        density = compiled(*args, **kwargs)
        density.chunk = 1
        return density

    def reported(density, config, *, report, **more):
        def tell(stage, text):
            engine.stage = engine.stage if stage == "plan" else stage
            report(stage, text)

        fit = fit_density(density, config, report=tell, **more)
        engine.stage = "draws"
        return fit

    fitting.density_of, fitting.fit_density = dear, reported
    try:
        idata = mm.sample(
            DRAWS, chains=CHAINS, model=model, random_seed=seed, workers=engine, quiet=True,
            progressbar=False, modes=mm.ModeSearch(screening=0), **settings,
        )  # fmt: skip
    finally:
        fitting.density_of, fitting.fit_density = compiled, fit_density
    return engine, idata


def speed_ups(requests: Sequence[tuple[str, list[int]]]) -> list[float]:
    """Ideal speed-up for each number of workers."""
    total = sum(sum(sizes) for _, sizes in requests)
    return [total / sum(rounds(sizes, w) for _, sizes in requests) for w in WORKERS]


def row(name: str, requests: Sequence[tuple[str, list[int]]]) -> str:
    total = sum(sum(sizes) for _, sizes in requests)
    found = "".join(f"{s:9.1f}" for s in speed_ups(requests))
    return f"{name:30}{len(requests):9d}{total:13d}{found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # The last one spends minutes of CPU time on its emulator.
    parser.add_argument("--names", default=",".join(list(CASES)[:-1]))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--stages", action="store_true", help="a line for each stage")
    args = parser.parse_args()
    logging.getLogger("pymc.multimodal").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    head = "".join(f"{f'{w} w.':>9}" for w in WORKERS)
    print(f"{'model':30}{'requests':>9}{'evaluations':>13}{head}", flush=True)
    for name in args.names.split(","):
        worst: list[tuple[str, list[int]]] | None = None
        for seed in range(1, args.seeds + 1):
            found = run(name, seed)[0].requests
            if worst is None or speed_ups(found)[0] < speed_ups(worst)[0]:
                worst = found
        assert worst is not None
        print(row(CASES[name][0], worst))
        print(row("    fit alone", [r for r in worst if r[0] != "draws"]), flush=True)
        if args.stages:
            for stage in dict.fromkeys(stage for stage, _ in worst):
                print(row(f"    {stage}", [r for r in worst if r[0] == stage]))


if __name__ == "__main__":
    main()
