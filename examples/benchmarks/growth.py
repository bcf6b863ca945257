r"""Cost of a fit as a problem grows: modes, dimensions, separation, price, workers.

Targets: K unit normals in ten dimensions, two normals in d dimensions, phi^4 on a periodic lattice
of 16 x 16 sites, two unit normals in ten dimensions at a distance of s, and two normals in three
dimensions of which an evaluation takes p seconds, with a gradient (``price``) and without
(``black_box``). The time of such an evaluation is counted: nothing sleeps, and clocks are set
forward. Each fit has a process of its own, so that the peak of the resident memory is that of the
fit; what the process held before the fit is subtracted. ``workers`` counts requests (`requests`).
One JSON line is written for each fit. Fits that the file already holds are left out, so that a long
table can be stopped and continued. ``--sampler`` runs another sampler on the same targets, by the
interpreter ``--python`` where it is installed. The report has exponents: slopes of straight lines
by least squares on logarithmic scales. Run it with::

    python examples/benchmarks/growth.py --out growth.jsonl
    python examples/benchmarks/growth.py --targets normals_300,two_modes_1000
    python examples/benchmarks/growth.py --out growth.jsonl --sampler sample_smc --cpu-limit 120
    python examples/benchmarks/growth.py --out growth.jsonl --sampler nautilus --cpu-limit 120 \
        --python .venv-nested/bin/python
    python examples/benchmarks/growth.py --out growth.jsonl --report --picture growth.png
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from growth_curves import draw, exponents, sampler_of
from growth_others import run_other
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.target.density import Density

MODES, DIMS = (2, 10, 30, 100, 300, 1000), (2, 10, 30, 100, 300, 1000)
APART = (8, 16, 32, 64, 128, 256)
PRICES = ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1")
NAMES = [f"normals_{k}" for k in MODES] + [f"two_modes_{d}" for d in DIMS] + ["phi4_256"]
NAMES += [f"apart_{s}" for s in APART]
NAMES += [f"{kind}_{p}" for kind in ("price", "black_box") for p in PRICES]
NAMES += ["workers_two_modes", "workers_four_modes"]
# Targets of other samplers.
OTHERS = [n for n in NAMES if n.startswith(("normals", "two_modes"))]
SAMPLERS = ("pymc_multimodal", "sample_smc", "nautilus")
# Workers whose rounds are counted.
WORKERS = (1, 2, 4, 16, 64, 256, 1000)
# Separate normals: standard deviation of their prior. Priced ones: dimension, distance, prior.
APART_PRIOR, PRICED_DIM, PRICED_DISTANCE, PRICED_PRIOR = 40.0, 3, 8.0, 4.0
# Normals: dimension, standard deviation of the prior, from which the means are drawn too, and
# largest weight over the smallest.
NORMALS_DIM, NORMALS_PRIOR, RATIO = 10, 10.0, 3.0
# Terms of a mixture that are lower than the largest by this (nats) are left out.
NEGLIGIBLE = 37.0
# Lattice: sites of a side, the coefficients of `gallery.phi4` with 256 sites, and the field.
SIDE, COUPLING, WELL, FIELD = 16, 20.0 * 25.6, 20.0 / 25.6, 0.002


class Mixture:
    """Normals of one standard deviation, with means of shape (K, d): log density and gradient."""

    def __init__(self, weights: np.ndarray, means: np.ndarray, sd: float) -> None:
        self.weights, self.means, self.sd = weights, means, sd
        self.dim = means.shape[1]
        norm = np.log(weights) - self.dim * np.log(sd) - 0.5 * self.dim * np.log(2 * np.pi)
        self.constant = norm - 0.5 * np.sum(means**2, axis=1) / sd**2
        self.linear = means.T / sd**2

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logs = x @ self.linear
        logs += self.constant
        top = logs.max(axis=1)
        # Terms of a rounding error or less are left out: the density shall not be what costs most.
        row, near = np.divmod(np.flatnonzero(logs > (top - NEGLIGIBLE)[:, None]), logs.shape[1])
        share = np.exp(logs[row, near] - top[row])
        total = np.bincount(row, share, minlength=len(x))
        first = np.searchsorted(row, np.arange(len(x)))
        pull = np.add.reduceat((share / total[row])[:, None] * self.means[near], first, axis=0)
        square = np.einsum("ni,ni->n", x, x) / self.sd**2
        return top + np.log(total) - 0.5 * square, (pull - x) / self.sd**2

    def component(self, x: np.ndarray) -> np.ndarray:
        """Component with the largest share of the density at each row."""
        return np.argmax(x @ self.linear + self.constant, axis=1)


class Priced:
    """A function of which each evaluation takes some seconds: clocks are set forward.

    Parameters
    ----------
    function : callable
    price : float
        Seconds.
    gradient : bool
        Whether the gradient is given.
    """

    def __init__(self, function: Mixture, price: float, *, gradient: bool) -> None:
        self.function, self.price, self.gradient = function, price, gradient
        self.skipped = 0.0
        for name in ("monotonic", "perf_counter"):
            setattr(time, name, self._clock(getattr(time, name)))

    def _clock(self, real: Callable[[], float]) -> Callable[[], float]:
        return lambda: real() + self.skipped

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.skipped += self.price * len(x)
        logp, grad = self.function(x)
        return logp, grad if self.gradient else None


class Lattice:
    """phi^4 in two dimensions with periodic borders: the action of `gallery.phi4` on a square.

    The log density is minus the sum over the sites of ``COUPLING / 2`` times the squared
    differences from two neighbours, and of ``WELL ((1 - phi^2)^2 / 4 - field phi)``.
    """

    dim = SIDE**2
    # Shares of the phases with positive and with negative mean field at `FIELD`.
    # Measured: `--truth`, with a standard error of 0.0001.
    weights = np.array([0.6890, 0.3110])

    def __init__(self, field: float = FIELD) -> None:
        self.field = field

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phi = x.reshape(-1, SIDE, SIDE)
        near = sum(np.roll(phi, s, axis) for s in (1, -1) for axis in (1, 2))
        well = phi**2 - 1.0
        grad = COUPLING * (near - 4.0 * phi) - WELL * (phi * well - self.field)
        # The squared differences of neighbours add up to phi (4 phi - near).
        site = 0.5 * COUPLING * phi * (4.0 * phi - near)
        site += WELL * (0.25 * well**2 - self.field * phi)
        return -site.sum(axis=(1, 2)), grad.reshape(x.shape)

    def component(self, x: np.ndarray) -> np.ndarray:
        """Return 0 where the mean field is positive, and else 1."""
        return (x.mean(axis=1) <= 0).astype(int)


def positive_share(n: int = 200_000, batch: int = 10_000) -> tuple[float, float]:
    """Share of the phase with positive mean field, and its standard error.

    Each phase is nearly normal: its integral is estimated with draws of the normal density at its
    maximum, whose covariance is diagonal in the Fourier coordinates of the lattice.
    """
    lattice, rng = Lattice(), np.random.default_rng(0)
    waves = 4.0 * np.sin(np.pi * np.arange(SIDE) / SIDE) ** 2
    stiffness = COUPLING * (waves[:, None] + waves)
    log_z, variance = [], []
    for sign in (1.0, -1.0):
        top = max(np.roots([1.0, 0.0, -1.0, -FIELD]).real * sign) * sign
        precision = stiffness + WELL * (3.0 * top**2 - 1.0)
        logs = []
        for _ in range(0, n, batch):
            noise = np.fft.fft2(rng.standard_normal((batch, SIDE, SIDE)), norm="ortho")
            step = np.fft.ifft2(noise / np.sqrt(precision), norm="ortho").real
            x = (top + step).reshape(batch, -1)
            log_q = -0.5 * np.sum(np.abs(noise) ** 2, axis=(1, 2)) + 0.5 * np.log(precision).sum()
            # A draw in the other phase has no part in the integral.
            own = np.sign(x.mean(axis=1)) == sign
            logs.append(np.where(own, lattice(x)[0] - log_q, -np.inf))
        log_w = np.concatenate(logs)
        w = np.exp(log_w - log_w.max())
        log_z.append(log_w.max() + np.log(w.mean()))
        variance.append(w.var() / w.mean() ** 2 / n)
    share = 1.0 / (1.0 + np.exp(log_z[1] - log_z[0]))
    return float(share), float(share * (1 - share) * np.sqrt(sum(variance)))


def target(name: str) -> tuple[Mixture | Lattice, float]:
    """Return a target, and the standard deviation of its prior."""
    kind, size = name.rsplit("_", 1)
    if kind == "phi4":
        return Lattice(), 1.0
    if kind == "two_modes":
        means = np.stack([-np.ones(int(size)), np.ones(int(size))])
        return Mixture(np.array([2.0, 1.0]) / 3.0, means, np.sqrt(0.05)), 2.0
    if kind in ("apart", "price", "black_box"):
        apart = kind == "apart"
        dim = NORMALS_DIM if apart else PRICED_DIM
        distance = float(size) if apart else PRICED_DISTANCE
        means = 0.5 * distance / np.sqrt(dim) * np.array([[-1.0], [1.0]]) * np.ones(dim)
        mixture = Mixture(np.array([2.0, 1.0]) / 3.0, means, 1.0)
        return mixture, APART_PRIOR if apart else PRICED_PRIOR
    means = NORMALS_PRIOR * np.random.default_rng(42).standard_normal((int(size), NORMALS_DIM))
    weights = np.geomspace(RATIO, 1.0, int(size))
    return Mixture(weights / weights.sum(), means, 1.0), NORMALS_PRIOR


def peak() -> float:
    """Return the peak of the resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def run(name: str, seed: int, challenge: bool = True) -> dict:
    """Fit once, in this process."""
    if name.startswith("workers"):
        return requested(name.removeprefix("workers_"), seed)
    function, scale = target(name)
    dim, priced, gradient = function.dim, function, not name.startswith("black_box")
    if name.startswith(("price", "black_box")):
        priced = Priced(function, float(name.rsplit("_", 1)[1]), gradient=gradient)
    density = Density(
        priced,
        dim,
        has_gradient=gradient,
        prior=lambda n, rng: scale * rng.standard_normal((n, dim)),
    )
    before, cpu, began = peak(), time.process_time(), time.monotonic()
    fit = fit_density(density, FitConfig(random_seed=seed, challenge=challenge))
    cost = {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began}
    # Regions of one component are added up, with the variances of their weights.
    component = function.component(fit.modes.locations)
    k = len(function.weights)
    found = np.bincount(component, minlength=k) > 0
    weight = np.bincount(component, fit.weights.weight, minlength=k)
    se = np.sqrt(np.bincount(component, fit.weights.weight_se**2, minlength=k))
    error = np.abs(weight - function.weights)[found]
    score = error / np.maximum(se[found], 1e-12)
    return {
        "name": name,
        "seed": seed,
        "challenge": challenge,
        **cost,
        "peak_mb": peak() - before,
        "evals": fit.n_logp_evals,
        # A clock decides how many points are screened.
        "evals_unscreened": fit.n_logp_evals - (fit.evals_by_step or {}).get("screen", 0),
        "modes": int(found.sum()),
        "of": k,
        "regions": fit.n_modes,
        "error": float(error.max()),
        "largest_se": float(se.max()),
        "score": float(score.max()),
        "log_z": fit.weights.total,
        "log_z_se": fit.weights.total_se,
        "stages": {stage: round(s, 2) for stage, s in fit.seconds.items()},
        "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }


def requested(case: str, seed: int) -> dict:
    """Count the rounds that workers need for the requests of a fit and its draws."""
    import requests as counting

    engine, _ = counting.run(case, seed)
    sizes = [sizes for _, sizes in engine.requests]
    return {
        "name": f"workers_{case}",
        "seed": seed,
        "evals": sum(map(sum, sizes)),
        "rounds": {w: sum(counting.rounds(s, w) for s in sizes) for w in WORKERS},
    }


def run_apart(
    name: str, seed: int, challenge: bool, cpu_limit: int, sampler: str, python: str
) -> dict:
    """Fit once in a process of its own, which is ended after some CPU seconds."""
    script = [python, __file__, "--one", name, "--first-seed", str(seed), "--sampler", sampler]
    script += [] if challenge else ["--without-challenge"]
    done = subprocess.run(
        script,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit, cpu_limit)),
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    kind = {"name": name, "seed": seed, "challenge": challenge, "sampler": sampler}
    return kind | {"stopped": f"ended after {cpu_limit} CPU s, or failed"}


def report(runs: list[dict]) -> str:
    """Lines of the tables for docs: one for each fit, and the exponents."""
    lines = ["target, seed, modes, evaluations, CPU s, peak MB, error, error in se, warnings"]
    order = {name: i for i, name in enumerate(NAMES)}
    for r in sorted(
        runs, key=lambda r: (SAMPLERS.index(sampler_of(r)), order[r["name"]], r["seed"])
    ):
        alone = "" if r.get("challenge", True) else " without challenge"
        other = "" if sampler_of(r) == SAMPLERS[0] else f" by {r['sampler']}"
        head = f"{r['name']}{other}{alone}, {r['seed']}"
        if "stopped" in r:
            lines.append(f"{head}, {r['stopped']}")
        elif "rounds" in r:
            rounds = " ".join(f"{w}: {r['evals'] / n:.1f}" for w, n in r["rounds"].items())
            lines.append(f'{head}, "{r["evals"]:,}", ideal speed-up {rounds}')
        else:
            lines.append(
                f'{head}, {r["modes"]} of {r["of"]}, "{r["evals"]:,}", {r["cpu"]:.1f}, '
                f"{r['peak_mb']:.0f}, {r['error']:.5f}, {r['score']:.1f}, {' '.join(r['statuses'])}"
            )
    return "\n".join([*lines, "", *exponents(runs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", help="comma separated names (default: the table)")
    parser.add_argument("--sampler", default=SAMPLERS[0], choices=SAMPLERS)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the sampler")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cpu-limit", type=int, default=600, help="CPU seconds of each fit")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    parser.add_argument("--picture", type=Path, help="file for the curves of --out")
    parser.add_argument("--without-challenge", action="store_true", help="leave it out of the fits")
    parser.add_argument("--truth", action="store_true", help="only measure the lattice's phases")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        function, scale = (None, None) if "workers" in options.one else target(options.one)
        if options.sampler == SAMPLERS[0]:
            one = run(options.one, options.first_seed, not options.without_challenge)
        else:
            one = run_other(options.sampler, options.one, function, scale, options.first_seed)
        print(json.dumps(one))
        return
    if options.truth:
        print("share of the positive phase: {:.5f} +- {:.5f}".format(*positive_share()))
        return
    runs = Runs(options.out)
    if not options.report:
        names = NAMES if options.sampler == SAMPLERS[0] else OTHERS
        names = names if options.targets is None else options.targets.split(",")
        kind = (options.sampler, not options.without_challenge)
        done = {(r["name"], r["seed"]) for r in runs
                if (sampler_of(r), r.get("challenge", True)) == kind}  # fmt: skip
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        for name, seed in [(n, s) for n in names for s in seeds if (n, s) not in done]:
            runs.keep(
                run_apart(name, seed, kind[1], options.cpu_limit, options.sampler, options.python)
            )
            print(report(runs[-1:]).splitlines()[1], flush=True)
    print(report(runs))
    if options.picture:
        draw(runs, options.picture)


if __name__ == "__main__":
    main()
