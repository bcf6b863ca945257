"""Cost of exchangeable components: a mixture model fitted with and without its symmetry.

A Gaussian mixture of K components with 40 points each and with unknown means, scales and weights
(3 K - 1 coordinates, K! modes). It is fitted with symmetry, without symmetry, and with ordered
means, which leave one mode. The script prints evaluations, seconds (after compilation), log
evidence and the regions fitted. Run it with::

    python examples/benchmarks/symmetry.py 2 3 4 5
"""

import argparse
import time

import numpy as np
import pymc as pm

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.model.build import density_of


def mixture(k: int, ordered: bool = False) -> pm.Model:
    rng = np.random.default_rng(1)
    centres = 5.0 * (np.arange(k) - (k - 1) / 2)
    y = np.concatenate([rng.normal(c, 1.0, 40) for c in centres])
    with pm.Model() as model:
        order = {"transform": pm.distributions.transforms.ordered} if ordered else {}
        mu = pm.Normal("mu", 0.0, 10.0, shape=k, initval=centres, **order)
        sigma = pm.HalfNormal("sigma", 2.0, shape=k)
        w = pm.Dirichlet("w", np.full(k, 3.0))
        pm.NormalMixture("y", w=w, mu=mu, sigma=sigma, observed=y)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("components", type=int, nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=600.0)
    parser.add_argument("--kinds", nargs="+", default=["symmetry", "without", "ordered"])
    args = parser.parse_args()
    for k in args.components:
        for kind in args.kinds:
            density = density_of(mixture(k, ordered=kind == "ordered"))
            density.logp(np.zeros((2, density.dim)))
            config = FitConfig(
                symmetry=kind == "symmetry", random_seed=args.seed, max_seconds=args.max_seconds
            )
            began = time.monotonic()
            fit = fit_density(density, config)
            seconds = time.monotonic() - began
            fitted = fit.n_modes if fit.orbits is None else len(fit.orbits.modes)
            w = fit.weights
            print(
                f"K={k} {kind:9s} {fitted:4d} fitted regions, {fit.images.sum():4d} modes, "
                f"{fit.n_logp_evals:9,d} evaluations, {seconds:6.1f} s, "
                f"log evidence {w.total:9.3f} ± {w.total_se:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
