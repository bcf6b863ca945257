"""Diffusion sampling from a learned reference: noising, reverse kernels, control, exactness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import (
    Banana,
    HalfSpace,
    VonMises,
    assert_covers,
    exact_local,
    gaussian,
    two_modes,
    two_sample_z,
    z_scores,
)
from scipy.stats import multivariate_normal

from pymc_multimodal.fit.pipeline import fit_density
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.gallery import skew_normal_mixture
from pymc_multimodal.proposals import LRDS, ControlNetwork, Hybrid
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.elliptical import laplace
from pymc_multimodal.proposals.lrds.control import PathTerms, draw_paths, log_path_density
from pymc_multimodal.proposals.lrds.control_fit import path_ess
from pymc_multimodal.proposals.lrds.energy import EnergyNetwork, fit_energy
from pymc_multimodal.proposals.lrds.noising import geometric, pinned, variance_preserving
from pymc_multimodal.proposals.lrds.pool import Pool, polished, regional_components
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.reference import MixtureReference, log_kernel
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, exponential_steps

LINE = np.full(2, np.inf)
QUICK = ControlNetwork(hidden=16, regression_steps=50, steps=5, rounds=2, evaluations=3000)
NOISINGS = {
    "geometric": geometric(6, 0.2, 3.0),
    "variance-preserving": variance_preserving(6, scale=2.0),
    "pinned": pinned(6, 1.5),
}


def mixture(noising, d=2, groups=None):
    rng = np.random.default_rng(7)
    roots = np.stack([np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(3)])
    covariances = (roots * np.geomspace(0.05, 1.5, d)) @ roots.swapaxes(1, 2)
    means = rng.normal(0.0, 2.0, (3, d))
    return MixtureReference(np.array([0.5, 0.3, 0.2]), means, covariances, noising, groups)


# ------------------------------------------------------------------ noising


def test_levels_of_the_processes():
    """X_t = s(t) (X_0 + c(t) Z) of each process, from its own formulas."""
    t = np.linspace(0, 1, 7)
    alpha = 0.1 * t + 0.5 * 9.9 * t**2
    np.testing.assert_allclose(
        NOISINGS["variance-preserving"].levels ** 2, 4.0 * (np.exp(alpha) - 1.0)
    )
    t = np.arange(7) / 7
    bridge = 1.5**2 * t * (1 - t)
    np.testing.assert_allclose(NOISINGS["pinned"].levels ** 2, bridge / (1 - t) ** 2)


@pytest.mark.parametrize("name", NOISINGS)
def test_paths_have_the_density_that_is_said(name, rng):
    noising = NOISINGS[name]
    x = rng.standard_normal((4, 3))
    path = noising.forward(x, rng)
    np.testing.assert_array_equal(path[0], x)
    expected = sum(
        multivariate_normal(np.zeros(3), v * np.eye(3)).logpdf(path[k + 1] - path[k])
        for k, v in enumerate(noising.added)
    )
    np.testing.assert_allclose(noising.log_density(path), expected)
    last = noising.forward(np.zeros((20_000, 1)), rng)[-1] / noising.levels[-1]
    assert np.abs(z_scores(np.hstack([last, last**2]), [0, 1])).max() < 4


# ------------------------------------------------------------------ the mixture reference


@pytest.mark.parametrize("name", NOISINGS)
def test_reverse_kernels_are_those_of_bayes(name, rng):
    """p(x_k) F(x_{k+1} | x_k) = p(x_{k+1}) B(x_k | x_{k+1}) for every step: no discretisation."""
    noising = NOISINGS[name]
    reference = mixture(noising)
    path = noising.forward(3 * rng.standard_normal((50, 2)), rng)
    zero = np.zeros_like(path[0])
    for k in range(noising.steps):
        kernel = reference.kernel(k, path[k + 1])
        back = log_kernel(kernel.residuals(path[k]), kernel.constants, zero)
        square = np.sum((path[k + 1] - path[k]) ** 2, axis=1) / noising.added[k]
        step = -0.5 * (square + 2 * np.log(2 * np.pi * noising.added[k]))
        left = reference.log_level(k, path[k]) + step
        np.testing.assert_allclose(left, reference.log_level(k + 1, path[k + 1]) + back)


def test_an_uncontrolled_chain_ends_in_the_mixture(rng):
    """However few the steps: here three of them."""
    reference = mixture(geometric(3, 0.5, 4.0))
    path, log_q = draw_paths(reference, None, 20_000, rng)
    exact = reference.sample(20_000, rng)
    values = [np.concatenate([np.tanh(x), np.tanh(x) ** 2], axis=1) for x in (path[0], exact)]
    assert np.abs(two_sample_z(*values)).max() < 4
    noise = reference.noising.log_density(path)
    np.testing.assert_allclose(log_q - noise, reference.log_density(path[0]))
    np.testing.assert_allclose(log_path_density(reference, None, path), log_q)


def test_scores_and_densities_of_noised_mixtures(rng):
    reference = mixture(geometric(4, 0.5, 4.0))
    x = rng.standard_normal((20, 2))
    expected = np.log(
        sum(
            w * multivariate_normal(m, (u * v) @ u.T + 0.7**2 * np.eye(2)).pdf(x)
            for w, m, u, v in zip(
                [0.5, 0.3, 0.2], reference.means, reference.turns, reference.variances, strict=True
            )
        )
    )
    np.testing.assert_allclose(reference.log_density(x, 0.7), expected)
    numeric = [
        (reference.log_density(x + e, 0.7) - reference.log_density(x - e, 0.7)) / 2e-5
        for e in 1e-5 * np.eye(2)
    ]
    np.testing.assert_allclose(reference.score(x, 0.7), np.stack(numeric, axis=1), atol=1e-6)


def test_exponential_steps_are_those_of_the_variance_preserving_process(rng):
    """Against the formula in its own coordinates, where the signal is not divided out."""
    noising = variance_preserving(10)
    reference = SteppedReference(mixture(noising), *exponential_steps(noising))
    signal = 1 / np.sqrt(1 + noising.levels**2)
    y = rng.standard_normal((5, 2))
    for k in (0, 4, 9):
        lam = (signal[k] / signal[k + 1]) ** 2 - 1
        score = reference.mixture.score(y, noising.levels[k + 1]) / signal[k + 1]
        mean = np.sqrt(1 + lam) * signal[k + 1] * y + 2 * (np.sqrt(1 + lam) - 1) * score
        kernel = reference.kernel(k, y)
        np.testing.assert_allclose(signal[k] * kernel.middle[0], mean)
        np.testing.assert_allclose(signal[k] * kernel.sd, np.sqrt(lam) * np.ones((1, 2)))


# ------------------------------------------------------------------ potential and control


def potential(rng, groups=2, levels=4):
    return Potential.random(3, groups, 16, np.linspace(1.0, 0.5, levels), rng)


def test_gradient_of_a_potential(rng):
    psi = potential(rng)
    h, share = rng.standard_normal((6, 3)), rng.dirichlet([1, 1], 6)
    _, slope = psi(h, share, 2)
    numeric = [(psi(h + e, share, 2)[0] - psi(h - e, share, 2)[0]) / 2e-5 for e in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(slope, np.stack(numeric, axis=1), atol=1e-8)


def test_potentials_agree_in_numpy_and_torch(rng):
    torch = pytest.importorskip("torch")
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    psi = potential(rng)
    h, share = rng.standard_normal((6, 3)), rng.dirichlet([1, 1], 6)
    net = PotentialNet(psi, torch.device("cpu"))
    found = net(
        *(torch.as_tensor(a, dtype=torch.float32) for a in (h, share)),
        torch.full((6,), 2),
    )
    np.testing.assert_allclose(found.detach().numpy(), psi(h, share, 2)[0], atol=1e-5)
    again = net.result()
    np.testing.assert_allclose(again(h, share, 1)[1], psi(h, share, 1)[1], atol=1e-6)


def test_terms_of_paths_add_up_to_their_log_ratios(rng):
    """v(x_0) - sum of gains is log [gamma F / q], for an exact reference and for a stepped one."""
    noising = geometric(5, 0.3, 3.0)
    exact = mixture(noising)
    target = gaussian(np.zeros(2), np.eye(2))
    path = noising.forward(rng.standard_normal((30, 2)), rng)
    for reference in (exact, SteppedReference(exact, noising.added, np.sqrt(noising.added))):
        terms = PathTerms.of(reference, path)
        logs = terms.constants - 0.5 * np.sum(terms.residuals**2, axis=3)
        gain = np.logaddexp.reduce(logs, axis=2) - np.log(2 * np.pi) - terms.fixed
        value = target.logp(path[0]) - reference.log_level(0, path[0])
        direct = target.logp(path[0]) + noising.log_density(path)
        direct -= log_path_density(reference, None, path)
        np.testing.assert_allclose(value - gain.sum(axis=1), direct)
        if reference is exact:
            np.testing.assert_allclose(gain, 0.0, atol=1e-9)


# ------------------------------------------------------------------ learning


def learned(config, target, label, regions, rng, draws=100, density=True):
    local = exact_local(target, label, regions, rng, draws=draws)
    period = np.full(target.dim, np.inf) if target.period is None else np.asarray(target.period)
    fitted = config.regional.fit_regions(local, period, rng)
    weights = getattr(target, "weights", np.ones(1))
    counted = target.density(gradient=False) if density else None
    if counted is not None:
        counted.n_logp_evals = 10**6
    return local, config.build(fitted, local, weights, rng, counted)


def test_training_gains_on_a_banana(rng):
    """From one Gaussian: fresh draws of the target show it, and the log ratios stay exact."""
    target = Banana(2)
    config = LRDS(
        reference="gaussian", steps=6,
        network=ControlNetwork(
            hidden=32, regression_steps=800, steps=200, rounds=3, evaluations=20_000, worth_it=0.95
        ),
    )  # fmt: skip
    _, q = learned(config, target, lambda x: np.zeros(len(x), int), 1, rng, draws=200)
    training = q.training
    assert training.kept
    assert q.auxiliary
    assert training.evaluations <= 20_000
    x = target.draws(20_000, rng)

    def acceptance(generator):
        return expected_acceptance(generator.path_log_ratio(x, target.logp(x), rng))

    assert acceptance(q) > 1.15 * acceptance(q.controlled(None))

    def propose(n, rng):
        drawn = q.propose(n, rng)
        return drawn.x, -drawn.minus_log_q

    assert_covers(target, propose, lambda x: -q.minus_log_q(x, rng), rng)


@pytest.mark.parametrize("loss", ["stepwise", "log-variance", "kl"])
def test_every_loss_runs_and_keeps_only_what_is_better(loss, rng):
    target = Banana(2)
    config = LRDS(reference="gaussian", loss=loss, steps=3, network=replace(QUICK, worth_it=0.99))
    _, q = learned(config, target, lambda x: np.zeros(len(x), int), 1, rng)
    before, after = q.training.path_ess if q.training.kept else (0, 0)
    assert after >= before
    assert (q.control is not None) == q.training.kept
    assert 0 < len(q.training.loss) <= QUICK.steps
    if not q.training.kept:
        assert [s.code for s in q.fallbacks] == ["control"]


def test_the_same_seed_gives_the_same_control(rng):
    target = Banana(2)
    config = LRDS(reference="gaussian", steps=3, network=replace(QUICK, worth_it=0.99))
    made = []
    for _ in range(2):
        stream = np.random.default_rng(5)
        made.append(learned(config, target, lambda x: np.zeros(len(x), int), 1, stream)[1])
    np.testing.assert_array_equal(made[0].training.loss, made[1].training.loss)


def test_a_good_reference_is_left_alone(rng):
    target = two_modes(log_z=0.0)
    _, q = learned(LRDS(), target, HalfSpace().label, 2, rng)
    assert q.training is None
    assert q.fallbacks == ()
    assert not q.auxiliary
    x = q.generate(20_000, rng)
    share = np.mean(HalfSpace().label(x) == 0)
    assert abs(share - target.weights[0]) < 4 * np.sqrt(0.25 / 20_000) + 1e-3


def test_without_a_density_the_draws_serve(rng):
    target = Banana(2)
    config = LRDS(reference="gaussian", steps=3, network=replace(QUICK, worth_it=0.99))
    _, q = learned(config, target, lambda x: np.zeros(len(x), int), 1, rng, density=False)
    assert q.training.evaluations == 0
    assert np.isfinite(q.generate(100, rng)).all()


def test_regional_mixtures_make_the_reference(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    fitted = Hybrid(families=("gaussian", "mixture")).fit_regions(local, LINE, rng)
    parts = regional_components(fitted.densities, target.weights)
    x = target.draws(5_000, rng)
    assert np.mean(target.logp(x) - parts.log_density(x)) < 0.05
    student = replace_core(laplace(np.zeros(2), np.eye(2), LINE))
    layers = regional_components((student,), np.ones(1))
    assert len(layers.weights) == 4
    gap = student.log_density(x / 3) - layers.log_density(x / 3)
    assert np.abs(gap).max() < 1.0


def replace_core(defended):
    """The heavy-tailed part of a defended density, as a density of its own."""
    from pymc_multimodal.proposals.elliptical import EllipticalMixture

    return EllipticalMixture.single(defended.means[-1], defended.scales[-1], 4.0, LINE, np.zeros(2))


def test_an_energy_bends_a_gaussian(rng):
    """A ring from one Gaussian: held-out draws are likelier by far under the tilted levels."""
    angle = rng.uniform(0, 2 * np.pi, 4_000)
    radius = 1.5 + 0.1 * rng.standard_normal(4_000)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    noising = geometric(12, 0.05, 3.0)
    base = MixtureReference(np.ones(1), np.zeros((1, 2)), np.eye(2)[None], noising)
    reference = fit_energy(
        base, z[:3_000], EnergyNetwork(hidden=64, steps=500, learning_rate=1e-2), rng
    )
    path = noising.forward(z[3_000:], rng)
    flat = SteppedReference(base, noising.added, np.sqrt(noising.added))
    gain = log_path_density(reference, None, path) - log_path_density(flat, None, path)
    assert gain.mean() > 0.8
    drawn = draw_paths(reference, None, 4_000, rng)[0][0]
    found = np.linalg.norm(drawn, axis=1)
    assert abs(np.median(found) - 1.5) < 0.1
    assert np.mean(np.abs(found - 1.5) < 0.4) > 0.75


def test_a_torus_through_both_references(rng):
    target = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])
    energy = EnergyNetwork(hidden=16, steps=20, batch=8, chains=8)
    for reference in ("gmm", "ebm"):
        config = LRDS(reference=reference, train=False, energy=energy)
        _, q = learned(config, target, lambda x: (np.cos(x[:, 0] - 1.0) > 0.2) * 1, 2, rng)

        def propose(n, rng, q=q):
            drawn = q.propose(n, rng)
            return drawn.x, -drawn.minus_log_q

        assert_covers(target, propose, lambda x, q=q: -q.minus_log_q(x, rng), rng)


# ------------------------------------------------------------------ bad input


def test_a_reference_that_misses_a_mode_says_so(rng):
    """One component for two modes, one of which hardly counts; draws stay exact."""
    target = two_modes(distance=12.0, weights=(0.9995, 0.0005), log_z=0.0)
    _, q = learned(LRDS(components=1, train=False), target, HalfSpace().label, 2, rng)
    assert [(s.code, s.mode) for s in q.fallbacks] == [("reference", 1)]
    x = q.propose(20_000, rng).x
    assert np.any(HalfSpace().label(x) == 1), "the defence reaches it"


def test_degenerate_draws_do_not_break_the_reference(rng):
    """A coordinate that does not vary: covariances are singular."""
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    flat = tuple(np.concatenate([x, np.ones_like(x[..., :1])], axis=2) for x in local.x)
    centre = np.concatenate([local.centre, np.ones((2, 1))], axis=1)
    local = replace(local, x=flat, centre=centre, grad=tuple(x[..., :0] for x in local.x))
    config = LRDS(train=False)
    fitted = config.regional.fit_regions(local, np.full(3, np.inf), rng)
    q = config.build(fitted, local, target.weights, rng)
    x = q.generate(1_000, rng)
    np.testing.assert_allclose(x[:, 2], 1.0, atol=1e-2)
    assert np.isfinite(q.minus_log_q(x, rng)).all()


def test_ends_without_density_are_counted(rng):
    class Half(Banana):
        def __call__(self, x):
            logp, grad = super().__call__(x)
            return np.where(x[:, 0] > 0.4, logp, np.nan), grad

        def draws(self, n, rng):
            x = super().draws(4 * n, rng)
            return x[x[:, 0] > 0.4][:n]

    config = LRDS(
        reference="gaussian", steps=3, network=replace(QUICK, worth_it=0.99, steps=2)
    )  # fmt: skip
    _, q = learned(config, Half(2), lambda x: np.zeros(len(x), int), 1, rng)
    assert q.training.finite < 1.0
    assert np.isfinite(q.training.loss).all()


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"reference": "flow"}, ValueError, "reference='flow'"),
        ({"loss": "mse"}, ValueError, "loss='mse'"),
        ({"process": "cosine"}, ValueError, "process='cosine'"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"steps": 2.5}, TypeError, r"steps=2\.5"),
        ({"components": 0}, ValueError, "components=0"),
        ({"first": 3.0, "last": 1.0}, ValueError, r"first=3\.0, last=1\.0"),
        ({"share": 0.0}, ValueError, r"share=0\.0"),
        ({"network": 3}, TypeError, "network=3"),
        ({"regional": Hybrid()}, ValueError, "regional.*network"),
        ({"kernels": "exponential"}, ValueError, "kernels='exponential'.*variance-preserving"),
        ({"reference": "ebm", "kernels": "exponential", "process": "variance-preserving"},
         ValueError, "ebm"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(config, error, message):
    with pytest.raises(error, match=message):
        LRDS(**config)


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"learning_rate": -1.0}, {"device": ""}])
def test_wrong_network_settings_are_named(settings):
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        ControlNetwork(**settings)


# ------------------------------------------------------------------ in the pipeline


def test_models_without_gradients_never_meet_one(rng):
    """The whole pipeline, with LRDS by default, from densities alone."""
    target = two_modes(log_z=0.0)
    density = target.density(gradient=False)

    def forbidden(x):
        raise AssertionError("a gradient was asked for")

    density.logp_and_grad = forbidden
    fit = fit_density(density, FitConfig(random_seed=3))
    assert density.n_grad_evals == 0
    assert fit.config.generator_for(density) == LRDS()
    assert np.abs(z_scores_of(fit, target)).max() < 4


def z_scores_of(fit, target):
    order = np.argsort(-target.weights)
    return (fit.weights.weight - target.weights[order]) / fit.weights.weight_se


@pytest.mark.slow
def test_training_doubles_the_path_ess_of_skew_normals():
    target = skew_normal_mixture()

    class Simple:
        dim, weights, period = target.dim, target.weights, None

        def __call__(self, x):
            return target.log_density(x), np.zeros_like(x)

        def draws(self, n, rng):
            return target.draws(n, rng)

        def density(self, gradient):
            from pymc_multimodal.target.density import Density

            return Density(
                lambda x: (target.log_density(x), None), target.dim, has_gradient=gradient
            )

    rng = np.random.default_rng(0)
    label = lambda x: target.membership(x).argmax(axis=1)  # noqa: E731
    _, q = learned(LRDS(), Simple(), label, 3, rng, draws=250)
    assert q.training.kept

    def share(generator):
        _, x, log_own = generator.chain(40_000, rng)
        return path_ess(target.log_density(x) - log_own)

    assert share(q) > 1.6 * share(q.controlled(None))


def test_pool_holds_out_the_choosing_chains(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    parts = [Pool.of(local, target.weights, LINE, held) for held in (False, True)]
    assert sum(len(p.x) for p in parts) == 2 * 1600
    for p in parts:
        assert np.isclose(p.probability.sum(), 1.0)
        shares = [p.probability[p.region == k].sum() for k in range(2)]
        np.testing.assert_allclose(shares, target.weights)


def test_em_on_all_draws_mends_what_a_border_cut(rng):
    """Two modes so close that the border runs through both."""
    target = two_modes(distance=2.2, log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng, draws=400)
    fitted = Hybrid(families=("gaussian",)).fit_regions(local, LINE, rng)
    pool, held = (Pool.of(local, target.weights, LINE, h) for h in (False, True))
    before = regional_components(fitted.densities, target.weights)
    after = polished(before, pool, held, rng)
    x = target.draws(20_000, rng)
    gain = z_scores(after.log_density(x) - before.log_density(x), 0.01)
    assert gain > 3
    apart = two_modes(log_z=0.0)
    local = exact_local(apart, HalfSpace().label, 2, rng)
    fitted = Hybrid(families=("gaussian",)).fit_regions(local, LINE, rng)
    pool, held = (Pool.of(local, apart.weights, LINE, h) for h in (False, True))
    before = regional_components(fitted.densities, apart.weights)
    assert polished(before, pool, held, rng) is before
