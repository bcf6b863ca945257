"""Targets of physics and robotics: lattices, a cluster of atoms, a planar arm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from problems import Normal, Problem, on_vector, over_prior
from scipy.special import logsumexp
from scipy.stats import norm, qmc

LOG_2PI = float(np.log(2 * np.pi))
# Lattices: coupling for each site, wells times the sites, and the field, as in `growth.py`: those
# of `gallery.phi4`, whose phases have nearly the same shares for any number of sites.
COUPLING, WELL, FIELD = 2.0, 200.0, 0.002
# Share of the phase with positive mean field and log Z, by `lattice_answer` with 400,000 draws of
# each phase (8 x 8) and 120,000: the standard errors are 0.0001 and 0.0005.
LATTICES = {8: (0.6885, -133.6120), 16: (0.6889, -711.2996)}
# Arm: links, standard deviations of the first angle and of the others, that of the place of the
# hand, and the goals: Arenz, Zhong and Neumann (2020, jmlr.org/papers/v21/18-848.html, 5.2.4).
LINKS, FIRST, OTHERS, TOUCH = 10, 1.0, 0.2, 0.01
GOALS = np.array([[7.0, 0.0], [0.0, 7.0], [-7.0, 0.0], [0.0, -7.0]])
# Log of the prior density of the hand at each goal: 120 times `arm_answer` with 2^18 points, whose
# mean has a standard error of 0.0015.
ARM = (-11.677, -11.864, -13.086, -11.864)
# Deviation of the common part of the angles in `arm_answer`, in units of their own. Conventional.
BENT = 1.0
ATOMS = 13


def near(phi: Any, xp: Any) -> Any:
    """Sum of the four neighbours of each site of periodic lattices (..., side, side)."""
    return sum(xp.roll(phi, s, axis) for s in (1, -1) for axis in (-1, -2))


def lattice_density(side: int, x: Any, xp: Any) -> Any:
    """Log density of phi^4 on a square with periodic borders, as `growth.Lattice`."""
    phi = x.reshape((*x.shape[:-1], side, side)) if xp is np else x.reshape((side, side))
    coupling, well = COUPLING * side**2, WELL / side**2
    site = 0.5 * coupling * phi * (4.0 * phi - near(phi, xp))
    site = site + well * (0.25 * (phi**2 - 1.0) ** 2 - FIELD * phi)
    return -xp.sum(site, axis=(-1, -2))


def lattice_answer(side: int, n: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Share of the phase with positive mean field, log Z, and the standard error of the share.

    Each phase is nearly normal: its integral is that of draws of the normal density at its
    maximum, whose covariance is diagonal in the Fourier coordinates of the lattice.
    """
    waves = 4.0 * np.sin(np.pi * np.arange(side) / side) ** 2
    stiffness = COUPLING * side**2 * (waves[:, None] + waves)
    log_z, relative = [], []
    for sign in (1.0, -1.0):
        top = max(np.roots([1.0, 0.0, -1.0, -FIELD]).real * sign) * sign
        precision = stiffness + WELL / side**2 * (3.0 * top**2 - 1.0)
        logs = []
        for size in [len(p) for p in np.array_split(np.arange(n), max(1, n // 10_000))]:
            noise = np.fft.fft2(rng.standard_normal((size, side, side)), norm="ortho")
            step = np.fft.ifft2(noise / np.sqrt(precision), norm="ortho").real
            x = (top + step).reshape(size, -1)
            log_q = -0.5 * np.sum(np.abs(noise) ** 2, axis=(1, 2)) + 0.5 * np.log(precision).sum()
            # A draw in the other phase has no part in the integral.
            own = np.sign(x.mean(axis=1)) == sign
            logs.append(np.where(own, lattice_density(side, x, np) - log_q, -np.inf))
        log_w = np.concatenate(logs)
        w = np.exp(log_w - log_w.max())
        log_z.append(log_w.max() + np.log(w.mean()) + 0.5 * side**2 * LOG_2PI)
        relative.append(w.std() / w.mean() / np.sqrt(n))
    share = 1.0 / (1.0 + np.exp(log_z[1] - log_z[0]))
    return share, float(logsumexp(log_z)), float(share * (1 - share) * np.hypot(*relative))


def lattice(side: int) -> Problem:
    """phi^4 in two dimensions: the phases are the signs of the mean field."""
    share, log_z = LATTICES[side]

    def events(x: np.ndarray) -> np.ndarray:
        positive = x.mean(axis=1) > 0
        return np.stack([positive, ~positive], axis=1).astype(float)

    prior, density = Normal(2.0), partial(lattice_density, side)
    answer = (events, np.array([share, 1 - share]), log_z)
    return on_vector(f"phi4_{side}x{side}", side**2, prior, over_prior(density, prior), answer)


def lennard_jones() -> Problem:
    """Thirteen atoms in a harmonic trap (Akhound-Sadegh et al. 2024, arXiv:2402.06121): 39-D.

    The trap is the prior. The events are that an atom is the nearest to the centre: by the
    symmetry of the labels each has the probability 1/13. The evidence is not known.
    """
    first, second = np.triu_indices(ATOMS, 1)

    def log_likelihood(x: Any, xp: Any) -> Any:
        shape = (*x.shape[:-1], ATOMS, 3) if xp is np else (ATOMS, 3)
        place = x.reshape(shape)
        gap = place[..., first, :] - place[..., second, :]
        sixth = xp.sum(gap**2, axis=-1) ** -3
        return -xp.sum(sixth**2 - 2.0 * sixth, axis=-1)

    def events(x: np.ndarray) -> np.ndarray:
        place = x.reshape(-1, ATOMS, 3)
        centred = place - place.mean(axis=1, keepdims=True)
        return np.eye(ATOMS)[np.sum(centred**2, axis=2).argmin(axis=1)]

    answer = (events, np.full(ATOMS, 1 / ATOMS), float("nan"))
    return on_vector("lennard_jones_13", 3 * ATOMS, Normal(1.0), log_likelihood, answer)


def arm_answer(log2: int, rng: np.random.Generator) -> np.ndarray:
    """Log of the density of the hand's noisy place at each goal, before the goals are seen.

    The first two angles are solved for the place, given the other angles and the noise:
    hand = exp(i a) (1 + exp(i b) c), whose Jacobian is |c sin(b + arg c)|. An arm that reaches a
    goal is bent in one direction, so the other angles are drawn with a common part, and weighed.
    """
    k = LINKS - 2
    u = qmc.Sobol(LINKS + 1, rng=rng).random_base2(log2)
    z = norm.ppf(np.clip(u, 1e-15, 1 - 1e-15))
    angles = OTHERS * (z[:, :k] + BENT * z[:, k : k + 1])
    # Sherman and Morrison: the covariance is OTHERS^2 (1 + BENT^2 11').
    shared = angles.sum(axis=1) ** 2 * BENT**2 / (1 + k * BENT**2) / OTHERS**2
    weight_of_draw = np.sqrt(1 + k * BENT**2) * np.exp(-0.5 * shared)
    turns = np.cumsum(angles, axis=1)
    # The links after the second, in the frame of the second.
    c = 1.0 + np.exp(1j * turns).sum(axis=1)
    found = []
    for goal in GOALS:
        hand = complex(*goal) + TOUCH * (z[:, -2] + 1j * z[:, -1])
        cosine = (np.abs(hand) ** 2 - 1.0 - np.abs(c) ** 2) / (2.0 * np.abs(c))
        total = np.zeros(len(c))
        inside = np.abs(cosine) < 1.0
        bend = np.arccos(cosine[inside])
        for sign in (1.0, -1.0):
            b = sign * bend - np.angle(c[inside])
            b = (b + np.pi) % (2 * np.pi) - np.pi
            a = np.angle(hand[inside] / (1.0 + np.exp(1j * b) * c[inside]))
            turned = sum(norm.pdf(a + 2 * np.pi * k, 0.0, FIRST) for k in (-1, 0, 1))
            weight = turned * norm.pdf(b, 0.0, OTHERS)
            weight *= weight_of_draw[inside]
            total[inside] += weight / (np.abs(c[inside]) * np.sin(bend))
        found.append(np.log(total.mean()))
    return np.array(found)


def hand_of(x: Any, xp: Any) -> tuple[Any, Any]:
    """Place of the end of the arm, from standard normal scores of the angles."""
    scale = np.array([FIRST] + [OTHERS] * (LINKS - 1))
    angle = xp.cumsum(x * scale, axis=-1)
    return xp.sum(xp.cos(angle), axis=-1), xp.sum(xp.sin(angle), axis=-1)


def planar_robot() -> Problem:
    """Ten links whose hand reaches one of four goals (Arenz, Zhong and Neumann 2020).

    The parameters are the angles in units of their prior standard deviations.
    """
    log_density = np.array(ARM)

    def log_likelihood(x: Any, xp: Any) -> Any:
        across, up = hand_of(x, xp)
        parts = [-0.5 * ((across - p) ** 2 + (up - q) ** 2) / TOUCH**2 for p, q in GOALS]
        stacked = xp.stack(parts, axis=-1)
        if xp is np:
            total = logsumexp(stacked, axis=-1)
        else:
            top = xp.max(stacked, axis=-1)
            total = top + xp.log(xp.sum(xp.exp(stacked - top), axis=-1))
        return total - LOG_2PI - 2 * np.log(TOUCH)

    def events(x: np.ndarray) -> np.ndarray:
        hand = np.stack(hand_of(x, np), axis=1)
        return np.eye(len(GOALS))[((hand[:, None] - GOALS) ** 2).sum(axis=2).argmin(axis=1)]

    log_z = float(logsumexp(log_density))
    answer = (events, np.exp(log_density - log_z), log_z)
    return on_vector("planar_robot", LINKS, Normal(1.0), log_likelihood, answer)


PHYSICS: dict[str, Callable[[], Problem]] = {
    "phi4_8x8": partial(lattice, 8),
    "phi4_16x16": partial(lattice, 16),
    "lennard_jones_13": lennard_jones,
    "planar_robot": planar_robot,
}
