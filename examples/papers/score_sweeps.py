"""Where a data start keeps the weights, and what it costs: four sweeps for arXiv 2310.01762.

Its theorem asks for separated or overlapping log-concave components, and grows with the number of
components, the dimension and the accuracy; its constants are not written out. Measured here are
the number of stored draws, the separation of two modes, the dimension from 10 to 50, and the
number of components, which the paper leaves as an open question.

Columns as in score_mixtures.py; shares of more than two modes are compared by total variation. In
the sweep over separations the run starts from draws with shares of one half where the truth
is 0.8: *kept* is the part of that difference which is left at the end, measured, and predicted
from the fitted components by their crossing rates, and *verdict* is what `components.pairs` says.
Both are given at the chosen
stop and at 10 and 100 times that. *Overlap* is that of the exact
components, *bound* the log-Sobolev bound of the paper's Theorem 2 with its constant written out,
*time* the fitted expected time of a crossing. Run it with::

    python examples/papers/score_sweeps.py
    python examples/papers/score_sweeps.py --quick
"""

from dataclasses import replace

import common
import numpy as np
import score_tools as tools
from scipy.stats import norm
from score_tools import OURS, PLAIN, STORED, STYLE

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.langevin import run_langevin
from pymc_multimodal.proposals.score.overlap import log_sobolev_bound

SEPARATIONS = (2.0, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0)
LONGER = (1, 10, 100)
SWEEPS = {
    "draws": (100, 300, 1000, 3000),
    "dimension": (10, 20, 30, 40, 50),
    "components": (2, 4, 8, 16, 32),
}
SETS = 2


def grid_of_normals(k: int, rng: np.random.Generator) -> GaussianMixture:
    """Place k unit normals in the plane, 8 apart from their neighbours, with unequal weights."""
    side = int(np.ceil(np.sqrt(k)))
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 2), axis=-1).reshape(-1, 2)[:k]
    weights = rng.dirichlet(np.full(k, 4.0))
    return GaussianMixture(weights, 8.0 * cells, np.stack([np.eye(2)] * k))


def cell(sweep: str, value: int, seed: int, quick: bool) -> dict:
    rng = np.random.default_rng([seed, value])
    target = {
        "draws": lambda: tools.two_normals(5, 8.0),
        "dimension": lambda: tools.two_normals(value, 8.0),
        "components": lambda: grid_of_normals(value, rng),
    }[sweep]()
    m = value if sweep == "draws" else 2000
    if quick:
        return tools.plain(tools.study(target, min(m, 500), rng, 1_000, training_steps=100))
    return tools.plain(tools.study(target, m, rng))


def separation(distance: float, seed: int, quick: bool) -> dict:
    """Run from tilted draws for three times; shares against what the components predict."""
    rng = np.random.default_rng([seed, round(10 * distance)])
    target = tools.two_normals(2, distance)
    config = ScoreLangevin(training_steps=100 if quick else 1500)
    x = target.sample(2000, rng)
    fitted = ScoreLangevin.from_draws(x, config=config, random_seed=seed)
    even = replace(target, weights=np.full(2, 0.5))
    start = even.sample(1000 if quick else 4000, rng)
    made = fitted.generate(20_000, rng)
    found = {
        "overlap": 2 * norm.cdf(-distance / 2),
        "clusters": len(fitted.clusters),
        "stop": fitted.trial.stop_time,
        "error": abs(
            np.mean(tools.label(target, made) == 0) - np.mean(tools.label(target, x) == 0)
        ),
    }
    both = np.array([[1.0, found["overlap"]], [found["overlap"], 1.0]])
    found["bound"] = log_sobolev_bound(both, target.weights, np.ones(2))
    rates = fitted.clusters.crossing_rates
    found["time"] = float(1 / rates.max()) if rates.max() > 0 else np.inf
    z = fitted.coordinates.to_z(start)
    marks = [
        round(k * fitted.trial.stop_time / fitted.step_size) for k in LONGER[: 2 if quick else 3]
    ]
    given = np.mean(tools.label(target, start) == 0)
    truth = np.mean(tools.label(target, target.sample(200_000, rng)) == 0)
    ends = run_langevin(
        fitted.learned, z, fitted.factors[fitted.label_z(z)], fitted.step_size, marks, rng
    )
    found["kept"] = [
        left(np.mean(tools.label(target, fitted.coordinates.to_x(end)) == 0), given, truth)
        for end in ends
    ]
    times = [mark * fitted.step_size for mark in marks]
    two = len(fitted.clusters) == 2
    found["predicted"] = [float(np.exp(-t * rates.sum())) if two else 0.0 for t in times]
    found["verdict"] = [
        fitted.clusters.pair_mixing(t)[0, 1] if two else "one cluster" for t in times
    ]
    alone = tools.plain_score(x, rng, training_steps=config.training_steps)
    found["kept alone"] = left(
        np.mean(tools.label(target, alone.run(start, rng)) == 0), given, truth
    )
    return found


def left(share: float, given: float, truth: float) -> float:
    """Part of the difference between given and true share that a run left."""
    return float((share - truth) / (given - truth))


def report_cells(sweep: str, records: dict[int, list[dict]]) -> str:
    rows = []
    for value, own in records.items():
        for name in (OURS, PLAIN):
            rows.append({sweep: f"{value:,}", **tools.method_columns(own, name)})
            if name == OURS:
                rows[-1]["clusters"] = ", ".join(str(r[OURS]["clusters"]) for r in own)
                rows[-1]["flagged"] = ", ".join(
                    sorted({f for r in own for f in r[OURS]["flagged"]})
                )
    return common.table(rows)


def report_separations(records: dict[float, dict]) -> str:
    rows = []
    for distance, r in records.items():
        row = {"distance": f"{distance:g}", "overlap": f"{r['overlap']:.1e}"}
        row["bound"] = f"{r['bound']:.2g}"
        row["time"] = f"{r['time']:.2g}" if r["clusters"] > 1 else ""
        row["stop"] = f"{r['stop']:.1f}"
        for longer, kept, guess, verdict in zip(
            LONGER, r["kept"], r["predicted"], r["verdict"], strict=False
        ):
            row[f"x {longer}: kept"] = f"{kept:.2f}"
            row[f"x {longer}: predicted"] = f"{guess:.2f}" if r["clusters"] > 1 else ""
            row[f"x {longer}: verdict"] = verdict
        row[f"kept, {PLAIN}"] = f"{r['kept alone']:.2f}"
        rows.append(row)
    return common.table(rows)


def draw(cells: dict[str, dict], apart: dict[float, dict], stem: str) -> None:
    figure, axes = common.figure(2, 4, (15, 6.4))
    for column, (sweep, records) in zip(axes.T, cells.items(), strict=False):
        values = list(records)
        for name in (OURS, PLAIN):
            moved = [max(tools.mean_of(own, name, "kept"), 1e-4) for own in records.values()]
            column[0].plot(values, moved, "o-", color=STYLE[name], label=f"{name}, moved")
            ratio = [max(tools.ratio_of(own, name), 0.02) for own in records.values()]
            column[1].plot(values, ratio, "o-", color=STYLE[name], label=name)
        data = [tools.mean_of(own, STORED, "error") for own in records.values()]
        column[0].plot(values, data, "s--", color=STYLE[STORED], label="error of the stored draws")
        column[1].axhline(1, color="0.6", lw=0.8)
        column[0].set(yscale="log", title=f"by number of {sweep}" if sweep != "dimension" else
                      "by dimension")  # fmt: skip
        column[1].set(yscale="log", xlabel=sweep)
        if sweep != "dimension":
            for axis in column:
                axis.set_xscale("log")
                axis.set_xticks(values, [str(v) for v in values])
                axis.minorticks_off()
    axes[0, 0].set_ylabel("shares, total variation")
    axes[1, 0].set_ylabel("distance within modes\n(stored draws: 1)")
    axes[0, 0].legend(fontsize=7)
    distance = np.array(list(apart))
    for axis, at in zip(axes[:, 3], (0, 2), strict=True):
        rows = [r for r in apart.values() if len(r["kept"]) > at]
        axis.plot(distance[: len(rows)], [r["kept"][at] for r in rows], "o", color=STYLE[OURS],
                  label="measured")  # fmt: skip
        axis.plot(distance[: len(rows)], [r["predicted"][at] for r in rows], color="0.35",
                  label="predicted")  # fmt: skip
        axis.set(title=f"given weights kept, {LONGER[at]} x the stop", ylim=(-0.1, 1.1))
    axes[0, 3].plot(distance, [r["kept alone"] for r in apart.values()], "x", color=STYLE[PLAIN],
                    label=PLAIN)  # fmt: skip
    axes[0, 3].legend(fontsize=7)
    axes[1, 3].set_xlabel("separation in standard deviations")
    common.save(figure, stem)


def main() -> None:
    options = common.parse(__doc__, __file__)
    records = common.Records(options.out)
    cells, sets = {}, 1 if options.quick else SETS
    for sweep, values in SWEEPS.items():
        cells[sweep] = {
            v: [
                records.get(
                    f"{sweep} {v}, seed {seed}",
                    lambda w=sweep, v=v, s=seed: cell(w, v, s, options.quick),
                )
                for seed in range(options.seed, options.seed + sets)
            ]
            for v in (values[:2] if options.quick else values)
        }
    apart = {
        d: records.get(
            f"separation {d:g}, seed {options.seed}",
            lambda d=d: separation(d, options.seed, options.quick),
        )
        for d in (SEPARATIONS[1::4] if options.quick else SEPARATIONS)
    }
    for sweep, found in cells.items():
        print(report_cells(sweep, found), end="\n\n")
    print(report_separations(apart))
    draw(cells, apart, options.stem)


if __name__ == "__main__":
    tools.quiet()
    main()
