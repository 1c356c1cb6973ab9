"""A module in training as a checkpoint's folder: weights once, configuration, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn import Module
from transformers.integrations import deepspeed

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import ArgumentError, UnsupportedError
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.processes import broadcast, is_main_process

DEFAULT = "default"
"""The adapter that peft writes into the folder itself, and others into folders below it."""


def check_saving(module: Module) -> None:
    """Refuse a module of which no checkpoint can be made, before it is trained.

    Raises:
        UnsupportedError: Its weights are not available, or not as one checkpoint.
        ArgumentError: An adapter that does not say what its base is.
    """
    if isinstance(module, FullyShardedDataParallel):
        raise UnsupportedError(
            "FSDP 1 keeps weights in flat pieces that have no names", remedy="fsdp_version=2"
        )
    engine: Any = deepspeed
    if engine.is_deepspeed_zero3_enabled():
        raise UnsupportedError(
            "under ZeRO 3 only DeepSpeed's engine can put the weights together, and a callback "
            "is not given it",
            remedy="let the Trainer save (save_only_model=True), then: geo-merge soup "
            "OUTPUT_DIR/checkpoint-* -o OUT",
        )
    if (getattr(module, "_tp_size", None) or 1) > 1:
        raise UnsupportedError(
            "tensor parallelism cuts weights in ways that only transformers can put together",
            remedy="let the Trainer save, then: geo-merge soup OUTPUT_DIR/checkpoint-* -o OUT",
        )
    _check_adapters(getattr(module, "peft_config", {}))


def save_module(module: Module, folder: Path, tokenizer: Any = None) -> None:
    """Write a module's checkpoint into a folder; all processes of a training call this.

    Args:
        module: Of transformers or peft (only the adapter is written), or any other (of which no
            configuration is). Its weights may be sharded by FSDP2.
        folder: That of the first process, which alone writes.
        tokenizer: Or processor, where there is one.

    Raises:
        OSError: What the system said.
    """
    state = _whole_state(module)
    with quiet_transformers():
        if is_main_process():
            _write(module, state, folder)
            if hasattr(tokenizer, "save_pretrained"):
                tokenizer.save_pretrained(folder)
    broadcast(None)


def _write(module: Module, state: dict[str, Tensor] | None, folder: Path) -> None:
    save: Any = getattr(module, "save_pretrained", None)
    if save is None:
        tensors = of_state(state or module.state_dict(), "the module").state or {}
        save_tensors(tensors, folder / "model.safetensors", {"format": "pt"})
    elif state is None:
        save(folder)
    else:
        with _gathered(module):
            save(folder, state_dict=state)


def _whole_state(module: Module) -> dict[str, Tensor] | None:
    """Gather a sharded state on the first process's CPU; None where it is not sharded."""
    if not any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        return None
    found: dict[str, Any] = get_model_state_dict(
        module, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return {name: tensor for name, tensor in found.items() if name not in _tied(module)}


def _tied(module: Module) -> set[str]:
    """Names that share another name's parameter: put together, each would be a copy."""
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return every - {name for name, _ in module.named_parameters()}


@contextmanager
def _gathered(module: Module) -> Iterator[None]:
    """Keep transformers from gathering what it has sharded, which all processes would have to."""
    config: Any = getattr(module, "config", None)
    sharding = getattr(config, "distributed_config", None)
    if sharding is not None:
        config.distributed_config = None
    try:
        yield
    finally:
        if sharding is not None:
            config.distributed_config = sharding


def _check_adapters(configs: Mapping[str, Any]) -> None:
    if not configs:
        return
    if list(configs) != [DEFAULT]:
        raise UnsupportedError(
            f"expected one adapter called {DEFAULT!r}, found {', '.join(configs)}",
            remedy="train one at a time",
        )
    if not getattr(configs[DEFAULT], "base_model_name_or_path", None):
        raise ArgumentError(
            "the adapter does not say what its base is, and its members are adapters of it",
            remedy="load the base by from_pretrained",
        )
