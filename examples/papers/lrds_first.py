"""First experiments of arXiv 2410.19449: mixtures of two and of three Gaussians in two dimensions.

The paper's point is that a diffusion sampler needs a reference that knows the modes. Here the same
fit's local draws give a mixture as reference, alone and with a control, and one Gaussian, alone and
with a control; each is judged by its uncorrected draws and, for the last columns, by its path
weights. ELBO and EUBO are bounds on the log evidence, less its true value. Run it with::

    python examples/papers/lrds_first.py
"""

import common
import numpy as np
import reference_draws as shared

TARGETS = {
    "two modes": (2 / 3, 1 / 3),
    "three modes, alike": (0.34, 0.33, 0.33),
    "three modes": (0.6, 0.3, 0.1),
    "three modes, one rare": (0.8, 0.17, 0.03),
}
MEANS = np.array([[-3.0, -2.0], [3.0, -1.0], [0.0, 3.0]])
METHODS = ("exact draws", "mixture", "mixture, control", "one Gaussian", "one Gaussian, control")


def target_of(weights):
    from pymc_multimodal.gallery.gaussian import gaussian_mixture

    n = len(weights)
    covariance = np.array(
        [[[0.4, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]], [[0.5, 0], [0, 0.2]]]
    )
    return gaussian_mixture(
        "first", np.array(weights), MEANS[:n], covariance[:n], scale=5.0, note="lrds_first.py"
    )


def configs(quick: bool) -> dict:
    from pymc_multimodal import LRDS, ControlNetwork

    network = ControlNetwork(
        worth_it=2.0,  # train however good the reference is
        regression_steps=100 if quick else 500,
        steps=20 if quick else 200,
    )
    return {
        "mixture": LRDS(train=False),
        "mixture, control": LRDS(network=network),
        "one Gaussian": LRDS(reference="gaussian", train=False),
        "one Gaussian, control": LRDS(reference="gaussian", network=network, steps=16),
    }


def study(weights, seed: int, quick: bool) -> dict:
    """All methods on one target, from the local draws and the weights of one fit."""
    from pymc_multimodal.fit.pipeline import fit_density
    from pymc_multimodal.fit.settings import FitConfig

    target = target_of(weights)
    density = shared.density_of(target, gradient=True)
    fit = fit_density(density, FitConfig(target_se=0.01, random_seed=seed))
    density.logp = target.log_density  # the same function, uncompiled: quicker from here on
    rng = np.random.default_rng([seed, 4])
    n = 2000 if quick else shared.PROPOSALS
    exact = target.draws(n, rng)
    found = {"exact draws": distances(target.draws(n, rng), exact, target, rng)}
    for name, config in configs(quick).items():
        fitted = config.regional.fit_regions(fit.draws, density.period, rng)
        generator = config.build(fitted, fit.draws, fit.weights.weight, rng, density)
        if "control" in name and generator.control is None:
            found[name] = {"refused": True}
            continue
        learned = shared.Learned(generator, density, target)
        x, log_ratio = shared.proposals(learned, n, rng)
        elbo, eubo = shared.bounds(learned, log_ratio, n, rng)
        points, weight = shared.corrected(learned, n, rng)
        shares = weight @ target.membership(points)
        found[name] = distances(x, exact, target, rng) | {
            "corrected": shared.variation(shares, target.weights),
            "ess": shared.ess(log_ratio),
            "elbo": elbo,
            "eubo": eubo,
        }
    stated = fit.weights.weight[: len(target.weights)]
    return found | {
        "fit": shared.variation(stated, target.weights),
        "modes": fit.n_modes,
        "evals": fit.n_logp_evals,
    }


def distances(x: np.ndarray, exact: np.ndarray, target, rng) -> dict:
    a, b = common.pick(x, 500, rng), common.pick(exact, 500, rng)
    return {
        "weights": shared.variation(common.component_shares(target, x), target.weights),
        "w2": shared.wasserstein(a, b),
        "mmd": shared.mmd(common.pick(x, 2000, rng), common.pick(exact, 2000, rng)),
        "ks": shared.sliced_ks(x, exact, rng),
    }


def report(records: dict) -> str:
    rows = []
    for name, r in records.items():
        for method in METHODS:
            m = r[method]
            cells = {"target": name if method == METHODS[0] else "", "method": method}
            if "refused" in m:
                rows.append(cells | {"TV of weights": "the reference alone serves better"})
                continue
            cells |= {
                "TV of weights": f"{m['weights']:.4f}",
                "W2": f"{m['w2']:.3f}",
                "MMD": f"{m['mmd']:.3f}",
                "sliced KS": f"{m['ks']:.4f}",
            }
            if "ess" in m:
                cells |= {
                    "ELBO": f"{m['elbo']:.3f}",
                    "EUBO": f"{m['eubo']:.3f}",
                    "path ESS": f"{m['ess']:.3f}",
                    "TV, weighted": f"{m['corrected']:.4f}",
                }
            rows.append(cells)
        rows.append({"method": "weights of the fit", "TV of weights": f"{r['fit']:.4f}"})
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    figure, axes = common.figure(1, 2, (11, 4))
    place = np.arange(len(records))
    for j, method in enumerate(METHODS[1:]):
        for ax, key in zip(axes[0], ("ess", "ks"), strict=True):
            values = [r[method].get(key, np.nan) for r in records.values()]
            ax.bar(place + 0.2 * (j - 1.5), values, width=0.2, color=f"C{j}", label=method)
    for ax, label in zip(axes[0], ("path ESS / n", "sliced KS"), strict=True):
        ax.set_xticks(place, [n.replace(", ", ",\n") for n in records])
        ax.set(ylabel=label)
    axes[0, 1].set_yscale("log")
    axes[0, 0].legend(frameon=False, fontsize=8)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    chosen = list(TARGETS)[:2] if options.quick else list(TARGETS)
    found = {
        name: records.get(
            f"{name}, seed {options.seed}",
            lambda name=name: study(TARGETS[name], options.seed, options.quick),
        )
        for name in chosen
    }
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
