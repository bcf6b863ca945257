"""Bayesian logistic regression of the breast-cancer data (arXiv 2410.19449, appendix).

The data are those that scikit-learn ships: 569 patients, 30 features, standardised by the training
set; a quarter is held out. There are 31 coefficients with normal priors of standard deviation 3.75,
that of the authors' code. (Their prior of the intercept, of mean 31, goes with another scale of the
features.) In a second model the intercept's prior is an equal mixture of two normals at -5 and +5
with standard deviation 0.5, which makes the posterior bimodal.

*Predictive* is the mean log density of held-out patients given the draws, beside its difference
from NUTS; *weight* that of the mode with the positive intercept. For the two modes, *apart* joins
two runs, one for each half of the prior, by their evidences. The reference alone, and with a
learned control, serve as generators. Run it with::

    python examples/papers/lrds_logistic.py
"""

import time

import common
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from pymc_multimodal.fit import FitConfig
from pymc_multimodal.model.build import density_of
from pymc_multimodal.proposals import LRDS

# Mean, or means of the halves, and standard deviation of the intercept's prior.
PRIORS = {"0": ((0.0,), 3.75), "-5 and 5": ((-5.0, 5.0), 0.5)}
SLOPES = 3.75
LEARNERS = {"LRDS, reference alone": LRDS(train=False), "LRDS": LRDS()}
TARGET_SE = 0.01


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and outcomes to train on, and held out."""
    x, y = load_breast_cancer(return_X_y=True)
    x, x_new, y, y_new = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    middle, spread = x.mean(axis=0), x.std(axis=0)
    return (x - middle) / spread, y, (x_new - middle) / spread, y_new


def model_of(means: tuple[float, ...], sd: float):
    """Logistic regression with a normal, or a mixture, for the intercept."""
    import pymc as pm

    x, y, _, _ = data()
    with pm.Model() as model:
        parts = [pm.Normal.dist(m, sd) for m in means]
        if len(parts) == 1:
            intercept = pm.Normal("intercept", means[0], sd)
        else:
            intercept = pm.Mixture("intercept", w=np.full(2, 0.5), comp_dists=parts)
        slopes = pm.Normal("slopes", 0.0, SLOPES, shape=x.shape[1])
        pm.Bernoulli("y", logit_p=intercept + x @ slopes, observed=y)
    return model


def predictive(draws: np.ndarray) -> float:
    """Mean log predictive density of the held-out patients."""
    _, _, x, y = data()
    logit = draws[:, :1] + draws[:, 1:] @ x.T
    log_p = -np.logaddexp(0.0, np.where(y == 1, -logit, logit))
    return float((np.logaddexp.reduce(log_p, axis=0) - np.log(len(draws))).mean())


def judge(outcome: common.Outcome) -> dict:
    return {
        "predictive": predictive(outcome.x),
        "weight": float(np.mean(outcome.x[:, 0] > 0)),
        "evals": outcome.evals,
        "seconds": outcome.seconds,
        "extra": {k: v for k, v in outcome.extra.items() if k != "training"},
    }


def ours(means: tuple[float, ...], sd: float, name: str, seed: int, quick: bool) -> dict:
    """Fit and draw with one learner."""
    density = density_of(model_of(means, sd))
    config = FitConfig(
        generator=LEARNERS[name], target_se=0.05 if quick else TARGET_SE, random_seed=seed
    )
    fit, outcome = common.run_ours(
        density, target_se=TARGET_SE, seed=seed, draws=250 if quick else 1000, config=config
    )
    training = fit.kernel.generator.training
    outcome.extra["training"] = training
    positive = fit.modes.locations[:, 0] > 0
    return judge(outcome) | {
        "log_z": [fit.weights.total, fit.weights.total_se],
        "stated": float(fit.weights.weight[positive].sum()),
        "stated_se": float(fit.weights.weight_se.max()),
        "ess": list(training.path_ess) if training else None,
        "expected": list(training.acceptance) if training else None,
        "kept": bool(training.kept) if training else False,
    }


def compare(records: common.Records, seed: int, quick: bool) -> dict:
    found = {}
    for prior, (means, sd) in PRIORS.items():
        for name in LEARNERS:
            found[prior, name] = records.get(
                f"{prior} {name} {seed}", lambda a=(means, sd, name): ours(*a, seed, quick)
            )
        size = (100, 200) if quick else (1000, 1000)
        found[prior, "NUTS"] = records.get(
            f"{prior} NUTS {seed}",
            lambda a=(means, sd), n=size: judge(
                common.run_nuts(model_of(*a), seed=seed, draws=n[0], tune=n[1])
            ),
        )
        if len(means) == 1:
            continue
        for m in means:
            found[prior, f"half {m:g}"] = records.get(
                f"half {m:g} {seed}",
                lambda m=m, sd=sd: ours((m,), sd, "LRDS, reference alone", seed, quick),
            )
    return found


def report(found: dict) -> str:
    rows = []
    for (prior, method), r in found.items():
        if method.startswith("half"):
            continue
        gap = r["predictive"] - found[prior, "NUTS"]["predictive"]
        extra, trained = r["extra"], r.get("ess")
        row = {
            "intercept": prior,
            "method": method,
            "predictive": f"{r['predictive']:.4f} ({gap:+.4f})",
            "evaluations": f"{r['evals']:,}",
            "seconds": f"{r['seconds']:.0f}",
        }
        if len(PRIORS[prior][0]) > 1:
            row["weight of draws"] = f"{r['weight']:.3f}"
            if "stated" in r:
                row["weight stated"] = f"{r['stated']:.4f} ± {r['stated_se']:.4f}"
        if "log_z" in r:
            row["log Z"] = f"{r['log_z'][0]:.3f} ± {r['log_z'][1]:.3f}"
        row["jumps accepted"] = f"{extra['acceptance']:.3f}" if "acceptance" in extra else ""
        row["ESS before, after"] = " ".join(f"{e:.3f}" for e in trained) if trained else ""
        row["R-hat"] = f"{extra['r_hat']:.2f}" if "r_hat" in extra else ""
        row["statuses"] = ", ".join(extra.get("statuses", []))
        rows.append(row)
    light, heavy = (np.array(found["-5 and 5", f"half {m}"]["log_z"]) for m in ("-5", "5"))
    weight = 1.0 / (1.0 + np.exp(light[0] - heavy[0]))
    se = weight * (1 - weight) * np.hypot(light[1], heavy[1])
    return common.table(rows) + f"\n\nApart: weight {weight:.4f} ± {se:.4f}"


def draw(found: dict, stem: str) -> None:
    """Predictive density of each method, and weight of the mode."""
    figure, ((left, right),) = common.figure(1, 2, (11, 4))
    methods = [*LEARNERS, "NUTS"]
    for j, prior in enumerate(PRIORS):
        left.plot(methods, [found[prior, m]["predictive"] for m in methods], "o", color=f"C{j}",
                  label=f"intercept at {prior}")  # fmt: skip
    left.set(ylabel="mean predictive log density")
    left.legend(frameon=False)
    right.bar(methods, [found["-5 and 5", m]["weight"] for m in methods], color="C0")
    light, heavy = (found["-5 and 5", f"half {m}"]["log_z"][0] for m in ("-5", "5"))
    right.axhline(1 / (1 + np.exp(light - heavy)), color="black", label="from two runs apart")
    right.set(ylabel="weight of the positive intercept")
    right.legend(frameon=False)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    began = time.monotonic()
    found = compare(common.Records(options.out), options.seed, options.quick)
    print(report(found))
    print(f"{time.monotonic() - began:.0f} seconds")
    draw(found, options.stem)


if __name__ == "__main__":
    main()
