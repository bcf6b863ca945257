"""What each density family of `Hybrid()` gains: the same fits with one, two and three of them.

arXiv 2505.07825 learns a network for every mode. `Hybrid()` begins with a Gaussian or Student-t
for each region, goes on to a Gaussian mixture, and to a network (an autoregressive flow) only where
jumps would still be refused often, keeping what held-out draws prefer. Here only the first, and the
first two of these families are used, on targets whose modes are skewed, bent, heavy-tailed, or
a funnel beside a ridge.

*Kept* are the families of the regions, heaviest first, and *accepted* is the acceptance of jumps.
*ESS* is the effective number of mode indicators for 1,000 evaluations of the final chains.
*Weight error* is the largest against exact draws labelled by the same regions, *log Z error* that
of the total evidence, each beside the standard error stated. *Evaluations* and *seconds* are those
of the whole fit; *training* is the part of these seconds spent on generators, those that local
chains jump with included. A fit that has used a million evaluations refines no
further; where that, or anything else, is not enough for the asked standard error of 0.003, the
statuses say so. The image of hybrid_image.py is constant on every pixel, so that it has no gradient
to climb; its own table has the families.
Run it with::

    python examples/papers/hybrid_families.py
    python examples/papers/hybrid_families.py --quick
"""

import importlib
import runpy
import time
from dataclasses import dataclass, field
from pathlib import Path

import common
import numpy as np

from pymc_multimodal.fit.pipeline import fit_density
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.gallery.base import Target, mixture_target
from pymc_multimodal.model.build import density_of
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.target.density import Density

SUBSETS = {
    "gaussian": ("gaussian",),
    "+ mixture": ("gaussian", "mixture"),
    "+ network": ("gaussian", "mixture", "network"),
}
GALLERY = ("two_bananas_10", "student_t_modes_10", "skew_normal_mixture_20", "five_bananas")
FUNNEL = "funnel_and_ridge_30"
MAX_EVALS = 1_000_000
STYLE = {"gaussian": "C7", "+ mixture": "C9", "+ network": "C0"}


def funnel_and_ridge(dim: int = 30, neck: int = 5, rho: float = 0.95) -> Target:
    """Two modes of weights 0.6 and 0.4: a funnel, and a Gaussian ridge with correlation `rho`.

    The funnel's first coordinate v is standard normal, the next `neck` are normal with standard
    deviation ``exp(v / 2)``, the rest standard normal. Neighbouring coordinates of the ridge are
    correlated like those of an autoregressive process.
    """
    weights, centre = np.array([0.6, 0.4]), np.full(dim, 4.0)
    lags = np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))
    scale = np.linalg.cholesky(rho**lags)
    inverse = np.linalg.inv(scale).T
    constant = -0.5 * dim * np.log(2 * np.pi)
    log_det = np.log(np.diag(scale)).sum()

    def log_components(x, xp):
        v = x[..., 0] + centre[0]
        inside = xp.sum((x[..., 1 : 1 + neck] + centre[0]) ** 2, axis=-1)
        rest = xp.sum((x[..., 1 + neck :] + centre[0]) ** 2, axis=-1)
        funnel = -0.5 * (v**2 + inside * xp.exp(-v) + rest + neck * v)
        ridge = -0.5 * xp.sum(((x - centre) @ inverse) ** 2, axis=-1) - log_det
        return xp.stack([funnel, ridge], axis=-1) + constant

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((n, dim))
        if k == 1:
            return centre + z @ scale.T
        z[:, 1 : 1 + neck] *= np.exp(0.5 * z[:, :1])
        return z - centre

    return mixture_target(
        name=FUNNEL,
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=dim,
        scale=6.0,
        note="exact: a funnel and a Gaussian",
    )


@dataclass(frozen=True)
class Timed(Hybrid):
    """`Hybrid` that notes the seconds of every fit."""

    seconds: list = field(default_factory=list)

    def fit_regions(self, *args, **kwargs):
        """Fit and take the time."""
        began = time.monotonic()
        try:
            return super().fit_regions(*args, **kwargs)
        finally:
            self.seconds.append(time.monotonic() - began)


def measure(target: Target, density: Density, families: tuple[str, ...], seed: int, quick: bool):
    """Fit once and compare with what is known."""
    generator = Timed(families=families)
    config = FitConfig(
        generator=generator,
        target_se=0.02 if quick else 0.003,
        max_evals=100_000 if quick else MAX_EVALS,
        random_seed=seed,
    )
    began = time.monotonic()
    fit = fit_density(density, config)
    seconds = time.monotonic() - began
    benchmarks = Path(__file__).resolve().parents[1] / "benchmarks" / "weights.py"
    mixing = runpy.run_path(str(benchmarks))["mixing"]
    chains = mixing(density, fit, seed, 100 if quick else 500)
    truth, truth_se = common.region_shares(
        fit, target, 50_000 if quick else 500_000, np.random.default_rng([seed, 77])
    )
    return {
        "modes": fit.n_modes,
        "kept": [q.family for q in fit.kernel.generator.densities],
        "weight": fit.weights.weight,
        "weight_se": fit.weights.weight_se,
        "truth": truth,
        "truth_se": truth_se,
        "log_z_error": fit.weights.total - target.log_z,
        "log_z_se": fit.weights.total_se,
        "evals": fit.n_logp_evals,
        "seconds": seconds,
        "training": sum(generator.seconds),
        "stages": fit.seconds,
        "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        **chains,
    }


def report(records: dict) -> str:
    rows = []
    for (name, subset), r in records.items():
        error = np.abs(np.subtract(r["weight"], r["truth"])).max()
        per_eval = r.get("mode_ess_per_draw", np.nan) / r["evals_per_draw"]
        rows.append(
            {
                "target": name,
                "families": subset,
                "kept": ", ".join(r["kept"]),
                "accepted": f"{r['acceptance']:.3f}",
                "ESS / 1,000 evals": f"{1000 * per_eval:.1f}",
                "weight error": f"{error:.4f} ({max(r['weight_se']):.4f})",
                "log Z error": f"{r['log_z_error']:+.4f} ({r['log_z_se']:.4f})",
                "evaluations": f"{r['evals']:,}",
                "seconds": f"{r['seconds']:.0f}",
                "training": f"{r['training']:.1f}",
                "statuses": ", ".join(r["statuses"]),
            }
        )
    return common.table(rows)


def draw(records: dict, stem: str) -> None:
    figure, axes = common.figure(1, 3, (14, 4.6))
    names = list(dict.fromkeys(name for name, _ in records))
    panels = (
        ("acceptance of jumps", lambda r: r["acceptance"]),
        (
            "effective mode indicators / 1,000 evaluations",
            lambda r: 1000 * r.get("mode_ess_per_draw", np.nan) / r["evals_per_draw"],
        ),
        ("largest standard error of a weight", lambda r: max(r["weight_se"])),
    )
    for ax, (label, value) in zip(axes[0], panels, strict=True):
        for j, subset in enumerate(SUBSETS):
            values = [value(records[name, subset]) for name in names]
            ax.bar(np.arange(len(names)) + 0.27 * (j - 1), values, 0.27, label=subset,
                   color=STYLE[subset])  # fmt: skip
        words = [name.replace("student_t", "student-t").replace("_", "\n") for name in names]
        ax.set_xticks(range(len(names)), words, fontsize=8)
        ax.set_ylabel(label)
    axes[0, 1].set_yscale("log")
    axes[0, 2].set_yscale("log")
    axes[0, 2].axhline(0.003, color="black", lw=0.8, ls=":", label="asked for")
    axes[0, 0].set_ylim(0, 1)
    axes[0, 2].legend(frameon=False, fontsize=9, loc="upper left")
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    held = common.Records(options.out)
    # Its import would count as training of whoever comes first.
    importlib.import_module("torch")
    records = {}
    for name in GALLERY[:1] if options.quick else (*GALLERY, FUNNEL):
        target, density = None, None
        for subset, families in SUBSETS.items():
            key = f"{name}, {subset}, seed {options.seed}"
            if key not in held and density is None:
                target = funnel_and_ridge() if name == FUNNEL else TARGETS[name]()
                density = density_of(target.model)
            records[name, subset] = held.get(
                key,
                lambda t=target, d=density, f=families: measure(
                    t, d, f, options.seed, options.quick
                ),
            )
    print(report(records))
    draw(records, options.stem)


if __name__ == "__main__":
    main()
