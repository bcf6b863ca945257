"""Centred eight schools, whose density is unbounded, compared with NUTS on the non-centred form.

The optimiser runs away, which is reported. The model is sampled from short chains as one region.
The script prints means, standard deviations and quantiles of both. Run it with::

    python examples/benchmarks/eight_schools.py
"""

import argparse

import numpy as np
import pymc as pm

import pymc_multimodal as mm
from pymc_multimodal.gallery import eight_schools_centered, eight_schools_noncentered


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


if __name__ == "__main__":
    main()
