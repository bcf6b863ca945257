"""Weights kept by a start from data: 1 and 32 dimensions (arXiv 2310.01762, Figures 1 and 2).

The paper's point: a score learned from draws knows little of the space between modes, so the law
that Langevin dynamics with it tends to has wrong weights; but a run that starts from the draws and
stops early keeps theirs. Two normals 8 standard deviations apart, weights 0.8 and 0.2; the paper
states no parameters. In one dimension the stationary law of a learned score is computed by
quadrature, without a run.

*Shares moved* is how far the run moves the share of a mode from that in the stored draws, *error*
how far it ends from the truth, beside the error *of the data* themselves, and the error of the
same run *from N(0, I)*. *Score error* is relative and squared, at fresh draws. *Distance* is the
energy distance to the exact law within modes, over that of as many exact draws as were stored: 1
is as good, 0 perfect. All are means over data sets. Run it with::

    python examples/papers/score_mixtures.py
    python examples/papers/score_mixtures.py --quick
"""

import common
import numpy as np
import score_tools as tools
from score_tools import NOISE, OURS, PLAIN, STORED, STYLE

# Dimension, stored draws, data sets.
CASES = ((1, 1000, 8), (32, 2000, 5))
DISTANCE = 8.0
GRID = np.linspace(-9.0, 9.0, 2001)
STATIONARY = "stationary"


def stationary(score) -> np.ndarray:
    """Density on the grid of the law that Langevin dynamics with a score tends to."""
    slope = score(GRID[:, None])[:, 0]
    cell = GRID[1] - GRID[0]
    log_p = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]) * cell)])
    p = np.exp(log_p - log_p.max())
    return p / (p.sum() * cell)


def measure(dim: int, m: int, seed: int, quick: bool) -> dict:
    rng = np.random.default_rng([seed, dim])
    target = tools.two_normals(dim, DISTANCE)
    found = tools.study(
        target, m, rng, n=2_000 if quick else 20_000, training_steps=200 if quick else 1500
    )
    record = tools.plain(found)
    record["dim"], record["truth"] = dim, target.weights
    line = target.means[1] / np.linalg.norm(target.means[1])
    for name in (OURS, PLAIN):
        if dim == 1:
            density = stationary(found[name]["function"])
            left = density[GRID < 0].sum() / density.sum()
            record[name]["stationary"] = float(left)
            record[name]["density"] = np.round(density[::8], 5)
            record[name]["score on grid"] = np.round(found[name]["function"](GRID[::8, None]), 4)
        record[name]["projection"] = histogram(found[name]["points"] @ line)
    return record


def histogram(x: np.ndarray) -> np.ndarray:
    return np.round(np.histogram(x, bins=72, range=(-9, 9), density=True)[0], 5)


def report(records: dict[int, list[dict]]) -> str:
    rows = []
    for dim, own in records.items():
        for name in (OURS, PLAIN):
            row = {"dimension": dim, **tools.method_columns(own, name)}
            if dim == 1:
                gap = [abs(r[name]["stationary"] - r["truth"][0]) for r in own]
                row[STATIONARY] = f"{np.mean(gap):.3f} (largest {np.max(gap):.3f})"
            rows.append(row)
    return common.table(rows)


def draw(records: dict[int, list[dict]], stem: str) -> None:
    figure, axes = common.figure(2, 3, (13, 6.6))
    middle, grid = np.linspace(-9, 9, 73)[:-1] + 0.125, GRID[::8]
    for row, (dim, own) in zip(axes, records.items(), strict=True):
        exact = tools.two_normals(1, DISTANCE)
        truth = np.exp(exact.log_density(grid[:, None]))
        first = own[0]
        if dim == 1:
            row[0].plot(grid, exact.score(grid[:, None])[:, 0], color="0.6", lw=3, label="exact")
            for name in (OURS, PLAIN):
                row[0].plot(grid, np.ravel(first[name]["score on grid"]), color=STYLE[name],
                            label=name)  # fmt: skip
            row[0].set(title="score", ylim=(-7, 7))
            row[0].legend(fontsize=8)
        shown = ((row[1], PLAIN),) if dim == 1 else ((row[0], PLAIN), (row[1], OURS))
        for axis, name in shown:
            axis.fill_between(grid, truth, color="0.85", label="exact")
            axis.plot(middle, first[name]["projection"], drawstyle="steps-mid", color=STYLE[name],
                      label="from data, stopped early")  # fmt: skip
            if dim == 1:
                axis.plot(grid, first[name]["density"], color="C3", label="stationary law")
            axis.set_title(f"{name}, d = {dim}" + (", between the modes" if dim > 1 else ""))
            axis.legend(fontsize=8)
        weights(row[2], own, dim)
    common.save(figure, stem)


def weights(axis, own: list[dict], dim: int) -> None:
    """Weight of the heavier mode in each data set, and after each run."""
    columns = [(STORED, [r[STORED]["shares"][0] for r in own], STORED)]
    for name in (OURS, PLAIN):
        columns.append((f"{name},\nfrom data", [r[name]["shares"][0] for r in own], name))
        columns.append((f"{name},\n{NOISE}", [r[name]["noise shares"][0] for r in own], NOISE))
        if dim == 1:
            law = [r[name][STATIONARY] for r in own]
            columns.append((f"{name},\nstationary", law, NOISE))
    for place, (_, values, name) in enumerate(columns):
        axis.plot(np.full(len(values), place), values, "o", color=STYLE[name], alpha=0.6)
    axis.axhline(own[0]["truth"][0], color="0.6", zorder=0)
    axis.set_xticks(range(len(columns)), [c[0] for c in columns], fontsize=7, rotation=35)
    axis.set(title=f"weight of the heavier mode, d = {dim}", ylim=(0, 1))


def main() -> None:
    options = common.parse(__doc__, __file__)
    records, found = common.Records(options.out), {}
    for dim, m, sets in CASES:
        m, sets = (200, 1) if options.quick else (m, sets)
        found[dim] = [
            records.get(
                f"d = {dim}, seed {seed}",
                lambda d=dim, m=m, s=seed: measure(d, m, s, options.quick),
            )
            for seed in range(options.seed, options.seed + sets)
        ]
    print(report(found))
    draw(found, options.stem)


if __name__ == "__main__":
    tools.quiet()
    main()
