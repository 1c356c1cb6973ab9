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


def moved_gradient(model: nn.Module, loss: Loss, steps: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of the loss at w + e; the model is left at w."""
    home = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter, step in zip(model.parameters(), steps, strict=True):
            parameter.add_(step)
    found = gradient(model, loss)
    with torch.no_grad():
        for parameter, copied in zip(model.parameters(), home, strict=True):
            parameter.copy_(copied)
    return found


def ahead_gradient(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    rho: float,
    adaptive: bool = False,
) -> list[Tensor]:
    """Gradient at w - rho m / ||m||, m the momentum (Becker 2024, algorithm 1)."""
    if step == 0:
        return gradient(model, loss)
    states = [optimizer.state[p] for p in model.parameters()]
    momentum = [state["exp_avg" if "exp_avg" in state else "momentum_buffer"] for state in states]
    scales = adaptive_scales(model) if adaptive else [1.0] * len(momentum)
    return moved_gradient(model, loss, [-e for e in ascent(model, momentum, scales, rho)])


class Look:
    """LookSAM (Liu 2022, algorithm 1), over all weights in a row."""

    def __init__(self, rho: float, every: int, alpha: float, *, adaptive: bool = False) -> None:
        self.rho, self.every, self.alpha, self.adaptive = rho, every, alpha, adaptive

    def gradient(
        self, step: int, model: nn.Module, _: torch.optim.Optimizer, loss: Loss
    ) -> list[Tensor]:
        """What the optimizer is given at a step."""
        plain = gradient(model, loss)
        if step % self.every == 0:
            scales = adaptive_scales(model) if self.adaptive else [1.0] * len(plain)
            sharp = sharp_gradient(model, loss, self.rho, scales)
            self.keep(plain, sharp)
            return sharp
        return self.between(plain)

    def keep(self, plain: Sequence[Tensor], sharp: Sequence[Tensor]) -> None:
        """g_v = g_s - ||g_s|| cos(θ) g / ||g||, θ the angle between g_s and g."""
        g, s = _row(plain), _row(sharp)
        cosine = g @ s / (g.norm() * s.norm())
        self.kept = s - s.norm() * cosine * g / g.norm()

    def between(self, plain: Sequence[Tensor]) -> list[Tensor]:
        """g + alpha ||g|| / ||g_v|| g_v."""
        g = _row(plain)
        found = g + self.alpha * g.norm() / self.kept.norm() * self.kept
        sizes = [part.numel() for part in plain]
        return [a.view_as(b) for a, b in zip(found.split(sizes), plain, strict=True)]


def _row(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
