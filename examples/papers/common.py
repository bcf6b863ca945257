"""What the scripts of this folder share: the methods compared, two-sample tests, results on disk.

Every method returns an `Outcome` with draws in the unconstrained space, so that one function
serves all of them when draws are turned into weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Before NumPy is imported: threads only spin on matrices as small as these.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.spatial.distance import cdist

OUTPUT = Path(__file__).resolve().parents[1] / "output"

# One colour and one name for each method, the same in all figures.
OURS, UNCORRECTED, EXACT = "corrected draws", "uncorrected draws", "exact draws"
MIXTURES, PUBLISHED = "uncorrected, Gaussian mixtures", "uncorrected, published recipe"
NUTS, EMCEE, SMC = "NUTS", "emcee", "sample_smc"
COLOURS = {
    EXACT: "0.35", OURS: "C0", UNCORRECTED: "C9", MIXTURES: "C4", PUBLISHED: "C6",
    NUTS: "C1", EMCEE: "C2", SMC: "C3",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one method made of a density.

    Attributes
    ----------
    x : array of shape (n, d)
        Draws in the unconstrained space.
    evals : int
        Points at which the log density (for NUTS: with its gradient) was computed.
    seconds : float
        Wall-clock seconds, as measured in this run; compilation is included for PyMC's methods.
    settings : str
        What the method was given, for the tables.
    extra : dict
        Diagnostics that only this method has.
    """

    x: np.ndarray
    evals: int
    seconds: float
    settings: str
    extra: dict = field(default_factory=dict)


# ------------------------------------------------------------------ the methods


def corrected_draws(
    density, fit, draws: int, chains: int, rng: np.random.Generator, thin: int = 1, skip: int = 0
) -> tuple[np.ndarray, float]:
    """Draws of the fit's exact kernel, shape (chains, draws, d), and the acceptance of jumps.

    Parameters
    ----------
    thin : int
        Steps of the kernel for each draw kept.
    skip : int
        Draws left out first: chains start at local draws, allocated by estimated weights.
    """
    from pymc_multimodal import kernel as k

    n, target = chains * fit.kernel.jumps, fit.target(density)
    state = k.init(target, fit.kernel, fit.starts(chains, rng), rng)
    kept, accepted = [], []
    for step in range((skip + draws) * thin):
        offered = k.propose(target, fit.kernel, n, rng)
        state, share = k.step(target, fit.kernel, state, offered, rng, step)
        accepted.append(share.mean())
        if step >= skip * thin and (step + 1) % thin == 0:
            kept.append(fit.randomise_image(state.points, rng).x)
    return np.stack(kept, axis=1), float(np.mean(accepted))


def run_ours(
    density, *, target_se: float, seed: int, draws: int = 2000, chains: int = 4, config=None
) -> tuple[object, Outcome]:
    """Fit, then draw: the fit and an `Outcome` that counts both."""
    from pymc_multimodal.fit import FitConfig, fit_density

    began, before = time.monotonic(), density.n_logp_evals
    config = config or FitConfig(target_se=target_se, random_seed=seed)
    fit = fit_density(density, config)
    rng = np.random.default_rng([seed, 1])
    x, acceptance = corrected_draws(density, fit, draws, chains, rng)
    extra = {
        "acceptance": acceptance,
        "modes": fit.n_modes,
        "fit_evals": fit.n_logp_evals,
        "weight": fit.weights.weight.tolist(),
        "weight_se": fit.weights.weight_se.tolist(),
        "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }
    return fit, Outcome(
        x.reshape(-1, density.dim),
        density.n_logp_evals - before,
        time.monotonic() - began,
        f"target_se={target_se:g}, {chains} x {draws:,} draws",
        extra,
    )


def other_draws(density, fit, config, n: int, rng: np.random.Generator) -> np.ndarray:
    """Uncorrected draws, shape (n, d), of another generator learned from a fit's local draws."""
    fitted = config.regional.fit_regions(fit.draws, density.period, rng)
    return config.build(fitted, fit.draws, fit.weights.weight, rng).generate(n, rng)


def run_nuts(model, *, seed: int, draws: int = 500, tune: int = 500, chains: int = 4) -> Outcome:
    """``pm.sample`` as it comes, without parallel processes."""
    import pymc as pm

    from pymc_multimodal._compat import get_dataset, group_names, rhat

    began = time.monotonic()
    with model, _quiet():
        idata = pm.sample(
            draws=draws, tune=tune, chains=chains, cores=1, random_seed=seed, progressbar=False,
            compute_convergence_checks=False, discard_tuned_samples=False,
            idata_kwargs={"include_transformed": True},
        )  # fmt: skip
    seconds = time.monotonic() - began
    groups = [g for g in ("sample_stats", "warmup_sample_stats") if g in group_names(idata)]
    evals = sum(int(get_dataset(idata, g)["n_steps"].sum()) for g in groups)
    x = _unconstrained(model, idata)
    settings = f"{chains} chains x {tune:,} + {draws:,}"
    extra = {"r_hat": float(np.nanmax(rhat(x)))}
    return Outcome(x.reshape(-1, x.shape[-1]), evals, seconds, settings, extra)


def run_smc(model, *, seed: int, draws: int = 1000, chains: int = 4) -> Outcome:
    """``pm.sample_smc`` as it comes, with its evaluations counted."""
    import pymc as pm
    from pymc.smc.kernels import IMH

    counted = [0]

    class Counting(IMH):
        """The default kernel; it moves all particles n_steps - 1 times at each temperature."""

        def setup_kernel(self):
            super().setup_kernel()
            counted[0] += self.draws

        def mutate(self):
            super().mutate()
            counted[0] += self.draws * (self.n_steps - 1)

    began = time.monotonic()
    with model, _quiet():
        idata = pm.sample_smc(
            draws=draws, kernel=Counting, chains=chains, cores=1, random_seed=seed,
            progressbar=False, compute_convergence_checks=False,
            idata_kwargs={"include_transformed": True},
        )  # fmt: skip
    seconds = time.monotonic() - began
    x = _unconstrained(model, idata)
    settings = f"{chains} chains x {draws:,} particles"
    return Outcome(x.reshape(-1, x.shape[-1]), counted[0], seconds, settings)


def run_emcee(
    log_density: Callable, start: np.ndarray, *, seed: int, steps: int, keep: int = 8000
) -> Outcome:
    """Run stretch moves; the second half of the steps counts, thinned to `keep` draws.

    Parameters
    ----------
    log_density : callable
        Log densities, shape (n,), of points of shape (n, d).
    start : array of shape (walkers, d)
    """
    import emcee

    counted = [0]

    def counting(x: np.ndarray) -> np.ndarray:
        counted[0] += len(x)
        return log_density(x)

    walkers, dim = start.shape
    began = time.monotonic()
    sampler = emcee.EnsembleSampler(walkers, dim, counting, vectorize=True)
    # emcee still takes the state of a legacy generator.
    sampler.random_state = np.random.RandomState(seed).get_state()
    sampler.run_mcmc(start, steps, skip_initial_state_check=True)
    thin = max(1, (steps - steps // 2) * walkers // keep)
    x = sampler.get_chain(discard=steps // 2, thin=thin, flat=True)
    extra = {"acceptance": float(np.mean(sampler.acceptance_fraction))}
    settings = f"{walkers} walkers x {steps:,}"
    return Outcome(x, counted[0], time.monotonic() - began, settings, extra)


def walkers(density, n: int, rng: np.random.Generator) -> np.ndarray:
    """Prior draws at which the density is finite: where all methods begin."""
    x = density.prior_draws(4 * n, rng)
    return x[np.isfinite(density.logp(x))][:n]


def _unconstrained(model, idata) -> np.ndarray:
    """Posterior draws as (chains, draws, d), in the order of ``model.value_vars``."""
    from pymc_multimodal._compat import get_dataset, group_names

    groups = [g for g in ("unconstrained_posterior", "posterior") if g in group_names(idata)]
    columns = []
    for value in model.value_vars:
        group = next(g for g in groups if value.name in get_dataset(idata, g))
        found = get_dataset(idata, group)[value.name].values
        columns.append(found.reshape(*found.shape[:2], -1))
    return np.concatenate(columns, axis=2)


class _quiet:
    """No warnings, and no log of PyMC: the rivals' troubles are shown in the tables."""

    def __enter__(self):
        self._log = logging.getLogger("pymc")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error):
        self._caught.__exit__(*error)
        self._log.setLevel(self._level)


# ------------------------------------------------------------------ weights


def component_shares(target, x: np.ndarray) -> np.ndarray:
    """Weight of each component of a gallery target, as draws x have it."""
    return target.membership(x).mean(axis=0)


def region_shares(fit, target, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mass of each region of a fit and its standard error, from n exact draws of the target.

    What is counted is the difference between a draw's region and the components it may have come
    from, whose weights are known: where modes are apart hardly any error is left.
    """
    total, square, done = 0.0, 0.0, 0
    home = np.zeros((len(target.weights), fit.n_modes))
    while done < n:
        x = target.draws(min(50_000, n - done), rng)
        region = np.eye(fit.n_modes)[fit.label(x)]
        membership = target.membership(x)
        if not done:
            # Each component counts for the region where most of it lies.
            most = (membership.T @ region).argmax(axis=1)
            home = np.eye(fit.n_modes)[most]
        gap = region - membership @ home
        total, square, done = total + gap.sum(axis=0), square + (gap**2).sum(axis=0), done + len(x)
    mean = total / n
    se = np.sqrt(np.maximum(square / n - mean**2, 0.0) / n)
    return target.weights @ home + mean, se


def z_scores(weight, se, truth, truth_se=0.0) -> np.ndarray:
    """(estimate - truth) / error of each weight, the truth's own error included.

    Differences that rounding explains count as none: a single region has weight 1 and no error.
    """
    gap = np.asarray(weight) - truth
    with np.errstate(all="ignore"):
        z = gap / np.hypot(se, truth_se)
    return np.where(np.abs(gap) > 1e-12, z, 0.0)


def method_record(target, outcome: Outcome, keep: int, rng: np.random.Generator) -> dict:
    """Make what is saved of one method: weights of the components, cost, and some draws."""
    shares = component_shares(target, outcome.x)
    return {
        "weights": shares,
        "error": float(np.abs(shares - target.weights).max()),
        "evals": outcome.evals,
        "seconds": round(outcome.seconds, 1),
        "settings": outcome.settings,
        "extra": outcome.extra,
        "draws": len(outcome.x),
        "points": np.round(pick(outcome.x, keep, rng), 4),
    }


def fit_record(fit, target, outcome: Outcome, exact: int, rng: np.random.Generator) -> dict:
    """Weights of a fit beside the shares of exact draws in its own regions."""
    truth, truth_se = region_shares(fit, target, exact, rng)
    z = z_scores(fit.weights.weight, fit.weights.weight_se, truth, truth_se)
    return outcome.extra | {
        "truth": truth,
        "region_error": float(np.abs(fit.weights.weight - truth).max()),
        "largest_z": float(np.abs(z).max()),
        "log_z_error": fit.weights.total - target.log_z,
        "log_z_se": fit.weights.total_se,
    }


def method_row(method: str, r: dict) -> dict:
    """One row of a table of methods, from what `method_record` saved."""
    notes = []
    if "r_hat" in r["extra"]:
        notes.append(f"R-hat {r['extra']['r_hat']:.2f}")
    if "acceptance" in r["extra"]:
        notes.append(f"acceptance {r['extra']['acceptance']:.2f}")
    return {
        "method": method,
        "weights": show(r["weights"]),
        "error": f"{r['error']:.4f}",
        "evaluations": f"{r['evals']:,}" if r["evals"] else "none",
        "seconds": f"{r['seconds']:.0f}",
        "given": r["settings"],
        "notes": ", ".join([*notes, *r["extra"].get("statuses", [])]),
    }


def fit_row(r: dict) -> dict:
    """One row on the weights that a fit states for its own regions."""
    return {
        "method": "weights stated by the fit",
        "weights": show(r["weight"]),
        "error": f"{r['region_error']:.4f}",
        "evaluations": f"{r['fit_evals']:,}",
        "given": f"regions: {r['modes']}",
        "notes": f"se {max(r['weight_se']):.4f}, largest z {r['largest_z']:.1f}, "
        f"log Z off by {r['log_z_error']:.4f} (se {r['log_z_se']:.4f})",
    }


# ------------------------------------------------------------------ two-sample tests


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Energy distance of two samples, without bias: its mean is 0 where they are alike.

    ``2 E|A - B| - E|A - A'| - E|B - B'|`` with pairs of different draws in the last two terms
    (Székely and Rizzo 2013), so it can come out below 0.

    Parameters
    ----------
    a, b : arrays of shape (n, d) and (m, d)
    """
    return float(2 * cdist(a, b).mean() - _mean_of_pairs(a) - _mean_of_pairs(b))


def _mean_of_pairs(x: np.ndarray) -> float:
    return float(cdist(x, x).sum() / (len(x) * (len(x) - 1)))


def permutation_p_value(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, permutations: int = 199
) -> float:
    """Probability of an energy distance as large as that of a and b, were they alike.

    The draws of each sample have to be independent of one another: thin chains first.

    Parameters
    ----------
    a, b : arrays of shape (n, d) and (m, d)
    rng : numpy.random.Generator
    permutations : int
        The smallest p-value possible is ``1 / (permutations + 1)``.
    """
    n, m = len(a), len(b)
    pooled = np.concatenate([a, b])
    distance = cdist(pooled, pooled)
    first = np.zeros((n + m, permutations + 1))
    first[:n, 0] = 1.0
    for j in range(1, permutations + 1):
        first[rng.permutation(n + m)[:n], j] = 1.0
    # Sums of the three blocks of every split, by two matrix products.
    towards = distance @ first
    within_a = np.einsum("ij,ij->j", first, towards)
    between = towards.sum(axis=0) - within_a
    within_b = distance.sum() - within_a - 2 * between
    energy = 2 * between / (n * m) - within_a / (n * (n - 1)) - within_b / (m * (m - 1))
    return float(np.mean(energy >= energy[0] - 1e-12 * abs(energy[0])))


def whitener(reference: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map that gives `reference` zero mean and unit covariance."""
    mean = reference.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(reference.T)))
    matrix = vectors / np.sqrt(values)
    return lambda x: (x - mean) @ matrix


def pick(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Pick n rows, or all if there are fewer, in random order."""
    return x[rng.permutation(len(x))[:n]]


# ------------------------------------------------------------------ results on disk


class Records:
    """Results by name in a JSON-lines file: what it holds already is not computed again.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self._held = {r["name"]: r for r in map(json.loads, filter(str.strip, lines))}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def get(self, name: str, work: Callable[[], dict]) -> dict:
        """Return the record of this name; `work` makes it if the file has none."""
        if name not in self._held:
            record = {"name": name, **work()}
            with self.path.open("a") as file:
                file.write(json.dumps(record, default=_plain) + "\n")
            self._held[name] = json.loads(json.dumps(record, default=_plain))
            print(f"done: {name}", flush=True)
        return self._held[name]


def _plain(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not belong into a record")


def parse(description: str, script: str, **further: dict) -> argparse.Namespace:
    """Read the options that all scripts have, --quick, --out and --seed, and further ones."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    for name, keywords in further.items():
        parser.add_argument(f"--{name}", **keywords)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="JSON lines to write to, and to take up again")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.stem = Path(script).stem + ("_quick" if options.quick else "")
    options.out = options.out or OUTPUT / f"{options.stem}.jsonl"
    return options


def table(rows: list[dict]) -> str:
    """Markdown table of rows that may lack some columns."""
    columns = list(dict.fromkeys(c for row in rows for c in row))
    cells = [[str(row.get(c, "")) for c in columns] for row in rows]
    width = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * w for w in width], *cells]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, width, strict=True)) + " |"
        for line in lines
    )


def show(weights) -> str:
    """Weights in one cell of a table."""
    return " ".join(f"{w:.3f}" for w in np.atleast_1d(weights))


def figure(rows: int, columns: int, size: tuple[float, float], **settings):
    """Figure and axes without a screen, in the style of all the scripts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **settings
    )
    for one in axes.ravel():
        one.spines[["top", "right"]].set_visible(False)
    return made, axes


def save(made, stem: str) -> Path:
    """Write a figure to examples/output."""
    import matplotlib.pyplot as plt

    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / f"{stem}.png"
    made.savefig(path, dpi=110)
    plt.close(made)
    print(f"\nPicture: examples/output/{path.name}")
    return path


def compare_once(doc, file, compare, report, draw) -> None:
    """Command line of a script with one record: ``compare`` it, print ``report``, ``draw`` it."""
    options = parse(doc, file)
    records = Records(options.out)
    result = records.get(f"seed {options.seed}", lambda: compare(options.seed, options.quick))
    print(report(result))
    draw(result, options.stem)
