"""SAM in transformers' Trainer: the raw step's modes, accumulation, resumption, adapters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import ArgumentError, NonFiniteError, UnsupportedError
from mergekit_geo.training.sam import Sam
from mergekit_geo.training.summary import SamSummary
from mergekit_geo.training.trainer import SamMixin, SamTrainer

STEPS = 6


def llama(seed: int = 0, dropout: float = 0.0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, attention_dropout=dropout,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def rows(count: int = 24) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    ids = [torch.randint(16, (8,), generator=draw) for _ in range(count)]
    return [{"input_ids": row, "labels": row} for row in ids]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    given = {
        "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
        "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return TrainingArguments(str(folder), **{**given, **options})


def trained(
    trainer: Callable[..., Trainer], folder: Path, *, resume: str | None = None, **options: Any
) -> Trainer:
    made = trainer(
        model=llama(dropout=0.2), args=arguments(folder, **options), train_dataset=rows()
    )
    made.train(resume_from_checkpoint=resume)
    return made


def sam_trainer(**settings: Any) -> Callable[..., SamTrainer]:
    return lambda **given: SamTrainer(sam=SamArguments(**settings), **given)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


HARD = {"gradient_accumulation_steps": 2, "max_grad_norm": 0.3, "bf16": True}
"""Accumulation, clipping that bites, and mixed precision."""


def test_rho_0_is_the_trainer(tmp_path: Path) -> None:
    plain = trained(Trainer, tmp_path, **HARD)
    ours = trained(sam_trainer(rho=0.0), tmp_path, **HARD)
    assert same(plain.model, ours.model)
    assert plain.state.log_history[-1]["train_loss"] == ours.state.log_history[-1]["train_loss"]
    assert ours.sam_summary == SamSummary("per-replica", steps=STEPS, backward_passes=2 * STEPS)


@pytest.mark.parametrize(
    "settings",
    [
        {"rho": 0.5},
        {"rho": 0.5, "adaptive": True, "every": 3},
        pytest.param({"rho": 0.5, "variant": "momentum"}, marks=pytest.mark.slow),
        pytest.param({"rho": 0.5, "variant": "look", "every": 3}, marks=pytest.mark.slow),
    ],
)
def test_trains_as_a_raw_loop_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    """With accumulation, clipping, bfloat16 and dropout, to the bit."""
    options = {
        **HARD, "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential",
    }  # fmt: skip
    ours = trained(sam_trainer(**settings), tmp_path, **options)
    model = llama(dropout=0.2).train()
    optimizer = Trainer(model=model, args=arguments(tmp_path, **options)).create_optimizer()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    loader = DataLoader(rows(), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    sam = Sam(model, optimizer, SamArguments(**settings), accelerator=accelerator)
    torch.manual_seed(42)  # as the Trainer does
    for batch in loader:
        with accelerator.accumulate(model):
            sam.backward(lambda batch: model(**batch).loss, batch)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.3)
            optimizer.step()
            optimizer.zero_grad()
    assert ours.sam_summary == sam.summary
    assert same(ours.model, model)


@pytest.mark.parametrize(
    "variant", ["sam", "look", pytest.param("momentum", marks=pytest.mark.slow)]
)
def test_resumed_is_uninterrupted(tmp_path: Path, variant: str) -> None:
    """To the bit, in the rhythm of every third step, with its counts."""
    train = sam_trainer(rho=0.5, every=3, variant=variant)
    options = {**HARD, "save_strategy": "steps", "save_steps": 4}
    whole = trained(train, tmp_path / "whole", **options)
    resumed = trained(
        train, tmp_path / "resumed", resume=str(tmp_path / "whole" / "checkpoint-4"), **options
    )
    assert same(whole.model, resumed.model)
    assert resumed.sam_summary == whole.sam_summary
    assert whole.sam_summary.ascents == (1 if variant == "momentum" else 2)
    kept = tmp_path / "whole" / "checkpoint-4" / "sam.safetensors"
    assert kept.exists() == (variant == "look")


def test_goes_on_from_a_checkpoint_of_the_plain_trainer(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 3}
    trained(Trainer, tmp_path, **options)
    ours = trained(sam_trainer(every=2), tmp_path, resume=str(tmp_path / "checkpoint-3"), **options)
    assert (ours.sam_summary.steps, ours.sam_summary.ascents) == (STEPS, 1)  # steps 4 and no other
    again = trained(Trainer, tmp_path, resume=str(tmp_path / "checkpoint-6"), **options)
    assert same(again.model, ours.model)


def test_lora_moves_the_adapter_alone(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = llama().bfloat16()  # as large frozen bases are
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)
    model = peft.get_peft_model(base, config)
    seen: list[dict[str, Tensor]] = []
    model.register_forward_pre_hook(
        lambda *_: seen.append({n: p.detach().clone() for n, p in model.named_parameters()})
    )
    trainer = SamTrainer(
        model=model, args=arguments(tmp_path), sam=SamArguments(rho=0.5), train_dataset=rows()
    )
    trainer.train()
    moved = {name for name in seen[0] if not torch.equal(seen[0][name], seen[1][name])}
    assert moved
    assert all("lora_" in name for name in moved)
    length = sum(float((seen[1][n] - seen[0][n]).square().sum()) for n in moved) ** 0.5
    assert length == pytest.approx(0.5, rel=1e-4)
    for name, parameter in model.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, before[name.replace("base_layer.", "")])


class Weighted(Trainer):
    """Somebody's Trainer: its own loss, and a training step that takes from its inputs."""

    def compute_loss(self, model: nn.Module, inputs: Any, **_: Any) -> Tensor:
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        return 3 * cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    def training_step(self, model: nn.Module, inputs: Any, *rest: Any) -> Tensor:
        self.masks = inputs.pop("mask")
        return super().training_step(model, inputs, *rest)


class SamWeighted(SamMixin, Weighted):
    """With SAM."""


def test_composes_with_a_subclass(tmp_path: Path) -> None:
    data = [{**row, "mask": torch.ones(1)} for row in rows()]
    options = {"remove_unused_columns": False, "gradient_accumulation_steps": 2}
    ends = []
    for kind, extra in ((Weighted, {}), (SamWeighted, {"sam": SamArguments(rho=0.0)})):
        trainer = kind(
            model=llama(), args=arguments(tmp_path, **options), train_dataset=data, **extra
        )
        trainer.train()
        ends.append(trainer.model)
    assert same(*ends)
    sharp = SamWeighted(
        model=llama(), args=arguments(tmp_path, **options), train_dataset=data,
        sam=SamArguments(rho=0.5),
    )  # fmt: skip
    assert sharp.sam_summary.mode == "auto"
    sharp.train()
    assert sharp.sam_summary.backward_passes == 4 * STEPS
    assert not same(sharp.model, ends[0])


class Broken(nn.Module):
    """A regression whose data may hold NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and prediction."""
        found = self.linear(x)
        return {"loss": (found[:, 0] - labels).square().mean(), "logits": found}


def broken(tmp_path: Path, values: list[float], most: int) -> SamTrainer:
    torch.manual_seed(0)
    data = [{"x": torch.full((2,), value), "labels": torch.tensor(1.0)} for value in values]
    args = arguments(
        tmp_path, max_steps=len(values), per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    return SamTrainer(
        model=Broken(), args=args, sam=SamArguments(most_skipped=most), train_dataset=data
    )


def test_steps_that_are_not_finite(tmp_path: Path) -> None:
    trainer = broken(tmp_path, [1.0, torch.nan, torch.nan, 2.0], most=3)
    trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert (trainer.sam_summary.steps, trainer.sam_summary.skipped) == (4, 2)
    with pytest.raises(NonFiniteError, match=r"step 3 was skipped.*last of 2 in a row"):
        broken(tmp_path, [1.0, torch.nan, torch.nan, 2.0], most=2).train()


def test_trains_twice(tmp_path: Path) -> None:
    """The counts are of the last training."""
    trainer = trained(sam_trainer(every=4), tmp_path)
    trainer.train()
    assert (trainer.sam_summary.steps, trainer.sam_summary.ascents) == (STEPS, 2)


def refused(
    tmp_path: Path, model: nn.Module, trainer: type[SamTrainer] = SamTrainer, **given: Any
) -> None:
    trainer(model=model, args=arguments(tmp_path), train_dataset=rows(), **given)


def test_refuses_before_training(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"SAM on weights in torch.bfloat16.*bf16=True"):
        refused(tmp_path, llama().bfloat16())
    with pytest.raises(ArgumentError, match="no trainable parameter"):
        refused(tmp_path, llama().requires_grad_(False))
    model = llama()
    with pytest.raises(ArgumentError, match="LBFGS needs a closure"):
        refused(tmp_path, model, optimizers=(torch.optim.LBFGS(model.parameters()), None))


class UnderDeepSpeed(SamTrainer):
    """deepspeed is not installed here; this is all that accelerate would say of it."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator = _Deep(self.accelerator)


class _Deep:
    distributed_type = "DEEPSPEED"

    def __init__(self, accelerator: Accelerator) -> None:
        self.inner = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_refuses_deepspeed(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="SAM under DeepSpeed"):
        refused(tmp_path, llama(), UnderDeepSpeed)
