"""Models compared by their evidences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit, logsumexp

from pymc_multimodal import checks
from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.evidence import LogEvidence
from pymc_multimodal.fit import Fit
from pymc_multimodal.model import observed_values, same_data
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.pictures.canvas import Request, tidy
from pymc_multimodal.plugin.stored_evidence import log_evidence, recorded_evidence
from pymc_multimodal.plugin.unit_table import TEXT_WIDTH, formatted

if TYPE_CHECKING:
    import pymc as pm
    from matplotlib.figure import Figure

__all__ = ["compare", "plot_compare"]

# Half width of a 95 % interval in standard errors of a normal distribution.
NORMAL_95 = 1.96
# Sum of prior probabilities, but for rounding. Conventional.
TOLERANCE = 1e-6
# Probability of the models without a known error up to which it is added to the errors of the
# others. Conventional, as in evidence/masses.py.
MAX_UNKNOWN = 0.01
# Width of the picture, and height of a row and of what is around the rows, in inches. Conventional.
WIDTH, ROW_HEIGHT, FRAME_HEIGHT = 10.0, 0.45, 1.3
# Intervals between the ticks of the axis of evidences, at most. Conventional.
N_TICKS = 5
# Probability below which it is written with two digits and an exponent. Conventional.
MIN_DECIMAL = 1e-3


class ComparisonTable(pd.DataFrame):
    """A table of models, whose text fits into 80 columns.

    What is computed from it is an ordinary DataFrame.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        """Write numbers with their errors; the order of the rows is the rank."""
        return self._shown().to_string(line_width=TEXT_WIDTH)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Write the same for a notebook."""
        return str(self._shown()._repr_html_())

    def _shown(self) -> pd.DataFrame:
        # The logarithm of a Bayes factor is a difference of log evidences, which are there.
        hidden = ["rank", "log_bayes_factor", "log_bayes_factor_se"]
        return formatted(pd.DataFrame(self).drop(columns=hidden))


def compare(
    compare_dict: Mapping[str, Any],
    models: Mapping[str, pm.Model] | None = None,
    *,
    reference: str | None = None,
    prior: Mapping[str, float] | None = None,
    random_seed: int | np.random.Generator | None = None,
    workers: Any = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Compare models by their evidences: Bayes factors and probabilities of the models.

    Parameters
    ----------
    compare_dict : mapping of str
        For each model, by its name: draws (InferenceData or DataTree) of any sampler, a `Fit`, or
        what `log_evidence` has returned.
    models : mapping of pymc.Model, optional
        The models of these names. One is needed for draws without the group `modes`; where it is
        given, the evidence is estimated from the draws by `log_evidence`.
    reference : str, optional
        Name of the model that Bayes factors refer to; by default that of the largest evidence.
    prior : mapping of float, optional
        Prior probability of each model; equal by default.
    random_seed : int or numpy.random.Generator, optional
    workers : int or object, optional
        Processes that share the evaluations of `log_evidence`.
    quiet : bool
        Whether to log nothing but warnings.

    Returns
    -------
    pandas.DataFrame
        One row for each model, the largest evidence first, in the form of ``arviz.compare``:

        - **rank**: 0 for the largest evidence;
        - **log_evidence**, **log_evidence_se**: in nats, with its standard error;
        - **log_bayes_factor**, **log_bayes_factor_se**: log evidence less that of the reference;
        - **bayes_factor**: the evidence over that of the reference;
        - **probability**, **probability_se**: of the model among these, given the data;
        - **status**: "ok", or codes of what makes the evidence uncertain.

        Errors that are not known are NaN. The text of the table leaves out the rank, and the
        logarithms of Bayes factors.

    Raises
    ------
    TypeError
        If something is neither draws, nor a fit, nor an evidence, or a model is missing.
    ValueError
        If names do not agree, or data of one name differ between the models.
    """
    owner = "compare"
    checks.kind(owner, "compare_dict", compare_dict, Mapping)
    models = {} if models is None else models
    checks.kind(owner, "models", models, Mapping)
    rng = checks.generator(owner, "random_seed", random_seed)
    names = [*compare_dict]
    if len(names) < 2:
        raise ValueError(f"compare({names}): give two models or more.")
    if unknown := [n for n in models if n not in compare_dict]:
        raise ValueError(
            f"compare(models=...) has {unknown}; the draws are those of {names}. Use the same "
            "names for the models and their draws."
        )
    if reference is not None:
        checks.choice(owner, "reference", reference, names)
    shares = _prior(names, prior)
    for name, given in compare_dict.items():
        _check_given(name, given, models)
    _check_same_data(compare_dict, models)
    found = [
        _evidence(given, models.get(name), rng, workers, quiet)
        for name, given in compare_dict.items()
    ]
    return _table(names, found, reference, shares)


def plot_compare(
    comparison: pd.DataFrame,
    *,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot the log evidences of models with their errors, beside the models' probabilities.

    Parameters
    ----------
    comparison : pandas.DataFrame
        What `compare` has returned.
    ax : array of two Axes, optional
        By default axes of a new figure.
    figsize : tuple of two floats, optional
        Width and height of a new figure in inches.
    backend : {"matplotlib"}, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `comparison` is no DataFrame, or another argument has the wrong type.
    ValueError
        If the table lacks columns, or another number of axes was given.
    """
    from matplotlib.ticker import MaxNLocator

    request = Request("plot_compare", ax, figsize, backend)
    checks.kind("plot_compare", "comparison", comparison, pd.DataFrame)
    needed = ("log_evidence", "log_evidence_se", "probability", "probability_se")
    if missing := [n for n in needed if n not in comparison]:
        raise ValueError(
            f"plot_compare(comparison): the table lacks {missing}; give what compare() returned."
        )
    place = np.arange(len(comparison))
    size = (WIDTH, FRAME_HEIGHT + ROW_HEIGHT * len(place))
    figure, [left, right] = request.axes(2, size, lambda f: f.subplots(1, 2, sharey=True))
    value = comparison["log_evidence"].to_numpy()
    error = comparison["log_evidence_se"].to_numpy()
    known = np.isfinite(error)
    left.axvline(value.max(), color="0.7", linestyle="--", linewidth=1)
    left.errorbar(value[known], place[known], xerr=NORMAL_95 * error[known], fmt="o", capsize=3)
    left.plot(value[~known], place[~known], "o", color="C0", markerfacecolor="white")
    note = "" if known.all() else "; open: error not known"
    left.set(xlabel=f"log evidence (± 95 %{note})")
    left.xaxis.set_major_locator(MaxNLocator(N_TICKS))
    left.set_yticks(place, [str(n) for n in comparison.index])
    left.set_ylim(len(place) - 0.5, -0.5)
    right.set_ylim(len(place) - 0.5, -0.5)
    share = comparison["probability"].to_numpy()
    error = NORMAL_95 * comparison["probability_se"].to_numpy()
    right.barh(place, share, height=0.6, color="C0", alpha=0.6)
    below, above = np.fmin(error, share), np.fmin(error, 1.0 - share)
    told = np.isfinite(error)
    bars = np.stack([below, above])[:, told]
    right.errorbar(share[told], place[told], xerr=bars, fmt="none", ecolor="0.2", capsize=3)
    above = np.where(told, above, 0.0)
    for y, p, end in zip(place, share, share + above, strict=True):
        right.annotate(_percent(p), (end, y), (5, 0), textcoords="offset points", va="center")
    right.set(xlabel="probability of the model (± 95 %)", xlim=(0.0, 1.2))
    right.set_xticks(np.linspace(0.0, 1.0, 6))
    tidy([left, right])
    right.tick_params(axis="y", length=0, labelleft=False)
    return figure


def _percent(share: float) -> str:
    return f"{share:.2g}" if share < MIN_DECIMAL else f"{share:.3f}"


def _prior(names: list[str], prior: Mapping[str, float] | None) -> np.ndarray:
    """Return the prior probability of each model, shape (M,)."""
    if prior is None:
        return np.full(len(names), 1.0 / len(names))
    checks.kind("compare", "prior", prior, Mapping)
    if {*prior} != {*names}:
        raise ValueError(
            f"compare(prior=...) has {[*prior]}; the models are {names}. Give a prior probability "
            "for each model, and for no other, or leave prior= out."
        )
    for name in names:
        checks.positive("compare", f"prior[{name!r}]", prior[name], 1.0)
    shares = np.array([float(prior[n]) for n in names])
    if abs(shares.sum() - 1.0) > TOLERANCE:
        raise ValueError(
            f"compare(prior={dict(prior)}) must sum to 1, and sums to {shares.sum()}. Divide each "
            "probability by that sum."
        )
    return shares


def _check_given(name: str, given: Any, models: Mapping[str, pm.Model]) -> None:
    """Raise unless the evidence of an entry can be found."""
    if isinstance(given, Fit | LogEvidence):
        return
    draws_given(f"compare: {name}: ", given)
    if name not in models and recorded_evidence(given) is None:
        raise TypeError(
            f"compare({{{name!r}: ...}}): these draws hold no evidence, because there is no group "
            f"'modes'. Give their model: compare(..., models={{{name!r}: model}})."
        )


def _check_same_data(compare_dict: Mapping[str, Any], models: Mapping[str, pm.Model]) -> None:
    """Raise ValueError if observed variables of one name have other data in another model."""
    seen: dict[str, tuple[str, np.ndarray]] = {}
    for name, given in compare_dict.items():
        for variable, data in _observed(given, models.get(name)).items():
            other, before = seen.setdefault(variable, (name, data))
            if not same_data(before, data):
                raise ValueError(
                    f"compare(...): the data of {variable} differ between {other!r} and {name!r}: "
                    "evidences of different data cannot be compared. Fit the same data by both."
                )


def _observed(given: Any, model: pm.Model | None) -> dict[str, np.ndarray]:
    """Return the observed data of an entry, by name; those of its model where it holds none."""
    if not isinstance(given, Fit | LogEvidence) and "observed_data" in group_names(given):
        stored = get_dataset(given, "observed_data").data_vars
        return {str(variable): data.values for variable, data in stored.items()}
    return {} if model is None else observed_values(model)


def _evidence(
    given: Any, model: pm.Model | None, rng: np.random.Generator, workers: Any, quiet: bool
) -> LogEvidence:
    if isinstance(given, LogEvidence):
        return given
    if model is None and not isinstance(given, Fit):
        recorded = recorded_evidence(given)
        assert recorded is not None  # `_check_given`
        return recorded
    return log_evidence(given, model, random_seed=rng, workers=workers, quiet=quiet)


def _table(
    names: list[str], found: list[LogEvidence], reference: str | None, prior: np.ndarray
) -> pd.DataFrame:
    value = np.array([e.log_evidence for e in found])
    error = np.array([e.log_evidence_se for e in found])
    order = np.argsort(-value, kind="stable")
    base = order[0] if reference is None else names.index(reference)
    log_factor = value - value[base]
    factor_se = np.where(np.arange(len(names)) == base, 0.0, np.hypot(error, error[base]))
    log_share = value + np.log(prior)
    share = np.exp(log_share - logsumexp(log_share))
    with np.errstate(over="ignore"):
        factor = np.exp(log_factor)
    table = pd.DataFrame(
        {
            "rank": np.argsort(order),
            "log_evidence": value,
            "log_evidence_se": error,
            "log_bayes_factor": log_factor,
            "log_bayes_factor_se": factor_se,
            "bayes_factor": factor,
            "probability": share,
            "probability_se": _share_errors(log_share, share, found),
            "status": [_codes(e) for e in found],
        },
        index=pd.Index(names, name="model"),
    )
    return ComparisonTable(table.iloc[order])


def _share_errors(log_share: np.ndarray, share: np.ndarray, found: list[LogEvidence]) -> np.ndarray:
    """Return the standard errors of the probabilities, shape (M,).

    If the models without a known error are improbable even by the upper bounds of their evidences,
    these probabilities are added to the errors of the others.
    """
    error = np.array([e.log_evidence_se for e in found])
    unknown = ~np.isfinite(error)
    extra = 0.0
    if unknown.any():
        reach = np.array([e.interval[1] - e.log_evidence for e in found])
        others = logsumexp(log_share[~unknown]) if not unknown.all() else -np.inf
        extra = float(expit(logsumexp((log_share + reach)[unknown]) - others))
        if not extra <= MAX_UNKNOWN:
            return np.full(len(share), np.nan)
    # d p_k / d log Z_j = p_k (1[k = j] - p_j)
    slope = share[:, None] * (np.eye(len(share)) - share)
    known = np.sqrt((slope**2 * np.where(unknown, 0.0, error) ** 2).sum(axis=1))
    out: np.ndarray = np.where(unknown, np.nan, np.hypot(known, share * extra))
    return out


def _codes(evidence: LogEvidence) -> str:
    """Return the codes of the warnings, separated by commas; "ok" where there are none."""
    codes = [s.code for s in evidence.statuses if s.level == "warning"]
    return ",".join(dict.fromkeys(codes)) or "ok"
