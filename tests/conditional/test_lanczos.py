import numpy as np
import pytest

from pymc_multimodal.conditional.lanczos import krylov


@pytest.mark.parametrize("distinct", [3, 12])
def test_functions_of_matrices_are_those_of_their_eigenvalues(rng, distinct):
    d, n = 12, 4
    q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    values = np.resize(np.linspace(0.5, 4.0, distinct), d)
    matrices = [(q * (values * (i + 1))) @ q.T for i in range(n)]
    b = rng.standard_normal((n, d))

    def product(w):
        return np.stack([m @ row for m, row in zip(matrices, w, strict=True)])

    space = krylov(product, b, d)
    for i in range(n):
        at = values * (i + 1)
        exact = (q * np.sqrt(at)) @ (q.T @ b[i])
        np.testing.assert_allclose(space.times(np.sqrt)[i], exact, rtol=1e-8, atol=1e-8)
        form = np.sum(np.log(at) * (q.T @ b[i]) ** 2)
        np.testing.assert_allclose(
            space.form(lambda a: np.log(np.maximum(a, 1e-300)))[i], form, rtol=1e-8
        )
