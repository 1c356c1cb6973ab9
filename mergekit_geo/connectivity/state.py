"""An unfinished fit on disk: it goes on to the same result after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mergekit_geo.connectivity.path_folder import STATE
from mergekit_geo.files.replacement import replacing
from mergekit_geo.outputs.writer import output_errors, save_tensors
from mergekit_geo.processes import is_main_process

if TYPE_CHECKING:
    from mergekit_geo.connectivity.fit import Fit
    from mergekit_geo.connectivity.neb import Band


class FitState:
    """One file in the unfinished output's folder, written whole or not at all.

    Args:
        folder: Of the unfinished output; None keeps nothing.
        fingerprint: A JSON value that changes when the fit would.
    """

    def __init__(self, folder: Path | None, fingerprint: object) -> None:
        self.folder = folder
        self.fingerprint = json.dumps(fingerprint, sort_keys=True, default=repr)

    def save(self, fit: Fit | Band, best: list[Tensor], notes: dict[str, Any]) -> None:
        """Keep bends, optimizer, the best bends so far, and what belongs to them.

        Raises:
            DiskFullError: The disk does not hold it; the state before is still there.
            OutputError: It cannot be written for another reason.
        """
        if self.folder is None or not is_main_process():
            return
        tensors = {f"bend.{i}": v.detach().cpu() for i, v in enumerate(fit.bends.vectors)}
        tensors |= {f"best.{i}": v.detach().cpu() for i, v in enumerate(best)}
        tensors |= _optimizer_tensors(fit)
        metadata = {
            "identity": self.fingerprint,
            "notes": json.dumps(notes),
            "done": str(fit.done),
            "places": json.dumps(getattr(fit, "places", None)),
        }
        with output_errors(self.folder.absolute().parent, sum(t.nbytes for t in tensors.values())):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / STATE) as fresh:
                save_tensors({name: t.clone() for name, t in tensors.items()}, fresh, metadata)

    def notes(self) -> dict[str, Any] | None:
        """What was kept beside the tensors; None where there is nothing, or another fit's."""
        found = self._metadata()
        if found is None or found.get("identity") != self.fingerprint:
            return None
        notes: dict[str, Any] = json.loads(found["notes"])
        return notes

    def places(self) -> list[float] | None:
        """Positions of the saved chain's corners; None if it has none or is another fit's."""
        found = self._metadata()
        if found is None or found.get("identity") != self.fingerprint:
            return None
        places: list[float] | None = json.loads(found["places"])
        return places

    def restore(self, fit: Fit | Band) -> list[Tensor]:
        """Restore a fit; returns the best bends so far."""
        assert self.folder is not None
        tensors = load_file(self.folder / STATE)
        for i, vector in enumerate(fit.bends.vectors):
            vector.copy_(tensors[f"bend.{i}"])
        _restore_optimizer(fit, tensors)
        found = self._metadata()
        assert found is not None
        fit.done = int(found["done"])
        device = fit.bends.vectors[0].device
        count = sum(name.startswith("best.") for name in tensors)
        return [tensors[f"best.{i}"].to(device) for i in range(count)]

    def _metadata(self) -> dict[str, str] | None:
        if self.folder is None or not (self.folder / STATE).is_file():
            return None
        try:
            with safe_open(self.folder / STATE, framework="pt") as file:
                metadata: dict[str, str] = file.metadata()
                return metadata
        except (SafetensorError, OSError):
            return None


def _optimizer_tensors(fit: Fit | Band) -> dict[str, Tensor]:
    """State of the optimizer as named tensors, such as `optimizer.0.exp_avg`."""
    state = fit.optimizer.state_dict()["state"]
    return {
        f"optimizer.{i}.{name}": torch.as_tensor(value).detach().cpu()
        for i, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def _restore_optimizer(fit: Fit | Band, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    whole = fit.optimizer.state_dict()
    fit.optimizer.load_state_dict({**whole, "state": state})
