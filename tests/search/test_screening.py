"""A screening finds narrow modes by their values, and says what it has entered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import Mixture, StudentT, WideNormal, gaussian
from scipy.special import logsumexp
from searches import settled_search

from pymc_multimodal.proposals import RegionalMixture, laplace
from pymc_multimodal.search import ModeSearch, modes_of, screen
from pymc_multimodal.search import screening as screening_module
from pymc_multimodal.search.screening_points import PointSource, distance_of_pair, narrowest_width
from pymc_multimodal.search.surprise import KnownModes, surprises
from pymc_multimodal.target import Density, Limits, Symmetry


class Described:
    """Laplace's approximation of modes, as a mixture."""

    def __init__(self, density, search, settings):
        modes = modes_of(density, search, settings)
        self.parts = [
            laplace(x, scale, density.period)
            for x, scale in zip(modes.locations, modes.scale, strict=True)
        ]
        self.mixture = RegionalMixture(self.parts, np.ones(len(modes)) / len(modes))

    def log_density(self, x):
        return self.mixture.log_density(x)

    def sample(self, n, rng):
        return self.mixture.generate(n, rng)


def pair(dim, ratio):
    """Normals of equal mass, six standard deviations of the wider apart."""
    means = np.zeros((2, dim))
    means[1, 0] = 6.0
    return Mixture(means, [np.eye(dim), ratio**2 * np.eye(dim)], [0.5, 0.5])


def wide_known(density, rng, **settings):
    """A search that knows what a climb from the origin leads to, with settings of a screening."""
    search = settled_search(density, ModeSearch(starts=np.zeros((1, density.dim))), rng)
    settings = ModeSearch(**settings)
    return replace(search, distribution=replace(search.distribution, points=None)), settings


def screened(density, search, settings, rng):
    return screen(density, search, settings, Described(density, search, settings), rng)


@pytest.mark.parametrize(
    ("dim", "ratio", "n"), [(2, 0.02, 2**16), (3, 0.05, 2**18), (5, 0.1, 2**20)]
)
def test_a_narrow_mode_is_found(dim, ratio, n, rng):
    target = pair(dim, ratio)
    density = target.density()
    search, settings = wide_known(density, rng, screening=n)
    assert len(modes_of(density, search, settings)) == 1
    found, screening = screened(density, search, settings, rng)
    modes = modes_of(density, found, settings)
    assert (screening.new_modes, len(modes)) == (1, 2)
    np.testing.assert_allclose(modes.locations[0], target.means[1], atol=1e-3 * ratio)
    assert screening.n_points == density.n_values == n
    assert screening.entered_share == pytest.approx(3 / n)
    # That of the 5-dimensional pair is the narrowest that is entered with 94 %.
    assert screening.narrowest_width < 1.05 * ratio


def test_several_narrow_modes_are_found_at_once(rng):
    means = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, -7.0], [-5.0, 5.0]])
    target = Mixture(means, np.array([1, 1e-2, 1e-3, 1e-3])[:, None, None] * np.eye(2), [0.25] * 4)
    density = target.density()
    search, settings = wide_known(density, rng, screening=2**15)
    found, screening = screened(density, search, settings, rng)
    assert screening.new_modes == 3
    assert len(modes_of(density, found, settings)) == 4


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(
    ("target", "most"),
    [(gaussian(np.ones(2), [[2.0, 0.5], [0.5, 1.0]]), 0), (StudentT(2, 3.0), 64)],
)
def test_where_nothing_is_found_the_search_is_the_same_object(target, most, gradient, rng):
    """Points of a normal mode are as high as its approximation says: none is climbed from."""
    density = target.density(gradient=gradient)
    search, settings = wide_known(density, rng, screening=5000)
    found, screening = screened(density, search, settings, rng)
    assert found is search
    assert (screening.n_points, screening.new_modes) == (5000, 0)
    assert min(most, 1) <= screening.n_climbs <= most


def test_a_mode_without_gradients_is_found(rng):
    density = pair(2, 0.1).density(gradient=False)
    search, settings = wide_known(density, rng, screening=2**13)
    assert screened(density, search, settings, rng)[1].new_modes == 1


class Timed(Mixture):
    """Each point takes as long on the clock of the test as it says."""

    def __init__(self, target, clock, seconds):
        super().__init__(target.means, target.covariances, target.weights)
        self.clock, self.seconds = clock, seconds

    def __call__(self, x):
        self.clock.skip(self.seconds * len(x))
        return super().__call__(x)


def test_the_same_stream_gives_the_same_search_for_a_timed_number(stopped_clock, monkeypatch):
    monkeypatch.setattr("pymc_multimodal.search.screening.MAX_POINTS", 2**14)
    results = []
    density = Timed(pair(2, 0.1), stopped_clock, 1e-5).density()
    search, settings = wide_known(density, np.random.default_rng(0), screening_seconds=0.1)
    for _ in range(2):
        found, seen = screened(density, search, settings, np.random.default_rng(3))
        results.append((found.optima.x, seen.n_points))
        settings = replace(settings, screening=seen.n_points)
    # The largest power of two below 0.1 s / 10 us.
    assert results[0][1] == results[1][1] == 2**13
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_nothing_is_screened_where_it_is_not_wanted(rng):
    density = pair(2, 0.05).density()
    search, settings = wide_known(density, rng)
    known = Described(density, search, settings)
    evals = density.n_logp_evals
    given = replace(search, distribution=replace(search.distribution, points=np.zeros((1, 2))))
    for state, setting in ((search, replace(settings, screening=0)), (given, settings)):
        found, screening = screen(density, state, setting, known, rng)
        assert found is state
        assert screening.statuses == ()
        assert np.isnan(screening.entered_share)
    assert density.n_logp_evals == evals


def test_limits_are_kept(rng):
    density = pair(2, 0.05).density()
    search, settings = wide_known(density, rng, screening=2**20)
    evals = density.n_logp_evals
    with density.within(Limits(last_evals=evals + 6000, early_evals=evals + 4000)):
        found, screening = screened(density, search, settings, rng)
    assert density.n_logp_evals <= evals + 6000
    assert screening.n_points == 2000
    assert found is search or screening.new_modes
    with density.within(Limits(last_evals=0, early_evals=0)):
        found, screening = screened(density, search, settings, rng)
    assert found is search
    assert screening.n_points == screening.n_climbs == 0


def test_cheap_points_have_a_part_of_a_limit_on_evaluations(rng, stopped_clock, monkeypatch):
    """A search that has spent little does not say how many points are worth their while."""
    monkeypatch.setattr("pymc_multimodal.search.screening.MAX_POINTS", 2**18)
    density = Timed(pair(2, 0.05), stopped_clock, 1e-6).density()
    search, settings = wide_known(density, rng, screening_seconds=60.0)
    room = 400_000
    with density.within(Limits(last_evals=density.n_logp_evals + room)):
        found, screening = screened(density, search, settings, rng)
    assert 0.05 * room < screening.n_points < 0.2 * room
    assert len(found.optima) > len(search.optima)


class OnCircles:
    """Two modes on a torus; the narrow one lies across the seam."""

    at = np.array([[0.0, 0.0], [np.pi, np.pi]])
    concentration = np.array([4.0, 4000.0])

    def __call__(self, x):
        step = x[:, None] - self.at
        logs = self.concentration * (np.cos(step) - 1).sum(axis=2) + np.log(self.concentration)
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None]) * self.concentration
        return total, -np.einsum("nk,nki->ni", share, np.sin(step))


def test_a_mode_across_the_seam_of_circles_is_found(rng):
    density = Density(
        OnCircles(),
        2,
        period=np.full(2, 2 * np.pi),
        prior=lambda n, rng: rng.uniform(-np.pi, np.pi, size=(n, 2)),
    )
    search, settings = wide_known(density, rng, screening=2**14)
    found, screening = screened(density, search, settings, rng)
    assert screening.new_modes == 1
    np.testing.assert_allclose(np.abs(modes_of(density, found, settings).locations[0]), np.pi)


def test_images_of_a_symmetric_mode_are_known(rng):
    """The known density describes one image of the mode; points are moved to it."""
    means = np.array([[4.0, 0.0], [-4.0, 0.0]])
    density = Mixture(means, [np.eye(2)] * 2, [0.5, 0.5]).density()
    flip = Symmetry((np.diag([-1.0, 1.0]),))
    settings = ModeSearch(screening=2**13)
    search = settled_search(density, settings, rng, symmetry=flip)
    assert len(search.optima) == 1
    found, screening = screened(density, search, settings, rng)
    assert found is search
    assert screening.new_modes == 0


def test_in_many_dimensions_there_are_points_and_further_climbs(rng):
    density = gaussian(np.zeros(50), np.eye(50)).density()
    settings = ModeSearch(starts=64, screening_seconds=0.5)
    search = settled_search(density, settings, rng)
    found, screening = screened(density, search, settings, rng)
    assert found is search
    assert screening.n_points == density.n_values >= 2**11
    # No point is higher than the normal approximation says; tests make 64 further starts.
    assert screening.n_climbs == 64
    assert screening.entered_share == pytest.approx(3 / screening.n_points)
    assert np.isnan(screening.narrowest_width)
    [status] = screening.statuses
    assert "50 dimensions" in status.cause
    assert "even one 0.9 times as wide" in status.cause
    assert "may be missing, whatever their posterior mass" in status.cause


def test_further_starts_go_on_where_modes_of_some_mass_are_rare(rng, monkeypatch):
    """A mode of half the mass to which hardly any start leads says that others may be missing."""
    monkeypatch.setattr(screening_module, "MAX_RARE", 1024)
    settings, climbs = ModeSearch(screening_seconds=5.0), []
    for width in (1.0, 0.1):
        target = pair(4, width)
        density = target.density()
        search = settled_search(density, ModeSearch(starts=target.means), rng)
        search = replace(search, distribution=replace(search.distribution, points=None))
        _, screening = screened(density, search, settings, rng)
        climbs.append(screening.n_climbs)
    # Up to 64 climbs start from points of large values.
    assert climbs[0] <= 64 + 256
    assert 1024 <= climbs[1] <= 64 + 1024


def test_modes_of_some_mass_that_few_starts_have_found_are_a_warning(rng):
    """Half of the mass was found by one start, which says that other modes may be missing."""
    target, settings = pair(4, 0.1), ModeSearch(screening_seconds=5.0)
    density = target.density()
    search = settled_search(density, ModeSearch(starts=target.means), rng)
    [_] = screened(density, search, replace(settings, screening=4096), rng)[1].statuses
    search = replace(search, distribution=replace(search.distribution, points=None))
    _, screening = screened(density, search, settings, rng)
    assert (screening.rare, screening.rare_share) == (1, pytest.approx(0.5, abs=0.01))
    [_, rare] = screening.statuses
    assert (rare.code, rare.level) == ("rare", "warning")
    assert f"three or fewer of {screening.starts:,} starts" in rare.cause


class StudentModes:
    """Two Student-t modes with 5 degrees of freedom, the second a tenth as wide, of equal mass."""

    def __init__(self, means):
        self.means, self.dim = means, means.shape[1]

    def __call__(self, x):
        scale, d, df = np.array([1.0, 0.1]), self.dim, 5.0
        step = (x[:, None] - self.means) / scale[:, None]
        square = (step**2).sum(axis=2)
        logs = -0.5 * (df + d) * np.log1p(square / df) - d * np.log(scale)
        total = logsumexp(logs, axis=1)
        factor = np.exp(logs - total[:, None]) * (df + d) / (df + square) / scale
        return total, -np.einsum("nk,nki->ni", factor, step)


@pytest.mark.parametrize("where", ["beside the prior's median", "on both sides", "along an axis"])
def test_a_narrow_mode_in_50_dimensions_is_found(where, rng):
    """No climb from a prior draw leads to it."""
    means, along = np.zeros((2, 50)), np.zeros(50)
    along[0] = 16.0
    if where == "on both sides":
        along = rng.standard_normal(50)
        along *= 16.0 / np.linalg.norm(along)
        means -= 0.5 * along
    elif where == "along an axis":
        means += 3.0 * rng.standard_normal(50)
    means[1] += along
    density = Density(
        StudentModes(means), 50, prior=lambda n, rng: 10.0 * rng.standard_normal((n, 50))
    )
    search = settled_search(density, ModeSearch(starts=means[:1]), rng)
    search = replace(search, distribution=replace(search.distribution, points=None))
    search = replace(search, distribution=replace(search.distribution, spread=np.full(50, 10.0)))
    settings = ModeSearch(screening=2**14)
    assert len(modes_of(density, search, settings)) == 1
    found, screening = screened(density, search, settings, rng)
    assert screening.n_points == 2**14
    modes = modes_of(density, found, settings)
    assert len(modes) == 2
    np.testing.assert_allclose(modes.locations[0], means[1], atol=0.01)


def test_dear_points_are_not_screened(rng, stopped_clock):
    target = gaussian(np.zeros(2), np.eye(2))
    density = Timed(target, stopped_clock, 0.2).density()
    settings = ModeSearch(starts=16)
    search = settled_search(density, settings, rng)
    spent = density.n_logp_evals
    _, seen = screened(density, search, settings, rng)
    assert seen.n_points == density.n_values == 0
    assert 0 < seen.n_climbs
    # A climb may take longer than those of the search.
    assert density.n_logp_evals - spent < 0.4 * spent


# ---------------------------------------------------------- the ranking


def test_what_the_known_modes_explain_has_no_surprise(rng):
    target = gaussian(np.ones(3), np.diag([1.0, 4.0, 0.1]))
    density = target.density()
    search, settings = wide_known(density, rng)
    modes = KnownModes.of(search.optima, settings.negligible)
    x = 5 * rng.standard_normal((4000, 3))
    logp = density.values(x)
    logp[:5] = -np.inf
    # Tails of q that are not those of p.
    log_q = Described(density, search, settings).log_density(x)
    score = surprises(density, modes, x, logp, log_q)
    assert np.isneginf(score[:5]).all()
    assert np.abs(score[5:]).max() < 1.0


def test_a_narrow_mode_is_ranked_before_heavy_tails(rng):
    """The target has Student-t tails, which the known normal has not."""
    n, df, at, width = 20_000, 5, np.array([5.0, 0.0, 0.0]), 0.1
    density = gaussian(np.zeros(3), np.eye(3)).density()
    search, settings = wide_known(density, rng)
    modes = KnownModes.of(search.optima, settings.negligible)
    x = 5 * rng.standard_normal((n, 3))
    x[:3] = at + width * rng.standard_normal((3, 3))
    log_q = density.values(x)
    tails = -0.5 * (df + 3) * np.log1p((x**2).sum(axis=1) / df)
    spike = -0.5 * ((x - at) ** 2).sum(axis=1) / width**2 - 3 * np.log(width)
    logp = np.logaddexp(tails, spike)
    best = np.argsort(-surprises(density, modes, x, logp, log_q))[:64]
    assert set(range(3)) <= set(best.tolist())
    raw = np.argsort(log_q - logp)[:64]
    assert not set(range(3)) & set(raw.tolist())


# ---------------------------------------------------------- the statement


@pytest.mark.parametrize(("dim", "stretch"), [(1, 2.0), (3, 2.0), (5, 1.0), (16, 2.0)])
def test_the_narrowest_width_has_its_share_of_the_points(dim, stretch, rng):
    share, n = 1e-3, 400_000
    width = narrowest_width(dim, share, stretch)
    wide = gaussian(np.zeros(dim), np.eye(dim))
    density = wide.density()
    search, settings = wide_known(density, rng)

    class Exact:
        log_density = wide.logp

        def sample(self, n, rng):
            return wide.draws(n, rng)

    settings = replace(settings, stretch=stretch)
    # Prior draws are scaled about their median, which is known from a few hundred of them.
    search = replace(search, distribution=replace(search.distribution, centre=np.zeros(dim)))
    x = PointSource.of(density, search, Exact(), settings, rng).draw(n, rng)
    # The two differ in all coordinates.
    means = np.stack([np.zeros(dim), np.full(dim, distance_of_pair(dim) / np.sqrt(dim))])
    both = Mixture(means, [np.eye(dim), width**2 * np.eye(dim)], [0.5, 0.5])
    inside = int((both.component(x) == 1).sum())
    assert abs(inside - share * n) < 4 * np.sqrt(share * n)


def test_entered_with_95_percent(rng):
    """Of many screenings, 95 % have a point in a basin of the share that is stated."""
    share, n, repeats = 3 / 512, 512, 400
    density = gaussian(np.zeros(2), np.eye(2)).density()
    search, settings = wide_known(density, rng)
    search = replace(search, distribution=replace(search.distribution, centre=np.zeros(2)))
    known = Described(density, search, settings)
    source = PointSource.of(density, search, known, settings, rng)
    both = pair(2, narrowest_width(2, share, 2.0))
    entered = [(both.component(source.draw(n, rng)) == 1).any() for _ in range(repeats)]
    expected = 1 - np.exp(-3)
    se = np.sqrt(expected * (1 - expected) / repeats)
    assert abs(np.mean(entered) - expected) < 4 * se


def test_the_width_shrinks_with_the_points_and_grows_with_the_dimension():
    widths = np.array([[narrowest_width(d, s, 2.0) for s in (1e-3, 1e-5)] for d in (1, 5, 12, 16)])
    assert np.all(np.diff(widths, axis=1) < 0)
    assert np.all(np.diff(widths, axis=0) > 0)
    assert np.isnan(narrowest_width(5, 0.9, 2.0))


def test_a_screening_says_what_it_has_entered(rng):
    density = pair(2, 0.1).density(prior=WideNormal(2))
    search, settings = wide_known(density, rng, screening=4096)
    _, screening = screened(density, search, settings, rng)
    [status, *_] = screening.statuses
    assert (status.code, status.level) == ("screened", "info")
    for text in ("4,096 points", "0.00073", "probability of 95 %", "no share of posterior mass"):
        assert text in status.cause
