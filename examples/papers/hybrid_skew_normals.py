"""A 20-dimensional mixture of rotated skew-normals (arXiv 2505.07825, 20-D skew-normal example).

The paper learns one network per mode, because a Gaussian does not fit a skewed one, and shows
marginals and mode proportions. Here the same kind of target is drawn by the corrected sampler, by
its generator without correction, by NUTS, emcee and ``pm.sample_smc``. The figure has the weights,
and the marginals of the heaviest mode in its three most skewed directions. Whether draws within a
mode are those of the target is tested by the energy distance in whitened coordinates: its value
for many pairs of exact samples, and for exact against corrected and uncorrected draws, with
p-values of a permutation test. Uncorrected are the package's own generator, the same without
networks, and the paper's recipe (a plain network regressed on pairs of a training-free reverse
diffusion), all learned from the same local draws. Run it with::

    python examples/papers/hybrid_skew_normals.py
"""

import common
import numpy as np
from common import EMCEE, EXACT, MIXTURES, NUTS, OURS, PUBLISHED, SMC, UNCORRECTED, Outcome

METHODS = (EXACT, OURS, UNCORRECTED, NUTS, EMCEE, SMC)


def rivals(target, density, fit, seed: int, quick: bool):
    rng = np.random.default_rng([seed, 2])
    yield EXACT, Outcome(target.draws(8000, rng), 0, 0.0, "8,000 draws")
    yield UNCORRECTED, Outcome(fit.generate(8000, rng), 0, 0.0, "the same fit, 8,000 draws")
    size = (50, 100) if quick else (500, 500)
    yield NUTS, common.run_nuts(target.model, seed=seed, draws=size[0], tune=size[1])
    start = common.walkers(density, 128, rng)
    steps = 200 if quick else 8000
    yield EMCEE, common.run_emcee(target.log_density, start, seed=seed, steps=steps)
    yield SMC, common.run_smc(target.model, seed=seed, draws=200 if quick else 2000)


def compare(seed: int, quick: bool) -> dict:
    """All methods, marginals and two-sample tests, from one fit."""
    from pymc_multimodal.gallery import TARGETS
    from pymc_multimodal.model.build import density_of

    target = TARGETS["skew_normal_mixture_20"]()
    density = density_of(target.model)
    rng = np.random.default_rng([seed, 3])
    fit, ours = common.run_ours(
        density, target_se=0.02 if quick else 0.003, seed=seed, draws=300 if quick else 2000
    )
    found = {
        "truth": target.weights,
        "fit": common.fit_record(fit, target, ours, 50_000 if quick else 500_000, rng),
        OURS: common.method_record(target, ours, 0, rng),
    }
    for name, outcome in rivals(target, density, fit, seed, quick):
        found[name] = common.method_record(target, outcome, 0, rng)
    return found | within_modes(fit, target, density, rng, quick)


def within_modes(fit, target, density, rng, quick: bool) -> dict:
    """Compare exact, corrected and uncorrected draws inside each region."""
    size, replicates = (200, 5) if quick else (1000, 20)
    chains, draws, thin = (16, 100, 4) if quick else (64, 150, 10)
    corrected, _ = common.corrected_draws(density, fit, draws, chains, rng, thin=thin, skip=2)
    samples = {OURS: corrected.reshape(-1, target.dim)}
    n = 2 * len(samples[OURS])
    samples[UNCORRECTED] = fit.generate(n, rng)
    for name, config in other_generators(quick).items():
        samples[name] = common.other_draws(density, fit, config, n, rng)
    exact = target.draws(400_000, rng)
    label = fit.label(exact)
    tests, marginals = [], []
    for k in range(fit.n_modes):
        mine = exact[label == k]
        white = common.whitener(mine)
        inside = {m: white(x[fit.label(x) == k]) for m, x in samples.items()}
        tests.append(two_samples(white(mine), inside, size, replicates, rng))
        if k == 0:
            marginals = skewed_marginals(white(mine), inside, rng)
    return {"tests": tests, "marginals": marginals}


def other_generators(quick: bool) -> dict:
    from pymc_multimodal.proposals import Hybrid, PublishedHybrid

    published = (
        PublishedHybrid(pairs=1000, ode_steps=50, train_steps=200)
        if quick
        else PublishedHybrid(pairs=10_000, ode_steps=200, train_steps=3000, batch=512)
    )
    return {MIXTURES: Hybrid(families=("gaussian", "mixture")), PUBLISHED: published}


def two_samples(exact: np.ndarray, others: dict, size: int, replicates: int, rng) -> dict:
    """Energy distances of replicates, exact-exact and exact-others, and p-values."""
    found = {}
    for name, x in {EXACT: exact, **others}.items():
        energies, p = [], []
        for _ in range(replicates):
            both = common.pick(exact, 2 * size, rng)
            other = both[size:] if name == EXACT else common.pick(x, size, rng)
            energies.append(common.energy_distance(both[:size], other))
            p.append(common.permutation_p_value(both[:size], other, rng))
        found[name] = {"energy": energies, "p": p, "available": len(x)}
    return found


def skewed_directions(z: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Orthogonal directions of largest skewness of whitened draws, shape (n, d)."""
    found = np.empty((0, z.shape[1]))
    for _ in range(n):
        w = rng.standard_normal(z.shape[1])
        for _ in range(100):
            # Power iteration on the third moments, kept orthogonal to the directions found.
            w -= found.T @ (found @ w)
            w /= np.linalg.norm(w)
            w = ((z @ w) ** 2) @ z / len(z)
        w -= found.T @ (found @ w)
        found = np.vstack([found, w / np.linalg.norm(w)])
    return found


def skewed_marginals(exact: np.ndarray, others: dict, rng) -> list[dict]:
    edges = np.linspace(-3, 4.5, 46)
    directions = skewed_directions(exact[:50_000], 3, rng)
    return [
        {
            "edges": edges,
            **{
                name: np.histogram(x @ w, edges, density=True)[0]
                for name, x in {EXACT: exact, **others}.items()
            },
        }
        for w in directions
    ]


def report(r: dict) -> str:
    rows = [{"method": "truth", "weights": common.show(r["truth"])}]
    for method in METHODS:
        rows.append(common.method_row(method, r[method]))
        if method == OURS:
            rows.append(common.fit_row(r["fit"]))
    tests = []
    for k, mode in enumerate(r["tests"]):
        for name, t in mode.items():
            tests.append({
                "mode": k,
                "exact against": name,
                "energy distance, mean": f"{np.mean(t['energy']):.5f}",
                "sd": f"{np.std(t['energy']):.5f}",
                "p, median": f"{np.median(t['p']):.3f}",
                "p < 0.05": f"{np.sum(np.array(t['p']) < 0.05)} of {len(t['p'])}",
                "draws there": f"{t['available']:,}",
            })  # fmt: skip
    return common.table(rows) + "\n\n" + common.table(tests)


def draw(r: dict, stem: str) -> None:
    figure, axes = common.figure(2, 3, (14, 8))
    draw_weights(axes[0, 0], r)
    draw_energies(axes[0, 1], r["tests"][0])
    draw_p_values(axes[0, 2], r["tests"])
    for i, (ax, marginal) in enumerate(zip(axes[1], r["marginals"], strict=True)):
        edges = marginal["edges"]
        ax.stairs(marginal[EXACT], edges, fill=True, color="0.85", label=EXACT)
        for name, line in ((OURS, "-"), (UNCORRECTED, "--"), (MIXTURES, ":"), (PUBLISHED, "-.")):
            colour = common.COLOURS[name]
            ax.stairs(marginal[name], edges, color=colour, ls=line, lw=1.6, label=name)
        place = ("most skewed", "second", "third")[i]
        ax.set(xlabel=f"heaviest mode, {place} direction (whitened)", yticks=[])
    axes[1, 0].set_ylabel("density")
    axes[1, 0].legend(frameon=False, fontsize=8, loc="upper right")
    common.save(figure, stem)


def draw_weights(ax, r: dict) -> None:
    place, shown = np.arange(len(r["truth"])), METHODS[1:]
    for j, method in enumerate(shown):
        ax.bar(
            place + 0.16 * (j - 2), r[method]["weights"], width=0.16,
            color=common.COLOURS[method], label=method,
        )  # fmt: skip
    for k, w in enumerate(r["truth"]):
        ax.hlines(w, k - 0.42, k + 0.42, color="black", lw=1.5, label="" if k else "truth")
    tallest = max(max(r[m]["weights"]) for m in shown)
    ax.set_xticks(place, [f"mode {k}" for k in place])
    ax.set(ylabel="weight of the draws", ylim=(0, 1.35 * tallest))
    ax.legend(frameon=False, ncols=2, fontsize=9)


def draw_energies(ax, tests: dict) -> None:
    names = list(tests)
    for j, name in enumerate(names):
        energy = tests[name]["energy"]
        spread = np.linspace(-0.18, 0.18, len(energy))
        ax.plot(j + spread, energy, "o", ms=4, color=common.COLOURS[name])
        ax.hlines(np.mean(energy), j - 0.3, j + 0.3, color="black", lw=1)
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    labels = [n.replace(", ", ",\n").replace(" draws", "\ndraws") for n in names]
    ax.set_xticks(range(len(names)), [n.replace(" ", "\n") for n in labels], fontsize=8)
    ax.set_yscale("symlog", linthresh=0.005)
    ax.set(ylabel="energy distance from exact draws", xlabel="heaviest mode, one dot a replicate")


def draw_p_values(ax, tests: list[dict]) -> None:
    level = np.linspace(0, 1, 101)
    for name in tests[0]:
        p = np.concatenate([mode[name]["p"] for mode in tests])
        ax.plot(
            level, [np.mean(p <= t) for t in level], color=common.COLOURS[name], label=name,
            ls="-" if name in (EXACT, OURS) else "--",
        )  # fmt: skip
    ax.plot([0, 1], [0, 1], color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="p-value of the permutation test", ylabel="share of replicates below, all modes")
    ax.legend(frameon=False, loc="lower right", fontsize=9)


def main() -> None:
    common.compare_once(__doc__, __file__, compare, report, draw)


if __name__ == "__main__":
    main()
