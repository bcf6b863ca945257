"""The control of a diffusion sampler: where it places points and how far it shifts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from densities import SkewNormals, exact_local

from pymc_multimodal.proposals import LRDS
from pymc_multimodal.proposals.lrds.control_fit import _own_draws
from pymc_multimodal.proposals.lrds.lrds import ControlNetwork
from pymc_multimodal.proposals.lrds.noising import geometric
from pymc_multimodal.proposals.lrds.pool import Pool
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.torch_setup import seeded


def reference(rng, *, components=3, d=3, groups=None):
    roots = 0.5 * rng.standard_normal((components, d, d)) + np.eye(d)
    return MixtureReference(
        np.arange(1.0, components + 1),
        rng.standard_normal((components, d)),
        roots @ roots.swapaxes(1, 2),
        geometric(4, 0.2, 3.0),
        groups,
    )


def test_a_linear_potential_moves_a_gaussian_exactly(rng):
    """A Gaussian reference with the mean wrong: Doob's kernels are known in closed form."""
    model = reference(rng, components=1)
    covariance = (model.turns[0] * model.variances[0]) @ model.turns[0].T
    wrong_by, y = rng.standard_normal(3), rng.standard_normal((5, 3))
    for k in range(model.noising.steps):
        above, below = model.noising.levels[k + 1] ** 2, model.noising.levels[k] ** 2
        values, axes = np.linalg.eigh(covariance + above * np.eye(3))
        gradient = (axes / np.sqrt(values)) @ axes.T @ wrong_by  # in h
        gain = (covariance + below * np.eye(3)) @ np.linalg.inv(covariance + above * np.eye(3))
        kernel = model.kernel(k, y)
        root = (kernel.turns[0] * kernel.sd[0]) @ kernel.turns[0].T
        found = root @ (gradient @ model.control_maps()[k, 0])
        np.testing.assert_allclose(found, wrong_by - gain @ wrong_by, atol=1e-12)


def test_places_within_a_group_are_whitened_by_its_moments(rng):
    model = reference(rng, groups=np.zeros(3, dtype=int))
    y = model.sample(200_000, rng, model.noising.levels[2])
    h, share = model.features(2, y)
    assert (share == 1.0).all() or np.allclose(share, 1.0)
    assert np.abs(h.mean(axis=0)).max() < 4 / np.sqrt(len(y))
    np.testing.assert_allclose(np.cov(h.T), np.eye(3), atol=0.03)
    design = np.column_stack([y, np.ones(len(y))])
    np.testing.assert_allclose(design @ np.linalg.lstsq(design, h, rcond=None)[0], h, atol=1e-9)


def test_gradient_of_a_potential_with_gains(rng):
    torch = pytest.importorskip("torch")
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    start = Potential.random(3, 2, 8, np.array([1.0, 0.5]), rng)
    potential = replace(start, gain=rng.uniform(0.2, 2.0, (2, 8)))
    h, share = rng.standard_normal((6, 3)), rng.dirichlet(np.ones(2), size=6)
    value, gradient = potential(h, share, 1)
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        slope = (potential(h + step, share, 1)[0] - potential(h - step, share, 1)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, i], slope, atol=1e-7)
    net = PotentialNet(potential, torch.device("cpu"))
    tensors = [torch.as_tensor(a, dtype=torch.float32) for a in (h, share)]
    again = net(*tensors, torch.ones(6, dtype=torch.long)).detach().numpy()
    np.testing.assert_allclose(again, value, atol=1e-5)


def test_scores_of_energy_levels_agree_with_automatic_differentiation(rng):
    torch = pytest.importorskip("torch")
    from pymc_multimodal.proposals.lrds.energy_training import _Levels
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    model = reference(rng)
    net = PotentialNet(Potential.random(3, 1, 8, np.ones(5), rng), torch.device("cpu"))
    levels = _Levels(model, net, torch.device("cpu"))
    x = torch.as_tensor(rng.standard_normal((20, 3)), dtype=torch.float32, device="cpu")
    k = torch.arange(20) % 5
    value, gradient = levels.with_gradient(x, k)
    x.requires_grad_(True)
    expected = levels.log_density(x, k)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(value.numpy(), expected.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), slope.numpy(), atol=1e-4)


def test_gaussians_of_a_pool_have_the_regions_moments(rng):
    x = np.concatenate([rng.standard_normal((500, 2)), rng.standard_normal((300, 2)) + 6.0])
    region = np.repeat([0, 1], [500, 300])
    pool = Pool(x, np.zeros(800), np.repeat([0.7 / 500, 0.3 / 300], [500, 300]), region)
    found = pool.gaussians()
    np.testing.assert_allclose(found.weights, [0.7, 0.3])
    for k in range(2):
        mine = x[region == k]
        np.testing.assert_allclose(found.means[k], mine.mean(axis=0))
        covariance = found.factors[k] @ found.factors[k].T
        np.testing.assert_allclose(covariance, np.cov(mine.T), rtol=1e-6)


def skewed(rng, **network):
    target = SkewNormals(6)
    density = target.density(gradient=False)
    local = exact_local(target, lambda x: np.zeros(len(x), int), 1, rng, draws=400)
    density.logp(local.x[0].reshape(-1, 6))
    config = LRDS(components=1, network=ControlNetwork(worth_it=2.0, **network))
    fitted = config.regional.fit_regions(local, density.period, rng)
    return config.build(fitted, local, np.ones(1), rng, density)


def test_training_on_skewed_draws_raises_the_acceptance(rng):
    """One Gaussian as reference; skewness is what it has wrong."""
    pytest.importorskip("torch")
    generator = skewed(rng, regression_steps=300, steps=40, hidden=32, regression_batch=256)
    assert generator.training.kept
    assert generator.control is not None
    before, after = generator.training.acceptance
    assert after > before + 0.03


def test_ends_outside_of_all_windows_have_log_ratio_minus_infinity(rng):
    """On circles the chain may end where no copy is drawn from; that is no warning."""
    from test_generators import CIRCLE, SEAM, diffusion

    generator = diffusion(SEAM, CIRCLE)
    generator.centres = generator.centres[:1]
    known, log_ratio = _own_draws(generator, SEAM.density(gradient=False), 4000, rng)
    outside = ~np.isfinite(log_ratio)
    assert outside.any()
    assert (log_ratio[outside] == -np.inf).all()
    assert len(known.z) == (~outside).sum()


def test_training_does_not_depend_on_what_is_set_globally(rng):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.set_grad_enabled(False):
            with seeded(rng, torch.device("cpu")) as outside:
                x = torch.ones(2, requires_grad=True)
                assert x.dtype == torch.float32
                (x**2).sum().backward()
                # The user's own code finds everything as it left it, and changes nothing here.
                state = torch.get_rng_state()
                with outside():
                    assert torch.rand(1).dtype == torch.float64
                    assert not torch.is_grad_enabled()
                assert torch.equal(torch.get_rng_state(), state)
                assert torch.get_default_dtype() == torch.float32
                assert torch.is_grad_enabled()
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
