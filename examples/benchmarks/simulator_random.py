"""Random simulators: smooth functions of a few parameters, with two to four explanations."""

from __future__ import annotations

from functools import partial

import numpy as np
from simulator_models import Simulator

# Square root of 12 over that of 2: a uniform parameter has the spread 1 in these units, nearly.
UNIFORM_UNIT = 3.46


def random_simulator(seed: int) -> Simulator:
    """Draw a simulator of 2-6 parameters and 2-12 outputs, with readings at a prior draw.

    One or two coordinates are folded (their square is what outputs depend on, but for a small
    part), or one is folded three times (a cubic). Other parts are sines, bumps and quadratics of
    random directions.
    """
    rng = np.random.default_rng([seed, 11])
    kind = ("square", "cubic", "two squares")[rng.integers(3)]
    d = int(rng.integers(2, 7))
    m = int(rng.integers(max(2, d - 1), 13))
    unknown_noise = bool(rng.random() < 0.3)
    uniform = np.zeros(d + unknown_noise, dtype=bool)
    uniform[:d] = rng.random() < 0.4
    folded = 2 if kind == "two squares" else 1
    maps = rng.standard_normal((d, m)) * rng.uniform(0.5, 1.5, (d, 1))
    turns = rng.standard_normal((3, d)) / np.sqrt(d)
    shifts, kinds = rng.normal(0, 1, 3), rng.integers(3, size=3)
    extra = rng.standard_normal((3, m)) * rng.uniform(0.2, 0.8, (3, 1))
    tilt = rng.uniform(0.02, 0.2, folded) * rng.choice([-1, 1], folded)
    function = partial(_outputs, kind, maps, turns, shifts, kinds, extra, tilt, uniform[:d])
    sample = _prior(uniform[:d], 2000, rng)
    y = function(sample)
    noise = rng.uniform(0.1, 0.3) * y.std(axis=0)
    true = _prior(uniform[:d], 1, rng)
    scores = _scores(true, uniform[:d])
    low, high = (0.8, 1.5) if kind != "cubic" else (-0.8, 0.8)
    scores[0, :folded] = rng.uniform(low, high, folded) * rng.choice([-1, 1], folded)
    true = np.where(uniform[:d], scores / UNIFORM_UNIT + 0.5, scores)
    seen = function(true)[0] + noise * rng.standard_normal(m)
    return Simulator(
        f"random_{kind.replace(' ', '_')}",
        uniform,
        function,
        partial(_event, uniform[:d]),
        seen,
        noise,
        noise_sd=0.5 if unknown_noise else 0.0,
        cell_of=partial(_cells, kind, uniform[:d]),
    )


def _prior(uniform: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    d = len(uniform)
    return np.where(uniform, rng.random((n, d)), rng.standard_normal((n, d)))


def _scores(theta: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Parameters in units of their spread, shape (n, d)."""
    theta = theta[:, : len(uniform)]
    return np.where(uniform, UNIFORM_UNIT * (theta - 0.5), theta)


def _event(uniform: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return _scores(theta, uniform)[:, 0] > 0


def _cells(kind: str, uniform: np.ndarray, theta: np.ndarray) -> np.ndarray:
    z = _scores(theta, uniform)
    if kind == "cubic":
        return np.digitize(z[:, 0], [-0.6, 0.6])
    second = (z[:, 1] > 0) if kind == "two squares" else 0
    return (z[:, 0] > 0) + 2 * second


def _outputs(kind, maps, turns, shifts, kinds, extra, tilt, uniform, theta) -> np.ndarray:
    z = _scores(theta, uniform)
    features = z.copy()
    for i, small in enumerate(tilt):
        fold = z[:, i] ** 2 if kind != "cubic" else z[:, i] ** 3 - 1.1 * z[:, i]
        features[:, i] = fold + small * z[:, i]
    inner = features @ turns.T + shifts
    parts = [np.sin(1.5 * inner), np.exp(-(inner**2)), 0.3 * inner**2]
    return features @ maps + np.stack([parts[k][:, i] for i, k in enumerate(kinds)], 1) @ extra
