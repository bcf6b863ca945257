"""Fits of elliptical densities: exact where they can be, and better where draws show it."""

from __future__ import annotations

import numpy as np
from densities import Banana, StudentT, gaussian, z_scores

from pymc_multimodal.proposals.elliptical_fit import fit_gaussian, fit_mixture

LINE = np.full(2, np.inf)


def test_a_gaussian_is_fitted_exactly_from_few_draws(rng):
    d = 20
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    target = gaussian(np.ones(d), basis * np.geomspace(0.1, 10, d) @ basis.T)
    x, held_out = target.draws(60, rng), target.draws(200, rng)
    line, origin = np.full(d, np.inf), np.zeros(d)
    q = fit_gaussian(x, target(x)[1], held_out, line, origin)
    test = target.draws(2_000, rng)
    # Divergence in nats; the sample covariance alone has d^2 / (4 n) = 1.7 or more.
    assert np.mean(target.logp(test) - q.log_density(test)) < 0.05
    plain = fit_gaussian(x, None, held_out, line, origin)
    assert np.mean(target.logp(test) - plain.log_density(test)) > 1.0


def test_heavy_tails_are_fitted_by_a_student(rng):
    target = StudentT(3, 4.0)
    x = target.draws(4_000, rng)
    line = np.full(3, np.inf)
    q = fit_gaussian(x, target(x)[1], target.draws(1_000, rng), line, np.zeros(3))
    assert np.isfinite(q.df).all()
    test = target.draws(5_000, rng)
    assert np.mean(target.logp(test) - q.log_density(test)) < 0.05


def test_a_mixture_gains_on_a_banana(rng):
    target = Banana(2)
    x, held_out, test = (target.draws(n, rng) for n in (4_000, 1_000, 5_000))
    base = fit_gaussian(x, target(x)[1], held_out, LINE, np.zeros(2))
    q = fit_mixture(x, held_out, base, rng, 16)
    assert q.family == "mixture"
    gain = q.log_density(test) - base.log_density(test)
    assert z_scores(gain, 0.2) > 0, "a fifth of a nat"
    assert np.mean(target.logp(test) - q.log_density(test)) < 0.1
