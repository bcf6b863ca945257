"""Which family each region gets, where networks are trained, and what the fit does not use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import (
    Banana,
    HalfSpace,
    SkewNormals,
    StudentT,
    exact_local,
    gaussian,
    two_modes,
)

from pymc_multimodal.proposals import Hybrid, Network, RegionalFamilies, split_chains
from pymc_multimodal.proposals.elliptical import student_t
from pymc_multimodal.proposals.flow import FlowDraws, FlowError, fit_flow

FIT_FLOW = "pymc_multimodal.proposals.families.fit_flow"
LINE = np.full(2, np.inf)


def line(d):
    return np.full(d, np.inf)


def everywhere(x):
    return np.zeros(len(x), dtype=int)


@pytest.fixture
def banana():
    """A banana and a flow that was fitted to 2,000 of its draws."""
    pytest.importorskip("torch")
    target, rng = Banana(2), np.random.default_rng(1)
    x = target.draws(2_000, rng)
    draws = FlowDraws(x, target(x)[1], target.draws(400, rng))
    settings = Network(steps=250, hidden=(32, 32))
    return target, fit_flow(draws, student_t(x, LINE, np.zeros(2)), 0.05, settings, rng)


@pytest.mark.parametrize(
    ("target", "family"), [(gaussian(np.zeros(3), np.eye(3)), "gaussian"), (Banana(3), "network")]
)
def test_a_larger_family_is_used_only_where_it_gains(target, family, rng):
    local = exact_local(target, lambda x: np.zeros(len(x), int), 1, rng)
    line = np.full(3, np.inf)
    quick = Hybrid(network=Network(steps=300, hidden=(32, 32)))
    [q] = quick.fit_regions(local, line, rng).densities
    assert q.family == family
    defensive = q.defensive if family == "network" else q
    assert defensive.df[-1] <= Hybrid().defensive_df
    elliptical = Hybrid(families=("gaussian", "mixture"))
    [without] = elliptical.fit_regions(local, line, rng).densities
    assert without.family == ("mixture" if family == "network" else family)
    [low] = Hybrid(families=("gaussian",)).fit_regions(local, line, rng).densities
    assert low.family == "gaussian"


@pytest.mark.parametrize(
    ("target", "df"),
    [(gaussian(np.zeros(3), np.eye(3)), 4.0), (StudentT(3, 8.0), 4.0), (StudentT(3, 1.5), 1.0)],
)
def test_the_defence_is_as_heavy_as_tails_may_be(target, df, rng):
    """Chains stay near the centre of a heavy tail, which bounds no ratio beyond."""
    local = exact_local(target, everywhere, 1, rng)
    [q] = Hybrid(families=("gaussian",)).fit_regions(local, line(3), rng).densities
    assert q.df[-1] == df
    [q] = (
        Hybrid(families=("gaussian",), defensive_df=0.5).fit_regions(local, line(3), rng).densities
    )
    assert q.df[-1] == 0.5


def test_the_fit_does_not_see_the_chains_of_the_bridge(rng):
    """Bridging on draws that the density was fitted to biases the evidence."""
    target = two_modes()
    halves = HalfSpace()
    local = exact_local(target, halves.label, 2, rng)
    other = exact_local(target, halves.label, 2, np.random.default_rng(99))
    bridge = split_chains(16)[2]
    for name in ("x", "logp", "grad"):
        for mine, theirs in zip(getattr(local, name), getattr(other, name), strict=True):
            theirs[: bridge.start] = mine[: bridge.start]
    a, b = (Hybrid().fit_regions(part, LINE, np.random.default_rng(3)) for part in (local, other))
    x = target.draws(50, rng)
    for one, two in zip(a.densities, b.densities, strict=True):
        np.testing.assert_array_equal(one.log_density(x), two.log_density(x))


@pytest.mark.parametrize("chains", range(8, 33))
def test_chains_are_split_without_overlap(chains):
    fit, choose, bridge = (set(range(chains)[part]) for part in split_chains(chains))
    assert len(fit) + len(choose) + len(bridge) == chains
    assert fit | choose | bridge == set(range(chains))
    assert min(len(fit), len(choose), len(bridge)) >= 1
    assert len(bridge) >= 4


def fit(local, hybrid, rng, previous=None):
    return hybrid.fit_regions(local, line(local.x[0].shape[-1]), rng, previous)


def forbidden(*args, **kwargs):
    raise AssertionError("no network was wanted")


def stub(calls):
    """Takes the place of training: remembers what it was asked for, and gives up."""

    def record(draws, defensive, share, settings, rng, previous=None, baseline=None):
        calls.append((settings.steps, previous))
        raise FlowError("it was a trial")

    return record


def test_a_region_without_a_network_keeps_its_family_and_has_a_status(monkeypatch, rng):
    monkeypatch.setattr(FIT_FLOW, stub([]))
    local = exact_local(Banana(2), lambda x: (x[:, 0] > 0.3).astype(int), 2, rng)
    found = fit(local, Hybrid(families=("gaussian", "network")), rng)
    assert [q.family for q in found.densities] == ["gaussian", "gaussian"]
    assert sorted(s.mode for s in found.statuses) == [0, 1]
    for s in found.statuses:
        assert (s.code, s.stage, s.level) == ("network", "proposals", "info")
        assert "it was a trial" in s.cause


def test_no_network_where_jumps_are_accepted_anyway(monkeypatch, rng):
    monkeypatch.setattr(FIT_FLOW, forbidden)
    nearly = SkewNormals(2, 1.5)
    fit(exact_local(nearly, everywhere, 1, rng), Hybrid(), rng)
    banana = exact_local(Banana(2), everywhere, 1, rng)
    fit(banana, Hybrid(network=Network(min_acceptance=0.0)), rng)
    fit(banana, Hybrid(families=("gaussian", "mixture")), rng)


def bananas(rng, *, bends=(0.3, 1.5, 0.6, 1.0)):
    """One region for each bend: the bends' densities beside each other."""
    parts = [exact_local(Banana(2, bend=b), everywhere, 1, rng) for b in bends]
    joined = {name: tuple(getattr(p, name)[0] for p in parts) for name in ("x", "logp", "grad")}
    rows = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("centre", "ess")}
    return replace(parts[0], **joined, **rows)


def test_steps_are_shared_and_those_who_gain_most_come_first(monkeypatch, rng):
    local = bananas(rng)
    hybrid = Hybrid(families=("gaussian", "network"))
    for total, modes, steps in ((6_000, [1, 3, 2], 800), (700, [1, 3], 350), (100, [1], 100)):
        calls = []
        monkeypatch.setattr(FIT_FLOW, stub(calls))
        found = fit(local, replace(hybrid, network=Network(total_steps=total)), rng)
        assert [s.mode for s in found.statuses][: len(modes)] == modes
        assert all(c[0] == steps for c in calls)
        assert sum(c[0] for c in calls) <= total


def test_few_effective_draws_are_no_ground_for_a_network(monkeypatch, rng):
    monkeypatch.setattr(FIT_FLOW, forbidden)
    local = exact_local(Banana(2), everywhere, 1, rng)
    found = fit(replace(local, ess=np.array([Network().min_effective - 1.0])), Hybrid(), rng)
    assert found.densities[0].family == "mixture"
    assert not found.statuses


def test_an_earlier_network_that_serves_is_kept(banana, monkeypatch, rng):
    target, q = banana
    local = exact_local(target, everywhere, 1, rng)
    monkeypatch.setattr(FIT_FLOW, forbidden)
    hybrid = Hybrid(families=("gaussian", "network"))
    assert fit(local, hybrid, rng, [q]).densities[0] is q
    # One that does not serve is where training goes on.
    calls = []
    monkeypatch.setattr(FIT_FLOW, stub(calls))
    picky = replace(hybrid, network=Network(min_acceptance=1.0))
    assert fit(local, picky, rng, [q]).densities[0] is q
    assert calls[0][1] is q
    # What was fitted to another density loses against the Gaussian.
    calls.clear()
    straight = exact_local(gaussian(np.zeros(2), np.eye(2)), everywhere, 1, rng)
    assert fit(straight, hybrid, rng, [q]).densities[0].family == "gaussian"
    assert not calls


@pytest.mark.parametrize("spread", [0.0, 1e-60, 1e-12, 1e-6])
def test_flat_coordinates_do_no_harm(spread, rng):
    base = Banana(3)
    local = exact_local(base, everywhere, 1, rng)
    x, grad = local.x[0].copy(), local.grad[0].copy()
    x[..., 2] = 5.0 + spread * x[..., 2]
    grad[..., 2] /= spread or 1.0
    hybrid = Hybrid(network=Network(steps=20, hidden=(8,)))
    [q] = fit(replace(local, x=(x,), grad=(grad,)), hybrid, rng).densities
    assert np.isfinite(q.log_density(x[0])).all()
    assert np.isfinite(q.sample(100, rng)).all()


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_very_few_draws_do_no_harm(draws, rng):
    local = exact_local(Banana(6), everywhere, 1, rng, draws=draws)
    found = fit(local, Hybrid(network=Network(min_effective=0)), rng)
    assert np.isfinite(found.densities[0].sample(100, rng)).all()
    assert np.isfinite(found.densities[0].log_density(local.x[0][0])).all()


# ------------------------------------------------------------------ shrinkage


# A network of 20 coordinates is trained for a minute and a half.
@pytest.mark.parametrize("d", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_generated_draws_are_as_wide_as_exact_ones(d):
    """Regression: networks of few hundred steps gave draws that were too narrow."""
    target, rng = SkewNormals(d, 4.0, seed=d), np.random.default_rng(d)
    local = exact_local(target, everywhere, 1, rng, draws=250)
    hybrid = Hybrid()
    generator = hybrid.build(fit(local, hybrid, rng), local, np.ones(1), rng)
    drawn, exact = generator.generate(20_000, rng), target.draws(20_000, rng)
    directions = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)[2]
    ratio = (drawn @ directions.T).std(axis=0) / (exact @ directions.T).std(axis=0)
    assert abs(ratio.mean() - 1.0) < 0.03


def test_without_network_all_other_settings_stay():
    config = Hybrid(max_components=3)
    plain = config.without_network()
    assert plain == Hybrid(families=("gaussian", "mixture"), max_components=3)
    assert plain.without_network() is plain
    assert RegionalFamilies(families=("network",)).without_network().families == ("gaussian",)
