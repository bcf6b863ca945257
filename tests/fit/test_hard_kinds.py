"""Shapes that took millions of evaluations: right, for a tenth of them."""

from itertools import product

import numpy as np
import pytest
from densities import Mixture, Target, WideNormal
from scipy.special import expit, i0e, logsumexp
from scipy.stats import multivariate_normal, norm

from pymc_multimodal.approximation import FirstAnswer
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.search import ModeSearch


class Arcs(Target):
    """Bent ridges round a circle: a product of densities of radius and angle, normalised."""

    dim, radius, thin, concentration = 2, 4.0, 0.03, 25.0

    def __init__(self, n=7):
        self.weights = np.random.default_rng(4).dirichlet(np.full(n, 2.0))
        self.centres = -np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n
        peak = np.log(2 * np.pi * i0e(self.concentration)) + self.concentration
        self.constants = np.log(self.weights) - peak

    def angular(self, angle):
        return self.constants + self.concentration * np.cos(angle[:, None] - self.centres)

    def __call__(self, x):
        r, angle = np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])
        logs = self.angular(angle)
        total = logsumexp(logs, axis=1)
        slope = np.exp(logs - total[:, None]) * np.sin(angle[:, None] - self.centres)
        slope = -self.concentration * slope.sum(axis=1)
        z = (r - self.radius) / self.thin
        out = x / r[:, None]
        along = np.stack([-out[:, 1], out[:, 0]], axis=1)
        logp = total - 0.5 * z**2 - np.log(self.thin * np.sqrt(2 * np.pi)) - np.log(r)
        return logp, (-z / self.thin - 1 / r)[:, None] * out + (slope / r)[:, None] * along


class SpikeAndSlab(Target):
    """Regression whose coefficients are near zero or not: up to 2^p modes, some very thin."""

    def __init__(self, p=4, n=40, spike=0.02, slab=1.5):
        rng = np.random.default_rng(3)
        common = 0.85 * rng.standard_normal((n, 1))
        self.design = common + np.sqrt(1 - 0.85**2) * rng.standard_normal((n, p))
        coefficients = np.zeros(p)
        coefficients[[0, 3]] = 0.8, -0.6
        self.y = self.design @ coefficients + rng.standard_normal(n)
        self.dim, self.sd, self.log_share = p, np.array([spike, slab]), np.log([0.7, 0.3])
        choices, logs = np.array(list(product([0, 1], repeat=p))), []
        for choice in choices:
            scaled = self.design * self.sd[choice]
            covariance = np.eye(n) + scaled @ scaled.T
            logs.append(multivariate_normal.logpdf(self.y, np.zeros(n), covariance))
        logs = np.array(logs) + self.log_share[choices].sum(axis=1)
        self.log_z = logsumexp(logs)
        self.of_slab = np.exp(logs - self.log_z) @ choices

    def parts(self, x):
        return self.log_share + norm.logpdf(x[..., None], 0.0, self.sd)

    def slab(self, x):
        """Probability that each coefficient is of the slab, given its value."""
        parts = self.parts(x)
        return np.exp(parts[..., 1] - logsumexp(parts, axis=-1))

    def __call__(self, x):
        residual = self.y - x @ self.design.T
        prior, slab = logsumexp(self.parts(x), axis=-1), self.slab(x)
        logp = norm.logpdf(residual).sum(axis=1) + prior.sum(axis=1)
        pull = slab / self.sd[1] ** 2 + (1 - slab) / self.sd[0] ** 2
        return logp, residual @ self.design - pull * x


class TwoFrequencies(Target):
    """Two sinusoids of unknown frequencies and amplitudes: some sixty modes, each twice.

    The frequencies are uniform, on the logit scale; given them the amplitudes are normal.
    """

    dim, low, width, sd, prior_sd = 4, 0.02, 0.48, 1.0, 2.0

    def __init__(self, n=24):
        rng = np.random.default_rng(11)
        self.t = np.sort(rng.uniform(0, 80, n))
        y = 1.6 * np.sin(2 * np.pi * 0.11 * self.t) + 1.2 * np.sin(2 * np.pi * 0.31 * self.t)
        self.y = y + self.sd * rng.standard_normal(n)
        m = 2400
        grid = self.low + self.width * (np.arange(m) + 0.5) / m
        waves = np.sin(2 * np.pi * grid[:, None] * self.t)
        projected, gram = waves @ self.y / self.sd**2, waves @ waves.T / self.sd**2
        own = np.diag(gram) + 1 / self.prior_sd**2
        determinant = own[:, None] * own - gram**2
        squares = projected[:, None] ** 2 * own + projected**2 * own[:, None]
        squares -= 2 * projected[:, None] * projected * gram
        logs = 0.5 * squares / determinant - 0.5 * np.log(determinant) - 2 * np.log(self.prior_sd)
        constant = norm.logpdf(self.y, 0.0, self.sd).sum() - 2 * np.log(m)
        self.log_z = float(logsumexp(logs)) + constant

    def __call__(self, x):
        share, a = expit(x[:, :2]), x[:, 2:]
        slope = self.width * share * (1 - share)
        phase = 2 * np.pi * (self.low + self.width * share)[:, :, None] * self.t
        waves = np.sin(phase)
        residual = (self.y - np.einsum("nk,nkt->nt", a, waves)) / self.sd
        logp = norm.logpdf(residual).sum(axis=1) - len(self.t) * np.log(self.sd)
        logp += norm.logpdf(a, 0.0, self.prior_sd).sum(axis=1)
        logp += (np.log(share) + np.log1p(-share)).sum(axis=1)
        rates = 2 * np.pi * self.t * np.cos(phase)
        by_share = a * slope * np.einsum("nkt,nt->nk", rates, residual) / self.sd + 1 - 2 * share
        by_amplitude = np.einsum("nkt,nt->nk", waves, residual) / self.sd - a / self.prior_sd**2
        return logp, np.concatenate([by_share, by_amplitude], axis=1)


def share(fit, event):
    """Mean of a function over the posterior, by regions."""
    means = np.array([event(fit.local_draws(k)).mean(axis=0) for k in range(fit.n_modes)])
    return np.tensordot(fit.weights.weight, means, 1)


@pytest.mark.parametrize(
    # Seven seconds for seven: fifty parts describe them.
    "n", [4, pytest.param(7, marks=pytest.mark.slow)],
)  # fmt: skip
def test_bent_ridges_round_a_circle(n):
    """Seven of them took two millions of evaluations before; 59,000 to 214,000 with five seeds."""
    target = Arcs(n)
    fit = fit_density(target.density(), FitConfig(modes=ModeSearch(screening=0)))
    assert "first_answer" in {s.code for s in fit.statuses if s.level == "info"}
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    assert fit.weights.total_se < 0.02
    angle = np.linspace(-np.pi, np.pi, 100_001)[:-1]
    above = np.exp(logsumexp(target.angular(angle), axis=1))[angle > 0].mean() * np.pi
    # Draws of the regions are some hundreds each.
    assert abs(share(fit, lambda x: x[:, 1] > 0) - above) < 0.03
    assert fit.n_logp_evals < 250_000


@pytest.mark.slow  # a whole fit with chains
def test_densities_of_the_chains_of_regions_end_a_fit():
    """Four samples are too few for a mixture over the modes; chains then show their shape.

    Four are sometimes too few for densities of the regions as well: that fit goes on to the bridge,
    and may end so when the challenge has made it begin again.
    """
    target, z, ended = Arcs(), [], 0
    for seed in range(3):
        few = FirstAnswer(rounds=4)
        fit = fit_density(
            target.density(),
            FitConfig(modes=ModeSearch(screening=0), first_answer=few, random_seed=seed),
        )
        causes = [s.cause for s in fit.statuses if s.code == "first_answer"]
        assert fit.evals_by_step["chains"] + fit.evals_by_step["begin chains"] > 0
        assert fit.evals_by_step["approximate regions"] > 0
        assert causes or "bridge" in fit.evals_by_step
        ended += any("densities of the regions" in cause for cause in causes)
        z.append(fit.weights.total / fit.weights.total_se)
    assert ended >= 2
    assert max(np.abs(z)) < 4


@pytest.mark.slow  # hundreds of thousands of evaluations
def test_thin_ridges_along_the_tangents_of_a_circle():
    angle = 2 * np.pi * np.arange(24) / 24
    out = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    along = np.stack([-out[:, 1], out[:, 0]], axis=1)
    covariances = [1e-4 * np.outer(a, a) + 0.25 * np.outer(b, b)
                   for a, b in zip(out, along, strict=True)]  # fmt: skip
    weights = np.random.default_rng(2).dirichlet(np.full(24, 2.0))
    target = Mixture(4.0 * out, covariances, weights)
    fit = fit_density(target.density(), FitConfig())
    assert "first_answer" in {s.code for s in fit.statuses if s.level == "info"}
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
    assert fit.n_logp_evals - fit.n_screened < 400_000


@pytest.mark.slow  # a fit of sixteen thin modes
def test_spike_and_slab_regression():
    target = SpikeAndSlab()
    for seed in range(2):
        fit = fit_density(target.density(), FitConfig(random_seed=seed))
        assert "first_answer" in {s.code for s in fit.statuses if s.level == "info"}
        assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
        assert fit.weights.total_se < 0.02
        np.testing.assert_allclose(share(fit, target.slab), target.of_slab, atol=0.03)


@pytest.mark.slow  # hundreds of thousands of evaluations
def test_components_without_optima_of_their_own():
    """256 normal components, of which some ten have an optimum; a million did not suffice."""
    target = SpikeAndSlab(p=8)
    fit = fit_density(target.density(), FitConfig(max_evals=1_000_000))
    assert "first_answer" in {s.code for s in fit.statuses if s.level == "info"}
    assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
    assert fit.weights.total_se < 0.02
    np.testing.assert_allclose(share(fit, target.slab), target.of_slab, atol=0.03)


@pytest.mark.slow  # hundreds of thousands of evaluations
def test_two_frequencies():
    """At half a million of evaluations log Z was 0.23 off, and its error was not known."""
    target = TwoFrequencies()
    prior = WideNormal(4, sd=2.0)
    fit = fit_density(target.density(prior=prior), FitConfig(max_evals=600_000))
    assert "first_answer" in {s.code for s in fit.statuses if s.level == "info"}
    assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
    assert fit.weights.total_se < 0.03


@pytest.mark.slow  # hundreds of thousands of evaluations
def test_at_a_limit_a_good_sample_is_the_answer_and_not_chains_that_stayed():
    """By chains of which some had not moved log Z was 0.09 off; errors are not known."""
    target = TwoFrequencies()
    prior = WideNormal(4, sd=2.0)
    none = FirstAnswer(max_pareto_k=0.5, min_mode_ess=0.9)
    fit = fit_density(target.density(prior=prior), FitConfig(max_evals=300_000, first_answer=none))
    assert "budget" in {s.code for s in fit.statuses}
    assert abs(fit.weights.total - target.log_z) < 0.05
    assert np.isnan(fit.weights.total_se)
