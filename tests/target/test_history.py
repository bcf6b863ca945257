"""Evaluations of dear densities: none is made twice, and earlier ones are taken back."""

from __future__ import annotations

import numpy as np
import pytest
from simulators_numpy import Likelihood, parabola

from pymc_multimodal.status import LimitReached
from pymc_multimodal.target import Density, Evaluations, History, Limits


def kept(model, *, visible=True, **kwargs):
    density = model.density(**kwargs)
    density.keep_history()
    if visible:
        density.expose_outputs(model)
    return density


@pytest.mark.parametrize("visible", [True, False], ids=["outputs", "log density"])
def test_no_point_is_evaluated_twice(visible, rng):
    model = parabola()
    density, x = kept(model, visible=visible), rng.standard_normal((150, 2))
    x = x[np.concatenate([np.arange(150), np.arange(70)])]
    logp = density.logp(x)
    np.testing.assert_array_equal(logp, np.concatenate([logp[:150], logp[:70]]))
    np.testing.assert_allclose(logp, model.logp(x))
    assert model.calls == density.n_logp_evals == 150
    np.testing.assert_array_equal(density.values(x[::-1]), logp[::-1])
    # A batch of known and new points.
    new = rng.standard_normal((5, 2))
    density.logp(np.concatenate([x[:3], new, x[10:12]]))
    assert model.calls == density.n_logp_evals == 155
    assert len(model.points) == len(set(model.points))
    if visible:
        again, y = density.logp_and_outputs(x)
        np.testing.assert_array_equal(again, logp)
        np.testing.assert_array_equal(y, model.f(x))
        assert model.calls == 155
    assert len(density.history) == 155
    assert len(density.logp(np.empty((0, 2)))) == 0


def test_without_a_history_every_point_is_evaluated(rng):
    model = parabola()
    density, x = model.density(), rng.standard_normal((4, 2))
    for _ in range(2):
        density.logp(x)
    assert model.calls == 8
    assert density.history is None
    with pytest.raises(TypeError, match="without outputs"):
        density.logp_and_outputs(x)


def test_points_at_which_the_model_raises_or_gives_nan_are_known_too():
    calls = []

    def function(x):
        calls.extend(x[:, 0])
        if (x[:, 0] < -1).any():
            raise RuntimeError("diverged")
        return np.where(x[:, 0] > 1, np.nan, -(x[:, 0] ** 2)), None

    density = Density(function, 1, has_gradient=False)
    density.keep_history()
    x = np.array([[-2.0], [0.5], [2.0], [1.0]])
    expected = [-np.inf, -0.25, -np.inf, -1.0]
    np.testing.assert_array_equal(density.logp(x), expected)
    before = len(calls)
    np.testing.assert_array_equal(density.logp(x), expected)
    assert len(calls) == before
    assert density.tally.raised == 1


def test_outputs_that_are_nan_have_no_density(rng):
    def f(x):
        return np.where(x[:, :1] > 0, np.nan, x)

    model = Likelihood(f, 2, [0.0, 0.0], 1.0)
    density, x = kept(model), rng.standard_normal((20, 2))
    logp, y = density.logp_and_outputs(x)
    np.testing.assert_array_equal(np.isneginf(logp), x[:, 0] > 0)
    np.testing.assert_array_equal(np.isnan(y[:, 0]), x[:, 0] > 0)


def test_a_limit_leaves_what_was_evaluated(rng):
    model = parabola()
    density, x = kept(model), rng.standard_normal((200, 2))
    with density.within(Limits(last_evals=130)), pytest.raises(LimitReached):
        density.logp(x)
    assert model.calls <= 130
    known = len(density.history)
    assert known == 130
    density.logp(x)
    assert len(density.history) == 200


def test_gradients_are_kept(rng):
    calls = []

    def function(x):
        calls.append(len(x))
        return -0.5 * (x**2).sum(axis=1), -x

    density = Density(function, 3, has_gradient=True)
    density.keep_history()
    x = rng.standard_normal((10, 3))
    density.logp(x)
    _, grad = density.logp_and_grad(x)
    np.testing.assert_array_equal(grad, -x)
    assert sum(calls) == 10


def test_outputs_are_exposed_and_hidden(rng):
    model = parabola()
    density, x = model.density(), rng.standard_normal((9, 2))
    density.keep_history()
    function = density.function
    density.expose_outputs(model)
    logp, _ = density.logp_and_outputs(x)
    density.hide_outputs(function, has_gradient=False)
    assert density.outputs is None
    before = model.calls
    np.testing.assert_array_equal(density.logp(x), logp)
    assert model.calls == before
    np.testing.assert_allclose(density.logp(x + 1.0), model.logp(x + 1.0))
    # Gradients were not computed: with them, the points have to be evaluated again.
    density.hide_outputs(function, has_gradient=True)
    assert len(density.history) == 0


# ------------------------------------------------------------------ evaluations


def evaluations_of(model, rng, n=20):
    density = kept(model)
    density.logp(rng.standard_normal((n, model.dim)))
    return density.history.evaluations(density.names, outputs=True)


def test_all_evaluations_are_listed(rng):
    model = parabola()
    given = evaluations_of(model, rng)
    assert len(given) == 20
    assert given.names == ("x[0]", "x[1]")
    np.testing.assert_allclose(given.logp, model.logp(given.x))
    np.testing.assert_array_equal(given.outputs, model.f(given.x))
    assert repr(given) == "<Evaluations of 20 points with 2 outputs>"
    none = History(3).evaluations(["a", "b", "c"], outputs=True)
    assert (len(none), none.x.shape, none.outputs.shape) == (0, (0, 3), (0, 0))
    assert repr(none) == "<Evaluations of 0 points>"


def test_evaluations_that_are_recalled_are_not_made_again(rng):
    model = parabola()
    given = evaluations_of(model, rng)
    for visible in (True, False):
        again = parabola()
        density = kept(again, visible=visible)
        density.recall(given)
        # One point is looked at.
        assert again.calls == 1
        np.testing.assert_allclose(density.logp(given.x), given.logp, rtol=1e-12)
        assert again.calls == 1
        assert len(density.history) == 20
        density.recall(given)
        assert len(density.history) == 20
        assert again.calls == 1


def test_evaluations_of_another_model_are_refused(rng):
    given = evaluations_of(parabola(), rng)
    base = parabola()
    changed = Likelihood(base.f, 2, base.observed + 0.01, base.sd)
    with pytest.raises(ValueError, match="before the model or its data changed"):
        kept(changed).recall(given)
    with pytest.raises(ValueError, match="coordinates"):
        kept(parabola(), names=("a", "b")).recall(given)


def test_other_outputs_of_the_same_density_are_not_taken(rng):
    """The log density is the same, and its simulator's outputs are not: they are of no use."""
    base, given = parabola(), evaluations_of(parabola(), rng)
    halves = Likelihood(lambda x: 0.5 * base.f(x), 2, 0.5 * base.observed, 0.5 * base.sd)
    # Constants of the log density are those of the outputs themselves.
    constant = 2 * np.log(0.5)
    original = halves.log_density_and_grad

    def shifted(x, y):
        logp, *rest = original(x, y)
        return logp + constant, *rest

    halves.log_density_and_grad = shifted
    density = kept(halves)
    density.recall(given)
    _, y = density.logp_and_outputs(given.x)
    np.testing.assert_allclose(y, 0.5 * given.outputs)


def test_evaluations_without_outputs_are_of_no_use_where_outputs_are_seen(rng):
    model = parabola()
    density = kept(model, visible=False)
    density.logp(rng.standard_normal((6, 2)))
    given = density.history.evaluations(density.names, outputs=False)
    assert given.outputs.shape == (6, 0)
    other = kept(parabola())
    other.recall(given)
    assert len(other.history) == 0
    none = Evaluations(given.names, given.x[:0], given.logp[:0], given.outputs[:0])
    kept(parabola(), visible=False).recall(none)


def test_evaluations_in_a_file(tmp_path, rng):
    given, path = evaluations_of(parabola(), rng), tmp_path / "runs.npz"
    given.save(path)
    read = Evaluations.load(path)
    assert read.names == given.names
    for name in ("x", "logp", "outputs"):
        np.testing.assert_array_equal(getattr(read, name), getattr(given, name))
    # The name of the file is the one that was given.
    given.save(tmp_path / "runs.of.mine")
    assert len(Evaluations.load(str(tmp_path / "runs.of.mine"))) == 20


class Malicious:
    """An object whose unpickling would leave a trace."""

    ran = False

    def __reduce__(self):
        return setattr, (Malicious, "ran", True)


def test_files_that_hold_no_evaluations_are_refused_and_execute_nothing(tmp_path):
    path, bad = tmp_path / "file", np.array([Malicious()], dtype=object)

    def archive(**arrays):
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    def array():
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))

    x, unequal = np.zeros((2, 2)), np.zeros(3)
    for write in (
        lambda: path.write_bytes(b"no archive"),
        lambda: path.write_bytes(b""),
        lambda: archive(x=x),
        lambda: archive(names=bad, x=bad, logp=bad, outputs=bad),
        array,
        lambda: path.write_bytes(b"PK\x03\x04 damaged"),
        lambda: archive(names=np.array(["a"]), x=x, logp=unequal, outputs=np.zeros((2, 0))),
    ):
        write()
        with pytest.raises(ValueError, match="holds no evaluations"):
            Evaluations.load(path)
    assert not Malicious.ran
    with pytest.raises(OSError, match="No such file"):
        Evaluations.load(tmp_path / "missing.npz")
