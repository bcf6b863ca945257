"""Energy-based references: what they learn, and the gradients that they learn by."""

from __future__ import annotations

import numpy as np
import torch
from densities import moments, two_sample_z

from pymc_multimodal.proposals import EnergyNetwork
from pymc_multimodal.proposals.lrds import (
    MixtureReference,
    Potential,
    SteppedReference,
    draw_paths,
    geometric,
    tweedie_steps,
)
from pymc_multimodal.proposals.lrds.control import log_path_density
from pymc_multimodal.proposals.lrds.energy import fit_energy
from pymc_multimodal.proposals.mixture import GaussianMixture, normalised
from pymc_multimodal.proposals.torch_setup import seeded


def test_an_energy_bends_a_gaussian(rng):
    """A ring from one Gaussian: held-out draws are likelier by far under the tilted levels."""
    angle = rng.uniform(0, 2 * np.pi, 4_000)
    radius = 1.5 + 0.1 * rng.standard_normal(4_000)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    noising = geometric(12, 0.05, 3.0)
    base = MixtureReference(GaussianMixture.single(np.zeros(2), np.eye(2)), noising)
    network = EnergyNetwork(hidden=32, steps=300, learning_rate=1e-2)
    reference = fit_energy(base, z[:3_000], network, rng)
    path = noising.forward(z[3_000:], rng)
    flat = SteppedReference(base, *tweedie_steps(noising))
    gain = log_path_density(reference, None, path) - log_path_density(flat, None, path)
    assert gain.mean() > 0.8
    drawn = draw_paths(reference, None, 4_000, rng)[0][0]
    found = np.linalg.norm(drawn, axis=1)
    assert abs(np.median(found) - 1.5) < 0.1
    assert np.mean(np.abs(found - 1.5) < 0.4) > 0.75


def test_scores_of_energy_levels_agree_with_automatic_differentiation(make_reference, rng):
    from pymc_multimodal.proposals.lrds.energy_training import TiltedLevels
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    cpu = torch.device("cpu")
    reference = make_reference(geometric(4, 0.2, 3.0), d=3)
    net = PotentialNet(Potential.random(3, 1, 8, np.ones(5), rng), cpu)
    levels = TiltedLevels(reference, net, cpu)
    x = torch.as_tensor(rng.standard_normal((20, 3)), dtype=torch.float32, device="cpu")
    k = torch.arange(20) % 5
    value, gradient = levels.with_gradient(x, k)
    x.requires_grad_(True)
    expected = levels.log_density(x, k)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(value.numpy(), expected.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), slope.numpy(), atol=1e-4)


def test_starts_of_energy_levels_are_those_of_the_noised_mixture(make_reference, rng):
    from pymc_multimodal.proposals.lrds.energy_training import TiltedLevels
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    cpu = torch.device("cpu")
    # Noise that is small beside the distances of the components.
    reference = make_reference(geometric(4, 0.1, 0.5), d=3)
    net = PotentialNet(Potential.random(3, 1, 8, np.ones(5), rng), cpu)
    with seeded(rng, cpu):
        x = TiltedLevels(reference, net, cpu).start(100_000).double().numpy()
    top = reference.at_level(4)
    exact = top.sample(100_000, rng)

    def share(x):
        return normalised(top.log_parts(x))

    for function in (moments, share):
        assert np.abs(two_sample_z(function(x), function(exact))).max() < 4


def test_an_energy_is_trained_without_a_look_at_the_device(make_reference, looks, rng):
    from pymc_multimodal.proposals.lrds.energy_training import train_energy

    reference = make_reference(geometric(3, 0.2, 3.0))
    z, initial = reference.sample(200, rng), Potential.random(2, 1, 8, np.ones(4), rng)
    counts = []
    for steps in (2, 10):
        looks.clear()
        settings = EnergyNetwork(hidden=8, steps=steps, batch=8, chains=8)
        with seeded(rng, torch.device("cpu")):
            train_energy(reference, z, initial, settings, rng, torch.device("cpu"))
        counts.append(len(looks))
    assert 0 < counts[0] == counts[1]
