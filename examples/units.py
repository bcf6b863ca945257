"""Twenty sensors that each allow two values: a million modes, weighed sensor by sensor.

Each sensor reports only how far a rate is from 1.2, not on which side. The rates have a mean and a
spread in common, neither of which is known. There are up to 2^20 joint modes. Given mean and spread
the sensors are independent of one another, which the model's graph shows.

The script fits the model, prints the table of the sensors' explanations, compares the log evidence
and the probability that the mean is above 1.2 with a sum over a fine grid, and draws
``output/units.png``::

    python examples/units.py
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pymc as pm
from scipy import special, stats

import pymc_multimodal as mm

BORDER, NOISE = 1.2, 0.1
OUTPUT = Path(__file__).parent / "output"


def readings(n: int) -> np.ndarray:
    """Make the readings of n sensors, shape (n,)."""
    rng = np.random.default_rng(11)
    rates = rng.normal(1.0, 0.4, n)
    return np.abs(rates - BORDER) + NOISE * rng.standard_normal(n)


def build_model(seen: np.ndarray) -> pm.Model:
    """Model of the rates given the readings."""
    with pm.Model(coords={"sensor": np.arange(len(seen))}) as model:
        mean, spread = pm.Normal("mean", 0.0, 2.0), pm.HalfNormal("spread", 1.0)
        z = pm.Normal("z", 0.0, 1.0, dims="sensor")
        rate = pm.Deterministic("rate", mean + spread * z, dims="sensor")
        pm.Normal("seen", pm.math.abs(rate - BORDER), NOISE, observed=seen, dims="sensor")
    return model


def on_grid(seen: np.ndarray) -> tuple[float, float]:
    """Log evidence, and the probability that the mean is above the border, by a sum over a grid."""
    log_spread, mean = np.linspace(-6.0, 2.0, 401), np.linspace(-3.0, 5.0, 801)
    spread = np.exp(log_spread)[:, None]
    logp = stats.norm.logpdf(mean, 0.0, 2.0) + stats.halfnorm.logpdf(spread) + log_spread[:, None]
    variance = 1.0 / (1.0 / spread**2 + 1.0 / NOISE**2)
    for y in seen:
        # Both sides of the border: a normal density of the rate, cut off there.
        sides = []
        for middle in (mean - BORDER, BORDER - mean):
            centre = variance * (middle / spread**2 + y / NOISE**2)
            whole = stats.norm.logpdf(y, middle, np.sqrt(spread**2 + NOISE**2))
            sides.append(whole + stats.norm.logcdf(centre / np.sqrt(variance)))
        logp += np.logaddexp(*sides)
    log_z = float(special.logsumexp(logp))
    above = np.exp(logp - log_z).sum(axis=0)
    # The grid point at the border counts half.
    share = above[mean > BORDER + 1e-9].sum() + 0.5 * above[np.isclose(mean, BORDER)].sum()
    return log_z + np.log((log_spread[1] - log_spread[0]) * (mean[1] - mean[0])), float(share)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sensors", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    seen = readings(options.sensors)
    model = build_model(seen)
    fit = mm.fit(model, random_seed=options.seed, progressbar=False)
    idata = mm.sample(1000, model=model, fit=fit, random_seed=options.seed, progressbar=False)
    print(mm.mode_table(idata))
    log_evidence, above = on_grid(seen)
    share = float((idata.posterior["mean"] > BORDER).mean())
    print(f"\nLog evidence {fit.weights.total:.3f} ± {fit.weights.total_se:.3f}, by the grid "
          f"{log_evidence:.3f}")  # fmt: skip
    print(f"Mean above {BORDER}: {share:.3f} of the draws, by the grid {above:.3f}")
    OUTPUT.mkdir(exist_ok=True)
    mm.plot_modes(idata, ["rate"]).savefig(OUTPUT / "units.png", dpi=80)


if __name__ == "__main__":
    main()
