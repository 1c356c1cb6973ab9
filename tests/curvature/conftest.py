"""A Hessian of real data that can be held whole."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.func import grad, jacrev
from torch.nn.functional import cross_entropy


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """Hessian (650, 650) of softmax regression on digits, with 1e-4 |θ|^2 / 2, at its minimum."""
    data = load_digits()
    inputs, labels = torch.tensor(data.data / 16), torch.tensor(data.target)

    def loss(theta: Tensor) -> Tensor:
        logits = inputs @ theta[:640].view(64, 10) + theta[640:]
        return cross_entropy(logits, labels) + 1e-4 / 2 * theta.square().sum()

    def closure() -> Tensor:
        value = loss(theta)
        theta.grad = torch.autograd.grad(value, theta)[0]
        return value

    theta = torch.zeros(650, dtype=torch.float64, requires_grad=True)
    options = {"max_iter": 1000, "tolerance_change": 0, "history_size": 50}
    torch.optim.LBFGS([theta], line_search_fn="strong_wolfe", **options).step(closure)
    assert theta.grad.norm() < 1e-6
    return jacrev(grad(loss), chunk_size=50)(theta.detach())
