"""How a wrong reference shows, and what is left of its error (arXiv 2410.19449).

Two Gaussian modes in 8 dimensions, of weights 2/3 and 1/3 and standard deviation 0.22, and a
Gaussian reference that is made wrong on purpose: its means by normal noise of a given size in every
coordinate, its spread by a factor, or the weight of its heavy mode. The local draws are right.
*Error* is that of the heavy mode's weight in %: of draws of the chain as they come, of the same
draws weighted by their path ratios, and of corrected (Metropolis) draws. *ESS* is the effective
share of the proposals by these ratios, *acceptance* the expected one of jumps, as held-out local
draws tell it. The control is trained on at most 20,000 evaluations and used if it serves better;
*after* is with it.

The second table is what happens when the reference, or the whole search, misses a mode; the third
is one Gaussian for the whole as reference, which stands for samplers without a learned one.
Run it with::

    python examples/papers/lrds_reference.py
"""

from dataclasses import replace

import common
import common_lrds
import numpy as np

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import two_modes
from pymc_multimodal.proposals import LRDS, ControlNetwork
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.lrds import (
    MixtureReference,
    PathGenerator,
    ReverseChain,
    SplitDraws,
    fit_control,
    geometric,
    path_ess,
    variance_preserving,
)
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.search.settings import ModeSearch

DIM, SD, HEAVY = 8, np.sqrt(0.05), 2 / 3
MEANS = np.outer([-1.0, 1.0], np.ones(DIM))
# What is wrong, by how much, and the noising process.
CASES = (
    ("nothing", 0.0, "geometric"),
    ("means", 0.1, "geometric"),
    ("means", 0.25, "geometric"),
    ("means", 0.5, "geometric"),
    ("means", 1.0, "geometric"),
    ("spread", 0.5, "geometric"),
    ("spread", 0.75, "geometric"),
    ("spread", 1.5, "geometric"),
    ("spread", 2.0, "geometric"),
    ("weight", 0.1, "geometric"),
    ("weight", 0.5, "geometric"),
    ("weight", 0.9, "geometric"),
    ("weight", 0.1, "variance-preserving"),
)
DRAWS = 10_000


class Study:
    """One fit that is right, and generators with references that are not."""

    def __init__(self, quick: bool) -> None:
        self.target = two_modes(DIM)
        self.density = common_lrds.density_of(self.target)
        config = FitConfig(generator=LRDS(train=False), target_se=0.002, random_seed=1)
        self.fit = fit_density(self.density, config)
        self.draws = SplitDraws.from_regions(
            self.fit.draws, self.fit.weights.weight, self.density.period
        )
        steps = (200, 50) if quick else (600, 200)
        self.network = ControlNetwork(
            hidden=64, regression_steps=steps[0], steps=steps[1], evaluations=20_000
        )

    def chain(self, wrong: str, size: float, process: str, seed: int) -> ReverseChain:
        """Make the diffusion from a mixture that is wrong in one respect."""
        made = self.fit.kernel.generator.chain
        coordinates = made.coordinates
        means, spread, weights = MEANS, SD, np.array([HEAVY, 1 - HEAVY])
        if wrong == "means":
            noise = np.random.default_rng([seed, 3]).standard_normal(MEANS.shape)
            means = MEANS + size * noise
        elif wrong == "spread":
            spread = SD * size
        elif wrong == "weight":
            weights = np.array([size, 1 - size])
        elif wrong == "mode":
            means, weights = MEANS[:1], np.ones(1)
        noising = geometric(8, 0.15, 3.0)
        if process == "variance-preserving":
            scale = float(np.sqrt(np.mean(coordinates.to_z(self.draws.training.x) ** 2)))
            noising = variance_preserving(16, scale=scale)
        factors = np.stack([spread * np.eye(DIM)] * len(means))
        mixture = GaussianMixture(weights, means, factors)
        reference = MixtureReference(
            mixture.in_coordinates(coordinates.origin, coordinates.factor),
            noising,
            np.arange(len(means)),
        )
        return ReverseChain(reference, coordinates, made.windows)

    def judge(self, chain: ReverseChain, rng: np.random.Generator, n: int = DRAWS) -> dict:
        """Weights of the chain, bare and corrected, and its ratios."""
        drawn = chain.draw(n, rng)
        ratio = self.density.logp(drawn.x) - drawn.log_density
        side = self.target.membership(drawn.x)[:, 0]
        w = np.exp(ratio - ratio.max())
        held_out, made = self.draws.held_out, self.fit.kernel.generator
        ratio_held_out = chain.log_ratio(held_out.x, held_out.logp, rng)
        rows = held_out.choose_rows(len(ratio_held_out), rng)
        generator = PathGenerator(chain, made.defence, made.defensive)
        kernel = replace(self.fit.kernel, generator=generator, jumps=4)
        draws, _ = common.corrected_draws(
            self.density, replace(self.fit, kernel=kernel), n // 20, 16, rng, skip=20
        )
        heavy = self.target.membership(draws.reshape(-1, DIM))[:, 0]
        return {
            "bare": float(side.mean() - HEAVY),
            "weighted": float(w @ side / w.sum() - HEAVY),
            "corrected": float(heavy.mean() - HEAVY),
            "ess": path_ess(ratio),
            "acceptance": expected_acceptance(ratio_held_out[rows]),
        }

    def case(self, wrong: str, size: float, process: str, seed: int) -> dict:
        """Judge a wrong reference before and after a control is trained for it."""
        rng = np.random.default_rng([seed, 6])
        chain = self.chain(wrong, size, process, seed)
        before = self.judge(chain, rng)
        control, training = fit_control(
            chain, self.draws, self.density, self.network, LRDS().loss,
            self.network.evaluations, rng,
        )  # fmt: skip
        return {
            "before": before,
            "after": None if control is None else self.judge(chain.with_control(control), rng),
            "training": [training.path_ess, training.acceptance, training.seconds],
        }


def search_that_misses(seed: int) -> dict:
    """Fit with a search that is given one of the two modes only."""
    density = common_lrds.density_of(two_modes(DIM))
    config = FitConfig(generator=LRDS(), modes=ModeSearch(locations=MEANS[:1]), random_seed=seed)
    fit = fit_density(density, config)
    return {
        "modes": fit.n_modes,
        "weights": fit.weights.weight,
        "log_z": fit.weights.total,
        "statuses": [f"{s.level} {s.code}" for s in fit.statuses],
    }


def single_gaussian(dim: int, seed: int, quick: bool) -> dict:
    """Fit with one Gaussian for a reference."""
    target = two_modes(dim)
    density = common_lrds.density_of(target)
    size = {"regression_steps": 200, "steps": 50} if quick else {"steps": 300}
    learner = LRDS(
        reference="gaussian", process="variance-preserving", steps=32,
        network=ControlNetwork(**size),
    )  # fmt: skip
    fit = fit_density(density, FitConfig(generator=learner, target_se=0.002, random_seed=seed))
    rng = np.random.default_rng([seed, 8])
    chain, training = fit.kernel.generator.chain, fit.kernel.generator.training
    share = {}
    for name, made in (("before", chain.with_control(None)), ("after", chain)):
        drawn = made.draw(DRAWS, rng)
        x = drawn.x
        near = np.linalg.norm(x - np.sign(x[:, :1]), axis=1) < 1.5 * SD * np.sqrt(dim)
        share[name] = {
            "heavy": float(target.membership(x)[:, 0].mean()),
            "within": float(near.mean()),
            "ess": path_ess(density.logp(x) - drawn.log_density),
        }
    return share | {
        "kept": training.kept,
        "acceptance": training.acceptance,
        "fit": fit.weights.weight,
        "statuses": common_lrds.warnings_of(fit),
    }


def report(cases: dict, missed: dict, search: dict, single: dict) -> str:
    rows = [
        {"wrong": wrong, "by": size if wrong != "nothing" else "", "process": process} | row(r)
        for (wrong, size, process), r in cases.items()
    ]
    missing = {"wrong": "a mode missing in the reference"} | row(missed)
    lines = [common.table(rows), common.table([missing])]
    lines.append(
        f"Search that was given one mode: {search['modes']} mode, log evidence "
        f"{search['log_z']:.3f} (true 0), statuses: {', '.join(search['statuses']) or 'none'}"
    )
    lines.append(common.table([
        {
            "d": d,
            "control": name if name == "before" or r["kept"] else "after (not kept)",
            "weight of heavy mode": f"{r[name]['heavy']:.3f}",
            "draws in a mode": f"{r[name]['within']:.3f}",
            "ESS": f"{r[name]['ess']:.4f}",
            "acceptance": f"{r['acceptance'][name == 'after']:.4f}",
            "weights of the fit": common.show(r["fit"]),
            "statuses": r["statuses"],
        }
        for d, r in single.items() for name in ("before", "after")
    ]))  # fmt: skip
    return "\n\n".join(lines)


def row(r: dict) -> dict:
    """Cells before and after training."""
    before, after = r["before"], r["after"]
    shown = {
        "bare %": lambda j: f"{100 * j['bare']:+.1f}",
        "weighted %": lambda j: f"{100 * j['weighted']:+.1f}",
        "corrected %": lambda j: f"{100 * j['corrected']:+.1f}",
        "ESS": lambda j: f"{j['ess']:.3f}",
        "acceptance": lambda j: f"{j['acceptance']:.3f}",
    }
    cells = {name: cell(before) for name, cell in shown.items()}
    return cells | {
        f"{name} after": cell(after) if after else "not kept" for name, cell in shown.items()
    }


def draw(cases: dict, stem: str) -> None:
    """Effective share before and after, and errors bare and corrected."""
    figure, ((left, right),) = common.figure(1, 2, (12, 4.6))
    place = np.arange(len(cases))
    names = [f"{w} {s:g}{' (VP)' if p != 'geometric' else ''}" for w, s, p in cases]
    before = [r["before"]["ess"] for r in cases.values()]
    after = [(r["after"] or r["before"])["ess"] for r in cases.values()]
    left.bar(place - 0.2, before, 0.4, color="0.6", label="reference alone")
    left.bar(place + 0.2, after, 0.4, color="C0", label="with control")
    left.set(ylabel="effective share of proposals", yscale="log", ylim=(1e-4, 8.0))
    left.legend(frameon=False)
    for key, marker in (("bare", "s"), ("corrected", "o")):
        error = [100 * abs((r["after"] or r["before"])[key]) for r in cases.values()]
        right.plot(place, error, marker, label=key)
    right.set(ylabel="error of the weight (%)")
    right.legend(frameon=False)
    for ax in (left, right):
        ax.set_xticks(place, names, rotation=70)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records, seed, quick = common.Records(options.out), options.seed, options.quick
    study = Study(quick)
    chosen = CASES[:2] if quick else CASES
    cases = {
        c: records.get(" ".join(map(str, (*c, seed))), lambda c=c: study.case(*c, seed))
        for c in chosen
    }
    missed = records.get(f"missed {seed}", lambda: study.case("mode", 0.0, "geometric", seed))
    search = records.get(f"search {seed}", lambda: search_that_misses(seed))
    single = {
        d: records.get(f"single {d} {seed}", lambda d=d: single_gaussian(d, seed, quick))
        for d in ((8,) if quick else (8, 32))
    }
    print(report(cases, missed, search, single))
    draw(cases, options.stem)


if __name__ == "__main__":
    main()
