"""Statuses have known codes, and the documentation explains each with its stages and levels."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from pymc_multimodal.challenge.statuses import more_mass_status, unvisited_status
from pymc_multimodal.evidence.statuses import border_status
from pymc_multimodal.status import (
    CODES,
    Status,
    counted,
    of_one_region,
    told,
    under_a_limit,
    with_error,
    worst,
)

ROOT = Path(__file__).parents[1]
# As in regions/diagnostics.py.
UNMIXED_REMEDY = "Its weight and shape are not to be trusted; raise LocalSampling.max_draws."


def documented():
    """Codes, stages and levels of each row of the table of statuses."""
    page = (ROOT / "docs" / "statuses.rst").read_text()
    row = r"^    \* - (``.*)\n      - ([a-z, ]+)\n      - ([a-z, ]+)\n      - "
    for codes, stages, levels in re.findall(row, page, re.MULTILINE):
        for code in re.findall(r"``(\w+)``", codes):
            yield code, tuple(stages.split(", ")), tuple(levels.split(", "))


def emitted():
    """Codes and stages of all statuses that the package makes, read from its source."""
    for path in sorted((ROOT / "pymc_multimodal").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "")
            if name == "Status" and len(node.args) > 1 and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, node.args[1].value


def test_every_code_is_documented_once_with_its_stages_and_levels():
    rows = list(documented())
    assert len(rows) == len({code for code, _, _ in rows})
    assert {code: (stages, levels) for code, stages, levels in rows} == {
        code: (kind.stages, kind.levels) for code, kind in CODES.items()
    }


def test_every_code_and_stage_is_made_by_the_package():
    known = {(code, stage) for code, kind in CODES.items() for stage in kind.stages}
    assert set(emitted()) == known


@pytest.mark.parametrize(
    ("code", "stage", "level", "says"),
    [
        ("rhat", "local", "warning", r"code='rhat'.*known code"),
        ("r_hat", "search", "warning", r"r_hat.*stage='search'.*'regions'"),
        ("r_hat", "regions", "info", r"r_hat.*level='info'.*'warning'"),
        ("r_hat", "regions", "error", "level='error'"),
    ],
)
def test_unknown_codes_stages_and_levels_are_refused(code, stage, level, says):
    with pytest.raises(ValueError, match=says):
        Status(code, stage, "seen", level=level)


def test_the_table_shows_warnings_of_a_mode_and_notes_that_void_its_numbers():
    statuses = (
        Status("r_hat", "regions", "", mode=0),
        Status("r_hat", "regions", "", mode=0),
        Status("pareto_k", "evidence", "", mode=0),
        Status("pareto_k", "evidence", "", mode=1, level="info"),
        Status("negligible_region", "regions", "", mode=2, level="info"),
        Status("budget", "fit", ""),
    )
    assert [worst(statuses, k) for k in range(4)] == [
        "r_hat,pareto_k", "ok", "negligible_region", "ok",
    ]  # fmt: skip


def test_a_status_is_told_in_one_line():
    status = Status("r_hat", "regions", "the chains did not mix.", "Draw more.", mode=3)
    assert str(status) == "mode 3: the chains did not mix. Draw more."
    assert str(Status("budget", "fit", "it stopped.")) == "it stopped."


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.98312, 0.00031, "0.98312±0.00031"),
        (0.7, 0.013, "0.700±0.013"),
        (-1234.56, 12.3, "-1235±12"),
        (0.25, 0.0, "0.25"),
        (0.5, np.nan, "0.500±nan"),
        (0.5, np.inf, "0.500±inf"),
        (1.3e-8, 2e-8, "1.3e-08±2e-08"),
        (0.000756133, 5.5e-6, "0.0007561±5.5e-06"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(value, error, text):
    assert with_error(value, error) == text


def test_remedies_agree_where_a_limit_ended_the_fit():
    mixing = Status("r_hat", "regions", "the chains did not mix.", "Raise max_draws.", mode=0)
    limit = Status("budget", "fit", "the fit stopped.", "Raise the limit.")
    assert under_a_limit([mixing]) == [mixing]
    changed, same = under_a_limit([mixing, limit])
    assert same == limit
    assert "raise the limit" in changed.remedy
    assert "max_draws" not in changed.remedy


def test_the_table_says_of_every_mode_that_its_weight_is_an_approximation():
    statuses = (
        Status("laplace", "fit", "a limit was reached.", "Raise the limit."),
        Status("r_hat", "regions", "the chains did not mix.", "Raise max_draws.", mode=1),
    )
    assert worst(statuses, 0) == "laplace"
    assert worst(statuses, 1) == "laplace,r_hat"


def test_statuses_that_differ_in_their_mode_alone_are_told_once():
    def of(*modes, cause="the chains did not mix."):
        return [Status("r_hat", "regions", cause, "Draw more.", mode=k) for k in modes]

    assert told(of(0, 1, 2, 3, 4, 5)) == ["modes 0-5: the chains did not mix. Draw more."]
    assert told(of(3)) == [str(*of(3))]
    assert told(
        [*of(7, 0, 1, 9), *of(2, cause="other."), Status("budget", "fit", "it stopped.")]
    ) == [
        "modes 0-1, 7, 9: the chains did not mix. Draw more.",
        "mode 2: other. Draw more.",
        "it stopped.",
    ]


def test_no_remedy_doubts_the_weight_of_the_only_region():
    """Regression: a weight of exactly 1/6, by symmetry, was said not to be trusted."""
    statuses = [
        Status("r_hat", "regions", "", UNMIXED_REMEDY, mode=0),
        *under_a_limit(
            [
                Status("budget", "fit", "it stopped."),
                Status("r_hat", "regions", "", UNMIXED_REMEDY, mode=0),
            ]
        ),
        border_status(0, 0.1),
        more_mass_status(0, 0.1),
        unvisited_status(0, 0.1),
        Status("overlap", "evidence", "", "Its weight may be too small.", mode=0),
    ]
    doubts = re.compile("weight (and|may be|is too)|weight and")
    assert sum(bool(doubts.search(s.remedy)) for s in statuses) == len(statuses) - 1
    for status in of_one_region(statuses):
        assert not re.search("weight (and|may be|is)", status.remedy)


@pytest.mark.parametrize(
    ("n", "verbs", "text"),
    [
        (0, None, "0 starts"),
        (1, None, "1 start"),
        (2, None, "2 starts"),
        (1, ("was", "were"), "1 start was"),
        (3, ("was", "were"), "3 starts were"),
    ],
)
def test_numbers_agree_with_their_nouns_and_verbs(n, verbs, text):
    assert counted(n, "start", verbs) == text
