"""SAM as the papers write it, parameter by parameter, on copies."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module], Tensor]


def gradient(model: nn.Module, loss: Loss) -> list[Tensor]:
    """Of the loss, at the weights."""
    return list(torch.autograd.grad(loss(model), list(model.parameters())))


def ascent(
    model: nn.Module, gradients: Sequence[Tensor], scales: Sequence[Tensor | float], rho: float
) -> list[Tensor]:
    """e = rho T^2 g / ||T g|| (Foret 2021, eq. 2; Kwon 2021, eq. 9), with T given."""
    squares = sum(float(((t * g) ** 2).sum()) for t, g in zip(scales, gradients, strict=True))
    return [rho * t * t * g / squares**0.5 for t, g in zip(scales, gradients, strict=True)]


def adaptive_scales(model: nn.Module, eta: float = 0.01) -> list[Tensor | float]:
    """T: |w| + eta for weights, 1 for biases."""
    return [
        1.0 if name.endswith("bias") else p.detach().abs() + eta
        for name, p in model.named_parameters()
    ]


def sharp_gradient(
    model: nn.Module,
    loss: Loss,
    rho: float,
    scales: Sequence[Tensor | float] | None = None,
    uphill: Loss | None = None,
) -> list[Tensor]:
    """Gradient of the loss at w + e; the model is left at w.

    Args:
        model: At w.
        loss: Whose gradient is wanted.
        rho: Radius.
        scales: T of each parameter; 1 if None.
        uphill: Whose gradient is climbed, if another.
    """
    parameters = list(model.parameters())
    home = [p.detach().clone() for p in parameters]
    scales = [1.0] * len(home) if scales is None else scales
    steps = ascent(model, gradient(model, uphill or loss), scales, rho)
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(step)
    found = gradient(model, loss)
    with torch.no_grad():
        for parameter, copied in zip(parameters, home, strict=True):
            parameter.copy_(copied)
    return found
