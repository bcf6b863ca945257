"""Beyond log-concave components: rings, heavy tails, funnels, and every target of the gallery.

arXiv 2310.01762 proves its theorem for mixtures of log-concave components and asks how far beyond
them the method goes. Three ways to learn the score of 3,000 exact draws are compared on targets
whose modes are not log-concave: a Gaussian mixture and a network (`ScoreLangevin`), the mixture
alone (``training_steps=0``), and a network on a single Gaussian (``max_components=1``).
`ScoreLangevin` is then measured on every gallery target that has exact draws and no circular
coordinate.

*Score error* is squared and relative to the exact score, at fresh draws: 0 is exact, 1 no better
than none. *Distance* is the energy distance of generated draws to the exact law over that of as
many exact draws as were stored, in whitened coordinates: 1 is as good, 0 perfect. *Outer 1 %* and
*inner 1 %* are the shares of generated draws whose log density is below the first or above the 99th
percentile of exact draws': 0.01 is right. *Shares moved* is the total variation by which the run
moves the components' shares, *stop* the time in relaxation times of a Gaussian mode. Run it with::

    python examples/papers/score_shapes.py
    python examples/papers/score_shapes.py --quick
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import common
import numpy as np
from score_tools import OURS, STORED, STYLE, quiet, relative_error, total_variation, within

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model.build import density_of

MIXTURE, NETWORK = "mixture alone", "network on one Gaussian"
WAYS = {OURS: {}, MIXTURE: {"training_steps": 0}, NETWORK: {"max_components": 1}}


@dataclass(frozen=True)
class Shape:
    """A target that is not in the gallery: exact draws, log density with gradient, components."""

    draws: Callable
    logp_and_grad: Callable
    membership: Callable


def one(x: np.ndarray) -> np.ndarray:
    """Membership where there is one component."""
    return np.ones((len(x), 1))


def student_modes(df: float, dim: int = 2, distance: float = 20.0) -> Shape:
    """Two Student-t modes of unit scale, weights 0.7 and 0.3; of no finite variance if df <= 2."""
    weights, means = np.array([0.7, 0.3]), np.zeros((2, dim))
    means[:, 0] = -0.5 * distance, 0.5 * distance

    def parts(x):
        square = ((x[:, None] - means) ** 2).sum(axis=2)
        return np.log(weights) - 0.5 * (df + dim) * np.log1p(square / df), square

    def membership(x):
        logs = parts(x)[0]
        share = np.exp(logs - logs.max(axis=1, keepdims=True))
        return share / share.sum(axis=1, keepdims=True)

    def logp_and_grad(x):
        logs, square = parts(x)
        pull = -(df + dim) / (df + square)[..., None] * (x[:, None] - means)
        return np.logaddexp.reduce(logs, axis=1), np.einsum("nk,nki->ni", membership(x), pull)

    def draws(n, rng):
        heavy = np.sqrt(df / rng.chisquare(df, n))[:, None]
        return means[rng.choice(2, n, p=weights)] + heavy * rng.standard_normal((n, dim))

    return Shape(draws, logp_and_grad, membership)


def funnel(dim: int = 5, spread: float = 1.5) -> Shape:
    """Neal's funnel: v normal with deviation `spread`, the others normal with ``exp(v / 2)``."""

    def logp_and_grad(x):
        v, rest = x[:, 0], x[:, 1:]
        square, narrow = (rest**2).sum(axis=1), np.exp(-v)
        logp = -0.5 * ((v / spread) ** 2 + square * narrow + (dim - 1) * v)
        slope = -v / spread**2 + 0.5 * square * narrow - 0.5 * (dim - 1)
        return logp, np.column_stack([slope, -rest * narrow[:, None]])

    def draws(n, rng):
        x = rng.standard_normal((n, dim))
        x[:, 0] *= spread
        x[:, 1:] *= np.exp(0.5 * x[:, :1])
        return x

    return Shape(draws, logp_and_grad, one)


def from_gallery(name: str) -> Shape:
    target = TARGETS[name]()
    if target.draws is None:
        raise LookupError("no exact draws")
    density = density_of(target.model)
    if np.isfinite(density.period).any():
        raise LookupError("circular coordinates")
    return Shape(target.draws, density.logp_and_grad, target.membership or one)


SHAPES = {
    "rings": lambda: from_gallery("rings"),
    "funnel": funnel,
    "student-t, df = 2": lambda: student_modes(2.0),
    "student-t, df = 1": lambda: student_modes(1.0),
}


def measure(shape: Shape, settings: dict, seed: int, quick: bool) -> dict:
    rng = np.random.default_rng([seed, 4])
    m, n = (500, 1000) if quick else (3000, 4000)
    x, exact = shape.draws(m, rng), shape.draws(n, rng)
    config = ScoreLangevin(**settings)
    if quick:
        config = replace(config, training_steps=min(100, config.training_steps))
    began = time.monotonic()
    fitted = ScoreLangevin.from_draws(x, config=config, random_seed=seed)
    made = fitted.generate(n, rng)
    seconds = time.monotonic() - began
    logp, grad = shape.logp_and_grad(exact)
    low, high = np.quantile(logp, (0.01, 0.99))
    white = common.whitener(x)
    gap = within([white(made)], [white(x)], [white(exact)])
    at_made = shape.logp_and_grad(made)[0]
    shares = [shape.membership(part).mean(axis=0) for part in (made, x)]
    return {
        "dim": x.shape[1],
        "score": relative_error(fitted.score, exact, grad),
        "distance": gap["made"] / gap["stored"],
        "outer": float(np.mean(~(at_made >= low))),
        "inner": float(np.mean(at_made > high)),
        "moved": total_variation(*shares),
        "nearest": fitted.trial.at_stop(fitted.trial.nearest_ratio),
        "stop": fitted.trial.stop_time,
        "clusters": len(fitted.clusters),
        "components": len(fitted.mixture.weights),
        "network": getattr(fitted.learned, "network", None) is not None,
        "flagged": [s.code for s in fitted.statuses if s.level == "warning"],
        "seconds": seconds,
        "points": np.round(made[:1500, :2], 3),
        "stored": np.round(x[:1500, :2], 3),
    }


def row(r: dict) -> dict[str, str]:
    return {
        "d": r["dim"],
        "learned": f"{r['components']} parts" + (" + network" if r["network"] else ""),
        "score error": f"{r['score']:.3f}",
        "distance": f"{r['distance']:.2f}",
        "outer 1 %": f"{r['outer']:.3f}",
        "inner 1 %": f"{r['inner']:.3f}",
        "shares moved": f"{r['moved']:.4f}",
        "nearest": f"{r['nearest']:.2f}",
        "clusters": r["clusters"],
        "stop": f"{r['stop']:.2f}",
        "seconds": f"{r['seconds']:.0f}",
        "flagged": ", ".join(r["flagged"]),
    }


def draw(shapes: dict, stem: str) -> None:
    """Draw stored and generated draws of the first two coordinates."""
    names = list(dict.fromkeys(name for name, _ in shapes))
    figure, axes = common.figure(1 + len(WAYS), len(names), (3 * len(names), 10.5))
    for column, name in zip(axes.T, names, strict=True):
        stored = np.array(shapes[name, OURS]["stored"])
        low, high = np.quantile(stored, (0.005, 0.995), axis=0)
        edge = 0.15 * (high - low)
        for axis, way in zip(column, (STORED, *WAYS), strict=True):
            points = stored if way == STORED else np.array(shapes[name, way]["points"])
            colour = STYLE[STORED] if way == STORED else STYLE[OURS]
            axis.plot(*points.T, ".", ms=2, alpha=0.5, color=colour)
            axis.set(xlim=(low[0] - edge[0], high[0] + edge[0]))
            axis.set(ylim=(low[1] - edge[1], high[1] + edge[1]))
            axis.set_title(name if way == STORED else "", fontsize=10)
    for axis, way in zip(axes[:, 0], (STORED, *WAYS), strict=True):
        axis.set_ylabel(way)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    shapes = {}
    for name, make in list(SHAPES.items())[: 2 if options.quick else None]:
        for way, settings in WAYS.items():
            shapes[name, way] = records.get(
                f"{name}, {way}, seed {options.seed}",
                lambda m=make, s=settings: measure(m(), s, options.seed, options.quick),
            )
    found = {}
    for name in ("two_modes_8",) if options.quick else TARGETS:
        try:
            found[name] = records.get(
                f"gallery {name}, seed {options.seed}",
                lambda n=name: measure(from_gallery(n), {}, options.seed, options.quick),
            )
        except LookupError as error:
            print(f"left out: {name} ({error})")
    print(common.table([{"target": n, "way": w, **row(r)} for (n, w), r in shapes.items()]))
    print()
    print(common.table([{"target": name, **row(r)} for name, r in found.items()]))
    draw(shapes, options.stem)


if __name__ == "__main__":
    quiet()
    main()
