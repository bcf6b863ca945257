"""Memory, files and a full disk."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import models
import pytest
from densities import two_modes

import pymc_multimodal as mm
from pymc_multimodal.fit import FitConfig, fit_density

FIT_AND_DRAW = """
import errno, os, sys, tempfile
sys.path.insert(0, sys.argv[1])
import models, pytensor
import pymc_multimodal as mm
from densities import Banana
from pymc_multimodal.fit import FitConfig, fit_density

mode, written = sys.argv[2], []
allowed = tuple(os.path.realpath(p) for p in (pytensor.config.compiledir, tempfile.gettempdir()))

def look(event, args):
    if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        path = os.path.realpath(str(args[0]))
        if mode == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        written.append(path)

sys.addaudithook(look)
# A network is trained, too.
settings = dict(target_se=0.05, challenge=False, generator=mm.ScoreLangevin(training_steps=50))
assert fit_density(Banana(2).density(), FitConfig(**settings)).n_modes
assert "torch" in sys.modules
print("plain", written)
written.clear()
model = models.four_modes()
fit = mm.fit(model, random_seed=1, target_se=0.05, progressbar=False, quiet=True)
mm.sample(20, chains=2, model=model, fit=fit, progressbar=False, quiet=True)
print("model", [p for p in written if not p.startswith(allowed) and p not in ("/", "/dev/null")])
"""


def run_apart(mode, folder):
    tests = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", FIT_AND_DRAW, tests, mode],
        capture_output=True, text=True, cwd=folder, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow  # a process of its own compiles a model
def test_no_file_is_written_outside_of_the_compile_cache(tmp_path):
    done = run_apart("look", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "plain []" in done.stdout
    assert "model []" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # a process of its own compiles a model
def test_a_full_disk_stops_no_fit_or_says_so(tmp_path):
    """No file can be opened for writing: densities of NumPy do not mind, PyTensor may."""
    done = run_apart("full", tmp_path)
    assert "plain []" in done.stdout
    assert done.returncode == 0 or "No space left on device" in done.stderr


def resident():
    """Memory of this process in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow  # hundreds of fits
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("kind", "warm", "fits"), [("density", 50, 450), ("model", 5, 20)])
def test_memory_does_not_grow_with_the_number_of_fits(kind, warm, fits):
    """Models and their compiled functions are let go of as well."""
    target = two_modes(dim=2)

    def once(seed):
        if kind == "density":
            fit_density(target.density(), FitConfig(max_evals=3000, random_seed=seed))
        else:
            settings = {"random_seed": seed, "progressbar": False, "quiet": True}
            mm.fit(models.four_modes(), max_evals=2000, **settings)

    for seed in range(warm):
        once(seed)
    before = resident()
    for seed in range(warm, warm + fits):
        once(seed)
    # A fit's draws alone are some 100 kB; compilers keep a little for each model.
    assert (resident() - before) / fits < (2e4 if kind == "density" else 2e6)
