"""Trainings in which SAM cannot be right are refused, with the reason and the way out."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import ArgumentError, UnsupportedError
from mergekit_geo.training.sam import Sam


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(dtype: torch.dtype) -> None:
    model = nn.Linear(2, 2).to(dtype)
    reason = rf"weights in {dtype}: rounding swallows .*float32 \(model.float\(\)\).*autocast"
    with pytest.raises(UnsupportedError, match=reason):
        Sam(model, sgd(model))


def test_frozen_weights_may_be_in_half_precision() -> None:
    model = nn.Sequential(nn.Linear(2, 2).bfloat16().requires_grad_(False), nn.Linear(2, 2))
    assert Sam(model, sgd(model)).summary.steps == 0


def test_nothing_to_train() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    reason = r"no trainable parameter \(model.requires_grad_\(True\)\)"
    with pytest.raises(ArgumentError, match=reason):
        Sam(model, sgd(model))


def test_an_optimizer_that_needs_a_closure() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match=r"LBFGS needs a closure.*such as AdamW or SGD"):
        Sam(model, torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize("rho", [-1.0, float("nan")])
def test_a_group_s_rho(rho: float) -> None:
    parts = [nn.Linear(2, 2), nn.Linear(2, 2)]
    groups = [{"params": parts[0].parameters()}, {"params": parts[1].parameters(), "rho": rho}]
    with pytest.raises(ArgumentError, match=f"parameter group 1: rho: .* found {rho:g}"):
        Sam(nn.Sequential(*parts), torch.optim.SGD(groups))


def test_deepspeed() -> None:
    """It is not installed here: its engine is told by where it is from, accelerate by its word."""
    engine = type("DeepSpeedEngine", (nn.Linear,), {"__module__": "deepspeed.runtime.engine"})(2, 2)
    with pytest.raises(UnsupportedError, match=r"DeepSpeed: its backward steps .*fsdp_version=2"):
        Sam(engine, sgd(engine))
    model, accelerator = nn.Linear(2, 2), SimpleNamespace(distributed_type="DEEPSPEED", scaler=None)
    with pytest.raises(UnsupportedError, match="DeepSpeed"):
        Sam(model, sgd(model), accelerator=accelerator)  # type: ignore[arg-type]


def test_fsdp_1(group: None) -> None:
    model = FullyShardedDataParallel(nn.Linear(2, 2), device_id=torch.device("cpu"))
    with pytest.raises(UnsupportedError, match=r"FSDP 1.*FSDP2: fsdp_version=2"):
        Sam(model, sgd(model))


def test_sharded_weights_climb_together(group: None) -> None:
    model = nn.Linear(2, 2)
    fully_shard(model)
    assert Sam(model, sgd(model)).mode == "synchronised"
    reason = r"sharded weights \(FSDP2\) leave no process .*ascent='synchronised'"
    with pytest.raises(ArgumentError, match=reason):
        Sam(model, sgd(model), SamArguments(ascent="per-replica"))
