"""How long was the cycle of the sun? Yearly sunspot numbers of an irregular century.

The model of the square root of the sunspot number is a sinusoid with its second harmonic,
plus noise that is correlated from year to year: eight unknowns. The posterior of the frequency
has several narrow modes of unequal weight. At one period the sinusoid fits. Another period lies
beside it, because the cycles around 1800 came late. At twice the period the harmonic fits; 22
years is indeed the period of the sun's magnetic field.

Given frequency and correlation the model is linear and conjugate, so the other six unknowns can
be integrated out analytically. A fine grid over these two then gives the weights of the modes,
the log evidence and a curve to compare with. The script needs statsmodels, which includes the
data. Run it with::

    python examples/frequency.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from scipy.special import gammaln, logsumexp
from scipy.stats import beta as beta_distribution
from statsmodels.datasets import sunspots

import pymc_multimodal as pmm

FIRST, LAST = 1750, 1849
LOWEST, HIGHEST = 0.03, 0.13  # cycles per year
TERMS = ["mean", "cos 1", "sin 1", "cos 2", "sin 2"]
SCALE = np.array([5.0, 1.0, 1.0, 1.0, 1.0])  # prior sd of each coefficient, in units of the noise
SHAPE, RATE = 2.0, 4.0  # inverse gamma prior of the noise variance
RHO = (2.0, 6.0)  # beta prior of the correlation
OUTPUT = Path(__file__).parent / "output"


def load() -> tuple[np.ndarray, np.ndarray]:
    """Years, counted from the middle of the record, and square roots of the sunspot numbers."""
    data = sunspots.load_pandas().data
    data = data[(data["YEAR"] >= FIRST) & (data["YEAR"] <= LAST)]
    year = data["YEAR"].to_numpy(float)
    return year - year.mean(), np.sqrt(data["SUNACTIVITY"].to_numpy(float))


def build_model(t: np.ndarray, y: np.ndarray) -> pm.Model:
    """Harmonic regression with correlated noise; all unknowns are sampled."""
    with pm.Model(coords={"term": TERMS, "year": np.arange(FIRST, LAST + 1)}) as model:
        frequency = pm.Uniform("frequency", LOWEST, HIGHEST)
        rho = pm.Beta("rho", *RHO)
        sigma = pm.math.sqrt(pm.InverseGamma("variance", SHAPE, RATE))
        coefficient = pm.Normal("coefficient", 0.0, sigma * SCALE, dims="term")
        angle = 2 * np.pi * frequency * t
        waves = [pm.math.cos(angle), pm.math.sin(angle)]
        waves += [pm.math.cos(2 * angle), pm.math.sin(2 * angle)]
        mean = coefficient[0] + sum(coefficient[i + 1] * wave for i, wave in enumerate(waves))
        expected = pm.math.concatenate([mean[:1], mean[1:] + rho * (y[:-1] - mean[:-1])])
        spread = pm.math.concatenate([(sigma / pm.math.sqrt(1 - rho**2))[None],
                                      sigma * np.ones(len(y) - 1)])  # fmt: skip
        pm.Normal("activity", expected, spread, observed=y, dims="year")
        pm.Deterministic("period", 1 / frequency)
    return model


class Marginal:
    """The posterior of frequency and rho on a grid, with all else integrated out analytically.

    y and the regressors X are whitened by rho. With coefficients N(0, v S^2) and variance
    v ~ InverseGamma(a, b), the evidence is that of the conjugate linear model, with
    ``A = X'X + S^-2``, ``m = A^-1 X'y`` and ``b_n = b + (y'y - y'X m) / 2``.
    """

    def __init__(self, t: np.ndarray, y: np.ndarray, n_frequency: int = 6000, n_rho: int = 60):
        node, weight = np.polynomial.legendre.leggauss(n_rho)
        self.rho, rho_weight = 0.5 * (node + 1), 0.5 * weight
        step = (HIGHEST - LOWEST) / n_frequency
        self.frequency = LOWEST + step * (np.arange(n_frequency) + 0.5)
        angle = 2 * np.pi * self.frequency[:, None] * t
        columns = [np.ones_like(angle), np.cos(angle), np.sin(angle)]
        columns += [np.cos(2 * angle), np.sin(2 * angle)]
        z = np.stack([*columns, np.broadcast_to(y, angle.shape)], axis=-1)
        # Moments of the whitened columns are quadratic in rho.
        late, early = z[:, 1:], z[:, :-1]
        m0 = np.einsum("fti,ftj->fij", z, z)
        m1 = np.einsum("fti,ftj->fij", late, early)
        m2 = np.einsum("fti,ftj->fij", early, early) - np.einsum("fi,fj->fij", z[:, 0], z[:, 0])
        r = self.rho[None, :, None, None]
        m = m0[:, None] - r * (m1 + np.swapaxes(m1, 1, 2))[:, None] + r**2 * m2[:, None]
        precision = m[..., :5, :5] + np.diag(SCALE**-2)
        self.mean = np.linalg.solve(precision, m[..., :5, 5:])[..., 0]
        fitted = np.einsum("...i,...i->...", m[..., :5, 5], self.mean)
        self.rate = RATE + 0.5 * (m[..., 5, 5] - fitted)
        self.shape = SHAPE + 0.5 * len(y)
        self.root = np.linalg.cholesky(np.linalg.inv(precision))
        log_likelihood = (
            -0.5 * len(y) * np.log(2 * np.pi)
            + 0.5 * np.log1p(-(self.rho**2))
            - np.log(SCALE).sum()
            - 0.5 * np.linalg.slogdet(precision)[1]
            + SHAPE * np.log(RATE)
            - gammaln(SHAPE)
            + gammaln(self.shape)
            - self.shape * np.log(self.rate)
        )
        prior = np.log(rho_weight) + beta_distribution.logpdf(self.rho, *RHO) - np.log(n_frequency)
        self.log_mass = log_likelihood + prior
        self.log_evidence = float(logsumexp(self.log_mass))

    def draws(self, rng: np.random.Generator, least: float = 1e-8) -> tuple:
        """One exact draw of the other unknowns at every node of sufficient mass.

        Returns all unknowns in the model's unconstrained space, shape (n, 8), and the masses of
        the nodes, shape (n,).
        """
        mass = np.exp(self.log_mass - self.log_evidence)
        i, j = np.nonzero(mass > least * mass.max())
        variance = self.rate[i, j] / rng.gamma(self.shape, size=len(i))
        noise = np.einsum("nij,nj->ni", self.root[i, j], rng.standard_normal((len(i), 5)))
        coefficient = self.mean[i, j] + np.sqrt(variance)[:, None] * noise
        within = (self.frequency[i] - LOWEST) / (HIGHEST - LOWEST)
        logit = [np.log(p) - np.log1p(-p) for p in (within, self.rho[j])]
        x = np.column_stack([*logit, np.log(variance), coefficient])
        return x, mass[i, j] / mass[i, j].sum()


def draw_picture(marginal: Marginal, fit, period: np.ndarray, shares: np.ndarray, path: Path):
    """Log posterior of the frequency with the modes, and their weights."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 5.6), height_ratios=(1.5, 1), layout="constrained"
    )
    log_density = logsumexp(marginal.log_mass, axis=1)
    log_density -= log_density.max()
    top.plot(marginal.frequency, log_density, color="0.35", lw=1)
    top.fill_between(marginal.frequency, -25, log_density, color="0.93")
    for k, p in enumerate(period):
        height = np.interp(1 / p, marginal.frequency, log_density)
        top.plot(1 / p, height, "o", color=f"C{k % 10}")
        top.annotate(
            f"{p:.1f} years\n{100 * fit.weights.weight[k]:.1f} %",
            (1 / p, height),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=f"C{k % 10}",
        )
    top.set(xlim=(LOWEST, HIGHEST), ylim=(-20, 5), xlabel="frequency (1/year)")
    top.set(ylabel="log posterior density")
    place = np.arange(fit.n_modes)
    bottom.bar(place, fit.weights.weight, width=0.6, color=[f"C{k % 10}" for k in place])
    bottom.errorbar(
        place - 0.12, fit.weights.weight, 1.96 * fit.weights.weight_se, fmt="none", color="black",
        capsize=4,
    )  # fmt: skip
    bottom.plot(place + 0.12, shares, "D", ms=5, mfc="white", mec="black", label="grid")
    bottom.set_xticks(place, [f"{p:.1f} years" for p in period])
    bottom.set(yscale="log", ylabel="weight ± 95 %")
    bottom.legend(frameon=False)
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    t, y = load()
    model = build_model(t, y)
    fit = pmm.fit(model, target_se=0.005, random_seed=1, progressbar=False)
    idata = pmm.sample(model=model, fit=fit, random_seed=2, progressbar=False)

    marginal = Marginal(t, y)
    x, mass = marginal.draws(np.random.default_rng(3))
    shares = np.bincount(fit.label(x), mass, minlength=fit.n_modes)

    pd.set_option("display.width", 140)
    table = pmm.mode_table(idata)
    period = table["period"].to_numpy()
    columns = ["period", "weight", "weight_se"]
    compared = table[columns].assign(
        grid=shares, log_evidence=table["log_evidence"], hits=table["hits"],
        r_hat=table["r_hat"], status=table["status"],
    )  # fmt: skip
    print(f"\nPeriods of the sunspots of {FIRST} to {LAST}, and what a grid gives\n")
    print(compared.round(4).to_string())
    print(
        f"\nlog evidence {fit.weights.total:.4f} ± {fit.weights.total_se:.4f}, by the grid "
        f"{marginal.log_evidence:.4f}; {fit.n_logp_evals} density evaluations, "
        f"{sum(fit.seconds.values()):.0f} s"
    )
    for status in fit.statuses:
        print(f"{status.level}: {status}")
    draw_picture(marginal, fit, period, shares, OUTPUT / "frequency.png")
    print("Picture: examples/output/frequency.png")


if __name__ == "__main__":
    main()
