"""Calibration of fits by units: random models of units of different sizes, with known answers.

Three families, in turn: units that share nothing, units that share a spread, and units that share
a mean and a spread. Units have one, two or three coordinates; of most only the size of a coordinate
is seen, so that its sign has two explanations, and some are bent. Log evidence and the share of
each sign are sums over grids. All models of a family share one compiled graph. Run it with::

    python examples/benchmarks/random_units.py --models 180 --out random_units.jsonl
    python examples/benchmarks/random_units.py --out random_units.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm
from calibration_report import LEVELS, WRONG, table, upper_bound
from inverse_model import renewed
from scipy.special import log_ndtr, logsumexp
from scipy.stats import halfnorm, norm
from weights import Runs

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.model.build import density_of
from pymc_multimodal.target import Density, Structure

FAMILIES = ("separate", "spread", "both")
# Units of each kind, standard deviations of priors, and the range of those of the noise.
N_PLAIN, N_SIZES, N_BENT, N_CHAINS = 3, 3, 2, 2
MEAN_SD, ROOT_SD, LEVEL_SD, HINT_SD = 2.0, 2.0, 1.0, 3.0
NOISE = (0.1, 0.6)
# Grids of the hubs and of a coordinate whose sign is unknown.
LOG_TAU, MU, LINE = np.linspace(-9, 2.5, 231), np.linspace(-8, 8, 161), np.linspace(-14, 14, 2801)
# A share is compared if it is at least this, and the other one, too, and if the valley between the
# two signs is deep: a coordinate that is seen this many standard deviations of its noise from zero,
# or a square from this value on. Elsewhere an explanation is not the same as a sign.
COMPARED, CLEAR_SDS, CLEAR_SQUARE = 0.001, 4.0, 3.0


@dataclass(frozen=True)
class UnitData:
    """Observations of all units, by kind, with the standard deviations of their noise."""

    plain: np.ndarray
    plain_sd: np.ndarray
    size: np.ndarray
    size_sd: np.ndarray
    square: np.ndarray
    square_sd: np.ndarray
    root_hint: np.ndarray
    end: np.ndarray
    end_sd: np.ndarray
    sum: np.ndarray

    def clear(self) -> set[str]:
        """Coordinates whose two signs have a deep valley between them."""
        found = {
            "h": self.size > CLEAR_SDS * self.size_sd,
            "root": self.square > CLEAR_SQUARE,
            "end_": self.end > CLEAR_SDS * self.end_sd,
        }
        return {f"{name}[{i}]" for name, own in found.items() for i in np.flatnonzero(own)}


def random_data(seed: int, family: str) -> UnitData:
    """Draw hubs and units from their priors, and observe them."""
    rng = np.random.default_rng([seed, 2027])
    mu = MEAN_SD * rng.standard_normal() if family == "both" else 0.0
    tau = 1.0 if family == "separate" else abs(rng.standard_normal())
    sds = [np.exp(rng.uniform(*np.log(NOISE), n)) for n in (N_PLAIN, N_SIZES, N_BENT, N_CHAINS)]

    def seen(x: np.ndarray, sd: np.ndarray) -> np.ndarray:
        return x + sd * rng.standard_normal(len(x))

    g, h = (mu + tau * rng.standard_normal(n) for n in (N_PLAIN, N_SIZES))
    root = ROOT_SD * rng.standard_normal(N_BENT)
    level = LEVEL_SD * rng.standard_normal(N_BENT)
    end = mu + tau * rng.standard_normal(N_CHAINS) + rng.standard_normal(N_CHAINS)
    other = rng.standard_normal(N_CHAINS)
    return UnitData(
        seen(g, sds[0]),
        sds[0],
        seen(np.abs(h), sds[1]),
        sds[1],
        seen(root**2 + level, sds[2]),
        sds[2],
        seen(root, np.full(N_BENT, HINT_SD)),
        seen(np.abs(end), sds[3]),
        sds[3],
        seen(end + other, np.ones(N_CHAINS)),
    )


@cache
def compiled(family: str) -> tuple[pm.Model, Density]:
    """Compile the graph of a family, with data to be set."""
    with pm.Model() as model:
        p = {name: pm.Data(name, value) for name, value in vars(random_data(0, family)).items()}
        mu = pm.Normal("mu", 0, MEAN_SD) if family == "both" else 0.0
        tau = 1.0 if family == "separate" else pm.HalfNormal("tau", 1)
        g = pm.Normal("g", mu, tau, shape=N_PLAIN)
        pm.Normal("plain_seen", g, p["plain_sd"], observed=p["plain"])
        h = pm.Normal("h", mu, tau, shape=N_SIZES)
        pm.Normal("size_seen", pm.math.abs(h), p["size_sd"], observed=p["size"])
        root = pm.Normal("root", 0, ROOT_SD, shape=N_BENT)
        level = pm.Normal("level", 0, LEVEL_SD, shape=N_BENT)
        pm.Normal("square_seen", root**2 + level, p["square_sd"], observed=p["square"])
        pm.Normal("root_seen", root, HINT_SD, observed=p["root_hint"])
        begin = pm.Normal("begin", mu, tau, shape=N_CHAINS)
        end = pm.Normal("end_", begin, 1, shape=N_CHAINS)
        other = pm.Normal("other", 0, 1, shape=N_CHAINS)
        pm.Normal("end_seen", pm.math.abs(end), p["end_sd"], observed=p["end"])
        pm.Normal("sum_seen", end + other, 1, observed=p["sum"])
    return model, density_of(model)


def signed(log_both: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Log masses of a coordinate with a normal prior below and above zero, (2, hubs).

    ``log_both`` is its log likelihood on `LINE`.
    """
    step, out = LINE[1] - LINE[0], []
    for side in (LINE < 0, LINE >= 0):
        x, log_like = LINE[side], log_both[side]
        top = log_like.max()
        weight = np.exp(log_like - top) * step
        # Row by row: the whole grid would be large.
        rows = [norm.pdf(x, m, s) @ weight for m, s in zip(mean.flat, sd.flat, strict=True)]
        with np.errstate(divide="ignore"):
            out.append(np.log(np.array(rows).reshape(mean.shape)) + top)
    return np.array(out)


def truth(data: UnitData, family: str) -> tuple[float, dict[str, float]]:
    """Return log evidence, and the probability that each coordinate of unknown sign is positive."""
    log_tau = np.zeros(1) if family == "separate" else LOG_TAU
    mu = MU if family == "both" else np.zeros(1)
    m, tau = np.meshgrid(mu, np.exp(log_tau))
    log_hubs = np.zeros(m.shape)
    if family != "separate":
        log_hubs += halfnorm.logpdf(tau) + np.log(tau) + np.log(log_tau[1] - log_tau[0])
    if family == "both":
        log_hubs += norm.logpdf(m, 0, MEAN_SD) + np.log(mu[1] - mu[0])
    sides = {}
    for y, sd in zip(data.plain, data.plain_sd, strict=True):
        log_hubs += norm.logpdf(y, m, np.hypot(tau, sd))
    for i, (y, sd) in enumerate(zip(data.size, data.size_sd, strict=True)):
        both = []
        for sign in (-1, 1):
            v = 1 / (1 / tau**2 + 1 / sd**2)
            cut = v * (sign * m / tau**2 + y / sd**2) / np.sqrt(v)
            both.append(norm.logpdf(y, sign * m, np.hypot(tau, sd)) + log_ndtr(cut))
        sides[f"h[{i}]"] = np.array(both)
    for i in range(N_BENT):
        seen = norm.logpdf(data.square[i], LINE**2, np.hypot(data.square_sd[i], LEVEL_SD))
        seen += norm.logpdf(data.root_hint[i], LINE, HINT_SD)
        one = signed(seen, np.zeros(1), np.full(1, ROOT_SD))
        sides[f"root[{i}]"] = np.broadcast_to(one[:, :, None], (2, *m.shape))
    for i in range(N_CHAINS):
        seen = norm.logpdf(data.end[i], np.abs(LINE), data.end_sd[i])
        seen += norm.logpdf(data.sum[i], LINE, np.sqrt(2))
        sides[f"end_[{i}]"] = signed(seen, m, np.hypot(tau, 1.0))
    joint = log_hubs + sum(np.logaddexp(*both) for both in sides.values())
    log_z = float(logsumexp(joint))
    weight = np.exp(joint - log_z)
    upper = {k: float((weight * np.exp(b[1] - np.logaddexp(*b))).sum()) for k, b in sides.items()}
    return log_z, upper


def upper_shares(fit: Fit, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Shares of the explanations with a positive coordinate, and errors, by coordinate.

    Units with one explanation are left out.
    """
    assert fit.units is not None
    found, members = {}, fit.units.units.members
    for weight, se, location, own in zip(
        fit.units.weight, fit.units.weight_se, fit.units.location, members, strict=True
    ):
        for j, name in enumerate(names[c] for c in own if c >= 0):
            if (weight > 0).sum() > 1:
                up = (weight > 0) & (location[:, j] > 0)
                # Shares sum to one: the error of the sum is that of the smaller side.
                error = min(np.sqrt((se[side] ** 2).sum()) for side in (up, (weight > 0) & ~up))
                found[name] = (float(weight[up].sum()), float(error))
    return found


def judge(seed: int) -> dict:
    """Fit one model, and compare with the truth."""
    family, cpu = FAMILIES[seed % len(FAMILIES)], time.process_time()
    data = random_data(seed, family)
    density = renewed(*compiled(family), vars(data))
    record = {"seed": seed, "family": family}
    fit = fit_density(density, FitConfig(random_seed=seed, structure=Structure()))
    record |= {
        "cpu": round(time.process_time() - cpu, 2),
        "evals": fit.n_logp_evals,
        "by_units": fit.units is not None,
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }
    log_z, upper = truth(data, family)
    record |= {"log_z_error": fit.weights.total - log_z, "log_z_se": fit.weights.total_se}
    if fit.units is not None:
        found = upper_shares(fit, density.names)
        record["shares"] = [
            (found[name][0] - share, found[name][1])
            for name, share in upper.items()
            if name in found and name in data.clear() and COMPARED <= share <= 1 - COMPARED
        ]
    return record


def row(name: str, z: np.ndarray) -> list:
    inside = [f"{np.mean(np.abs(z) <= limit):.1%}" for limit in LEVELS.values()]
    return [name, len(z), *inside, f"{np.sqrt(np.mean(z**2)):.2f}", f"{np.abs(z).max():.1f}"]


def z_of_shares(run: dict) -> np.ndarray:
    """Errors of the shares of a run in stated errors, where these are known."""
    return np.array([error / se for error, se in run.get("shares", []) if se > 0])


def report(runs: list[dict]) -> str:
    """Coverage of log Z and of units' shares; errors that are not known are left out."""
    parts, head = [], ["what", "n", *LEVELS, "rms z", "largest"]
    for family in ("all", *FAMILIES):
        own = [r for r in runs if family in ("all", r["family"])]
        if not own:
            continue
        known = [r for r in own if np.isfinite(r["log_z_se"])]
        z = np.array([r["log_z_error"] / r["log_z_se"] for r in known])
        each = [z_of_shares(r) for r in known]
        shares = np.concatenate(each)
        quiet = [
            r
            for r, own_z, own_shares in zip(known, z, each, strict=True)
            if not r["warnings"] and np.abs([own_z, *own_shares]).max() > WRONG
        ]
        unwarned = sum(not r["warnings"] for r in own)
        parts.append(
            f"{family}: {len(own)} models, {sum(r['by_units'] for r in own)} by units, "
            f"{len(own) - len(known)} without known errors, {unwarned} without a warning, of which "
            f"{len(quiet)} (below {upper_bound(len(quiet), max(unwarned, 1)):.2%}) are wrong by "
            f"{WRONG:g} errors{' ' + str([r['seed'] for r in quiet]) if quiet else ''}; "
            f"{np.median([r['evals'] for r in own]):,.0f} evaluations and "
            f"{np.median([r['cpu'] for r in own]):.1f} CPU s at the median"
        )
        rows = [row(what, v) for what, v in (("log Z", z), ("shares of units", shares)) if len(v)]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=180)
    parser.add_argument("--seeds", help="comma separated, instead of --models")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    options = parser.parse_args()
    runs = Runs(options.out)
    if not options.report:
        seeds = range(options.models)
        seeds = [int(s) for s in options.seeds.split(",")] if options.seeds else seeds
        done = {r["seed"] for r in runs}
        for seed in seeds:
            if seed not in done:
                runs.keep(judge(seed))
    print(report(runs))


if __name__ == "__main__":
    main()
