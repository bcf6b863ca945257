"""What the tests of several rooms of proposals need."""

from __future__ import annotations

import pytest

# Where a tensor gives its numbers to the CPU, which then waits for a GPU. `item` is left out:
# torch's own optimisers call it on their count of steps, which is on the CPU.
LOOKS = ("__bool__", "__float__", "__int__", "__index__", "__array__", "cpu", "numpy", "tolist")


@pytest.fixture
def looks(monkeypatch):
    """Names of the methods by which torch's tensors were read, in their order."""
    torch = pytest.importorskip("torch")
    seen = []

    def watched(name, read):
        def method(*args, **kwargs):
            seen.append(name)
            return read(*args, **kwargs)

        return method

    for name in LOOKS:
        monkeypatch.setattr(torch.Tensor, name, watched(name, getattr(torch.Tensor, name)))
    return seen
