"""What two gloo processes train, for test_callback_processes.py: torchrun ... DIR.

Each process writes rank-R.pt, a dictionary of what it found.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from torch.distributed.fsdp import fully_shard
from transformers import LlamaForCausalLM
from transformers.distributed import DistributedConfig

import mergekit_geo as geo
from mergekit_geo.errors import GeoError
from mergekit_geo.modules.saving import save_module
from mergekit_geo.processes import world
from tests.commands.trainings import FAST, HELD_OUT, OFF, Seen, tiny, tiny_tokenizer, trainer

FOLDER = Path(sys.argv[-1])
DDP = {"ddp_backend": "gloo", "save_strategy": "no"}


def found(callback: geo.SoupCallback) -> dict[str, Any]:
    assert callback.result is not None
    return {
        "steps": [member.step for member in callback.members],
        "out": str(callback.result.out),
        "weights": callback.result.measurements.coefficients.weights,
        "losses": [entry.loss for entry in callback.result.measurements.losses],
    }


def replicas() -> dict[str, Any]:
    """DDP, chosen by loss, whose evaluations would be shared by the processes."""
    callback = geo.SoupCallback(
        FOLDER / "replicas", keep=2, which="best", method="greedy", output=FAST, data=HELD_OUT,
        sharpness="off",
    )  # fmt: skip
    given = {"processing_class": tiny_tokenizer()}
    done = trainer(
        FOLDER, callback, eval_strategy="steps", eval_steps=3, given=given, **DDP
    )  # fmt: skip
    before = dict(AcceleratorState._shared_state)
    done.train()
    same = dict(AcceleratorState._shared_state) == before
    return {**found(callback), "state": same, "world": world()}


def sharded() -> dict[str, Any]:
    """FSDP2 by transformers."""
    config = DistributedConfig(fsdp_size=2)
    model = LlamaForCausalLM.from_pretrained(FOLDER / "tiny", distributed_config=config)
    callback = geo.SoupCallback(FOLDER / "sharded", keep=2, every=5, **OFF)
    done = trainer(FOLDER, callback, model=model, **DDP)
    done.train()
    final = {name: p.full_tensor() for name, p in model.named_parameters()}
    return {**found(callback), "final": final}


def sharded_by_torch() -> dict[str, Any]:
    """FSDP2 by fully_shard, as accelerate does it on accelerators."""
    model = LlamaForCausalLM.from_pretrained(FOLDER / "tiny")
    fully_shard(model.model.layers[0])
    fully_shard(model)
    folder = FOLDER / "by-torch"
    folder.mkdir(exist_ok=True)
    save_module(model, folder)
    return {}


def failing() -> dict[str, Any]:
    """A soup that cannot be made is told to all."""
    out = FOLDER / "failing"
    callback = geo.SoupCallback(out, keep=2, every=5, **OFF)
    in_the_way = Seen(9, lambda: (out / "other").mkdir(parents=True, exist_ok=True))
    trainer(FOLDER, in_the_way, callback, **DDP).train()
    try:
        return {"result": callback.result}
    except GeoError as error:
        return {"error": str(error)}


CASES: list[Callable[[], dict[str, Any]]] = [
    replicas, sharded, sharded_by_torch, failing,
]  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        tiny().save_pretrained(FOLDER / "tiny")
    dist.barrier()
    results = {case.__name__: case() for case in CASES}
    torch.save(results, FOLDER / f"rank-{dist.get_rank()}.pt")
    dist.destroy_process_group()
