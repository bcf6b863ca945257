"""All pictures of a set of posteriors with known modes, to be looked at.

The targets have 1, 2, 6, 40 and 300 modes in 1, 2 and 30 dimensions, symmetric images, units, and
generators that are diffusions. For each, the script fits, draws, and writes every picture that it
has into ``output/pictures``, with one line for each target: modes and evaluations. Run it with::

    python examples/pictures.py                    # all targets, some minutes
    python examples/pictures.py six_2d apart_30d   # some
    python examples/pictures.py --docs docs/images # the pictures of docs/pictures.rst
"""

import argparse
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pymc_multimodal as mm

OUTPUT = Path(__file__).parent / "output" / "pictures"
# Pictures, and what each is drawn from.
PICTURES = (
    "modes_idata", "weights_fit", "weights_idata", "corner_idata", "marginals_idata", "jumps_idata",
    "search_fit", "ratios_idata", "diffusion_fit",
)  # fmt: skip
# Targets and pictures of docs/pictures.rst.
DOCS = {
    "six_2d": ("weights_fit", "jumps_idata", "search_fit", "ratios_idata"),
    "apart_30d": ("corner_idata", "marginals_idata"),
    "many_2d": ("weights_idata",),
    "lrds_2d": ("diffusion_fit",),
}
DPI = 80


def peaks(centres: np.ndarray, weights: np.ndarray, sd: float) -> pm.Model:
    """Mixture of normals of one width, with centres of shape (K, d), under a wide normal prior."""
    d = centres.shape[1]
    spread = np.abs(centres).max() + 2.0
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, spread, shape=d)
        squared = ((x[None, :] - centres) ** 2).sum(axis=1) / sd**2
        log_weight = np.log(weights / weights.sum())
        prior = 0.5 * ((x / spread) ** 2).sum()
        pm.Potential("peaks", pt.logsumexp(log_weight - 0.5 * squared) + prior)
    return model


def lattice(n: int, gap: float = 4.0) -> np.ndarray:
    """Return n points of a square lattice."""
    side = int(np.ceil(np.sqrt(n)))
    points = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:n]
    return gap * (points - points.mean(axis=0))


def line(n: int, gap: float = 4.0) -> np.ndarray:
    """Return n points on a line."""
    return gap * (np.arange(n) - (n - 1) / 2)[:, None]


def apart_in_one(d: int = 30, i: int = 17) -> np.ndarray:
    """Return two points that differ in one coordinate alone."""
    centres = np.zeros((2, d))
    centres[:, i] = [-3.0, 3.0]
    return centres


def scattered(n: int = 6, d: int = 30) -> np.ndarray:
    """Return points that differ in some of the coordinates."""
    rng = np.random.default_rng(1)
    return 5.0 * rng.standard_normal((n, d)) * (rng.random(d) < 0.3)


def signs(tilted: bool = False) -> pm.Model:
    """Model of three signs that the data do not tell; with a variable of two unequal modes."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=3)
        if tilted:
            pm.NormalMixture("z", w=np.array([0.3, 0.7]), mu=np.array([-3.0, 3.0]), sigma=0.5)
        pm.Normal("y", x**2, 1.0, observed=np.full(3, 4.0))
    return model


def sensors(n: int = 12) -> pm.Model:
    """Model of values of which only the distance from a point is seen, with a shared mean."""
    seen = np.random.default_rng(1).uniform(0.3, 1.5, n)
    with pm.Model(coords={"sensor": [f"s{i}" for i in range(n)]}) as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        z = pm.Normal("z", mu, 1.0, dims="sensor")
        pm.Normal("y", pm.math.abs(z - 0.7), 0.1, observed=seen, dims="sensor")
    return model


FALLING = 4.0 ** -np.arange(6.0)
FOUR = np.array([0.4, 0.3, 0.2, 0.1])
TARGETS = {
    "one_1d": (lambda: peaks(line(1), np.ones(1), 0.5), {}),
    "two_1d": (lambda: peaks(line(2), np.array([0.3, 0.7]), 0.5), {}),
    "six_1d": (lambda: peaks(line(6), 2.0 ** -np.arange(6.0), 0.5), {}),
    "one_2d": (lambda: peaks(lattice(1), np.ones(1), 0.5), {}),
    "six_2d": (lambda: peaks(lattice(6), FALLING, 0.6), {}),
    "forty_2d": (lambda: peaks(lattice(40), 1.2 ** -np.arange(40.0), 0.5), {}),
    "many_2d": (lambda: peaks(lattice(300), 1.03 ** -np.arange(300.0), 0.4), {}),
    "apart_30d": (lambda: peaks(apart_in_one(), np.array([0.3, 0.7]), 1.0), {}),
    "six_30d": (lambda: peaks(scattered(), 3.0 ** -np.arange(6.0), 1.0), {}),
    "images_3d": (signs, {"structure": False}),
    "rows_of_images": (lambda: signs(tilted=True), {"structure": False}),
    "units": (sensors, {"structure": mm.Structure(units="sensor"), "first_answer": None}),
    "lrds_2d": (lambda: peaks(lattice(4), FOUR, 0.5), {"generator": "lrds"}),
    "score_2d": (lambda: peaks(lattice(4), FOUR, 0.5), {"generator": "score"}),
}


def draw(name: str, pictures: tuple[str, ...], folder: Path, prefix: str) -> str:
    """Fit a target, draw from it, and write its pictures; say what was found."""
    make, settings = TARGETS[name]
    model = make()
    # Chains in all regions, and the challenge, whose search is in the picture of the weights.
    settings = {"first_answer": False, **settings}
    fit = mm.fit(model, random_seed=1, quiet=True, **settings)
    idata = mm.sample(500, model=model, fit=fit, random_seed=2, quiet=True)
    drawn = 0
    for picture in pictures:
        kind, of = picture.split("_")
        try:
            figure = getattr(mm, f"plot_{kind}")(fit if of == "fit" else idata)
        except ValueError:
            continue  # a fit without a search of all coordinates, or without a diffusion
        figure.savefig(folder / f"{prefix}{name}_{picture}.png", dpi=DPI)
        drawn += 1
    return f"{name}: {fit.described}; {drawn} pictures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--docs", type=Path, help="write the pictures of the documentation there")
    given = parser.parse_args()
    if unknown := sorted(set(given.targets) - set(TARGETS)):
        parser.error(f"there is no target {unknown}; there are {', '.join(TARGETS)}")
    if given.docs is not None:
        for name, pictures in DOCS.items():
            print(draw(name, pictures, given.docs, "pictures_"), flush=True)
        return
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in given.targets or TARGETS:
        print(draw(name, PICTURES, OUTPUT, ""), flush=True)


if __name__ == "__main__":
    main()
