"""Problems of the comparison with other samplers: likelihoods, priors and truths agree."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
from scipy.stats import multivariate_normal, qmc, t

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "rivals"))

import physics_problems as physics
import tables
from field_problems import PROBLEMS
from growth import Lattice
from methods import METHODS
from unit_models import wells

from pymc_multimodal.gallery import student_t_modes

RIVALS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "rivals"
# One of each kind, in few dimensions: compiling takes the time.
KINDS = (
    "two_bananas_10", "student_t_modes_10", "rv_aliases", "slow_plume", "eggbox", "shells_2",
    "log_gammas_10", "many_wells_8", "product_t_50", "two_widths_4", "mueller_brown", "funnel_10",
    "phi4_8x8", "lennard_jones_13", "planar_robot",
)  # fmt: skip
# Problems whose evidence a mean over quasi-random draws of the prior gives, and their number.
BY_PRIOR = {
    "eggbox": 16, "shells_2": 16, "log_gammas_2": 16, "mueller_brown": 16, "forty_modes": 18,
    "slow_plume": 13,
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_model_has_the_likelihood(name, rng):
    problem = PROBLEMS[name]()
    model = problem.model()
    named = {v.name: v for v in model.unobserved_value_vars}
    logp = model.logp(vars=[*model.observed_RVs, *model.potentials])
    outputs = [logp, *(named[v].ravel() for v in problem.variables)]
    function = pm.compile(model.value_vars, outputs, mode="FAST_COMPILE")
    shapes = [v.shape for v in model.initial_point().values()]
    for _ in range(3):
        found, *theta = function(*(rng.standard_normal(s) for s in shapes))
        expected = problem.log_likelihood(np.concatenate(theta)[None])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_prior_covers_its_support(name, rng):
    problem = PROBLEMS[name]()
    assert problem.name == name
    theta = problem.from_unit(rng.random((50, problem.dim)))
    assert theta.shape == (50, problem.dim)
    assert np.isfinite(problem.log_likelihood(theta)).all()
    events = problem.events(theta)
    assert events.shape == (50, len(problem.truth))
    assert np.all((events >= 0) & (events <= 1))
    # The corners of the cube are no error either.
    corners = problem.from_unit(np.array([[0.0], [1.0]]) * np.ones(problem.dim))
    assert np.isfinite(corners).all()


@pytest.mark.parametrize(("name", "log2"), BY_PRIOR.items())
def test_evidence_and_shares_by_draws_of_the_prior(name, log2, rng):
    problem = PROBLEMS[name]()
    blocks = []
    for _ in range(4):
        u = qmc.Sobol(problem.dim, rng=rng).random_base2(log2 - 2)
        theta = problem.from_unit(u)
        logs = problem.log_likelihood(theta)
        w = np.exp(logs - problem.log_z)
        blocks.append([w.mean(), *(w @ problem.events(theta) / len(w))])
    blocks = np.array(blocks)
    mean, se = blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    assert np.all(se < 0.2)
    # The standard error of four blocks is itself known to a third.
    np.testing.assert_array_less(np.abs(mean - [1.0, *problem.truth]), 8 * se + 2e-3)


@pytest.mark.parametrize(
    ("name", "log_z"),
    # arXiv:0809.3437, tables 2 and 3, and arXiv:1304.7808, where mass outside of the cube is left.
    [("eggbox", 235.86), ("shells_2", -1.75), ("shells_10", -14.59), ("shells_30", -60.13),
     ("log_gammas_2", 0.0), ("log_gammas_10", 0.0), ("log_gammas_30", 0.0)],
)  # fmt: skip
def test_published_evidences(name, log_z):
    assert PROBLEMS[name]().log_z == pytest.approx(log_z, abs=0.006)


def test_many_wells_are_the_wells_of_the_unit_models():
    problem, known = PROBLEMS["many_wells_32"](), wells(16)
    # The normals of the wells have their constant, those of the problem have none.
    assert problem.log_z - 8 * np.log(2 * np.pi) == pytest.approx(known.log_evidence, abs=1e-6)
    np.testing.assert_allclose(problem.truth, known.upper, atol=1e-6)


def test_student_modes_are_those_of_the_gallery(rng):
    problem, target = PROBLEMS["student_t_modes_10"](), student_t_modes()
    x = target.draws(100, rng)
    np.testing.assert_allclose(problem.log_likelihood(x), target.log_density(x))
    np.testing.assert_allclose(problem.events(x), target.membership(x), atol=1e-12)


def inside(problem, x, half):
    """Check evidence and truth of a normalised density in a box by exact draws."""
    kept = x[np.abs(x).max(axis=1) < half]
    events, p = problem.events(kept), len(kept) / len(x)
    se = np.sqrt((1 - p) / p / len(x))
    volume = problem.dim * np.log(2 * half)
    assert np.log(p) - volume == pytest.approx(problem.log_z, abs=5 * se + 1e-9)
    error = events.std(axis=0) / np.sqrt(len(kept))
    np.testing.assert_array_less(np.abs(events.mean(axis=0) - problem.truth), 5 * error + 1e-9)


def test_the_funnel_in_a_box(rng):
    n = 200_000
    v = 3.0 * rng.standard_normal((n, 1))
    inside(PROBLEMS["funnel_10"](), np.hstack([v, np.exp(v / 2) * rng.standard_normal((n, 9))]), 30)


def test_the_products_of_student_densities_in_a_box(rng):
    n, means = 100_000, np.random.default_rng(42).uniform(-10, 10, (10, 50))
    x = means[rng.integers(10, size=n)] + t.rvs(2.0, size=(n, 50), random_state=rng)
    inside(PROBLEMS["product_t_50"](), x, 40)


@pytest.mark.parametrize(
    ("name", "means", "widths", "weights"),
    [("spike_in_slab_20", np.zeros((2, 20)), (0.01, 0.1), (0.6, 0.4)),
     ("two_widths_4", np.array([[-4.0, 0, 0, 0], [4, 0, 0, 0]]), (1.0, 0.1), (0.4, 0.6))],
)  # fmt: skip
def test_normals_of_two_widths(name, means, widths, weights, rng):
    problem = PROBLEMS[name]()
    dim = problem.dim
    kinds = list(zip(means, widths, weights, strict=True))
    x = np.concatenate([m + s * rng.standard_normal((50, dim)) for m, s, _ in kinds])
    expected = np.log(sum(w * multivariate_normal(m, s**2).pdf(x) for m, s, w in kinds))
    if name == "two_widths_4":
        expected = expected - multivariate_normal(np.zeros(dim), 25.0).logpdf(x)
    np.testing.assert_allclose(problem.log_likelihood(x), expected, rtol=1e-9)
    assert problem.log_z == pytest.approx(0.0, abs=1e-4)
    np.testing.assert_allclose(problem.truth, weights, atol=1e-4)


@pytest.mark.parametrize("side", [8, 16])
def test_the_phases_of_the_lattices(side, rng):
    share, log_z, se = physics.lattice_answer(side, 4_000, rng)
    problem = PROBLEMS[f"phi4_{side}x{side}"]()
    assert problem.truth[0] == pytest.approx(share, abs=5 * se)
    assert problem.log_z == pytest.approx(log_z, abs=0.05)


def test_the_lattice_is_that_of_the_growth_benchmark(rng):
    x = rng.standard_normal((5, 256))
    np.testing.assert_allclose(physics.lattice_density(16, x, np), Lattice()(x)[0])


def test_atoms_can_be_exchanged_and_the_cluster_has_its_energy():
    problem = PROBLEMS["lennard_jones_13"]()
    golden = (1 + np.sqrt(5)) / 2
    corners = [np.roll([0.0, a, b * golden], k) for k in range(3) for a in (1, -1) for b in (1, -1)]
    # The icosahedron with an atom at its centre: its least energy is 44.3268 (Hoare and Pal 1971).
    shapes = np.array([[np.zeros(3), *(r * c for c in np.array(corners))] for r in
                       np.linspace(0.45, 0.55, 2001)])  # fmt: skip
    x = shapes.reshape(len(shapes), -1)
    logs = problem.log_likelihood(x)
    assert logs.max() == pytest.approx(44.3268, abs=1e-3)
    best = x[logs.argmax()][None]
    np.testing.assert_array_equal(problem.events(best)[0], np.eye(13)[0])
    other = np.roll(best.reshape(13, 3), 5, axis=0).reshape(1, -1)
    np.testing.assert_allclose(problem.log_likelihood(other), logs.max())
    np.testing.assert_array_equal(problem.events(other)[0], np.eye(13)[5])


def test_where_the_hand_of_the_arm_is(rng):
    found = np.exp([physics.arm_answer(15, rng) for _ in range(8)])
    mean, se = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(8)
    assert np.all(se < 0.03 * mean)
    np.testing.assert_array_less(np.abs(mean - np.exp(physics.ARM)), 5 * se)
    # The solution of two angles against plain draws of all: wider goals are reached by enough.
    x = rng.standard_normal((400_000, physics.LINKS))
    hand, radius = np.stack(physics.hand_of(x, np), axis=1), 0.3
    inside = ((hand[:, None] - physics.GOALS) ** 2).sum(axis=2) < radius**2
    counts = inside.sum(axis=0)
    wide = counts / len(x) / (np.pi * radius**2)
    # The density changes within the circle: a fifth is allowed, and the counts' error.
    relative = np.abs(wide / np.exp(physics.ARM) - 1.0)
    np.testing.assert_array_less(relative, 0.2 + 5 / np.sqrt(np.maximum(counts, 1)))


def test_methods_name_what_they_need():
    for method in METHODS.values():
        assert (RIVALS / f"{method.module}.py").exists()
        assert (RIVALS / "requirements" / f"{method.group}.txt").exists()
    assert "gradient" in METHODS["nutpie"].refusal(PROBLEMS["slow_plume"]())
    assert "10 dimensions" in METHODS["pyvbmc"].refusal(PROBLEMS["shells_30"]())


def test_tables_count_silent_losses_and_name_the_first():
    common = {"name": "eggbox", "log_z_error": 0.1, "log_z_se": 0.05, "cpu": 1.0, "limit": 60}
    runs = [
        {**common, "method": "pymc_multimodal", "seed": s, "error": 0.01, "evals": 1000, "lost": 0,
         "warnings": []} for s in range(2)
    ]  # fmt: skip
    runs.append({**common, "method": "nautilus", "seed": 0, "error": 0.001, "evals": 1000,
                 "lost": 1, "warnings": []})  # fmt: skip
    runs.append({"name": "eggbox", "method": "dynesty", "seed": 0, "limit": 60, "killed": "after"})
    text = tables.report(runs)
    rows = [line.split(",") for line in text.splitlines()]
    ours = next(r for r in rows if "pymc_multimodal" in r[1])
    assert ours[2].strip() == "2"
    assert "nautilus" in text
    assert "killed" in text
