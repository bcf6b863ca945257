"""The phi^4 chain: not normalised, but solved to rounding error by its transfer operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymc_multimodal.gallery.base import GalleryTarget, logsumexp, potential_model


def phi4(dim: int = 32, field: float = 0.0) -> GalleryTarget:
    """Chain of phi^4: many correlated coordinates, two modes, weights set by the field.

    Parameters
    ----------
    dim : int
        Number d of sites; the source uses 32 and 100.
    field : float
        The field h; from 0 (equal weights, by symmetry) to 3.5e-3 in the source.

    Notes
    -----
    The log density is -20 times ``a d sum_i (x_{i+1} - x_i)^2 / 2 + sum_i ((1 - x_i^2)^2 / 4
    + h x_i) / (a d)`` with a = 0.1 and x = 0 beyond both ends: Noble et al. (2025), arXiv
    2410.19449, after Gabrie, Rotskoff and Vanden-Eijnden (2022). The components are
    ``x[d // 2] <= 0``, the heavier, and ``x[d // 2] > 0``.

    Only neighbours interact, so one-dimensional integrals site by site give `log_z` and `weights`
    to rounding error. Draws go through the sites in turn on the same grid, and are then spread
    over their cells, which adds less than 0.1 per cent to a conditional variance.
    """
    if field < 0.0:
        raise ValueError(
            f"field={field} must not be negative: give |field|, and change the sign of x."
        )
    coupling, well = 20.0 * 0.1 * dim, 20.0 / (0.1 * dim)

    def site(x: Any) -> Any:
        return -well * (0.25 * (1.0 - x * x) ** 2 + field * x)

    def density(x: Any, xp: Any) -> Any:
        ends = x[..., 0] ** 2 + x[..., -1] ** 2
        chain = xp.sum((x[..., 1:] - x[..., :-1]) ** 2, axis=-1) + ends
        return xp.sum(site(x), axis=-1) - 0.5 * coupling * chain

    # Beyond the edge one site alone costs 40 nats. The trapezoidal rule is exact to rounding for
    # such smooth, decaying integrands once the spacing is below the width of the coupling; it is
    # a tenth of that here for the sake of the draws.
    edge, spacing = np.sqrt(1.0 + np.sqrt(160.0 / well)), 0.1 / np.sqrt(coupling)
    half = int(np.ceil(edge / spacing))
    nodes = spacing * np.arange(-half, half + 1)
    bond = -0.5 * coupling * np.subtract.outer(nodes, nodes) ** 2
    on_site = site(nodes) + np.log(spacing)
    # ahead[i]: log integral over all sites after i, as a function of the value at site i.
    ahead = np.empty((dim, len(nodes)))
    ahead[-1] = -0.5 * coupling * nodes**2
    for i in range(dim - 2, -1, -1):
        ahead[i] = logsumexp(bond + on_site + ahead[i + 1], np)
    log_z = float(logsumexp(-0.5 * coupling * nodes**2 + on_site + ahead[0], np))
    middle = dim // 2
    # By reflection, what lies before a site is what lies ahead of its mirror image.
    marginal = np.exp(on_site + ahead[middle] + ahead[dim - 1 - middle] - log_z)
    below = float(marginal[:half].sum() + 0.5 * marginal[half])

    def draws(n: int, rng: np.random.Generator) -> np.ndarray:
        x = np.zeros((n, dim + 1))  # the last column stands for the zero before the first site
        for i in range(dim):
            log_p = on_site + ahead[i] - 0.5 * coupling * (x[:, i - 1, None] - nodes) ** 2
            cumulative = np.exp(log_p - log_p.max(axis=1, keepdims=True)).cumsum(axis=1)
            level = rng.random((n, 1)) * cumulative[:, -1:]
            x[:, i] = nodes[(cumulative < level).sum(axis=1)]
            x[:, i] += spacing * rng.uniform(-0.5, 0.5, n)
        return x[:, :dim]

    def membership(x: np.ndarray) -> np.ndarray:
        negative = x[:, middle] <= 0.0
        return np.stack([negative, ~negative], axis=1).astype(float)

    return GalleryTarget(
        name=f"phi4_{dim}" + ("" if field == 0.0 else "_field"),
        model=potential_model(dim, 2.0, density),
        dim=dim,
        draws=draws,
        log_z=log_z,
        weights=np.array([below, 1.0 - below]),
        log_density=lambda x: density(np.asarray(x, dtype=float), np),
        note="transfer operator on a grid (weights, log Z), phi^4 of arXiv 2410.19449",
        membership=membership,
    )
