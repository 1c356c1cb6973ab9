"""The trainable parameters of a module as one vector on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from mergekit_geo.errors import ArgumentError, UnsupportedError

HALF = (torch.bfloat16, torch.float16)


class Weights:
    """The n trainable parameters of a module; shared ones are there once.

    Args:
        model: In float32 or float64.

    Raises:
        ArgumentError: Nothing is trainable.
        UnsupportedError: In half precision a step of this size is lost in rounding.
    """

    def __init__(self, model: Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ArgumentError(
                "the model has no trainable parameter, so its loss has no curvature",
                remedy="model.requires_grad_(True)",
            )
        if any(parameter.dtype in HALF for parameter in self.parameters):
            raise UnsupportedError(
                f"sharpness in {self.parameters[0].dtype} is noise", remedy="model.float()"
            )
        self.dtype = self.parameters[0].dtype
        self.size = sum(parameter.numel() for parameter in self.parameters)

    def zeros(self) -> Tensor:
        """A vector of the weights' dtype: (n,)."""
        return torch.zeros(self.size, dtype=self.dtype)

    @torch.no_grad()
    def vector(self) -> Tensor:
        """A copy of the weights: (n,)."""
        copied = self.zeros()
        for view, parameter in zip(self.views(copied), self.parameters, strict=True):
            view.copy_(parameter)
        return copied

    @torch.no_grad()
    def put(self, vector: Tensor) -> None:
        """Give the parameters these values."""
        for view, parameter in zip(self.views(vector), self.parameters, strict=True):
            parameter.copy_(view)

    def views(self, vector: Tensor) -> list[Tensor]:
        """The parts of a vector, in the parameters' shapes."""
        sizes = [parameter.numel() for parameter in self.parameters]
        parts = zip(torch.split(vector, sizes), self.parameters, strict=True)
        return [part.view(parameter.shape) for part, parameter in parts]

    def places(self, stored: Mapping[str, Parameter]) -> dict[str, int]:
        """Stored name of each trainable parameter, and its number.

        Args:
            stored: The module's parameters by stored name.

        Raises:
            UnsupportedError: One that is trained is not among them.
        """
        number = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        found = {name: number[id(p)] for name, p in stored.items() if id(p) in number}
        if len(set(found.values())) < len(number):
            raise UnsupportedError("the module trains parameters that the checkpoints do not hold")
        return found

    @contextmanager
    def moved(self, by: Tensor, scale: float = 1.0) -> Iterator[None]:
        """Context with the parameters moved; restores them to the bit."""
        home = self.vector()
        try:
            self.put(torch.add(home, by, alpha=scale))
            yield
        finally:
            self.put(home)
