"""One contract for all generators: draws by torch on a device are NumPy's but for rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import Banana, exact_local, random_layer
from learned_scores import some_network

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals import (
    LRDS,
    ControlNetwork,
    FlowDensity,
    GaussianMixture,
    Network,
    on_device,
)
from pymc_multimodal.proposals.elliptical import student_t
from pymc_multimodal.proposals.flow import FlowDraws, fit_flow
from pymc_multimodal.proposals.lrds import (
    AffineMap,
    Control,
    MixtureReference,
    Potential,
    ReverseChain,
    SteppedReference,
    Windows,
    geometric,
    tweedie_steps,
)
from pymc_multimodal.proposals.noted import noted_devices

pytest.importorskip("torch")

# Torch on the CPU, and NumPy.
TORCH, NUMPY = "cpu:0", "cpu"
SEEDS = range(4)


@pytest.fixture
def agree(monkeypatch):
    """Assert that draws of the same seed agree, and that torch made one of them."""
    monkeypatch.setattr(on_device, "DRAW_WORK", 0.0)

    def check(draw):
        made = {}
        for device in (TORCH, NUMPY):
            with noted_devices() as used:
                made[device] = draw(device, np.random.default_rng(11))
            assert used == {device} - {NUMPY}
        assert np.isfinite(made[NUMPY]).all()
        scale = made[NUMPY].std(axis=0).max()
        np.testing.assert_allclose(made[TORCH], made[NUMPY], rtol=1e-10, atol=1e-10 * scale)

    return check


def random_mixture(d, components, rng):
    factors = np.tril(0.4 * rng.standard_normal((components, d, d))) + np.eye(d)
    means = 3.0 * rng.standard_normal((components, d))
    return GaussianMixture(rng.dirichlet(np.ones(components)), means, factors)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hidden", [(8, 8), (5, 20), (3,), (2, 2, 2)])
def test_flows(seed, hidden, agree):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 9))
    x = rng.standard_normal((200, d))
    layers, z = [], x
    for _ in range(3):
        layers.append(random_layer(d, rng, hidden=hidden, size=0.5, idle=True).bounded(z))
        z = layers[-1].forward(z)[0]
    scale = np.tril(0.3 * rng.standard_normal((d, d))) + np.eye(d)
    defensive = student_t(x, np.full(d, np.inf), np.zeros(d))
    q = FlowDensity(x[0], scale, tuple(layers), defensive, 0.1)
    agree(lambda device, stream: replace(q, device=device).sample(500, stream))
    agree(lambda device, stream: replace(q, device=device).undefended.sample(500, stream))
    agree(lambda device, stream: replace(q, device=device).sample(1, stream))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["exact", "stepped", "tilted", "normal start", "no control"])
def test_diffusions(seed, kind, agree):
    """Paths in several passes, too, and on a circle."""
    rng = np.random.default_rng(seed)
    d, components = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    groups = np.arange(components) % int(rng.integers(1, components + 1))
    reference = MixtureReference(random_mixture(d, components, rng), geometric(5, 0.1, 3.0), groups)
    maps, levels = reference.control_maps(), reference.noising.levels
    control = Control(Potential.random(d, maps.shape[1], 8, 30.0 / (1.0 + levels), rng), maps)
    if kind != "exact":
        tilt = Potential.random(d, 1, 6, np.ones(len(levels)), rng) if kind == "tilted" else None
        reference = SteppedReference(
            reference,
            *tweedie_steps(reference.noising),
            tilt,
            start_sd=3.2 if kind == "normal start" else None,
        )
    period = np.where(np.arange(d) == 0, 7.0 if seed % 2 else np.inf, np.inf)
    coordinates = AffineMap(rng.standard_normal(d), np.eye(d))
    windows = Windows(np.zeros((1, d)), period)
    chain = ReverseChain(reference, coordinates, windows, None if kind == "no control" else control)
    for n in (0, 1, 700):
        agree(lambda device, stream, n=n: spread(replace(chain, device=device), n, stream))


def spread(chain, n, stream):
    """Ends of n paths, after two that give the scale."""
    ends = chain.draw_points(n, stream)
    return np.concatenate([ends, np.zeros((1, chain.dim)), np.ones((1, chain.dim))])


def test_diffusions_in_several_passes(agree, rng, monkeypatch):
    from pymc_multimodal.proposals.lrds import chain as paths

    monkeypatch.setattr(paths, "CHUNK_NUMBERS", 1)
    reference = MixtureReference(random_mixture(3, 2, rng), geometric(4, 0.1, 3.0))
    maps = reference.control_maps()
    control = Control(Potential.random(3, 1, 8, np.ones(5), rng), maps)
    windows = Windows(np.zeros((1, 3)), np.full(3, np.inf))
    chain = ReverseChain(reference, AffineMap(np.zeros(3), np.eye(3)), windows, control)
    agree(lambda device, stream: replace(chain, device=device).draw_points(300, stream))


@pytest.mark.parametrize("integrator", ["averaged", "euler"])
@pytest.mark.parametrize("network", [None, some_network(3, np.random.default_rng(2))])
def test_scores(integrator, network, agree, rng):
    x = random_mixture(3, 2, rng).sample(800, rng)
    config = ScoreLangevin(training_steps=0, integrator=integrator)
    made = ScoreLangevin.from_draws(x, config=config, random_seed=1)
    learned = replace(made.learned, network=network)

    def draw(device, stream):
        settings = replace(config, device=device)
        return replace(made, config=settings, learned=learned).generate(1_000, stream)

    agree(draw)


def test_a_score_that_is_given_stays_with_numpy(rng, monkeypatch):
    monkeypatch.setattr(on_device, "DRAW_WORK", 0.0)
    config = ScoreLangevin(objective="exact", device=TORCH, training_steps=0)
    x = rng.standard_normal((400, 2))
    with noted_devices() as used:
        made = ScoreLangevin.from_draws(x, config=config, score=lambda z: -z, random_seed=1)
        made.generate(50, rng)
    assert used == set()


def test_the_setting_of_the_network_goes_to_the_draws(rng):
    target = Banana(2)
    x, other = target.draws(200, rng), target.draws(100, rng)
    line = np.full(2, np.inf)
    defensive = student_t(x, line, np.zeros(2))
    network = Network(steps=5, hidden=(8,), device=TORCH)
    q = fit_flow(FlowDraws(x, None, other), defensive, 0.05, network, rng)
    assert (q.device, q.undefended.device) == (TORCH, TORCH)
    local = exact_local(target, lambda x: np.zeros(len(x), int), 1, rng, draws=50)
    for reference in ("gmm", "gaussian"):
        config = LRDS(reference=reference, network=ControlNetwork(device=TORCH), train=False)
        fitted = config.regional.fit_regions(local, line, rng)
        made = config.build(fitted, local, np.ones(1), rng)
        assert made.chain.device == TORCH
