"""The way back: from a module that was trained to the tensors that a checkpoint stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module
from transformers.core_model_loading import revert_weight_conversion

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.dtypes import rounded
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.modules.blend import module_names


class Stored:
    """Which stored tensor each of a module's tensors becomes.

    Args:
        model: Just loaded.
        checkpoint: From which.

    Raises:
        UnsupportedError: The way that transformers took in loading cannot be taken back.
    """

    def __init__(self, model: Module, checkpoint: Checkpoint) -> None:
        self.model, self.checkpoint = model, checkpoint
        self.names = module_names(model, checkpoint)
        if self.names is None:
            self._require_way_back()

    def state(self, tensors: Mapping[str, Tensor], *, as_stored: bool) -> dict[str, Tensor]:
        """Tensors on the CPU by stored name; those that only a checkpoint has are left out.

        Args:
            tensors: The module's, by its own names.
            as_stored: In the dtypes of the checkpoint.

        Raises:
            NonFiniteError: One of these does not hold a finite element.
        """
        found = self._renamed(tensors)
        infos = self.checkpoint.tensors
        return {
            name: rounded(name, found[name], info.dtype)
            if as_stored
            else found[name].detach().cpu()
            for name, info in infos.items()
            if name in found
        }

    def _renamed(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self.names is not None:
            return {stored: tensors[own] for stored, own in self.names.items()}
        model: Any = self.model
        found: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
        return found

    def _require_way_back(self) -> None:
        """Test the conversion without data, before anything is trained."""
        shapes = {name: t.to("meta") for name, t in self.model.state_dict().items()}
        found, schema = self._renamed(shapes), schema_of(self.checkpoint.config)
        for name, info in self.checkpoint.tensors.items():
            lost = name not in found and not schema.is_superfluous(schema.canonical(name))
            if lost or (name in found and tuple(found[name].shape) != info.shape):
                raise UnsupportedError(
                    f"tensor {name} is stored under another name or shape than the module has, "
                    "and there is no way back",
                    where=self.checkpoint.name,
                    remedy="store it anew first: from_pretrained, then save_pretrained",
                )
