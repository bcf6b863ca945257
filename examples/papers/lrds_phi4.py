"""The phi^4 chain of 32 sites in a field (arXiv 2410.19449, after Gabrie et al. 2022).

The ratio ``P(x_16 <= 0) / P(x_16 > 0)`` over the paper's five fields, from the whole pipeline with
``LRDS()`` as its generator, against the transfer operator, which is exact, and the Laplace value,
which the paper compares with. One field is also run without gradients. Run it with::

    python examples/papers/lrds_phi4.py
"""

import common
import numpy as np

DIM = 32
FIELDS = (0.0, 9e-4, 2e-3, 2.5e-3, 3.5e-3)
WITHOUT = 2e-3


def laplace(field: float) -> float:
    """Ratio of the Gaussian approximations at the two minima."""
    from scipy.optimize import minimize

    coupling, well = 20.0 * 0.1 * DIM, 20.0 / (0.1 * DIM)
    bonds = coupling * (2 * np.eye(DIM) - np.eye(DIM, k=1) - np.eye(DIM, k=-1))

    def energy(x):
        value = well * np.sum(0.25 * (1 - x * x) ** 2 + field * x) + 0.5 * x @ bonds @ x
        return value, well * (x**3 - x + field) + bonds @ x

    logs = []
    for sign in (-1.0, 1.0):
        x = minimize(energy, np.full(DIM, 0.8 * sign), jac=True, method="BFGS", tol=1e-10).x
        log_det = np.linalg.slogdet(bonds + np.diag(well * (3 * x * x - 1)))[1]
        logs.append(-energy(x)[0] - 0.5 * log_det)
    return float(np.exp(logs[0] - logs[1]))


def study(field: float, gradient: bool, seed: int, quick: bool) -> dict:
    """One run of the whole pipeline."""
    from pymc_multimodal import LRDS
    from pymc_multimodal.fit import FitConfig
    from pymc_multimodal.gallery import phi4
    from pymc_multimodal.model.build import density_of
    from pymc_multimodal.target.density import Density

    target = phi4(DIM, field)
    density = density_of(target.model)
    if not gradient:
        both = density
        density = Density(
            lambda x: (target.log_density(x), None), DIM, has_gradient=False, prior=both.prior_draws
        )
    se = 0.03 if quick else 0.005
    config = FitConfig(generator=LRDS(), target_se=se, random_seed=seed)
    draws = 100 if quick else 1000
    fit, ours = common.run_ours(density, target_se=se, seed=seed, config=config, draws=draws)
    middle = DIM // 2
    # Regions are nearly those of the sign of the middle site, but not by construction.
    shares = np.array([(fit.local_draws(k)[:, middle] <= 0).mean() for k in range(fit.n_modes)])
    below = float(fit.weights.weight @ shares)
    training = getattr(fit.kernel.generator, "training", None)
    return {
        "truth": float(target.weights[0] / target.weights[1]),
        "laplace": laplace(field),
        "ratio": below / (1 - below),
        "ratio_se": float(max(fit.weights.weight_se)) / (below * (1 - below)),
        "draws": float(np.mean(ours.x[:, middle] <= 0) / np.mean(ours.x[:, middle] > 0)),
        "acceptance": ours.extra["acceptance"],
        "trained": None if training is None else [training.kept, *training.path_ess],
        "modes": fit.n_modes,
        "evals": fit.n_logp_evals,
        "seconds": ours.seconds,
        "statuses": ours.extra["statuses"],
    }


def report(records: dict) -> str:
    rows = []
    for (field, gradient), r in records.items():
        trained = r["trained"]
        rows.append({
            "field": f"{field:g}",
            "gradient": "yes" if gradient else "no",
            "exact ratio": f"{r['truth']:.3f}",
            "Laplace": f"{r['laplace']:.3f}",
            "fit": f"{r['ratio']:.3f}",
            "relative error": f"{r['ratio'] / r['truth'] - 1:+.3f}",
            "stated error": f"{r['ratio_se']:.3f}",
            "draws": f"{r['draws']:.3f}",
            "acceptance": f"{r['acceptance']:.2f}",
            "path ESS": "" if trained is None else f"{trained[1]:.2f} to {trained[2]:.2f}",
            "regions": r["modes"],
            "evaluations": f"{r['evals']:,}",
            "seconds": f"{r['seconds']:.0f}",
            "warnings": ", ".join(r["statuses"]),
        })  # fmt: skip
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    figure, axes = common.figure(1, 1, (6, 4))
    ax = axes[0, 0]
    for key, style in (("truth", "k-"), ("laplace", "C1--")):
        points = sorted((field, r[key]) for (field, _), r in records.items())
        ax.plot(*np.array(points).T, style, label={"truth": "exact"}.get(key, "Laplace"))
    for gradient in (True, False):
        chosen = {f: r for (f, g), r in records.items() if g == gradient}
        if chosen:
            ax.errorbar(
                list(chosen), [r["ratio"] for r in chosen.values()],
                [2 * r["ratio"] * r["ratio_se"] for r in chosen.values()],
                fmt="o" if gradient else "s", color="C0" if gradient else "C3",
                label="fit, 2 se" if gradient else "fit without gradients",
            )  # fmt: skip
    ax.set(xlabel="field h", ylabel="P(x <= 0) / P(x > 0), middle site", yscale="log")
    ax.legend(frameon=False)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    wanted = [(field, True) for field in FIELDS] + [(WITHOUT, False)]
    found = {}
    for field, gradient in wanted[:1] if options.quick else wanted:
        found[field, gradient] = records.get(
            f"h={field:g}, gradient={gradient}, seed {options.seed}",
            lambda field=field, gradient=gradient: study(
                field, gradient, options.seed, options.quick
            ),
        )
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
