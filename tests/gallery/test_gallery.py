"""The targets are what they say: density, normalisation, exact draws and weights agree."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import join_nonshared_inputs
from pytensor.graph.replace import vectorize_graph
from scipy.stats import multivariate_t

from pymc_multimodal import gallery
from pymc_multimodal.gallery import TARGETS, GalleryTarget

# One small instance of each density is enough to compile.
COMPILED = {
    "gaussian_diagonal": partial(gallery.two_modes, 4, "hard"),
    "gaussian_full": partial(gallery.two_modes, 4, "medium", rotated=True),
    "rings": gallery.rings,
    "checkerboard": gallery.checkerboard,
    "torus": gallery.torus,
    "skew_normal_mixture": partial(gallery.skew_normal_mixture, 3),
    "two_bananas": partial(gallery.two_bananas, 4),
    "student_t_modes": partial(gallery.student_t_modes, 3),
    "phi4": partial(gallery.phi4, 6, 1e-3),
}
REAL = ("symmetric_mixture", "eight_schools_centered", "eight_schools_noncentered")
SYNTHETIC = tuple(name for name in TARGETS if name not in REAL)
# Whether proposals can be fitted without knowing the shape; the 2-D targets go on a grid instead.
HIGH_DIMENSIONAL = (
    "unimodal_gaussian_5",
    "two_modes_16",
    "two_modes_16_hard_rotated",
    "two_modes_64_hard",
    "many_modes_16",
    "gaussian_mixture_100d",
    "skew_normal_mixture_20",
    "two_bananas_10",
    "five_bananas",
    "student_t_modes_10",
    "student_t_concentric_10",
    "phi4_32",
    "phi4_32_field",
)
GRIDS = {
    "mixture_2d_well": (14.0, 0.1),
    "mixture_2d_weak": (12.0, 0.1),
    "mixture_2d_overlap": (10.0, 0.1),
    "forty_modes": (48.0, 0.4),
    "forty_modes_unequal": (48.0, 0.4),
    "rings": (6.2, 0.03),
    "checkerboard": (6.0, 0.03),
}


@cache
def target(name: str) -> GalleryTarget:
    return TARGETS[name]()


def initial_vector(model):
    point = model.initial_point()
    return np.concatenate([np.ravel(point[v.name]) for v in model.value_vars])


def batched(model):
    """Log density and gradient of many points, compiled as fast as possible."""
    [logp], q = join_nonshared_inputs(
        point=model.initial_point(),
        inputs=model.value_vars,
        outputs=[model.logp()],
        make_inputs_shared=False,
    )
    x = pt.matrix("points", shape=(None, len(initial_vector(model))))
    outputs = vectorize_graph([logp, pytensor.grad(logp, q)], {q: x})
    return pytensor.function([x], outputs, mode="FAST_COMPILE")


def assert_close_in_errors(values, expected, *, width=4.0):
    """Means of the columns of `values` agree with `expected` within their standard errors."""
    error = values.std(axis=0) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) <= width * error + 1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_fields_are_consistent(name):
    t = target(name)
    assert t.name == name
    assert t.note
    assert len(initial_vector(t.model)) == t.dim
    if t.weights is not None:
        assert np.isclose(t.weights.sum(), 1.0)
        assert np.all(np.diff(t.weights) <= 0.0)
        assert t.membership is not None
        assert np.allclose(t.membership(np.zeros((1, t.dim)) + 0.1).sum(axis=1), 1.0)


def test_every_constructor_is_in_targets():
    constructors = set(gallery.__all__) - {"TARGETS", "GalleryTarget"}
    named = {getattr(f, "func", f).__name__ for f in TARGETS.values()}
    assert named == constructors


@pytest.mark.parametrize("name", COMPILED)
def test_model_agrees_with_log_density_and_gradient(name):
    t = COMPILED[name]()
    rng = np.random.default_rng(1)
    wide = rng.normal(0.0, 3.0, (20, t.dim))
    x = np.concatenate([initial_vector(t.model)[None], wide, t.draws(20, rng)])
    logp, gradient = batched(t.model)(x)
    np.testing.assert_allclose(logp, t.log_density(x), rtol=1e-8, atol=1e-8)
    step = 1e-6 * np.eye(t.dim)
    slopes = [(t.log_density(x + h) - t.log_density(x - h)) / 2e-6 for h in step]
    largest = np.abs(gradient).max(axis=1, keepdims=True)
    # Absolute for the log densities' own rounding error, relative for the curvature.
    assert np.all(np.abs(gradient - np.stack(slopes, axis=1)) <= 1e-4 * (1.0 + largest))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_far_points_stay_finite(name):
    t = target(name)
    x = np.random.default_rng(2).normal(0.0, 1e3, (10, t.dim))
    assert np.all(np.isfinite(t.log_density(x)))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_draws_have_the_weights(name):
    t = target(name)
    x = t.draws(4_000, np.random.default_rng(3))
    assert x.shape == (4_000, t.dim)
    # With 64 components, one in a thousand of correct samplers would fail at 4 errors.
    assert_close_in_errors(t.membership(x), t.weights, width=4.5)
    first, second = (t.draws(50, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", GRIDS)
def test_normalised_on_a_grid(name):
    t = target(name)
    edge, step = GRIDS[name]
    axis = np.arange(-edge, edge, step)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    mass = np.exp(t.log_density(x)) * step**2
    assert np.isclose(np.log(mass.sum()), t.log_z, atol=1e-4)
    # Moments of the draws come from the same density.
    exact = t.draws(20_000, np.random.default_rng(4))
    moments = np.stack([np.ones(len(x)), x[:, 0], x[:, 1], x[:, 0] * x[:, 1], (x**2).sum(1)])
    values = np.stack(
        [exact[:, 0], exact[:, 1], exact[:, 0] * exact[:, 1], (exact**2).sum(1)], axis=1
    )
    assert_close_in_errors(values, (moments @ mass)[1:] / mass.sum())


def test_torus_is_normalised_over_one_period_and_periodic():
    t = target("torus")
    axis = np.linspace(-np.pi, np.pi, 200, endpoint=False)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(t.log_density(x))
    assert np.isclose(density.mean() * (2 * np.pi) ** 2, 1.0)
    np.testing.assert_allclose(t.log_density(x + 2 * np.pi), t.log_density(x), rtol=1e-9)
    exact = t.draws(20_000, np.random.default_rng(5))
    assert np.all((exact >= -np.pi) & (exact < np.pi))
    expected = (np.cos(x).T @ density) / density.sum()
    assert_close_in_errors(np.cos(exact), expected)


@pytest.mark.parametrize("name", HIGH_DIMENSIONAL)
def test_draws_and_density_satisfy_the_bounded_identity(name):
    """E_q[W / (W + 1)] = E_pi[1 / (W + 1)], with W = gamma / (Z q), for any covering q."""
    t = target(name)
    rng = np.random.default_rng(6)
    # No simple proposal fits thin bananas; more draws make up for that.
    n = 100_000 if name == "five_bananas" else 5_000
    fitting, exact = t.draws(5_000, rng), t.draws(n, rng)
    labels = t.membership(fitting).argmax(axis=1)
    # Heavier tails than the target's, but no heavier than the dimension bears.
    freedom = 4.0 if t.dim < 30 else 50.0
    parts = []
    for k in range(len(t.weights)):
        members = fitting[labels == k]
        spread = np.cov(members, rowvar=False) * (freedom - 2.0) / freedom
        parts.append(multivariate_t(members.mean(axis=0), spread, df=freedom))

    def log_q(x):
        joint = [np.log(w) + q.logpdf(x) for w, q in zip(t.weights, parts, strict=True)]
        return np.logaddexp.reduce(joint, axis=0)

    counts = rng.multinomial(n, t.weights)
    proposed = np.concatenate(
        [q.rvs(c, random_state=rng).reshape(c, t.dim) for q, c in zip(parts, counts, strict=True)]
    )
    with np.errstate(over="ignore"):
        at_q = 1.0 / (1.0 + np.exp(log_q(proposed) + t.log_z - t.log_density(proposed)))
        at_pi = 1.0 / (1.0 + np.exp(t.log_density(exact) - t.log_z - log_q(exact)))
    error = np.hypot(at_q.std(), at_pi.std()) / np.sqrt(n)
    assert error < 0.1 * at_pi.mean(), "the proposal is too poor for the test to see anything"
    assert abs(at_q.mean() - at_pi.mean()) < 4.0 * error


def test_phi4_transfer_operator_agrees_with_plain_quadrature():
    t = gallery.phi4(2, 2e-3)
    axis = 0.01 * np.arange(-200, 201)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    mass = np.exp(t.log_density(x)) * 0.01**2
    assert np.isclose(np.log(mass.sum()), t.log_z, atol=1e-9)
    share = mass @ (0.5 * (x[:, 1] < -1e-9) + 0.5 * (x[:, 1] < 1e-9)) / mass.sum()
    assert np.isclose(share, t.weights[0], atol=1e-6)


def test_phi4_is_symmetric_without_a_field():
    t = target("phi4_32")
    np.testing.assert_allclose(t.weights, 0.5, atol=1e-9)
    x = np.random.default_rng(7).normal(0.0, 1.0, (20, 32))
    np.testing.assert_allclose(t.log_density(-x), t.log_density(x))
    np.testing.assert_allclose(t.log_density(x[:, ::-1]), t.log_density(x))
    assert target("phi4_32_field").weights[0] > 0.6


def test_symmetric_mixture_does_not_order_its_labels():
    model = target("symmetric_mixture").model
    x = np.array([[-1.0, 2.0, 0.1, -0.2, 0.4]])
    swapped = np.array([[2.0, -1.0, -0.2, 0.1, -0.4]])
    logp, _ = batched(model)(np.concatenate([x, swapped]))
    assert np.isclose(*logp)
    assert target("symmetric_mixture").membership(x).argmax() == 0
    assert target("symmetric_mixture").membership(swapped).argmax() == 1


def test_eight_schools_forms_agree():
    """The forms differ by the Jacobian of theta = mu + tau eta, which is 8 log tau."""
    eta, mu, log_tau = np.linspace(-1.0, 1.0, 8), 2.0, 0.7
    theta = mu + np.exp(log_tau) * eta
    at_eta, at_theta = np.array([mu, log_tau, *eta]), np.array([mu, log_tau, *theta])
    [non_centred], _ = batched(target("eight_schools_noncentered").model)(at_eta[None])
    [centred], _ = batched(target("eight_schools_centered").model)(at_theta[None])
    assert np.isclose(non_centred, centred + 8 * log_tau)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(gallery.two_modes, 4, "soft"), "conditioning='soft'"),
        (partial(gallery.mixture_2d, "far"), "separation='far'"),
        (partial(gallery.two_bananas, 5), "dim=5"),
        (partial(gallery.five_bananas, 0.0), "ratio=0.0"),
        (partial(gallery.forty_modes, ratio=0.5), "ratio=0.5"),
        (partial(gallery.phi4, field=-1.0), "field=-1.0"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
