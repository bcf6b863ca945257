"""Centred eight schools, whose density is unbounded, compared with NUTS on the non-centred form.

Every climb runs away; the fit is by units, the schools. The script prints means, standard
deviations and quantiles of both, and those of tau and the log evidence by a sum over a grid. Run
it with::

    python examples/benchmarks/eight_schools.py
"""

import argparse

import numpy as np
import pymc as pm
from scipy.special import logsumexp
from scipy.stats import halfcauchy, norm

import pymc_multimodal as mm
from pymc_multimodal.gallery import eight_schools_centered, eight_schools_noncentered

# Data of the model (Rubin 1981).
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def by_grid() -> tuple[float, float, np.ndarray]:
    """Return log evidence, mean and quantiles of tau by a sum over log tau and mu."""
    log_tau, mu = np.linspace(-12, 9, 2101), np.linspace(-40, 40, 801)
    tau = np.exp(log_tau)
    joint = norm.logpdf(mu, 0, 5) + (halfcauchy.logpdf(tau, 0, 5) + log_tau)[:, None]
    for y, sd in zip(EFFECTS, ERRORS, strict=True):
        joint += norm.logpdf(y, mu, np.hypot(tau, sd)[:, None])
    total = logsumexp(joint)
    weight = np.exp(joint - total).sum(axis=1)
    quantiles = np.exp(np.interp([0.05, 0.5, 0.95], np.cumsum(weight), log_tau))
    cell = (log_tau[1] - log_tau[0]) * (mu[1] - mu[0])
    return float(total + np.log(cell)), float(weight @ tau), quantiles


def main() -> None:
    """Sample both and print the comparison."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with eight_schools_noncentered().model:
        reference = pm.sample(
            4000, tune=2000, chains=4, cores=1, random_seed=1, target_accept=0.95, progressbar=False
        )
    centred = mm.sample(
        2000, model=eight_schools_centered().model, random_seed=1, progressbar=False
    )
    print(mm.mode_table(centred)[["status", "r_hat", "ess", "log_evidence"]])
    for name in ("mu", "tau"):
        for label, draws in (("NUTS, non-centred", reference), ("centred, here", centred)):
            x = draws.posterior[name].values
            low, middle, high = np.quantile(x, [0.05, 0.5, 0.95])
            print(
                f"{name:4s} {label:18s} mean {x.mean():.2f} sd {x.std():.2f} "
                f"quantiles {low:.2f} {middle:.2f} {high:.2f}"
            )
    log_z, mean, (low, middle, high) = by_grid()
    print(f"tau  grid               mean {mean:.2f} quantiles {low:.2f} {middle:.2f} {high:.2f}")
    print(f"log evidence by the grid {log_z:.3f}")


if __name__ == "__main__":
    main()
