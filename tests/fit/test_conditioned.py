import numpy as np
import pytest
from hierarchy import Hierarchy

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.kernel import init, propose, step
from pymc_multimodal.target.target import Target


@pytest.fixture(scope="module")
def fitted():
    model = Hierarchy()
    density = model.density
    return model, density, fit_density(density, FitConfig(random_seed=3))


def test_a_regression_with_an_effect_of_two_signs_has_exact_weights(fitted):
    model, _, fit = fitted
    log_z, share = model.answer()
    assert "conditional" in {s.code for s in fit.statuses}
    assert fit.n_modes == 2
    positive = int(np.argmax(fit.modes.locations[:, 0]))
    assert fit.weights.weight_se[positive] < 0.012
    assert abs(fit.weights.weight[positive] - share) < 4 * fit.weights.weight_se[positive]
    assert fit.weights.total_se < 0.05
    assert abs(fit.weights.total - log_z) < 4 * fit.weights.total_se


def test_draws_have_the_marginal_density_of_the_hubs(fitted, rng):
    model, density, fit = fitted
    target, n, moves = Target(density), 64, 30
    state = init(target, fit.kernel, np.concatenate([x[:, 0] for x in fit.draws.x])[:n], rng)
    n, kept = len(state), []
    for i in range(moves):
        offered = propose(target, fit.kernel, n * fit.kernel.jumps, rng)
        state, _ = step(target, fit.kernel, state, offered, rng, i)
        kept.append(state.points.x[:, :3].copy())
    late = np.stack(kept[5:])
    # Chains are independent of one another: their means give the error.
    positive = (late[..., 0] > 0).mean(axis=0)
    _, share = model.answer()
    assert abs(positive.mean() - share) < 4 * positive.std() / np.sqrt(n)


def test_structure_false_does_without():
    model = Hierarchy(p=100, n=60)
    settings = FitConfig(random_seed=1, structure=False, max_evals=3000)
    fit = fit_density(model.density, settings)
    assert "conditional" not in {s.code for s in fit.statuses}


def test_such_a_fit_survives_a_file(fitted, tmp_path):
    _, density, fit = fitted
    fit.save(tmp_path / "hubs.fit")
    again = Fit.load(tmp_path / "hubs.fit")
    again.check_density(density)
    x = np.concatenate([draws.reshape(-1, density.dim)[:50] for draws in fit.draws.x])
    np.testing.assert_array_equal(fit.label(x), again.label(x))
    proposed = [f.kernel.generator.propose(50, np.random.default_rng(4)) for f in (fit, again)]
    # Sums may be rounded otherwise where arrays lie elsewhere in memory.
    np.testing.assert_allclose(proposed[0].x, proposed[1].x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(proposed[0].minus_log_q, proposed[1].minus_log_q, rtol=1e-9)
