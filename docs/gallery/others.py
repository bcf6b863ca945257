"""What NUTS and ``pm.sample_smc`` say of the problems of the gallery.

The pages of the gallery are executed when the documentation is built. The other samplers take
too long for that, so their draws are kept in ``docs/gallery/others``: of each chain 250 draws,
evenly spread. The script runs the cells of a page that have the tag ``model``, and samples
``model`` with the default settings of both samplers and four chains. Run it with::

    python docs/gallery/others.py                 # all pages
    python docs/gallery/others.py sunspots coal   # some
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KEPT = HERE / "others"
# Draws that are kept of each chain. Conventional: shares of a chain are shown with two digits.
DRAWS = 250
CHAINS, SEED = 4, 1
# Variables that are kept, by page.
PAGES = {
    "sunspots": ["period"],
    "galaxies": ["mu"],
    "pharmacokinetics": ["absorption", "elimination", "volume"],
    "coal": ["change"],
    "velocities": ["period"],
    "network": ["slope"],
    "wells": ["x_7"],
    "sensors": ["place"],
}
CELL = re.compile(r"```\{code-cell\}[^\n]*\n(?P<options>(?::[^\n]*\n)*)(?P<code>.*?)```", re.DOTALL)


def load(page: str) -> dict[str, np.ndarray]:
    """Return the kept draws of a page.

    Parameters
    ----------
    page : str

    Returns
    -------
    dict
        ``nuts_<variable>`` and ``smc_<variable>``, arrays of shape (chain, draw, ...);
        ``smc_log_evidence`` of shape (chain,); ``nuts_r_hat``, the largest of all variables; and
        the CPU seconds ``nuts_seconds`` and ``smc_seconds``, with compilation. Of a sampler that
        raised an error there is its name alone, ``smc_error``.
    """
    with np.load(KEPT / f"{page}.npz") as kept:
        return dict(kept)


def cells(page: str, tag: str) -> str:
    """Return the code of the cells of a page that have a tag."""
    text = (HERE / f"{page}.md").read_text()
    return "\n".join(m["code"] for m in CELL.finditer(text) if tag in m["options"])


def thinned(idata, name: str) -> np.ndarray:
    """Return evenly spread draws of a variable, shape (chain, draw, ...)."""
    draws = idata["posterior"][name].values
    keep = np.linspace(0, draws.shape[1] - 1, DRAWS).round().astype(int)
    return draws[:, keep].astype(np.float32)


def evidences(idata) -> np.ndarray:
    """Return the log evidence of each chain of ``pm.sample_smc``, shape (chain,).

    The last temperature of a chain has it. Chains with different numbers of temperatures are lists
    in an array of one row.
    """
    values = np.asarray(idata["sample_stats"]["log_marginal_likelihood"].values)
    chains = values if len(values) == CHAINS else values.ravel()
    return np.array([np.asarray(list(chain), dtype=float)[-1] for chain in chains])


def run(page: str) -> None:
    """Sample the model of a page and keep the draws."""
    import arviz as az
    import pymc as pm

    names: dict = {}
    exec(cells(page, "model"), names)
    kept = {}
    with names["model"]:
        for sampler, call in (("nuts", pm.sample), ("smc", pm.sample_smc)):
            began = time.process_time()
            try:
                idata = call(chains=CHAINS, cores=1, random_seed=SEED, progressbar=False)
            except Exception as error:
                # That a sampler cannot run is what the page says of it.
                kept[f"{sampler}_error"] = np.array(type(error).__name__)
                continue
            kept[f"{sampler}_seconds"] = time.process_time() - began
            for name in PAGES[page]:
                kept[f"{sampler}_{name}"] = thinned(idata, name)
            if sampler == "nuts":
                r_hat = az.rhat(idata)
                kept["nuts_r_hat"] = max(float(r_hat[v].max()) for v in r_hat.data_vars)
            else:
                kept["smc_log_evidence"] = evidences(idata)
    KEPT.mkdir(exist_ok=True)
    np.savez_compressed(KEPT / f"{page}.npz", **kept)
    print(page, {k: np.round(v, 3) for k, v in kept.items() if np.size(v) <= CHAINS})


def main() -> None:
    """Run the pages that were named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=list(PAGES))
    for page in parser.parse_args().pages:
        run(page)


if __name__ == "__main__":
    main()
