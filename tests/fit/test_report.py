"""The reports of a fit and of its parts: short, complete, with a verdict and remedies."""

from __future__ import annotations

from html.parser import HTMLParser

import models
import numpy as np
import pytest

import pymc_multimodal as mm
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.status import told
from pymc_multimodal.target import Density

PARTS = ("weights", "modes", "draws", "chains", "kernel", "orbits")


class Balanced(HTMLParser):
    """Collects the text of a page, and checks that every tag that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    page = Balanced()
    page.feed(html)
    assert not page.open
    return page


@pytest.fixture(scope="module")
def limited():
    """A fit that a limit ended before the regions were weighed."""
    return mm.fit(
        models.unequal(),
        max_evals=4_000,
        first_answer=False,
        random_seed=1,
        progressbar=False,
        quiet=True,
    )


def test_the_text_has_modes_stages_and_a_verdict(four_modes_fit):
    text = repr(four_modes_fit)
    assert max(map(len, text.splitlines())) <= 80
    assert "array(" not in text
    assert "Verdict: nothing speaks against" in text
    assert "x[0]=" in text
    for stage in ("search", "in all"):
        assert stage in text
    assert f"{four_modes_fit.n_logp_evals:,}" in text
    assert repr(four_modes_fit.summary()) == text
    assert four_modes_fit.summary().trusted


def test_the_evaluations_of_the_stages_are_those_of_the_fit(four_modes_fit, limited):
    for fit in (four_modes_fit, limited):
        assert set(fit.evals_by_step) == set(fit.seconds)
        assert sum(fit.evals_by_step.values()) == fit.n_logp_evals


def test_a_limit_is_told_with_its_remedy(limited):
    report = limited.summary()
    warnings = [s for s in limited.statuses if s.level == "warning"]
    assert not report.trusted
    assert report.reasons == tuple(told(warnings))
    assert "do not rely on" in report.verdict
    assert "Raise the limit" in repr(report)


def test_the_page_of_a_notebook_says_the_same(four_modes_fit, limited):
    for fit in (four_modes_fit, limited):
        page = read(fit._repr_html_())
        text = " ".join(page.text)
        assert {"table", "th", "td"} <= page.tags
        report = fit.summary()
        for part in (report.headline, report.verdict, *report.reasons, *report.ways):
            assert part in text


def test_values_are_escaped_in_html():
    fit = mm.fit(models.one_dimensional("a<b>"), random_seed=1, progressbar=False, quiet=True)
    assert "<b>=" not in fit._repr_html_()
    read(fit._repr_html_())
    assert "a<b>=" in repr(fit)


@pytest.mark.parametrize("name", PARTS)
def test_parts_say_in_one_line_what_they_are(four_modes_fit, name):
    text = repr(getattr(four_modes_fit, name))
    assert len(text) < 200
    assert "\n" not in text
    assert "array(" not in text
    assert text.startswith(f"<{type(getattr(four_modes_fit, name)).__name__}")


def test_parts_hold_the_numbers(four_modes_fit, limited):
    assert "4 regions" in repr(four_modes_fit.weights)
    assert "4 modes in 2 coordinates" in repr(four_modes_fit.modes)
    assert "no chains were run" in repr(limited.chains)
    page = read(four_modes_fit.weights._repr_html_())
    # A header and four regions.
    assert sum(t.startswith("0.25") for t in page.text) >= 4


def test_chains_and_challenge_have_texts():
    fit = mm.fit(
        models.unimodal(), first_answer=False, random_seed=1, progressbar=False, quiet=True
    )
    assert "R-hat 1.0" in repr(fit.chains)
    assert "no counterexample" in repr(fit.challenge)
    assert "log evidence" in fit.summary().verdict
    assert "weights" not in fit.summary().verdict


def comb(n, dim):
    """A density of n equal modes along the first of several coordinates."""
    centres = 6.0 * np.arange(n)

    def logp(x):
        parts = -0.5 * (x[:, :1] - centres) ** 2
        share = np.exp(parts - np.logaddexp.reduce(parts, axis=1)[:, None])
        grad = -x.copy()
        grad[:, 0] = (share * (centres - x[:, :1])).sum(axis=1)
        rest = -0.5 * (x[:, 1:] ** 2).sum(axis=1)
        return np.logaddexp.reduce(parts, axis=1) + rest, grad

    def prior(n_draws, rng):
        x = rng.standard_normal((n_draws, dim))
        x[:, 0] = rng.uniform(-3.0, centres[-1] + 3.0, n_draws)
        return x

    return Density(logp, dim, prior=prior)


def test_many_modes_and_coordinates_are_cut_short():
    many = fit_density(comb(20, 5), FitConfig(random_seed=1, symmetry=False, structure=False))
    report = many.summary()
    assert report.left_out == many.n_modes - (len(report.modes) - 1) > 0
    assert "mode_table(fit) has them all" in repr(report)
    assert all(row[-1].endswith(", ...") for row in report.modes[1:])
    assert max(map(len, repr(report).splitlines())) <= 80


def test_units_are_told_by_their_explanations():
    fit = mm.fit(models.tilted_signs(), random_seed=1, progressbar=False, quiet=True)
    header, *rows = fit.summary().modes
    assert header == ("unit", "explanation", "weight", "at")
    assert len(rows) == 12
    first = [row for row in rows if row[0] == rows[0][0]]
    assert [row[1] for row in first] == ["0", "1"]
    assert first[0][3].startswith("p[")


def test_the_coordinates_that_separate_the_modes_are_shown(rng):
    """Thirty coordinates, of which one has two modes."""

    def two(x):
        a, b = (-0.5 * (x[:, 17] - m) ** 2 / 0.25 for m in (-4.0, 4.0))
        share = np.exp(a - np.logaddexp(a, b))
        grad = -x.copy()
        grad[:, 17] = -(share * (x[:, 17] + 4) + (1 - share) * (x[:, 17] - 4)) / 0.25
        rest = np.delete(x, 17, axis=1)
        return np.logaddexp(a, b) - 0.5 * (rest**2).sum(axis=1), grad

    density = Density(two, 30, prior=lambda n, r: r.normal(0.0, 4.0, (n, 30)))
    fit = fit_density(density, FitConfig(random_seed=1, symmetry=False, structure=False))
    assert fit.n_modes == 2
    assert all("x[17]=" in row[-1] for row in fit.summary().modes[1:])


def test_the_step_says_what_it_is(four_modes, four_modes_fit):
    step = mm.MultimodalDiffusion(model=four_modes, fit=four_modes_fit, quiet=True)
    assert repr(step).startswith("<MultimodalDiffusion for x; 2 coordinates: 4 modes")
    assert "Verdict" in " ".join(read(step._repr_html_()).text)


def test_the_table_of_modes_says_statuses_in_words(limited):
    table = mm.mode_table(limited)
    assert table.statuses == limited.summary().reasons
    words = " ".join(repr(table).split())
    for reason in table.statuses:
        assert " ".join(reason.split()) in words
    assert "Raise the limit" in " ".join(read(table._repr_html_()).text)
    assert not hasattr(table[["weight"]], "statuses"), "a part is an ordinary table"


def test_a_saved_fit_has_the_same_report(limited, tmp_path):
    limited.save(tmp_path / "a.fit")
    again = mm.Fit.load(tmp_path / "a.fit")
    assert repr(again) == repr(limited)
    assert again.evals_by_step == limited.evals_by_step
