"""Cost of a fit beside ``pm.sample_smc``: weight errors and CPU seconds, compilation included.

Each method runs in a process of its own, with the same target and the same linker caches. Its CPU
seconds count everything from the model on, in that process and its children. ``--cold`` gives each
method an empty compile cache. Draws of SMC are labelled by the partition of the fit, and the truth
is the share of exact draws. Run it with::

    python examples/benchmarks/rivals.py forty_modes
    python examples/benchmarks/rivals.py two_modes_16 --cold
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

METHODS = ("fit", "sample", "smc")


def cpu_seconds() -> float:
    """CPU time of this process and of its children, so far."""
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def work(method: str, name: str, seed: int, target_se: float, folder: Path) -> dict:
    """Run one method in this process; write the fit and SMC's draws into the folder."""
    import numpy as np
    import pymc as pm

    import pymc_multimodal as pmm
    from pymc_multimodal.gallery import TARGETS

    logging.getLogger("pymc").setLevel(logging.CRITICAL)
    target = TARGETS[name]()
    began, cpu = time.monotonic(), cpu_seconds()
    found = {}
    with target.model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method == "smc":
            idata = pm.sample_smc(
                draws=2000, chains=4, cores=1, random_seed=seed, progressbar=False,
                compute_convergence_checks=False,
            )  # fmt: skip
        else:
            settings = {"target_se": target_se, "random_seed": seed, "progressbar": False}
            fit = pmm.fit(**settings)
            found = {
                "evals": fit.n_logp_evals,
                "fit_seconds": sum(fit.seconds.values()),
                "stages": {k: round(v, 2) for k, v in fit.seconds.items()},
                "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
            }
            if method == "sample":
                pmm.sample(2000, fit=fit, random_seed=seed, progressbar=False)
    found |= {"cpu": cpu_seconds() - cpu, "seconds": time.monotonic() - began}
    if method == "fit":
        fit.save(folder / "found.fit")
    if method == "smc":
        x = [idata["posterior"][v.name].values for v in target.model.free_RVs]
        rows = np.concatenate([v.reshape(8000, -1) for v in x], axis=1)
        np.save(folder / "smc.npy", rows)
    return found


def compare(name: str, seed: int, folder: Path, exact: int) -> dict:
    """Weight errors of the fit and of SMC, by the fit's partition."""
    import numpy as np
    from weights import true_shares

    from pymc_multimodal import Fit
    from pymc_multimodal.gallery import TARGETS

    target = TARGETS[name]()
    fit = Fit.load(folder / "found.fit")
    found = true_shares(target, fit, seed, exact)
    if found is None:
        return {}
    truth, _ = found
    same_space = all(t is None for t in target.model.rvs_to_transforms.values())
    shares = {"fit": fit.weights.weight}
    if same_space and (folder / "smc.npy").exists():
        rows = np.load(folder / "smc.npy")
        shares["smc"] = np.bincount(fit.label(rows), minlength=fit.n_modes) / len(rows)
    return {
        method: {
            "error": float(np.abs(share - truth).max()),
            "total_variation": float(0.5 * np.abs(share - truth).sum()),
            "lost": int(np.sum((share == 0) & (truth > 0.001))),
            "modes": fit.n_modes,
        }
        for method, share in shares.items()
    }


def launch(arguments: list[str], caches: Path | None) -> dict:
    """Run this script in a new process, with a compile cache of its own if a folder is given."""
    environment = dict(os.environ)
    if caches is not None:
        flags = environment.get("PYTENSOR_FLAGS", "")
        environment["PYTENSOR_FLAGS"] = ",".join(
            [*([flags] if flags else []), f"base_compiledir={caches / 'pytensor'}"]
        )
        environment["NUMBA_CACHE_DIR"] = str(caches / "numba")
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target-se", type=float, default=0.01)
    parser.add_argument("--exact", type=int, default=200_000)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--cold", action="store_true", help="an empty compile cache for each")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.worker == "compare":
        found = compare(options.target, options.seed, options.folder, options.exact)
        print(json.dumps(found))
        return
    if options.worker:
        arguments = (options.target, options.seed, options.target_se, options.folder)
        print(json.dumps(work(options.worker, *arguments)))
        return
    common = [options.target, "--seed", str(options.seed), "--target-se", str(options.target_se)]
    common += ["--exact", str(options.exact)]
    print("| method | CPU s | s | evaluations | error | TV | modes lost | flags |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        common += ["--folder", folder]
        for method in options.methods.split(","):
            caches = Path(folder) / f"caches-{method}" if options.cold else None
            results[method] = launch([*common, "--worker", method], caches)
        errors = launch([*common, "--worker", "compare"], None) if "fit" in results else {}
    names = {
        "fit": f"pymc_multimodal.fit, target_se={options.target_se:g}",
        "sample": "... and 4 x 2,000 draws",
        "smc": "pm.sample_smc, 4 x 2,000 draws",
    }
    for method, r in results.items():
        e = errors.get(method, {})
        cells = [
            names[method],
            f"{r['cpu']:.1f}",
            f"{r['seconds']:.1f}",
            f"{r['evals']:,}" if "evals" in r else "",
            f"{e['error']:.4f}" if e else "",
            f"{e['total_variation']:.4f}" if e else "",
            f"{e['lost']} of {e['modes']}" if e else "",
            ", ".join(r.get("statuses", [])),
        ]
        print("| " + " | ".join(cells) + " |")
    if "fit" in results:
        print(f"\nseconds of the stages of the fit: {results['fit']['stages']}")


if __name__ == "__main__":
    main()
