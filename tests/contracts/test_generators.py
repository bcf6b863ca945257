"""One contract for every generator and every regional density: q is what it says it is."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest
from densities import (
    Banana,
    HalfSpace,
    StudentT,
    VonMises,
    assert_covers,
    exact_local,
    gaussian,
    random_layer,
    two_modes,
    two_sample_z,
    z_scores,
)
from scipy.stats import multivariate_normal, multivariate_t

from pymc_multimodal import proposals as generators
from pymc_multimodal.proposals import (
    LRDS,
    EllipticalMixture,
    FlowDensity,
    Generator,
    Hybrid,
    PublishedHybrid,
    RegionalMixture,
    RegionDensity,
    ScoreLangevin,
    resolve,
)
from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.proposals.elliptical import (
    fit_gaussian,
    fit_mixture,
    heavy_tailed,
    with_defence,
)
from pymc_multimodal.proposals.lrds.control import Control
from pymc_multimodal.proposals.lrds.noising import geometric
from pymc_multimodal.proposals.lrds.path_generator import Frame, PathGenerator
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, tweedie_steps
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.published.generator import PublishedGenerator, SupervisedMap
from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
from pymc_multimodal.proposals.score.langevin_paths import LangevinPath
from pymc_multimodal.proposals.score.path_proposals import ScoreProposals
from pymc_multimodal.proposals.score.score_function import LearnedScore, Perceptron

LINE = np.full(2, np.inf)
CIRCLE = np.array([2 * np.pi, np.inf])
PLANE = two_modes(distance=5.0, weights=(0.4, 0.6), log_z=0.0)
SEAM = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])


def elliptical(df=(np.inf,), period=LINE, centre=(0.0, 0.0), size=1.7, rung="gaussian"):
    """A density with one component for each of `df`, placed near PLANE's modes."""
    j = len(df)
    means = np.linspace(-1.0, 1.0, j)[:, None] * PLANE.means[1] * (j > 1) + np.asarray(centre)
    scale = size * np.linalg.cholesky(np.array([[1.0, 0.4], [0.4, 1.0]]))
    shares = np.arange(1.0, j + 1) / np.arange(1.0, j + 1).sum()
    return EllipticalMixture(
        means, np.stack([scale] * j), shares, np.array(df), period, np.asarray(centre), rung
    )


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
    defence = heavy_tailed(mean + x @ scale.T, period, mean, 4.0, widen=1.2)
    return FlowDensity(mean, scale, tuple(layers), defence, share)


def diffusion(target=PLANE, period=LINE, *, controlled=True, exact=True, steps=4):
    """A reverse diffusion from a wrong reference, with a random control and a good defence."""
    rng = np.random.default_rng(3)
    circle = np.isfinite(period[0])
    centres = np.array([[3.0, 0.0], [1.0, 0.0]]) if circle else PLANE.means
    frame = Frame(np.array([0.3, -0.2]), np.array([[1.5, 0.0], [0.4, 0.8]]))
    covariances = (0.3 if circle else 1.4) * np.array([[[1.0, 0.3], [0.3, 0.7]], 0.6 * np.eye(2)])
    reference = MixtureReference(
        np.array([0.5, 0.5]), frame.into(centres + 0.3), covariances, geometric(steps, 0.3, 3.0),
        np.array([0, 1]),
    )  # fmt: skip
    scale = reference.control_maps()
    if not exact:
        reference = SteppedReference(reference, *tweedie_steps(reference.noising))
    control = Control(Potential.random(2, 2, 8, 3.0 / (1.0 + reference.noising.levels), rng), scale)
    make = circular if circle else elliptical
    parts = (make(centre=centres[0], df=(4.0,)), make(centre=centres[1]))
    defence = RegionalMixture(parts, np.array([0.6, 0.4]))
    return PathGenerator(
        reference, control if controlled else None, frame, defence, 0.2, centres, period
    )


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
    "mixture": (lambda: elliptical((np.inf, 5.0, np.inf), rung="mixture"), PLANE),
    "with_defence": (
        lambda: with_defence(elliptical((np.inf, np.inf), size=0.8), 0.1, 4.0, widen=1.2),
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
    for module in pkgutil.iter_modules(generators.__path__, generators.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__.startswith(generators.__name__):
                found.add(value)
    if base is Generator:
        return {c for c in found if issubclass(c, Generator)} - {Generator}
    verbs = all if base is RegionDensity else any
    return {c for c in found if verbs(hasattr(c, v) for v in ("sample", "log_density", "core"))} - {
        RegionDensity
    }


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


@pytest.mark.parametrize("name", GENERATORS)
def test_exports_travel_to_other_processes(name, rng):
    q = GENERATORS[name][0]()
    again = pickle.loads(pickle.dumps(q))
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


@pytest.mark.parametrize("df", [np.inf, 3.0])
def test_one_component_is_scipys_density(df, rng):
    q = elliptical((df,), centre=(1.0, -2.0))
    covariance = q.scales[0] @ q.scales[0].T
    x = 10 * rng.standard_normal((50, 2))
    exact = (
        multivariate_normal(q.means[0], covariance).logpdf(x)
        if np.isinf(df)
        else multivariate_t(q.means[0], covariance, df=df).logpdf(x)
    )
    np.testing.assert_allclose(q.log_density(x), exact)


def test_a_circular_density_is_periodic(rng):
    q = circular((2.8, 0.0), (3.0, np.inf))
    x = rng.uniform(-3, 3, (50, 2))
    before = x.copy()
    np.testing.assert_allclose(q.log_density(x + np.array([2 * np.pi, 0.0])), q.log_density(x))
    np.testing.assert_array_equal(x, before)
    drawn = q.sample(1_000, rng)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    assert np.abs(drawn[:, 0]).max() <= np.pi


def test_the_defence_bounds_the_ratio(rng):
    """For targets whose tails are no heavier than its own, wherever one looks."""
    narrow = elliptical(size=0.3)
    q = with_defence(narrow, 0.05, 4.0, widen=1.2)
    assert np.isclose(q.weights.sum(), 1.0)
    direction = rng.standard_normal((20, 2))
    far = np.concatenate([r * direction for r in (1e1, 1e3, 1e6)])
    target = StudentT(2, 4.0)
    ratio = target.logp(far) - q.log_density(far)
    # Both fall like r^-6; the gap is log 0.05 and the scales' ratio: 0.36^-4 (t) at most 1e4.
    assert np.ptp(ratio) < 3
    assert ratio.max() < np.log(1 / 0.05) + 4 * np.log(1 / 0.2)
    assert (target.logp(far) - narrow.log_density(far)).max() > 1e6


def test_the_defence_has_the_mixtures_covariance(rng):
    base = elliptical((np.inf, np.inf, np.inf))
    q = with_defence(base, 0.5, 1e6, widen=1.0)
    x = base.sample(200_000, rng)
    scale = q.scales[-1]
    z = np.linalg.solve(scale, (x - q.means[-1]).T).T
    values = np.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], axis=1)
    assert np.abs(z_scores(values, [0, 0, 1, 1, 0])).max() < 4


def test_weights_of_a_mixture_have_a_floor():
    parts = (elliptical(), elliptical(), elliptical())
    q = RegionalMixture(parts, np.array([1.0, 0.0, np.nan]))
    assert np.isclose(q.weights.sum(), 1.0)
    assert np.all(q.weights > 1e-4)


# ------------------------------------------------------------------ fitting


def test_gaussian_rung_is_exact_on_a_gaussian_from_few_draws(rng):
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


def test_mixture_rung_gains_on_a_banana(rng):
    target = Banana(2)
    x, held_out, test = (target.draws(n, rng) for n in (4_000, 1_000, 5_000))
    base = fit_gaussian(x, target(x)[1], held_out, LINE, np.zeros(2))
    q = fit_mixture(x, held_out, base, rng, 16)
    assert q.rung == "mixture"
    gain = q.log_density(test) - base.log_density(test)
    assert z_scores(gain, 0.2) > 0, "a fifth of a nat"
    assert np.mean(target.logp(test) - q.log_density(test)) < 0.1


@pytest.mark.parametrize(
    ("target", "rung"), [(gaussian(np.zeros(3), np.eye(3)), "gaussian"), (Banana(3), "network")]
)
def test_hybrid_climbs_only_where_it_pays(target, rung, rng):
    local = exact_local(target, lambda x: np.zeros(len(x), int), 1, rng)
    line = np.full(3, np.inf)
    [q] = Hybrid().fit_regions(local, line, rng).densities
    assert q.rung == rung
    defence = q.defence if rung == "network" else q
    assert defence.df[-1] == Hybrid().defensive_df
    elliptical = Hybrid(rungs=("gaussian", "mixture"))
    [without] = elliptical.fit_regions(local, line, rng).densities
    assert without.rung == ("mixture" if rung == "network" else rung)
    [low] = Hybrid(rungs=("gaussian",)).fit_regions(local, line, rng).densities
    assert low.rung == "gaussian"


def test_hybrid_does_not_see_the_chains_of_the_bridge(rng):
    """Bridging on draws that the density was fitted to biases the evidence."""
    target = two_modes()
    halves = HalfSpace()
    local = exact_local(target, halves.label, 2, rng)
    other = exact_local(target, halves.label, 2, np.random.default_rng(99))
    bridge = split_chains(16)[2]
    for name in ("x", "logp", "grad"):
        for mine, theirs in zip(getattr(local, name), getattr(other, name), strict=True):
            theirs[: bridge.start] = mine[: bridge.start]
    a, b = (Hybrid().fit_regions(part, LINE, np.random.default_rng(3)) for part in (local, other))
    x = target.draws(50, rng)
    for one, two in zip(a.densities, b.densities, strict=True):
        np.testing.assert_array_equal(one.log_density(x), two.log_density(x))


def test_hybrid_covers_what_it_was_fitted_to(rng):
    target = two_modes(log_z=0.0)
    halves = HalfSpace()
    local = exact_local(target, halves.label, 2, rng)
    config = Hybrid()
    fitted = config.fit_regions(local, LINE, rng)
    q = config.build(fitted, local, target.weights, rng)
    assert_covers(target, lambda n, rng: q.propose(n, rng).x, lambda x: -q.minus_log_q(x, rng), rng)


@pytest.mark.parametrize("chains", range(8, 33))
def test_chains_are_split_without_overlap(chains):
    fit, choose, bridge = (set(range(chains)[part]) for part in split_chains(chains))
    assert len(fit) + len(choose) + len(bridge) == chains
    assert fit | choose | bridge == set(range(chains))
    assert min(len(fit), len(choose), len(bridge)) >= 1
    assert len(bridge) >= 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rungs": ("flow",)}, r"rungs=\('flow',\)"),
        ({"rungs": ()}, r"rungs=\(\)"),
        ({"defensive": 0.0}, r"defensive=0\.0"),
        ({"defensive": 1.0}, r"defensive=1\.0"),
    ],
)
def test_wrong_settings_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        Hybrid(**config)


def test_names_are_resolved():
    assert resolve("hybrid") == Hybrid()
    assert resolve("published") == PublishedHybrid()
    assert resolve("score") == ScoreLangevin()
    config = Hybrid(max_components=3)
    assert resolve(config) is config
    assert resolve("lrds") == LRDS()
    with pytest.raises(ValueError, match="generator='magic' is not known"):
        resolve("magic")
