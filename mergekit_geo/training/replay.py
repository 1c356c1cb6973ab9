"""What a second pass must find as the first one did: random states and running statistics."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True)
class RandomState:
    """States of all random generators that dropout and the like draw from."""

    python: object
    numpy: Any
    cpu: Tensor
    devices: dict[torch.device, Tensor]

    @classmethod
    def now(cls, devices: Iterable[torch.device]) -> RandomState:
        """Capture the current states.

        Args:
            devices: With random states of their own.
        """
        states = {
            device: torch.get_device_module(device).get_rng_state(device) for device in devices
        }
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), states)

    def put(self) -> None:
        """Restore the captured states."""
        random.setstate(self.python)  # type: ignore[arg-type]
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for device, state in self.devices.items():
            torch.get_device_module(device).set_rng_state(state, device)


def devices_of(model: Module) -> set[torch.device]:
    """Devices on which a model may draw random numbers, apart from the CPU."""
    devices = {parameter.device for parameter in model.parameters()}
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind is not None:  # where offloaded parameters go
        devices.add(torch.device(kind.type, torch.accelerator.current_device_index()))
    return {device for device in devices if device.type not in ("cpu", "meta")}


class Statistics:
    """Running means, variances and counters of the BatchNorm layers of a model, and of their kin.

    Args:
        model: Wrapped or not.
    """

    def __init__(self, model: Module) -> None:
        self._layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, _NormBase) and layer.track_running_stats
        ]

    def copy(self) -> list[Tensor]:
        """Copy the buffers."""
        return [buffer.clone() for layer in self._layers for buffer in layer.buffers()]

    @torch.no_grad()
    def put(self, copies: list[Tensor]) -> None:
        """Restore the buffers from copies."""
        buffers = (buffer for layer in self._layers for buffer in layer.buffers())
        for buffer, copied in zip(buffers, copies, strict=True):
            buffer.copy_(copied)
