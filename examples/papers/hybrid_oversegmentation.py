"""Modes cut into pieces on purpose (arXiv 2505.07825, segmentation granularity).

The paper lets its search split a mode into several regions: that costs more but makes each region
easier to learn, and the weights of the pieces add up. Here each of the two curved modes of a
10-dimensional target is cut into 1, 2, 4 and 8 slices of equal mass before the regions are sampled,
weighed and given their generators, stage by stage and as the pipeline does it. Slices follow the
bend (across its long coordinate, so that each is nearly Gaussian) or go against it (through both
arms of the banana at once, so that a slice falls apart into two). Shown are the summed weight of a
mode, the weights of single pieces, what they cost, the acceptance of jumps, and whether corrected
draws pass a two-sample test within the heavier mode. Run it with::

    python examples/papers/hybrid_oversegmentation.py
"""

from dataclasses import replace

import common
import numpy as np

PIECES = (1, 2, 4, 8)
# Coordinates of the bent pair of each component of the target: the long one, the bent one.
CUTS = {"along the bend": (0, 2), "against the bend": (1, 3)}
MAX_DRAWS = 3200


class Slices:
    """Partition that cuts each region of another into slices of one coordinate.

    Parameters
    ----------
    base : Partition
    coordinates : sequence of int
        The coordinate of each region that is cut.
    borders : array of shape (K, pieces - 1)
    """

    def __init__(self, base, coordinates, borders: np.ndarray) -> None:
        self.base, self.coordinates, self.borders = base, np.asarray(coordinates), borders
        self.pieces = borders.shape[1] + 1
        self.n_regions = base.n_regions * self.pieces
        self.statuses = ()

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row; the pieces of region k are k * pieces, k * pieces + 1, ..."""
        parent = self.base.label(x)
        value = x[np.arange(len(x)), self.coordinates[parent]]
        return parent * self.pieces + (value[:, None] > self.borders[parent]).sum(axis=1)


def cut(fit, coordinates, pieces: int) -> Slices:
    """Slices of equal mass, by the local draws of a fit."""
    shares = np.arange(1, pieces) / pieces
    borders = [np.quantile(fit.local_draws(k)[:, c], shares) for k, c in enumerate(coordinates)]
    return Slices(
        fit.kernel.partition, coordinates, np.array(borders).reshape(len(coordinates), -1)
    )


def stages_before(fit, partition: Slices, rng: np.random.Generator, chains: int):
    """Make what the search and the pilot chains would have returned, had they found these pieces.

    A piece has no summit of its own: its highest draw stands for it.
    """
    from pymc_multimodal.regions import Pilot

    parent = np.repeat(np.arange(fit.n_modes), partition.pieces)
    locations, heights, ends = [], [], []
    for k in range(partition.n_regions):
        x, logp = fit.local_draws(parent[k]), fit.draws.logp[parent[k]].ravel()
        own = partition.label(x) == k
        locations.append(x[own][logp[own].argmax()])
        heights.append(logp[own].max())
        ends.append(x[own][rng.integers(own.sum(), size=chains)])
    none = np.empty((0, len(locations[0])))
    modes = replace(
        fit.modes,
        locations=np.array(locations),
        log_density=np.array(heights),
        scale=fit.modes.scale[parent],
        hits=fit.modes.hits[parent],
        singletons=fit.modes.singletons[parent],
        optima=np.array(locations),
        optimum_modes=np.arange(partition.n_regions),
        optimum_ids=np.arange(partition.n_regions),
        points=none,
        point_modes=np.empty(0, dtype=int),
    )
    return modes, Pilot(np.array(ends)[:, :, None], fit.kernel.moves[1].parameters.take(parent))


def refit(density, fit, partition: Slices, target_se: float, seed: int):
    """Sample, weigh and learn the pieces; the result is a fit like any other."""
    from pymc_multimodal.evidence import begin_samples, extend_samples
    from pymc_multimodal.kernel import make_kernel
    from pymc_multimodal.regions import (
        RegionSampler,
        advance_chains,
        begin_chains,
        diagnostics_of,
        draws_of,
        short_regions,
    )

    before = density.n_logp_evals, density.n_grad_evals
    streams = np.random.default_rng([seed, 5]).spawn(5)
    config = replace(fit.config, target_se=target_se)
    modes, pilot = stages_before(fit, partition, streams[0], config.local.chains)

    def learn(local, regions, rng, previous):
        return config.generator.regional.fit_regions(local, density.period, rng, previous).densities

    sampler = RegionSampler(density, partition, config.local, modes.locations, learn)
    chains = begin_chains(sampler, modes, pilot, (), None, streams[1])
    while len(short_regions(chains, sampler.settings)):
        chains = advance_chains(sampler, chains, streams[1])
    fitted = config.generator.regional.fit_regions(
        draws_of(sampler, chains), density.period, streams[2]
    )
    samples = begin_samples(fitted, density.dim)
    first = np.full(partition.n_regions, 1000)
    samples = extend_samples(samples, density, partition, first, streams[3])
    weights, local, chains = refine(sampler, chains, samples, target_se, streams)
    generator = config.generator.build(fitted, local, weights.weight, streams[4])
    return replace(
        fit,
        config=config,
        modes=modes,
        draws=local,
        chains=diagnostics_of(chains, sampler.settings),
        weights=weights,
        kernel=make_kernel(partition, chains.parameters, generator, attempts=4),
        statuses=(*diagnostics_of(chains, sampler.settings).statuses, *weights.statuses),
        n_logp_evals=density.n_logp_evals - before[0],
        n_grad_evals=density.n_grad_evals - before[1],
    )


def refine(sampler, chains, samples, target_se: float, streams: list[np.random.Generator]):
    """Double the draws and proposals of the pieces whose evidence is too uncertain."""
    from pymc_multimodal.evidence import estimate, extend_samples
    from pymc_multimodal.regions import draws_of, extend_chains, n_draws

    density, partition = sampler.target, sampler.partition
    for _ in range(6):
        local = draws_of(sampler, chains)
        weights = estimate(samples, local, density)
        short = weights.needs(target_se, 0.1)
        if not short.any():
            break
        for k in np.flatnonzero(short):
            if (size := n_draws(chains)[k]) < MAX_DRAWS:
                chains = extend_chains(sampler, chains, np.array([k]), int(size), streams[1])
        more = np.where(short, samples.n_proposals, 0)
        samples = extend_samples(samples, density, partition, more, streams[3])
    local = draws_of(sampler, chains)
    return estimate(samples, local, density), local, chains


def summed(fit, pieces: int) -> tuple[float, float]:
    """Weight of the first mode, its pieces added up, and its standard error."""
    z = np.exp(fit.weights.log_evidence - fit.weights.total).reshape(-1, pieces)
    variance = ((z * fit.weights.log_evidence_se.reshape(-1, pieces)) ** 2).sum(axis=1)
    total = z.sum(axis=1)
    first, second = total / total.sum()
    return first, first * second * np.sqrt((variance / total**2).sum())


def study(kind: str, pieces: int, seed: int, quick: bool) -> dict:
    from pymc_multimodal.fit import FitConfig, fit_density
    from pymc_multimodal.gallery import two_bananas
    from pymc_multimodal.model.build import density_of
    from pymc_multimodal.proposals import Hybrid

    target = two_bananas()
    density = density_of(target.model)
    # Without networks, so that what is seen is what the cut does to a region's shape.
    generator = Hybrid(families=("gaussian", "mixture"))
    config = FitConfig(generator=generator, target_se=0.02, random_seed=seed)
    whole = fit_density(density, config)
    partition = cut(whole, CUTS[kind], pieces)
    fit = refit(density, whole, partition, 0.01 if quick else 0.003, seed)
    rng = np.random.default_rng([seed, 6])
    size = 100 if quick else 1000
    # Draws in the tips of a banana stay there for long: thinned until they are independent.
    drawn, acceptance = common.corrected_draws(
        density, fit, size // 100, 160, rng, thin=4 if quick else 20, skip=1
    )
    parent = whole.kernel.partition.label
    exact = target.draws(20 * size, rng)
    exact = exact[parent(exact) == 0]
    white = common.whitener(exact)
    inside = drawn.reshape(-1, target.dim)
    share = np.mean(parent(inside) == 0)
    inside = common.pick(inside[parent(inside) == 0], size, rng)
    p = common.permutation_p_value(white(exact[:size]), white(inside), rng)
    truth, truth_se = common.region_shares(fit, target, 400_000, rng)
    weight, se = summed(fit, pieces)
    z = common.z_scores(fit.weights.weight, fit.weights.weight_se, truth, truth_se)
    return {
        "kind": kind,
        "pieces": pieces,
        "seed": seed,
        "weight": weight,
        "se": se,
        "truth": float(truth.reshape(-1, pieces)[0].sum()),
        "piece_error": float(np.abs(fit.weights.weight - truth).max()),
        "piece_z": float(np.abs(z).max()),
        "piece_rms_z": float(np.sqrt(np.mean(z**2))),
        "share": share,
        "evals": fit.n_logp_evals,
        "acceptance": acceptance,
        "r_hat": float(fit.chains.r_hat.max()),
        "gears": int(fit.chains.regime.max()),
        "crossings": float(fit.chains.crossings.mean()),
        "p": p,
        "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }


def report(records: list[dict]) -> str:
    rows = []
    for r in records:
        rows.append({
            "cut": r["kind"],
            "pieces a mode": r["pieces"],
            "seed": r["seed"],
            "mode 0, summed": f"{r['weight']:.4f} ± {r['se']:.4f}",
            "truth": f"{r['truth']:.4f}",
            "z": f"{(r['weight'] - r['truth']) / r['se']:+.1f}",
            "pieces: error": f"{r['piece_error']:.4f}",
            "rms z": f"{r['piece_rms_z']:.1f}",
            "largest z": f"{r['piece_z']:.1f}",
            "share of draws": f"{r['share']:.3f}",
            "p": f"{r['p']:.3f}",
            "acceptance": f"{r['acceptance']:.2f}",
            "evaluations": f"{r['evals']:,}",
            "crossings": f"{r['crossings']:.2f}",
            "R-hat": f"{r['r_hat']:.3f}",
            "gears": r["gears"],
            "flags": " ".join(r["statuses"]),
        })  # fmt: skip
    return common.table(rows)


def draw(records: list[dict], stem: str) -> None:
    figure, axes = common.figure(1, 4, (16, 4.2))
    axes = axes[0]
    kinds = list(CUTS)
    seeds = sorted({r["seed"] for r in records})
    for j, kind in enumerate(kinds):
        own = [r for r in records if r["kind"] == kind]
        shift = [0.06 * (seeds.index(r["seed"]) - 1) + 0.2 * (j - 0.5) for r in own]
        x = np.log2([r["pieces"] for r in own]) + shift
        style = {"color": f"C{j}", "label": kind}
        error = [r["weight"] - r["truth"] for r in own]
        axes[0].errorbar(x, error, [1.96 * r["se"] for r in own], fmt="os"[j], ms=4, **style)
        for ax, name in zip(axes[1:], ("evals", "acceptance", "p"), strict=True):
            ax.plot(x, [r[name] for r in own], "os"[j], ms=5, **style)
    axes[0].axhline(0, color="0.7", lw=0.8)
    axes[0].set(ylabel="summed weight − truth, ± 95 %")
    axes[1].set(ylabel="evaluations", yscale="log")
    axes[2].set(ylabel="acceptance of jumps", ylim=(0, 1))
    axes[3].axhline(0.05, color="0.5", lw=0.8)
    axes[3].set(ylabel="p-value against exact draws", yscale="log", ylim=(0.004, 1.3))
    for ax in axes:
        ax.set(xlabel="pieces a mode")
        ax.set_xticks(range(len(PIECES)), [str(n) for n in PIECES])
    axes[0].legend(frameon=False, fontsize=9)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    seeds = range(options.seed, options.seed + (1 if options.quick else 3))
    results = [
        records.get(
            f"{kind}, {n} pieces, seed {s}",
            lambda kind=kind, n=n, s=s: study(kind, n, s, options.quick),
        )
        for kind in CUTS
        for n in (PIECES[1:2] if options.quick else PIECES)
        for s in seeds
    ]
    print(report(results))
    draw(results, options.stem)


if __name__ == "__main__":
    main()
