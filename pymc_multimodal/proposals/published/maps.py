"""The map of a region: a plain network from normal noise to draws, in NumPy once it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.published.labels import MapError
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    import torch

    from pymc_multimodal.proposals.published.settings import PublishedSettings

__all__ = ["SupervisedMap", "train_map"]


@dataclass(frozen=True, eq=False)
class SupervisedMap:
    """A multilayer perceptron from standard normal noise to draws, as NumPy arrays.

    Attributes
    ----------
    layers : tuple of (matrix, vector)
        ``h -> tanh(matrix h + vector)``, the last one without tanh. A single layer is an affine
        map.
    y_mean, y_sd, x_mean, x_sd : arrays of shape (d,)
        Standardisation of input and output.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere; output is wrapped there.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    y_mean: np.ndarray
    y_sd: np.ndarray
    x_mean: np.ndarray
    x_sd: np.ndarray
    period: np.ndarray

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Image of given noise, both of shape (n, d)."""
        h = (y - self.y_mean) / self.y_sd
        for matrix, vector in self.layers[:-1]:
            h = np.tanh(h @ matrix.T + vector)
        matrix, vector = self.layers[-1]
        x = self.x_mean + self.x_sd * (h @ matrix.T + vector)
        return unroll(x, 0.0, self.period)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped."""
        return self(rng.standard_normal((n, len(self.y_mean))))

    def affine_image(self, mean: np.ndarray, sd: np.ndarray, period: np.ndarray) -> SupervisedMap:
        """Return the map followed by ``mean + sd x``, wrapped with the period."""
        return SupervisedMap(
            self.layers, self.y_mean, self.y_sd, mean + sd * self.x_mean, sd * self.x_sd, period
        )


def train_map(
    y: np.ndarray, x: np.ndarray, settings: PublishedSettings, rng: np.random.Generator
) -> SupervisedMap:
    """Regress x on y with a multilayer perceptron, by mean squared error.

    Parameters
    ----------
    y, x : arrays of shape (n, d)
        Inputs and labels.
    settings : PublishedSettings
        Its `hidden`, `learning_rate`, `train_steps`, `batch` and `device` are used.
    rng : numpy.random.Generator
        Draws the initial weights, and the seed of the batches, which are drawn on the device.

    Returns
    -------
    SupervisedMap

    Raises
    ------
    MapError
        If torch is missing or the loss does not stay finite.
    RuntimeError
        If torch cannot use the device.
    """
    try:
        import torch

        from pymc_multimodal.proposals.torch_setup import one_thread, step_work, trained_on
    except ImportError as error:
        raise MapError("torch could not be imported.", "Install torch.") from error
    y_mean, y_sd, x_mean, x_sd = y.mean(axis=0), y.std(axis=0), x.mean(axis=0), x.std(axis=0)

    def train(device: torch.device) -> tuple[float, list[np.ndarray]]:
        inputs, labels = (
            torch.tensor(part, dtype=torch.float32, device=device)
            for part in ((y - y_mean) / y_sd, (x - x_mean) / x_sd)
        )
        parameters = _initial((y.shape[1], *settings.hidden, x.shape[1]), rng, device)
        loss = _minimise(parameters, inputs, labels, settings, rng)
        return loss, [p.detach().cpu().numpy().astype(float) for p in parameters]

    rows = len(x) if settings.batch is None else min(settings.batch, len(x))
    work = step_work(rows, (y.shape[1], *settings.hidden, x.shape[1]))
    # A pool of threads that has been started makes later forks unsafe, too.
    with one_thread():
        loss, arrays = trained_on(settings.device, train, work)
    if not np.isfinite(loss) or not all(np.isfinite(a).all() for a in arrays):
        raise MapError(
            f"the regression's loss ended at {loss:g}.",
            f"Lower learning_rate, now {settings.learning_rate:g}.",
        )
    layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    line = np.full(x.shape[1], np.inf)
    return SupervisedMap(layers, y_mean, y_sd, x_mean, x_sd, line)


def _initial(
    widths: tuple[int, ...], rng: np.random.Generator, device: torch.device
) -> list[torch.Tensor]:
    """Matrix and vector of each layer, uniform within the bounds of torch.nn.Linear."""
    import torch

    parameters = []
    for fan_in, fan_out in pairwise(widths):
        for shape in ((fan_out, fan_in), (fan_out,)):
            values = rng.uniform(-1.0, 1.0, shape) / np.sqrt(fan_in)
            parameters.append(
                torch.tensor(values, dtype=torch.float32, device=device, requires_grad=True)
            )
    return parameters


def _minimise(
    parameters: list[torch.Tensor],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    settings: PublishedSettings,
    rng: np.random.Generator,
) -> float:
    """Train the parameters in place; return the last loss."""
    import torch

    from pymc_multimodal.proposals.torch_setup import seeded_generator

    batch, device = settings.batch, inputs.device
    generator = seeded_generator(rng, device)
    with torch.enable_grad():
        optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
        for _ in range(settings.train_steps):
            h, target = inputs, labels
            if batch is not None and batch < len(inputs):
                rows = torch.randint(len(inputs), (batch,), generator=generator, device=device)
                h, target = inputs[rows], labels[rows]
            for i in range(0, len(parameters), 2):
                h = torch.nn.functional.linear(h, parameters[i], parameters[i + 1])
                h = torch.tanh(h) if i + 2 < len(parameters) else h
            loss = torch.nn.functional.mse_loss(h, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return float(loss.item())
