"""What two gloo processes train, for test_replicas.py: each runs two_processes.py DIR.

Each process writes rank-R.pt, a dictionary of what it found.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers.distributed import DistributedConfig

from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import GeoError
from mergekit_geo.training.sam import Sam
from mergekit_geo.training.trainer import SamTrainer

FOLDER = Path(sys.argv[-1])
STEPS, PARTS, RHO = 6, 2, 0.5
MOMENTUM = SamArguments(rho=RHO, variant="momentum")
LOOK = SamArguments(rho=RHO, variant="look", every=3)


def network(dropout: float = 0.0) -> nn.Sequential:
    """Float64, the same in all processes; its first layer has an odd number of rows."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, 3)]
    return nn.Sequential(*layers).double()


def micro_batch(rank: int, step: int, part: int) -> Tensor:
    """Other examples in each process."""
    draw = torch.Generator().manual_seed(1000 * rank + 10 * step + part)
    return torch.randn(5, 6, generator=draw, dtype=torch.float64)


def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
    """Smooth, of any rows, and a different curvature everywhere."""
    return (model(rows).square().sum(-1) + 1).log().mean() / PARTS


def whole(model: nn.Module) -> Tensor:
    """All weights in a row."""
    parts = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    return torch.cat([part.detach().reshape(-1) for part in parts])


def trained(
    model: nn.Module,
    settings: SamArguments,
    *,
    spoilt: int | None = None,
    clip: float = 0.1,
    again: bool = False,
) -> dict[str, Any]:
    """Weights after training, and all points at which a loss was taken."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    sam, points, gradients = Sam(model, optimizer, settings), [], []

    def loss(rows: Tensor) -> Tensor:
        points.append(whole(model))
        return loss_of(model, rows)

    for step in range(STEPS):
        for part in range(PARTS):
            rows = micro_batch(dist.get_rank(), step, part)
            if dist.get_rank() == 1 and step == spoilt:
                rows = rows * torch.nan
            sam.backward(loss, rows, last=part == PARTS - 1)
        gradients.append(
            [
                (g.full_tensor() if isinstance(g, DTensor) else g).clone()
                for g in (p.grad for p in model.parameters())
                if g is not None
            ]
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if again:
            state, sam = sam.state_dict(), Sam(model, optimizer, settings)
            sam.load_state_dict(state)
    return {
        "weights": whole(model), "points": points, "gradients": gradients, "summary": sam.summary,
    }  # fmt: skip


def ddp(**options: Any) -> nn.Module:
    return DistributedDataParallel(network(**options))


def fsdp2() -> nn.Module:
    model = network()
    fully_shard(model[0])
    fully_shard(model)
    return model


def per_replica() -> dict[str, Any]:
    return trained(ddp(), SamArguments(rho=RHO))


def synchronised() -> dict[str, Any]:
    return trained(ddp(), SamArguments(rho=RHO, ascent="synchronised"))


def sharded() -> dict[str, Any]:
    return trained(fsdp2(), SamArguments(rho=RHO))


def synchronised_adaptive() -> dict[str, Any]:
    return trained(ddp(), SamArguments(rho=RHO, adaptive=True, ascent="synchronised"))


def sharded_adaptive() -> dict[str, Any]:
    return trained(fsdp2(), SamArguments(rho=RHO, adaptive=True))


def momentum() -> dict[str, Any]:
    return trained(ddp(), MOMENTUM)


def momentum_sharded() -> dict[str, Any]:
    return trained(fsdp2(), replace(MOMENTUM, adaptive=True))


def look() -> dict[str, Any]:
    return trained(ddp(), LOOK)


def look_synchronised() -> dict[str, Any]:
    return trained(ddp(), replace(LOOK, ascent="synchronised"))


def look_sharded() -> dict[str, Any]:
    return trained(fsdp2(), LOOK)


def resumed() -> dict[str, Any]:
    """LookSAM whose state is saved after every step, and restored in an object of its own."""
    return trained(ddp(), LOOK, again=True)


def resumed_shards() -> dict[str, Any]:
    return trained(fsdp2(), LOOK, again=True)


def dropout() -> dict[str, Any]:
    torch.manual_seed(dist.get_rank())
    return trained(ddp(dropout=0.2), SamArguments(rho=RHO))


def spoilt() -> dict[str, Any]:
    """A batch of NaN in one process only."""
    return trained(ddp(), SamArguments(rho=RHO), spoilt=2)


def spoilt_shards() -> dict[str, Any]:
    """The same where weights are sharded."""
    return trained(fsdp2(), SamArguments(rho=RHO), spoilt=2)


def overflow() -> dict[str, Any]:
    """A scaled gradient that overflows in one process only, in its second pass."""
    model, calls = ddp(), iter(range(100))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    sam, before = Sam(model, optimizer, SamArguments(rho=RHO), scaler=scaler), whole(model)

    def loss(rows: Tensor) -> Tensor:
        over = dist.get_rank() == 1 and next(calls) == 1
        return loss_of(model, rows) * (1e308 if over else 1.0)

    sam.backward(loss, micro_batch(dist.get_rank(), 0, 0))
    scaler.step(optimizer)
    scaler.update()
    return {"before": before, "weights": whole(model), "scale": scaler.get_scale()}


def bare() -> dict[str, Any]:
    """A model that nobody wrapped."""
    model = network()
    try:
        Sam(model, torch.optim.SGD(model.parameters()))
    except GeoError as error:
        return {"error": str(error)}
    return {}


def static_graph() -> dict[str, Any]:
    """DDP that exchanges gradients from the first pass on; so it takes no micro-batches either."""
    model = DistributedDataParallel(network(), static_graph=True)
    try:
        Sam(model, torch.optim.SGD(model.parameters()), SamArguments(ascent="per-replica"))
    except GeoError as error:
        refusal = str(error)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sam = Sam(model, optimizer, SamArguments(rho=RHO))
    for step in range(2):
        sam.backward(lambda rows: loss_of(model, rows), micro_batch(dist.get_rank(), step, 0))
        optimizer.step()
        optimizer.zero_grad()
    return {"refusal": refusal, "mode": sam.mode, "weights": whole(model)}


def accelerated() -> dict[str, Any]:
    """accelerate's loop, its accumulation and its bf16."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=PARTS, mixed_precision="bf16")
    model = network(dropout=0.1).float()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.05))
    sam, points = Sam(model, optimizer, SamArguments(rho=RHO), accelerator=accelerator), []

    def loss(rows: Tensor) -> Tensor:
        points.append(whole(model))
        return loss_of(model, rows)

    for step in range(STEPS):
        for part in range(PARTS):
            with accelerator.accumulate(model):
                sam.backward(loss, micro_batch(accelerator.process_index, step, part).float())
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
    return {"weights": whole(model), "points": points, "summary": sam.summary}


def trainer(ascent: str, *, shards: bool = False) -> dict[str, Any]:
    """transformers' Trainer: accumulation, clipping, and weights that transformers shards."""
    config = DistributedConfig(fsdp_size=2) if shards else None
    model = LlamaForCausalLM.from_pretrained(FOLDER / "llama", distributed_config=config)
    points: list[Tensor] = []
    model.register_forward_pre_hook(lambda *_: points.append(whole(model)))
    draw = torch.Generator().manual_seed(1)
    rows = [torch.randint(16, (8,), generator=draw) for _ in range(48)]
    args = TrainingArguments(
        str(FOLDER), max_steps=STEPS, per_device_train_batch_size=2, learning_rate=1e-2,
        gradient_accumulation_steps=PARTS, max_grad_norm=0.5, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, ddp_backend="gloo",
    )  # fmt: skip
    sam = SamTrainer(
        model=model, args=args, sam=SamArguments(rho=RHO, ascent=ascent),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
    )  # fmt: skip
    sam.train()
    return {"weights": whole(model), "points": points, "summary": sam.sam_summary}


def trainer_per_replica() -> dict[str, Any]:
    return trainer("auto")


def trainer_synchronised() -> dict[str, Any]:
    return trainer("synchronised")


def trainer_sharded() -> dict[str, Any]:
    return trainer("auto", shards=True)


def save_llama() -> None:
    """For the trainers."""
    if dist.get_rank() == 0:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(FOLDER / "llama")
    dist.barrier()


CASES: list[Callable[[], dict[str, Any]]] = [
    per_replica, synchronised, sharded, synchronised_adaptive, sharded_adaptive, dropout, spoilt,
    spoilt_shards, momentum, momentum_sharded, look, look_synchronised, look_sharded, resumed,
    resumed_shards, overflow, bare, static_graph, accelerated, trainer_per_replica,
    trainer_synchronised, trainer_sharded,
]  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    save_llama()
    found = {case.__name__: case() for case in CASES}
    torch.save(found, FOLDER / f"rank-{dist.get_rank()}.pt")
    dist.destroy_process_group()
