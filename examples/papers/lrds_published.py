"""The bias of the published sampler that its own weights do not see (arXiv 2410.19449).

The reference is exactly the target, so that no control is needed, and none is used: the best that
training could come to. The target is two Gaussian modes of weights 2/3 and 1/3. *Normal start* is
the published setting: the chain starts from the standard normal although the noised reference still
has a trace of the modes there (a signal of 0.08), and makes exponential-integrator steps. *Noised
reference* is where the chain should start, and *exact* kernels are the reference's own, which a
Gaussian mixture has in closed form.

*Error* is that of the heavy mode's share in %, of draws without any correction. *Own ESS* is the
effective share of the draws by the weights of the published code, the target over the reference at
the chain's end. *True ESS* is that by the ratio of the kernels really used, and *corrected* the
error with these weights, beside its standard error. Run it with::

    python examples/papers/lrds_published.py
"""

import time

import common
import numpy as np

from pymc_multimodal.gallery import two_modes
from pymc_multimodal.proposals.lrds import (
    AffineMap,
    MixtureReference,
    SteppedReference,
    draw_paths,
    exponential_steps,
    geometric,
    path_ess,
    variance_preserving,
)
from pymc_multimodal.proposals.mixture import GaussianMixture

DIMENSIONS = (8, 16, 32, 64, 128)
HEAVY = 2 / 3
# Start, kernels, steps.
VARIANTS = (
    ("normal", "exponential", 100),
    ("noised reference", "exponential", 100),
    ("noised reference", "exact", 10),
    ("noised reference", "exact, geometric", 8),
)
STYLES = ("C3o-", "C1o-", "C0o-", "C0s--")
# Errors of Table 2 in %, from its readers: trained samplers, references from local chains.
PUBLISHED = {16: (1.7, 0.6), 32: (2.7, 0.8), 64: (4.1, 0.6)}


def reference_of(dim: int, start: str, kernels: str, steps: int):
    """Make the reference that is the target, and the coordinates that it runs in."""
    means = np.outer([-1.0, 1.0], np.ones(dim))
    weights = np.array([HEAVY, 1 - HEAVY])
    middle = weights @ means
    within = "geometric" in kernels
    # As published the whole has unit spread; for levels of our own, the modes have.
    size = np.sqrt(0.05) if within else np.sqrt((middle @ middle + total_variance(dim)) / dim)
    coordinates = AffineMap(middle if within else np.zeros(dim), size * np.eye(dim))
    noising = geometric(steps, 0.15, 3.0) if within else variance_preserving(steps)
    factors = np.stack([np.sqrt(0.05) * np.eye(dim)] * 2)
    target = GaussianMixture(weights, means, factors)
    mixture = MixtureReference(
        target.in_coordinates(coordinates.origin, coordinates.factor), noising
    )
    if "exact" in kernels:
        return mixture, coordinates
    gain, sd = exponential_steps(noising)
    normal = np.sqrt(1.0 + noising.levels[-1] ** 2) if start == "normal" else None
    return SteppedReference(mixture, gain, sd, start_sd=normal), coordinates


def total_variance(dim: int) -> float:
    """Trace of the target's covariance."""
    return dim * (0.05 + 4 * HEAVY * (1 - HEAVY))


def measure(dim: int, start: str, kernels: str, steps: int, seed: int, n: int) -> dict:
    """Draw n paths of one sampler and weigh them in both ways."""
    rng, target = np.random.default_rng([seed, dim, steps]), two_modes(dim)
    reference, coordinates = reference_of(dim, start, kernels, steps)
    began = time.monotonic()
    heavy, own, true = [], [], []
    for _ in range(n // 2000):
        path, log_q = draw_paths(reference, None, 2000, rng)
        x = coordinates.to_x(path[0])
        logp = target.log_density(x) + coordinates.log_volume
        heavy.append(target.membership(x)[:, 0])
        own.append(logp - reference.log_level(0, path[0]))
        true.append(logp + reference.noising.log_density(path) - log_q)
    side, ratio = np.concatenate(heavy), np.concatenate(true)
    w = np.exp(ratio - ratio.max())
    corrected = float(w @ side / w.sum())
    return {
        "error": float(side.mean() - HEAVY),
        "se": float(side.std() / np.sqrt(n)),
        "own_ess": path_ess(np.concatenate(own)),
        "true_ess": path_ess(ratio),
        "corrected": corrected - HEAVY,
        "corrected_se": float(np.sqrt(np.sum((w * (side - corrected)) ** 2)) / w.sum()),
        "seconds": time.monotonic() - began,
    }


def report(found: dict) -> str:
    rows = []
    for (dim, start, kernels, steps), r in found.items():
        corrected = f"{100 * r['corrected']:+.2f} ± {100 * r['corrected_se']:.2f}"
        rows.append({
            "d": dim,
            "start": start,
            "kernels": kernels,
            "steps": steps,
            "error %": f"{100 * r['error']:+.2f} ± {100 * r['se']:.2f}",
            "own ESS": f"{r['own_ess']:.3f}",
            "true ESS": f"{r['true_ess']:.4f}",
            "corrected %": corrected if r["true_ess"] > 0.002 else "too few",
        })  # fmt: skip
    return common.table(rows)


def draw(found: dict, stem: str) -> None:
    figure, ((left, right),) = common.figure(1, 2, (12, 4.4))
    for variant, style in zip(VARIANTS, STYLES, strict=True):
        cases = {c[0]: r for c, r in found.items() if c[1:] == variant}
        dims = list(cases)
        error = [100 * abs(r["error"]) for r in cases.values()]
        label = f"{variant[0]}, {variant[1]}, {variant[2]} steps"
        left.plot(dims, error, style, label=label)
        right.plot(dims, [max(r["true_ess"], 1e-5) for r in cases.values()], style)
    mean, spread = np.transpose(list(PUBLISHED.values()))
    left.errorbar(list(PUBLISHED), mean, spread, fmt="k^", capsize=3, label="published Table 2")
    left.set(ylabel="error of the heavy mode's share (%)", title="Draws without correction")
    right.axhline(1.0, color="black", lw=1)
    right.text(8, 0.85, "by the published weights, for all", va="top")
    right.set(ylabel="effective share of the draws", title="Weights of the kernels really used",
              yscale="log")  # fmt: skip
    for ax in (left, right):
        ax.set(xscale="log", xlabel="dimension")
        ax.set_xticks(DIMENSIONS, map(str, DIMENSIONS))
        ax.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records, found = common.Records(options.out), {}
    for dim in DIMENSIONS[:2] if options.quick else DIMENSIONS:
        n = 2000 if options.quick else 10_000
        for variant in VARIANTS:
            # Chains of a few exact steps are quick.
            paths = n if variant[2] == 100 or options.quick else 4 * n
            case = (dim, *variant)
            name = " ".join(map(str, (*case, options.seed)))
            found[case] = records.get(name, lambda c=case, m=paths: measure(*c, options.seed, m))
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    main()
