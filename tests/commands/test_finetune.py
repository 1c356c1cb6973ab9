"""geo.finetune: what is trained, what is written, what an interruption leaves."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.cli.app import app
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import (
    ArgumentError,
    DataError,
    DiskFullError,
    NonFiniteError,
    OutputError,
    OutputExistsError,
)
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.progress import Silent
from mergekit_geo.records.training import MembersMeasurements
from tests.commands.test_evaluate import forward_passes
from tests.forks import FORKS

FAST = geo.OutputConfig(fsync=False)
HELD, MORE = (geo.EvalData(max_examples=n, seq_len=32) for n in (60, 150))
TRAIN = geo.EvalData("builtin:python-docs", split="train", seq_len=32, max_examples=60)
SHORT = geo.TrainingConfig(steps=4, batch_size=4, learning_rate=1e-3, save_every=2)
PLAIN, SAM = geo.SamArguments(rho=0.0), geo.SamArguments(rho=0.05)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tune(
    base: object,
    out: Path,
    training: geo.TrainingConfig = SHORT,
    sam: geo.SamArguments = SAM,
    **more: Any,
) -> geo.Result:
    """Without measuring, unless `data` is given."""
    options: dict[str, Any] = {"output": FAST, "data": None, "train_data": TRAIN, **more}
    return geo.finetune(base, out, training=training, sam=sam, **options)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    return max(float((first[n].double() - second[n].double()).abs().max()) for n in first)


# --- what is written


@pytest.fixture(scope="module")
def tuned(family: Path, tmp_path_factory: pytest.TempPathFactory) -> geo.Result:
    folder = tmp_path_factory.mktemp("tuned")
    training = geo.TrainingConfig(epochs=1, batch_size=16, learning_rate=1e-3)
    data = {"train_data": replace(TRAIN, max_examples=480), "data": MORE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return tune(family / "base", folder / "out", training, sharpness="quick", **data)


@pytest.mark.slow
def test_an_output_is_a_checkpoint_with_evidence(tuned: geo.Result, family: Path) -> None:
    assert {p.name for p in tuned.out.iterdir()} == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json", "README.md", "finetune.json", "report.json", "report.html",
        "figures",
    }  # fmt: skip
    assert not tuned.out.with_name("out.partial").exists()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tuned.out / name).read_bytes() == (family / "base" / name).read_bytes()
    assert list(open_folder(tuned.out).tensors.items()) == list(
        open_folder(family / "base").tensors.items()
    )
    report = json.loads((tuned.out / "report.json").read_text())
    assert report["command"] == "finetune"
    assert report["models"][0]["name"] == str(family / "base")
    assert report["not_measured"] == []


@pytest.mark.slow
def test_training_lowers_the_held_out_loss_and_is_recorded(tuned: geo.Result) -> None:
    found = tuned.measurements
    before, after = found.losses
    assert (before.role, after.role, after.model) == ("parent", "output", "output")
    assert after.loss < before.loss
    assert found.differences[0].value == pytest.approx(after.loss - before.loss)
    assert [entry.along for entry in found.barriers] == ["linear"]
    assert [entry.model for entry in found.sharpness] == [before.model, "output"]
    training = found.training
    assert (training.steps, training.epochs) == (30, 1.0)
    assert (training.batches, training.batch_size) == (1, 16)
    assert (training.mode, training.ascents, training.passes) == ("per-replica", 30, 60)
    assert training.skipped == 0
    assert training.history[-1][0] == 30
    assert training.history[-1][1] < training.history[0][1]
    assert tuned.is_not_worse
    assert f"The output is better than {before.model} by" in str(tuned)


@pytest.mark.slow
def test_what_is_trained_is_measured_on_several_sets(small: Path, tmp_path: Path) -> None:
    """One a set as by itself, of members too; and the gate asks all of them."""
    more = {"topics": replace(MORE, max_examples=40), "own": replace(TRAIN, max_examples=40)}
    found = tune(small / "base", tmp_path / "out", data=more, sharpness="off")
    alone = tune(small / "base", tmp_path / "alone", data=more["own"], sharpness="off")
    own = found.measurements.sets["own"]
    assert list(found.measurements.sets) == ["topics", "own"]
    assert (own.losses, own.barriers) == (alone.measurements.losses, alone.measurements.barriers)
    assert found.measurements.losses == found.measurements.sets["topics"].losses
    assert found.measurements.across.worst_set in more
    assert found.is_not_worse is (found.holds("not-worse:topics") and found.holds("not-worse:own"))
    with pytest.raises(ArgumentError, match="no set 'code' to require"):
        tune(
            small / "base",
            tmp_path / "not",
            data=more,
            output=geo.OutputConfig(require="not-worse:code"),
        )


@pytest.mark.slow
def test_what_was_measured_of_it_is_not_measured_again(
    tuned: geo.Result, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuned.out is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tuned.out.parent / "cache"))
    with forward_passes() as passes:
        found = geo.evaluate([family / "base", tuned.out], data=MORE).measurements
    assert passes == []
    assert [one.loss for one in found.losses] == [one.loss for one in tuned.measurements.losses]


@pytest.mark.slow
def test_the_card_tells_of_training_and_losses(tuned: geo.Result) -> None:
    card = (tuned.out / "README.md").read_text()
    assert "# out\n" in card
    assert "fine-tuned with" in card
    assert "- sam" in card
    assert "SAM, rho 0.05, every step, per-replica ascent: 30 ascents, 60 backward passes" in card
    assert "## Losses before and after" in card
    assert "figures/losses.png" in card


@pytest.mark.slow
def test_the_output_loads_and_soups(tuned: geo.Result, family: Path) -> None:
    AutoModelForCausalLM.from_pretrained(tuned.out)
    found = geo.soup([tuned.out, family / "base"], data=MORE, sharpness="off").measurements
    assert found.losses[0].loss == pytest.approx(tuned.measurements.losses[1].loss, abs=1e-6)


# --- what is trained


def reference(base: Path, training: geo.TrainingConfig, seed: int) -> dict[str, Tensor]:
    """The same by an ordinary loop: the mean over all tokens of a step, clipped, AdamW, cosine."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    objective = training_objective(TRAIN, open_folder(base), Compute())
    batches = Shuffled(objective, training.batch_size, seed)
    assert training.steps is not None
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for n, p in named.items() if "norm" not in n], "weight_decay": 0.01},
        {"params": [p for n, p in named.items() if "norm" in n], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate or 0.0)
    warmup = round(training.warmup * training.steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, training.steps)
    for step in range(training.steps):
        numbers = range(step * training.accumulation, (step + 1) * training.accumulation)
        found = [batches.at(number)(model) for number in numbers]
        total = sum(loss @ weight for loss, weight in found)
        (total / sum(weight.sum() for _, weight in found)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {n: t.detach() for n, t in model.state_dict().items() if n != "lm_head.weight"}


def test_rho_0_is_the_ordinary_loop(family: Path, tmp_path: Path) -> None:
    """Accumulated batches of unequal numbers of tokens count by their tokens."""
    training = geo.TrainingConfig(
        steps=5, batch_size=3, accumulation=2, learning_rate=1e-3, warmup=0.4
    )
    found = tune(family / "base", tmp_path / "out", training, PLAIN, seed=7)
    assert distance(weights(tmp_path / "out"), reference(family / "base", training, 7)) < 2e-6
    assert (found.measurements.training.mode, found.measurements.training.ascents) == ("off", 0)


def test_sam_steps_elsewhere_and_every_other_step_costs_less(family: Path, tmp_path: Path) -> None:
    plain = tune(family / "base", tmp_path / "plain", sam=PLAIN)
    found = tune(family / "base", tmp_path / "sam", sam=geo.SamArguments(rho=0.05, every=2))
    assert found.measurements.training.passes == 6
    assert plain.measurements.training.passes == 4
    assert distance(weights(tmp_path / "plain"), weights(tmp_path / "sam")) > 1e-5


def test_momentum_makes_one_pass_a_step(small: Path, tmp_path: Path) -> None:
    sam = geo.SamArguments(rho=0.3, variant="momentum")
    found = tune(small / "base", tmp_path / "sam", sam=sam).measurements.training
    assert (found.steps, found.passes, found.ascents) == (4, 4, 3)
    assert (found.variant, found.alpha, found.mode) == ("momentum", None, "synchronised")
    told = "momentum-SAM, rho 0.3, every step, synchronised ascent: 3 ascents, 4 backward passes"
    assert told in (tmp_path / "sam" / "README.md").read_text()


@pytest.mark.slow
def test_half_precision_is_trained_in_float32_and_stored_as_it_was(
    family: Path, tmp_path: Path
) -> None:
    """So a step smaller than bfloat16 resolves adds up, and is rounded once."""
    half = {name: tensor.bfloat16() for name, tensor in weights(family / "base").items()}
    for name, state in (("half", half), ("wide", {n: t.float() for n, t in half.items()})):
        folder = shutil.copytree(family / "base", tmp_path / name)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        tune(folder, tmp_path / f"{name}-out")
    wide = weights(tmp_path / "wide-out")
    assert same(weights(tmp_path / "half-out"), {n: t.bfloat16() for n, t in wide.items()})
    output = geo.OutputConfig(fsync=False, dtype="float32")
    tune(tmp_path / "half", tmp_path / "stored-wide", output=output)
    assert same(weights(tmp_path / "stored-wide"), wide)
    assert json.loads((tmp_path / "stored-wide" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.slow
def test_sgd_and_bf16_autocast_lower_the_loss(family: Path, tmp_path: Path) -> None:
    training = geo.TrainingConfig(
        optimizer="sgd", steps=20, batch_size=8, learning_rate=0.05, bf16=True
    )
    few = replace(TRAIN, max_examples=8)
    found = tune(family / "base", tmp_path / "out", training, train_data=few).measurements.training
    assert found.epochs == 20
    assert found.history[-1][1] < found.history[0][1] - 0.3


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates(family: Path, tmp_path: Path) -> None:
    words = ["finetune", str(family / "base"), "--train-data", "builtin:python-docs", "--steps"]
    words += ["3", "--train-batch-size", "3", "--seq-len", "32", "--rho", "0", "--lr", "1e-3"]
    words += ["--no-eval", "--json", "-o", str(tmp_path / "two")]
    done = FORKS.together(["-m", "mergekit_geo", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["result"]["training"]
    assert (found["batches"], found["batch_size"]) == (2, 3)
    assert (found["steps"], found["passes"]) == (3, 3)
    training = geo.TrainingConfig(steps=3, batch_size=3, accumulation=2, learning_rate=1e-3)
    whole = geo.EvalData("builtin:python-docs", split="train", seq_len=32)
    tune(family / "base", tmp_path / "one", training, PLAIN, train_data=whole)
    assert distance(weights(tmp_path / "one"), weights(tmp_path / "two")) < 2e-6


# --- other tasks and architectures


@pytest.mark.slow
def test_masked_language_models(family: Path, tmp_path: Path) -> None:
    folder = saved_bert(BertForMaskedLM, family, tmp_path)
    training = geo.TrainingConfig(steps=30, batch_size=8, learning_rate=5e-3)
    found = tune(folder, tmp_path / "out", training, data=HELD, sharpness="off").measurements
    assert found.losses[1].loss < found.losses[0].loss - 0.25


def test_classifiers_are_told_when_they_saw_the_held_out_rows(family: Path, tmp_path: Path) -> None:
    folder = saved_bert(BertForSequenceClassification, family, tmp_path, num_labels=2)
    rows = [{"text": f"{word} {i}", "label": k} for i in range(20) for k, word in
            enumerate(("a list of names", "the value of an expression"))]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = geo.EvalData(str(tmp_path / "rows.jsonl"))
    training = geo.TrainingConfig(epochs=5, batch_size=8, learning_rate=5e-3)
    found = tune(folder, tmp_path / "out", training, train_data=data, data=data, sharpness="off")
    assert found.measurements.losses[1].metric == 1.0
    assert "40 held-out documents are among the training data" in found.report.warnings[0]


def saved_bert(architecture: Any, family: Path, tmp_path: Path, **more: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(family / "base")
    tokenizer.add_special_tokens({"mask_token": "<|mask|>"})
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, pad_token_id=0, **more,
    )  # fmt: skip
    folder = tmp_path / architecture.__name__
    architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_fused_experts_are_stored_under_their_own_names(family: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=1024, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2, eos_token_id=0,
        bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path / "experts"
    MixtralForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(family / "base").save_pretrained(folder)
    tune(folder, tmp_path / "out")
    before, after = weights(folder), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert any(".experts.1." in name for name in after)
    moved = [name for name in before if not before[name].equal(after[name])]
    assert {name for name in before if ".experts." in name} <= set(moved)
    model = MixtralForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight.equal(after["lm_head.weight"])


class Line(nn.Module):
    """y = w x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.0]))


def errors(model: nn.Module, batch: Tensor) -> Tensor:
    assert isinstance(model, Line)
    return (model.w * batch - 3 * batch).square()


def test_a_module_in_memory_is_copied_and_trained_on_any_loss(tmp_path: Path) -> None:
    module, loss = Line(), geo.FunctionObjective(errors, [torch.ones(4), torch.full((4,), 2.0)])
    training = geo.TrainingConfig(steps=60, learning_rate=0.2)
    found = tune(module, tmp_path / "out", training, train_data=loss, data=loss, sharpness="off")
    assert module.w.item() == 0.0
    assert weights(tmp_path / "out")["w"].item() == pytest.approx(3.0, abs=0.2)
    assert found.measurements.losses[0].loss == pytest.approx(9 * 2.5)
    assert found.measurements.losses[1].loss < 0.1
    assert "60 steps of 1 batches of the caller's" in (tmp_path / "out" / "README.md").read_text()


def test_lora_trains_linear_layers_and_leaves_plain_weights(family: Path, tmp_path: Path) -> None:
    training = geo.TrainingConfig(
        steps=4, batch_size=4, learning_rate=1e-2, lora_rank=2, save_every=2
    )
    found = tune(family / "base", tmp_path / "out", training)
    before, after = weights(family / "base"), weights(tmp_path / "out")
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved == {name for name in before if "_proj" in name}
    name = "model.layers.0.mlp.up_proj.weight"
    change = after[name] - before[name]
    assert torch.linalg.matrix_rank(change, rtol=1e-3) == 2
    assert found.measurements.training.trained < sum(t.numel() for t in before.values()) / 10
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert "weights in adapters of rank 2 trained" in (tmp_path / "out" / "README.md").read_text()


# --- interruptions


class Stop(Silent):
    """Interrupts a run, as Ctrl-C would.

    Args:
        step: After so many of a training.
        training: Which of them, from 1.
    """

    def __init__(self, step: int, training: int = 1) -> None:
        self.left, self.trainings, self.trains = step, training, False
        self.said: list[str] = []

    def phase(self, title: str, total: int) -> None:
        self.trains = title == "training"
        self.trainings -= self.trains

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, count: int) -> None:
        if self.trains and self.trainings == 0 and count:
            self.left -= count
            if self.left <= 0:
                raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "variant"), [(None, "sam"), (2, "look")])
def test_a_resumed_run_ends_with_the_same_bits(
    family: Path, tmp_path: Path, rank: int | None, variant: str
) -> None:
    base = with_dropout(family / "base", tmp_path)
    training = geo.TrainingConfig(
        steps=6, batch_size=4, accumulation=2, learning_rate=1e-3, save_every=2, lora_rank=rank
    )
    sam = geo.SamArguments(rho=0.05, every=3, variant=variant)
    whole = tune(base, tmp_path / "whole", training, sam)
    with pytest.raises(KeyboardInterrupt):
        tune(base, tmp_path / "out", training, sam, progress=Stop(5))
    assert not (tmp_path / "out").exists()
    told = Stop(100)
    found = tune(base, tmp_path / "out", training, sam, resume=True, progress=told)
    assert "resumed at step 4 of 6" in told.said
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert found.measurements.training == whole.measurements.training
    assert not (tmp_path / "out" / "training").exists()


def with_dropout(base: Path, tmp_path: Path) -> Path:
    """So that the random state matters."""
    folder = shutil.copytree(base, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    return Path(folder)


@pytest.mark.slow
def test_a_run_killed_while_it_is_measured_trains_no_step_again(
    family: Path, tmp_path: Path
) -> None:
    whole = tune(family / "base", tmp_path / "whole")

    class Late(Stop):
        def phase(self, title: str, total: int) -> None:
            if title == "writing":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", tmp_path / "out", progress=Late(0))
    told = Stop(100)
    found = tune(family / "base", tmp_path / "out", resume=True, progress=told)
    assert "resumed at step 4 of 4" in told.said
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert found.measurements.training == whole.measurements.training


@pytest.mark.slow
def test_a_run_killed_while_it_clears_up_is_whole_after_the_same_call(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last state has lost its weights, and what it made is there."""
    whole, remove = tune(family / "base", tmp_path / "whole"), shutil.rmtree

    def killed(folder: Path, *rest: Any, **options: Any) -> None:
        if Path(folder).name != "training":
            return remove(folder, *rest, **options)
        (Path(folder) / "checkpoint-4" / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(family / "base", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = Stop(100)
    found = tune(family / "base", tmp_path / "out", resume=True, progress=told)
    assert not any("trained" in text for text in told.said)
    assert found.measurements.training == whole.measurements.training
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_killed_command_goes_on(family: Path, tmp_path: Path) -> None:
    words = [
        "-m", "mergekit_geo", "finetune", str(family / "base"),
        "--train-data", "builtin:python-docs", "--steps", "24", "--train-batch-size", "4",
        "--seq-len", "32", "--save-every", "4", "--no-eval", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    process = FORKS.begin(words, tmp_path)
    state = tmp_path / "out.partial" / "training" / "checkpoint-8" / "whole"
    while process.poll() is None and not state.exists():
        time.sleep(0.02)
    process.kill()
    assert not (tmp_path / "out").exists()
    told, training = Stop(100), geo.TrainingConfig(steps=24, batch_size=4, save_every=4)
    options: dict[str, Any] = {
        "train_data": replace(TRAIN, max_examples=None), "output": geo.OutputConfig(),
        "progress": told,
    }  # fmt: skip
    tune(family / "base", tmp_path / "out", training, resume=True, **options)
    assert any(text.startswith("resumed at step") for text in told.said)
    tune(family / "base", tmp_path / "whole", training, **options)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_a_torn_state_is_not_gone_on_from(family: Path, tmp_path: Path) -> None:
    """Killed while it was written: the one before it is whole."""
    training = replace(SHORT, steps=6)
    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", tmp_path / "out", training, progress=Stop(5))
    torn = tmp_path / "out.partial" / "training" / "checkpoint-4"
    (torn / "whole").unlink()
    (torn / "optimizer.pt").write_bytes(b"")
    told = Stop(100)
    tune(family / "base", tmp_path / "out", training, resume=True, progress=told)
    assert "resumed at step 2 of 6" in told.said
    tune(family / "base", tmp_path / "whole", training)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def interrupted(family: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", out, progress=Stop(3))


@pytest.mark.slow
def test_an_unfinished_run_is_not_lost_by_accident(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(family, out)
    with pytest.raises(OutputExistsError, match="a run was left unfinished there"):
        tune(family / "base", out)
    found = tune(family / "base", out, output=geo.OutputConfig(fsync=False, overwrite=True), seed=3)
    assert found.measurements.training.steps == 4
    alone = tune(family / "base", tmp_path / "alone", seed=3)
    assert same(weights(out), weights(alone.out))


@pytest.mark.slow
def test_another_run_s_state_is_refused(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(family, out)
    other = geo.TrainingConfig(steps=4, batch_size=4, learning_rate=2e-3, save_every=2)
    with pytest.raises(ArgumentError, match=r"learning-rate was 0\.001, and is 0\.002"):
        tune(family / "base", out, other, resume=True)
    fewer = replace(TRAIN, max_examples=50)
    with pytest.raises(ArgumentError, match="train-data max-examples was 60, and is 50"):
        tune(family / "base", out, train_data=fewer, resume=True)
    with pytest.raises(ArgumentError, match="model has changed"):
        tune(family / "a", out, resume=True)


def test_resume_without_a_state_starts(family: Path, tmp_path: Path) -> None:
    assert tune(family / "base", tmp_path / "out", resume=True).measurements.training.steps == 4


def test_a_run_that_fails_before_its_first_state_leaves_nothing(
    family: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", tmp_path / "out", progress=Stop(1))
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])


# --- members


@pytest.mark.slow
def test_members_differ_by_seed_and_are_ready_for_a_soup(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", out, members=2, seed=5, progress=Stop(3, training=2))
    assert not out.exists()
    assert (tmp_path / "out.partial" / "member-0" / "finetune.json").is_file()
    found = tune(family / "base", out, members=2, seed=5, resume=True, data=None)
    assert {p.name for p in out.iterdir()} == {
        "member-0", "member-1", "finetune.json", "report.json", "report.html",
    }  # fmt: skip
    result = found.report.result
    assert isinstance(result, MembersMeasurements)
    assert [member.seed for member in result.members] == [5, 6]
    assert [member.out for member in found.members] == [out / "member-0", out / "member-1"]
    assert result.soup == f"geo-merge soup {out}/member-0 {out}/member-1 -o {out}-soup"
    alone = [tune(family / "base", tmp_path / f"{seed}", seed=seed).out for seed in (5, 6)]
    for member, single in zip(found.members, alone, strict=True):
        assert same(weights(member.out), weights(single))
        assert json.loads((member.out / "report.json").read_text())["output"] == str(member.out)
    assert not same(weights(alone[0]), weights(alone[1]))
    assert geo.soup([m.out for m in found.members], data=None, sharpness="off").state


# --- bad input


def test_output_exists(family: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputExistsError, match="the output exists"):
        tune(family / "base", tmp_path / "out")
    overwrite = geo.OutputConfig(fsync=False, overwrite=True)
    with pytest.raises(OutputExistsError, match=r"it has no finetune\.json"):
        tune(family / "base", tmp_path / "out", output=overwrite)
    with pytest.raises(OutputError, match="the output would touch the input"):
        tune(family / "base", family / "base" / "out")


@pytest.mark.slow
def test_an_old_output_is_replaced_when_the_new_one_is_whole(family: Path, tmp_path: Path) -> None:
    out, overwrite = tmp_path / "out", geo.OutputConfig(fsync=False, overwrite=True)
    first = weights(tune(family / "base", out).out)
    with pytest.raises(KeyboardInterrupt):
        tune(family / "base", out, seed=1, output=overwrite, progress=Stop(3))
    assert same(first, weights(out))
    tune(family / "base", out, seed=1, output=overwrite, resume=True)
    assert not same(first, weights(out))


def test_no_training_data(family: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training data to fine-tune on"):
        tune(family / "base", tmp_path / "out", train_data=None)
    done = CliRunner().invoke(app, ["finetune", str(family / "base"), "-o", str(tmp_path / "o")])
    assert done.exit_code == 2
    assert "missing option '--train-data'" in done.stderr


def test_settings_that_cannot_be_meant(family: Path, tmp_path: Path) -> None:
    base, out = str(family / "base"), str(tmp_path / "out")
    words = ["finetune", base, "-o", out, "--train-data", "builtin:python-docs"]
    both = CliRunner().invoke(app, [*words, "--epochs", "1", "--steps", "2"])
    assert (both.exit_code, "epochs and steps are both given" in both.stderr) == (1, True)
    unknown = CliRunner().invoke(app, [*words, "--optimizer", "adam"])
    assert (unknown.exit_code, "'adam' is not one of" in unknown.stderr) == (2, True)
    negative = CliRunner().invoke(app, [*words, "--rho", "-1"])
    assert (negative.exit_code, "rho: expected a number of at least 0" in negative.stderr) == (
        1,
        True,
    )
    with pytest.raises(ArgumentError, match="members must be at least 2, found 1"):
        tune(family / "base", tmp_path / "out", members=1)
    with pytest.raises(ArgumentError, match="sharpness 'some': expected one of off, quick, full"):
        tune(family / "base", tmp_path / "out", sharpness="some")


def test_lora_without_peft(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ArgumentError, match="LoRA needs peft, which is not installed"):
        tune(family / "base", tmp_path / "out", geo.TrainingConfig(steps=1, lora_rank=2))


def test_a_loss_that_is_not_a_number(family: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(family / "base", tmp_path / "base"))
    state = weights(base)
    state["model.norm.weight"] *= torch.inf
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=r"step 2 was skipped: .* the last of 2 in a row"):
        tune(base, tmp_path / "out", sam=geo.SamArguments(most_skipped=2))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_a_full_disk(family: Path, tmp_path: Path) -> None:
    """A file size limit stands in for the disk: the system says EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskFullError, match="File too large: the output needs"):
            tune(family / "base", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "out").exists()
