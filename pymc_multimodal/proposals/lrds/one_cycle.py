"""AdamW whose steps are made, or left out, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OneCycleAdamW"]

# Decay rate of the second moment, and the number added to its root. The defaults of torch.
SECOND_DECAY, EPSILON = 0.999, 1e-8
# Added to the norm of a gradient before it is divided by, as in torch.nn.utils.clip_grad_norm_.
NORM_EPSILON = 1e-6


class OneCycleAdamW:
    """AdamW with torch's one-cycle schedule, which leaves out steps without waiting for the device.

    The optimisers of torch can leave out a step only if the CPU knows the loss. Here a step whose
    loss or gradient is not finite changes nothing, neither moments nor schedule, and nothing is
    read from the device. All other steps are those of torch.

    Parameters
    ----------
    parameters : iterable of tensors
        Changed by each step.
    learning_rate : float
        Largest of the schedule.
    steps : int
        Steps of the schedule.
    weight_decay : float
        In units of the learning rate.
    max_norm : float
        Norm at which the gradient is cut.

    Notes
    -----
    Loshchilov and Hutter (2019), arXiv 1711.05101; Smith and Topin (2018), arXiv 1708.07120.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        learning_rate: float,
        steps: int,
        weight_decay: float,
        max_norm: float,
    ) -> None:
        self._parameters = list(parameters)
        self._max_norm = max_norm
        values = parameters_to_vector(self._parameters).detach()
        self._moments = torch.zeros_like(values), torch.zeros_like(values)
        # A vector: to look up a row by a number makes the CPU wait for the device.
        self._made = torch.zeros(1, dtype=torch.long, device=values.device)
        factors = _factors(learning_rate, steps, weight_decay)
        self._factors = factors.to(values.device, values.dtype)

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Make a step down the gradient of a loss.

        Parameters
        ----------
        loss : tensor without dimension

        Returns
        -------
        tensor without dimension
            The loss; NaN where no step was made. It stays on the device.
        """
        parts = torch.autograd.grad(
            loss, self._parameters, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            gradient, values = parameters_to_vector(parts), parameters_to_vector(self._parameters)
            norm = torch.linalg.vector_norm(gradient)
            made = torch.isfinite(loss) & torch.isfinite(norm)
            gradient = gradient * torch.clamp(self._max_norm / (norm + NORM_EPSILON), max=1.0)
            kept, decay, rate, root = self._factors.index_select(0, self._made)[0]
            first = torch.lerp(gradient, self._moments[0], decay)
            second = torch.lerp(gradient.square(), self._moments[1], SECOND_DECAY)
            new = kept * values - rate * first / (second.sqrt() / root + EPSILON)
            vector_to_parameters(torch.where(made, new, values), self._parameters)
            self._moments = (
                torch.where(made, first, self._moments[0]),
                torch.where(made, second, self._moments[1]),
            )
            self._made = self._made + made
            return torch.where(made, loss, torch.nan)


def _factors(learning_rate: float, steps: int, weight_decay: float) -> torch.Tensor:
    """Return the factors of each step, in double precision, shape (steps + 1, 4).

    They are the share of a parameter that the weight decay keeps, the decay rate of the first
    moment, the learning rate over that moment's bias, and the root of the second moment's bias.
    """
    unused = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(unused, learning_rate, total_steps=steps + 1)
    rows = []
    for made in range(1, steps + 2):
        rate, decay = unused.param_groups[0]["lr"], unused.param_groups[0]["betas"][0]
        rows.append(
            (
                1.0 - rate * weight_decay,
                decay,
                rate / (1.0 - decay**made),
                (1.0 - SECOND_DECAY**made) ** 0.5,
            )
        )
        if made <= steps:
            unused.step()
            schedule.step()
    return torch.tensor(rows, dtype=torch.float64)
