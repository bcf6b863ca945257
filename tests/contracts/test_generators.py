"""One contract for every generator and every regional density: q is what it says it is."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest
from densities import (
    VonMises,
    assert_covers,
    random_layer,
    two_modes,
    two_sample_z,
)

from pymc_multimodal import proposals as generators
from pymc_multimodal.fit.saving import read_fit, write_fit
from pymc_multimodal.proposals import (
    EllipticalMixture,
    FlowDensity,
    GaussianMixture,
    Generator,
    RegionalMixture,
    RegionDensity,
)
from pymc_multimodal.proposals.elliptical import (
    defensive_mixture,
    student_t,
)
from pymc_multimodal.proposals.lrds import (
    AffineMap,
    Control,
    MixtureReference,
    PathGenerator,
    Potential,
    ReverseChain,
    SteppedReference,
    Windows,
    geometric,
    tweedie_steps,
)
from pymc_multimodal.proposals.published import PublishedGenerator, SupervisedMap
from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
from pymc_multimodal.proposals.score.langevin_paths import LangevinPath
from pymc_multimodal.proposals.score.path_proposals import ScoreProposals
from pymc_multimodal.proposals.score.score_function import LearnedScore, Perceptron

LINE = np.full(2, np.inf)
CIRCLE = np.array([2 * np.pi, np.inf])
PLANE = two_modes(distance=5.0, weights=(0.4, 0.6), log_z=0.0)
SEAM = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])


def elliptical(df=(np.inf,), period=LINE, centre=(0.0, 0.0), size=1.7):
    """A density with one component for each of `df`, placed near PLANE's modes."""
    j = len(df)
    means = np.linspace(-1.0, 1.0, j)[:, None] * PLANE.means[1] * (j > 1) + np.asarray(centre)
    scale = size * np.linalg.cholesky(np.array([[1.0, 0.4], [0.4, 1.0]]))
    shares = np.arange(1.0, j + 1) / np.arange(1.0, j + 1).sum()
    mixture = GaussianMixture(shares, means, np.stack([scale] * j))
    return EllipticalMixture(mixture, np.array(df), period, np.asarray(centre))


def affine(density):
    """The map of normal noise to a single Gaussian density."""
    zero, one = np.zeros(2), np.ones(2)
    layer = (density.scales[0], density.means[0])
    return SupervisedMap((layer,), zero, one, zero, one, density.period)


def circular(centre, df=(np.inf,)):
    return elliptical(df, CIRCLE, centre, size=1.2)


def flow(mean=(0.0, 0.0), scale=2.5, period=LINE, share=0.05, seed=2):
    """A transport of random weights, bounded where normal draws do not come."""
    rng = np.random.default_rng(seed)
    mean, x = np.asarray(mean), rng.standard_normal((2_000, 2))
    layers, z = [], x
    for order in ([0, 1], [1, 0]):
        layers.append(random_layer(2, rng, size=0.5, order=order).bounded(z))
        z = layers[-1].forward(z)[0]
    scale = scale * np.array([[1.0, 0.0], [0.3, 0.9]])
    defensive = student_t(mean + x @ scale.T, period, mean)
    return FlowDensity(mean, scale, tuple(layers), defensive, share)


def diffusion(target=PLANE, period=LINE, *, controlled=True, exact=True, steps=4):
    """A reverse diffusion from a wrong reference, with a random control and a good defence."""
    rng = np.random.default_rng(3)
    circle = np.isfinite(period[0])
    centres = np.array([[3.0, 0.0], [1.0, 0.0]]) if circle else PLANE.means
    coordinates = AffineMap(np.array([0.3, -0.2]), np.array([[1.5, 0.0], [0.4, 0.8]]))
    covariances = (0.3 if circle else 1.4) * np.array([[[1.0, 0.3], [0.3, 0.7]], 0.6 * np.eye(2)])
    mixture = GaussianMixture.from_covariances(
        np.array([0.5, 0.5]), coordinates.to_z(centres + 0.3), covariances
    )
    reference = MixtureReference(mixture, geometric(steps, 0.3, 3.0), np.array([0, 1]))
    maps = reference.control_maps()
    if not exact:
        reference = SteppedReference(reference, *tweedie_steps(reference.noising))
    control = Control(Potential.random(2, 2, 8, 3.0 / (1.0 + reference.noising.levels), rng), maps)
    make = circular if circle else elliptical
    parts = (make(centre=centres[0], df=(4.0,)), make(centre=centres[1]))
    defence = RegionalMixture(parts, np.array([0.6, 0.4]))
    chain = ReverseChain(
        reference, coordinates, Windows(centres, period), control if controlled else None
    )
    return PathGenerator(chain, defence, 0.2)


def paths(rate, step=0.2):
    """Langevin paths of a wrong score from a wrong start, with corrections that are right."""
    starts = (
        elliptical((5.0,), centre=PLANE.means[0]),
        elliptical(centre=PLANE.means[1], size=1.2),
    )
    frame = AffineCoordinates(np.array([0.3, -0.2]), np.array([[1.5, 0.0], [0.4, 0.8]]))
    mixture = GaussianMixture.from_covariances(
        PLANE.weights, PLANE.means + 0.3, 1.4 * PLANE.covariances
    )
    rng = np.random.default_rng(3)
    network = Perceptron(
        tuple(0.5 * rng.standard_normal(shape) for shape in ((6, 2), (6, 6), (2, 6))),
        tuple(0.1 * rng.standard_normal(size) for size in (6, 6, 2)),
    )
    score = LearnedScore(mixture.in_coordinates(frame.centre, frame.basis), network)
    factors = np.stack([np.linalg.cholesky([[1.0, 0.3], [0.3, 0.7]]), 0.6 * np.eye(2)])
    path = LangevinPath(score, frame, starts, factors, step, rate, 3)
    return ScoreProposals(starts, np.array([0.6, 0.4]), path, 0.1)


DENSITIES = {
    "gaussian": (lambda: elliptical(size=2.5), PLANE),
    "student": (lambda: elliptical((4.0,), size=2.5), PLANE),
    "mixture": (lambda: elliptical((np.inf, 5.0, np.inf)), PLANE),
    "defensive_mixture": (
        lambda: defensive_mixture(elliptical((np.inf, np.inf), size=0.8), 0.1, 4.0, width=1.2),
        PLANE,
    ),
    "flow": (flow, PLANE),
    "flow_window": (lambda: flow((2.8, 0.0), 1.2, CIRCLE), SEAM),
    "window": (lambda: circular((2.8, 0.0), (3.0,)), SEAM),
    "window_mixture": (lambda: circular((-2.5, 0.0), (np.inf, 4.0)), SEAM),
}
GENERATORS = {
    "regional": (
        lambda: RegionalMixture(
            (
                elliptical((5.0,), centre=PLANE.means[0]),
                elliptical(centre=PLANE.means[1], size=1.2),
            ),
            np.array([0.6, 0.4]),
        ),
        PLANE,
    ),
    "regional_circular": (
        lambda: RegionalMixture(
            (circular((3.0, 0.0), (4.0,)), circular((1.0, 0.0))), np.array([0.5, 0.5])
        ),
        SEAM,
    ),
    "published": (
        lambda: PublishedGenerator(
            (
                elliptical((5.0,), centre=PLANE.means[0]),
                elliptical(centre=PLANE.means[1], size=1.2),
            ),
            np.array([0.6, 0.4]),
            (None, affine(elliptical(centre=PLANE.means[1], size=1.2))),
        ),
        PLANE,
    ),
    "diffusion": (diffusion, PLANE),
    "diffusion_reference": (lambda: diffusion(controlled=False), PLANE),
    "diffusion_stepped": (lambda: diffusion(exact=False, steps=12), PLANE),
    "diffusion_circular": (lambda: diffusion(SEAM, CIRCLE), SEAM),
    "diffusion_reference_circular": (lambda: diffusion(SEAM, CIRCLE, controlled=False), SEAM),
    "score": (lambda: paths(rate=1.0), PLANE),
    "score_late": (lambda: paths(rate=50.0, step=0.05), PLANE),
    "score_start": (
        lambda: ScoreProposals((elliptical((5.0,), size=2.5),), np.ones(1), None),
        PLANE,
    ),
}


def classes_of(base):
    """Every class that serves a protocol, in any module of the generators."""
    found = set()
    for module in pkgutil.walk_packages(generators.__path__, generators.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__.startswith(generators.__name__):
                found.add(value)
    if base is Generator:
        return {c for c in found if issubclass(c, Generator)} - {Generator}
    verbs = ("sample", "log_density", "undefended")
    return {c for c in found if all(hasattr(c, v) for v in verbs)} - {RegionDensity}


def test_every_class_is_in_the_contract():
    assert {type(make()) for make, _ in GENERATORS.values()} == classes_of(Generator)
    assert {type(make()) for make, _ in DENSITIES.values()} == classes_of(RegionDensity)
    for make, _ in DENSITIES.values():
        assert isinstance(make(), RegionDensity)


@pytest.mark.parametrize("name", DENSITIES)
def test_density_and_draws_agree(name, rng):
    make, target = DENSITIES[name]
    q = make()
    assert_covers(target, q.sample, q.log_density, rng)


@pytest.mark.parametrize("name", GENERATORS)
def test_corrections_and_proposals_agree(name, rng):
    make, target = GENERATORS[name]
    q = make()

    def propose(n, rng):
        drawn = q.propose(n, rng)
        return drawn.x, -drawn.minus_log_q

    assert_covers(target, propose, lambda x: -q.minus_log_q(x, rng), rng)


@pytest.mark.parametrize("name", DENSITIES)
def test_density_integrates_to_its_window(name):
    """On a grid: one on the line; on the circle what `sample` keeps inside of the window."""
    q = DENSITIES[name][0]()
    circle = np.isfinite(q.period[0])
    first = np.linspace(-np.pi, np.pi, 400, endpoint=False) if circle else np.arange(-40, 40, 0.1)
    second = np.arange(-40, 40, 0.1)
    cell = (first[1] - first[0]) * 0.1
    x = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    mass = np.exp(q.log_density(x)).sum() * cell
    kept = np.isfinite(q.sample(20_000, np.random.default_rng(1))).all(axis=1)
    if not circle:
        assert kept.all()
        # A Student-t of 4 degrees of freedom leaves (40 / 2.5)^-4 outside of the grid.
        assert np.isclose(mass, 1.0, atol=1e-3)
    else:
        error = np.sqrt(kept.mean() * (1 - kept.mean()) / len(kept))
        assert abs(kept.mean() - mass) < 4 * error + 1e-3


@pytest.mark.parametrize("name", DENSITIES)
def test_rows_are_exchangeable(name, rng):
    """Regression: draws came sorted by component, so that row i told its component."""
    q = DENSITIES[name][0]()
    x = q.sample(20_000, rng)
    x = x[np.isfinite(x).all(axis=1)]
    halves = np.array_split(np.tanh(x / 3), 2)
    assert np.abs(two_sample_z(*halves)).max() < 4
    neighbours = np.sum((x[1:] > 0) == (x[:-1] > 0), axis=0)
    p = np.mean(x > 0, axis=0)
    same = p**2 + (1 - p) ** 2
    n = len(x) - 1
    # Agreements of neighbours are nearly independent: n p (1 - p) is their variance to 2 %.
    assert np.all(np.abs(neighbours - n * same) < 4 * np.sqrt(n * same * (1 - same)) + 4)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_contract(name, rng):
    make, _ = GENERATORS[name]
    q = make()
    assert q.dim == 2
    drawn = q.propose(5_000, rng)
    assert drawn.x.shape == (5_000, 2)
    assert drawn.minus_log_q.shape == (5_000,)
    inside = drawn.inside
    assert np.isfinite(drawn.minus_log_q[inside]).all()
    assert np.isneginf(drawn.minus_log_q[~inside]).all()
    if not q.auxiliary:
        again = q.minus_log_q(drawn.x[inside], rng)
        np.testing.assert_allclose(again, drawn.minus_log_q[inside])
    halves = np.array_split(np.tanh(drawn.x[inside] / 3), 2)
    assert np.abs(two_sample_z(*halves)).max() < 4
    assert np.isfinite(q.generate(1_000, rng)).all()
    for n in (0, 1):
        assert q.generate(n, rng).shape == (n, 2)
        assert q.propose(n, rng).x.shape == (n, 2)


def pickled(q, folder):
    return pickle.loads(pickle.dumps(q))


def saved(q, folder):
    write_fit(q, folder / "q.fit")
    return read_fit(folder / "q.fit")


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_survive_a_file(name, tmp_path):
    q = DENSITIES[name][0]()
    again = saved(q, tmp_path)
    x = q.sample(50, np.random.default_rng(5))
    np.testing.assert_array_equal(again.sample(50, np.random.default_rng(5)), x)
    x = x[np.isfinite(x).all(axis=1)]
    np.testing.assert_array_equal(again.log_density(x), q.log_density(x))


@pytest.mark.parametrize("copy", [pickled, saved])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_travel_to_other_processes_and_files(name, copy, rng, tmp_path):
    q = GENERATORS[name][0]()
    again = copy(q, tmp_path)
    np.testing.assert_array_equal(
        q.generate(50, np.random.default_rng(7)), again.generate(50, np.random.default_rng(7))
    )
    a = q.propose(50, np.random.default_rng(5))
    b = again.propose(50, np.random.default_rng(5))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.minus_log_q, b.minus_log_q)
    x = rng.standard_normal((20, 2))
    np.testing.assert_array_equal(
        q.minus_log_q(x, np.random.default_rng(6)),
        again.minus_log_q(x, np.random.default_rng(6)),
    )


@pytest.mark.parametrize("name", GENERATORS)
def test_generate_follows_the_proposals_inside(name, rng):
    q = GENERATORS[name][0]()
    if q.auxiliary or name.startswith("diffusion"):
        pytest.skip("what it generates and what it proposes are different on purpose")
    proposed = q.propose(20_000, rng)
    a, b = q.generate(20_000, rng), proposed.x[proposed.inside]
    bounded = [np.concatenate([np.cos(x), np.sin(x)], axis=1) for x in (a, b)]
    assert np.abs(two_sample_z(*bounded)).max() < 4.5
