"""Fits that are killed (kill -9) at random moments, and go on from their checkpoints.

Each target is fitted once without a checkpoint. Then a process that keeps one is killed, and begun
again, until the fit has ended; the next fit begins when there were not enough kills. Weights, log
evidence, counts of evaluations and draws of a few chains have to be the same bit for bit. Printed
are evaluations that were made in all beyond those of whole fits (where a clock decides how many
points are screened, they differ by that, too), the largest size of the file, and what the longest
writing took. Processes are forked: it runs on Linux and macOS. Run it with::

    python examples/benchmarks/resume.py --kills 20
    python examples/benchmarks/resume.py --kills 20 --names mixture,expensive --out resume.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from high_dimension_models import regression
from simulator_models import plume
from unit_models import population

from pymc_multimodal import kernel
from pymc_multimodal.emulation import Emulation
from pymc_multimodal.fit import Checkpoint, Fit, FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model import density_of
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target import Density

# A kill comes at a moment between the begin of a process and this part of the time of a whole fit.
# Conventional: a fit is killed a few times before it ends.
LONGEST = 0.5
# Chains whose draws are compared, and their draws.
CHAINS, DRAWS = 4, 5


class Counted:
    """A function of points that counts them in memory that processes share."""

    def __init__(self, function: Any, count: np.ndarray, seconds: float = 0.0) -> None:
        self.function, self.count, self.each = function, count, seconds

    def __call__(self, x: np.ndarray) -> Any:
        self.count += len(x)
        time.sleep(self.each * len(x))
        return self.function(x)

    def __getattr__(self, name: str) -> Any:
        if name != "values":
            raise AttributeError(name)
        values = self.function.values

        def counted(x: np.ndarray) -> np.ndarray:
            self.count += len(x)
            return values(x)

        return counted


class CountedTerms:
    """Terms of a log density, which are counted as evaluations of it."""

    def __init__(self, terms: Any, count: np.ndarray) -> None:
        self.terms, self.count = terms, count

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.count += len(x)
        values: np.ndarray = self.terms(x)
        return values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terms, name)


@dataclass(frozen=True)
class Case:
    """A density that counts its evaluations, and the settings of its fit.

    Attributes
    ----------
    density : callable
        Makes it, given the count.
    settings : dict
    """

    density: Callable[[np.ndarray], Density]
    settings: dict[str, Any] = field(default_factory=dict)


def of_gallery(name: str) -> Callable[[np.ndarray], Density]:
    """Return what makes the density of a target of the gallery; the model is compiled once."""
    made: list[Density] = []

    def density(count: np.ndarray) -> Density:
        if not made:
            made.append(density_of(TARGETS[name]().model))
        return counted(made[0], count)

    return density


def counted(density: Density, count: np.ndarray, seconds: float = 0.0) -> Density:
    """Return the density anew, with nothing counted yet."""
    return Density(
        Counted(density.function, count, seconds),
        density.dim,
        has_gradient=density.has_gradient,
        period=density.period,
        names=density.names,
        prior=density.prior,
        split=density.split,
        terms=lambda: CountedTerms(density.term_model, count) if density.term_model else None,
    )


def units(count: np.ndarray) -> Density:
    """Make the density of twenty rates with two explanations each."""
    if not _units:
        _units.append(density_of(population().model))
    return counted(_units[0], count)


_units: list[Density] = []


def hubs(count: np.ndarray) -> Density:
    """Make that of a regression of 120 coefficients, which is fitted conditional on its hubs."""
    if not _hubs:
        _hubs.append(regression("normal", centred=False, p=120, n=240)().density)
    return counted(_hubs[0], count)


_hubs: list[Density] = []


def simulator(count: np.ndarray) -> Density:
    """Make that of a plume in a wind, whose outputs are emulated; a run takes 5 ms."""
    base = plume()
    return replace(base, outputs_of=Counted(base.outputs_of, count, 0.005)).density()


def expensive(count: np.ndarray) -> Density:
    """Make that of two normals with a gradient, of which an evaluation takes 20 ms."""
    mean = np.array([[-2.0, -2.0], [2.0, 2.0]])

    def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = x[:, None] - mean
        logs = -0.5 * (step**2).sum(axis=2) + np.log([0.3, 0.7])
        total = np.logaddexp(*logs.T)
        share = np.exp(logs - total[:, None])
        return total, -(share[:, :, None] * step).sum(axis=1)

    def prior(n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0.0, 4.0, (n, 2))

    return Density(Counted(function, count, 0.02), 2, prior=prior)


CASES: dict[str, Case] = {
    "mixture": Case(of_gallery("two_modes_16")),
    "symmetric": Case(of_gallery("symmetric_mixture")),
    "bananas": Case(of_gallery("two_bananas_10")),
    "chains": Case(of_gallery("mixture_2d_well"), {"first_answer": False}),
    "units": Case(units),
    "hubs": Case(hubs),
    "simulator": Case(simulator, {"emulation": Emulation(draws="weighted")}),
    "expensive": Case(
        expensive, {"max_evals": 1500, "modes": ModeSearch(max_starts=64), "target_se": 0.05}
    ),
    "100-D": Case(of_gallery("gaussian_mixture_100d")),
}


def draws_of(density: Density, fit: Fit) -> np.ndarray:
    """Draw a few times with some chains: the last draws, shape (CHAINS, d)."""
    rng, target = np.random.default_rng(5), fit.target(density)
    state = kernel.init(target, fit.kernel, fit.starts(CHAINS, rng), rng)
    for i in range(DRAWS):
        offered = kernel.propose(target, fit.kernel, CHAINS * fit.kernel.jumps, rng)
        state, _ = kernel.step(target, fit.kernel, state, offered, rng, i)
    return state.points.x


def digest(density: Density, fit: Fit) -> str:
    """Write a number that depends on every bit of the answer, of its draws and of the counts.

    How many points are screened is decided by the clock, in the whole fit and in the one that is
    killed: it is left out.
    """
    w, by_step = fit.weights, fit.evals_by_step or {}
    counts = np.array([n for step, n in by_step.items() if step != "screen"])
    arrays = (w.weight, w.weight_se, w.log_evidence, fit.modes.locations, counts)
    total = hashlib.sha256()
    for array in (*arrays, draws_of(density, fit)):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


class Timed(Checkpoint):
    """A checkpoint that notes the largest file and the longest writing."""

    def __init__(self, path: Path, notes: np.ndarray) -> None:
        super().__init__(path)
        self.notes = notes

    def save(self, run: Any, state: Any) -> None:
        began, before = time.perf_counter(), self.path.stat().st_mtime_ns
        super().save(run, state)
        if self.path.stat().st_mtime_ns != before:
            seconds = time.perf_counter() - began
            self.notes[:] = np.maximum(self.notes, [self.path.stat().st_size, seconds])


def attempt(case: Case, config: FitConfig, path: Path, shared: Shared) -> None:
    """Fit in a process of its own; the digest is written beside the checkpoint."""
    density = case.density(shared.count)
    fit = fit_density(density, config, checkpoint=Timed(path, shared.notes))
    path.with_suffix(".digest").write_text(digest(density, fit))


class Shared:
    """Numbers in memory that processes share: evaluations, and notes of `Timed`."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, 24)
        self.count = np.frombuffer(memory, np.int64, 1)
        self.notes = np.frombuffer(memory, float, 2, offset=8)


def killed(case: Case, config: FitConfig, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill fits until there were enough kills, and compare all that have ended."""
    shared, context = Shared(), multiprocessing.get_context("fork")
    density, began = case.density(shared.count), time.perf_counter()
    whole = fit_density(density, config)
    seconds = time.perf_counter() - began
    expected = digest(density, whole)
    # Those of the draws are part of it.
    needed = int(shared.count[0])
    shared.count[:] = 0
    done, ended, same = 0, 0, True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.checkpoint"
        while done < kills or path.exists():
            process = context.Process(target=attempt, args=(case, config, path, shared))
            process.start()
            if done < kills:
                process.join(rng.uniform(0.0, LONGEST * seconds))
                if process.is_alive():
                    os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            done += process.exitcode == -signal.SIGKILL
            if process.exitcode not in (0, -signal.SIGKILL):
                raise RuntimeError(f"a fit ended with the exit code {process.exitcode}")
            if process.exitcode == 0:
                ended += 1
                same &= path.with_suffix(".digest").read_text() == expected
                path.unlink()
    beyond = int(shared.count[0]) - ended * needed
    size, writing = shared.notes
    return {
        "kills": done, "fits": ended, "identical": bool(same), "evaluations": whole.n_logp_evals,
        "lost": beyond, "seconds": seconds, "bytes": int(size), "writing": writing,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--names", default=",".join(CASES), help="targets, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file to which results are appended, JSON lines")
    options = parser.parse_args()
    print("target       kills  fits  identical  evaluations  lost in all  seconds      MB  writing")
    failed = False
    for name in options.names.split(","):
        case, rng = CASES[name], np.random.default_rng(options.seed)
        config = FitConfig(**{"random_seed": options.seed, **case.settings})
        row = killed(case, config, options.kills, rng)
        print(
            f"{name:12} {row['kills']:5}  {row['fits']:4}  {row['identical']!s:9}  "
            f"{row['evaluations']:11,}  {row['lost']:11,}  {row['seconds']:7.1f}  "
            f"{row['bytes'] / 1e6:6.2f}  {1e3 * row['writing']:4.0f} ms",
            flush=True,
        )
        if options.out:
            with open(options.out, "a") as file:
                file.write(json.dumps({"target": name, **row}) + "\n")
        failed |= not row["identical"]
    sys.exit(failed)


if __name__ == "__main__":
    main()
