"""SoupCallback: what it keeps of a training, what it makes of it, what it refuses."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import (
    ArgumentError,
    DataError,
    GeoError,
    OutputExistsError,
    UnsupportedError,
)
from mergekit_geo.modules.saving import check_saving
from mergekit_geo.progress import Silent
from tests.commands.trainings import (
    FAST,
    HELD_OUT,
    OFF,
    Seen,
    mean,
    rows,
    tiny,
    tiny_tokenizer,
    trainer,
    weights,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


class Told(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.texts: list[str] = []

    def phase(self, title: str, total: int) -> None:
        self.phases.append(title)

    def say(self, text: str) -> None:
        self.texts.append(text)


def steps(callback: geo.SoupCallback) -> list[int]:
    return [member.step for member in callback.members]


# --- what is kept, and what it becomes


def test_the_last_members_and_their_soup(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    told, seen = Told(), Seen()
    callback = geo.SoupCallback(
        tmp_path / "soup", keep=3, every=2, output=FAST, data=HELD_OUT, sharpness="off",
        progress=told,
    )  # fmt: skip
    done = trainer(tmp_path, seen, callback, given={"processing_class": tokenizer})
    done.train()
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in (tmp_path / "soup-members").iterdir()} == {
        "step-6", "step-8", "step-10",
    }  # fmt: skip
    for member in callback.members:
        assert {path.name for path in member.folder.iterdir()} == {
            "model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
            "tokenizer_config.json", "member.json",
        }  # fmt: skip
        stored = weights(member.folder)
        assert "lm_head.weight" not in stored
        assert all(stored[n].equal(seen.weights[member.step][n]) for n in stored)
        assert stored.keys() == seen.weights[member.step].keys() - {"lm_head.weight"}
    soup, naive = weights(tmp_path / "soup"), mean([weights(m.folder) for m in callback.members])
    torch.testing.assert_close(soup, naive, rtol=2e-7, atol=0)
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path / "soup", output_loading_info=True)
    assert not info["missing_keys"]
    result = callback.result
    assert result is not None
    assert [entry.role for entry in result.measurements.losses] == ["parent"] * 3 + ["output"]
    assert (tmp_path / "soup" / "report.html").is_file()
    assert told.texts[0] == f"kept step 2: {tmp_path / 'soup-members' / 'step-2'}"
    assert "merging" in told.phases
    trained = done.model.state_dict()
    assert all(trained[n].equal(t) for n, t in seen.weights[10].items())


def test_the_best_are_the_trainer_s_own(tmp_path: Path) -> None:
    seen = Seen()
    callback = geo.SoupCallback(tmp_path / "soup", keep=3, which="best", **OFF)
    done = trainer(tmp_path, seen, callback, eval_strategy="steps", eval_steps=1, learning_rate=0.2)
    done.train()
    found = {log["step"]: log["eval_loss"] for log in done.state.log_history if "eval_loss" in log}
    best = sorted(sorted(found, key=lambda step: found[step])[:3])
    assert steps(callback) == best != [8, 9, 10]
    assert [member.score for member in callback.members] == [found[step] for step in best]
    soup, naive = weights(tmp_path / "soup"), mean([seen.weights[step] for step in best])
    torch.testing.assert_close(soup, {name: naive[name] for name in soup}, rtol=2e-7, atol=0)
    done.evaluate()
    assert steps(callback) == best


def test_a_greater_metric_of_one_of_two_data_sets(tmp_path: Path) -> None:
    marks = iter([0.2, float("nan"), 0.7, 0.7, 0.7, 0.9, 0.1, 0.3, 0.0, 0.8])
    callback = geo.SoupCallback(tmp_path / "soup", keep=3, which="best", **OFF)
    asked = {"first": rows(2, seed=3), "second": rows(2, seed=4)}
    turn = iter(range(99))

    def mark(_: Any) -> dict[str, float]:
        return {"mark": next(marks)} if next(turn) % 2 == 0 else {}

    trainer(
        tmp_path, callback, eval_strategy="steps", eval_steps=1, metric_for_best_model="first_mark",
        greater_is_better=True, given={"compute_metrics": mark, "eval_dataset": asked},
    ).train()  # fmt: skip
    assert [(m.step, m.score, m.metric) for m in callback.members] == [
        (3, 0.7, "eval_first_mark"), (6, 0.9, "eval_first_mark"), (10, 0.8, "eval_first_mark"),
    ]  # fmt: skip


def test_a_metric_that_no_evaluation_gives_stops_at_once(tmp_path: Path) -> None:
    callback = geo.SoupCallback(tmp_path / "soup", keep=2, which="best", **OFF)
    unlabelled = [{"input_ids": row["input_ids"]} for row in rows(2, seed=3)]
    given = {"eval_dataset": unlabelled}
    done = trainer(tmp_path, callback, eval_strategy="steps", eval_steps=2, given=given)
    with pytest.raises(ArgumentError, match="the evaluation gives no eval_loss, but eval_runtime"):
        done.train()
    assert done.state.global_step == 2


@pytest.mark.parametrize("method", ["greedy", geo.SelectionConfig(method="learned", steps=3)])
def test_soups_chosen_by_loss(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, method: str | geo.SelectionConfig
) -> None:
    callback = geo.SoupCallback(
        tmp_path / "soup", keep=2, every="epoch", method=method, output=FAST, data=HELD_OUT,
        sharpness="off",
    )  # fmt: skip
    trainer(
        tmp_path, callback, given={"processing_class": tokenizer}, max_steps=-1, num_train_epochs=3
    ).train()
    assert steps(callback) == [32, 48]
    assert callback.result is not None
    selection = callback.result.measurements.selection
    assert selection is not None
    assert selection.method.startswith(method if isinstance(method, str) else method.method)
    assert len(selection.steps) >= 2
    assert sum(callback.result.measurements.coefficients.weights) == pytest.approx(1)


def test_adapters_are_kept_as_adapters(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    tiny().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    callback = geo.SoupCallback(tmp_path / "soup", keep=2, every=5, **OFF)
    trainer(tmp_path, callback, model=model).train()
    assert not list((tmp_path / "soup-members").glob("*/model.safetensors"))
    assert callback.result is not None
    merged = []
    for member in callback.members:
        from peft import PeftModel

        plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        plain = PeftModel.from_pretrained(plain, member.folder).merge_and_unload()
        merged.append(plain.state_dict())
    naive, soup = mean(merged), weights(tmp_path / "soup")
    assert max(float((soup[n] - naive[n]).abs().max()) for n in soup) < 1e-6
    nameless: Any = get_peft_model(tiny(), LoraConfig(r=2, target_modules=["q_proj"]))
    refused = trainer(tmp_path, geo.SoupCallback(tmp_path / "o", every=5), model=nameless)
    with pytest.raises(ArgumentError, match="the adapter does not say what its base is"):
        refused.train()


class Plain(nn.Module):
    """No model of transformers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(300, 4)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.table(input_ids) @ self.table.weight.T
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())}


def test_any_module(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mergekit_geo")
    callback, seen = geo.SoupCallback(tmp_path / "soup", keep=2, every=5, **OFF), Seen()
    trainer(tmp_path, seen, callback, model=Plain()).train()
    naive = mean([seen.weights[5], seen.weights[10]])
    assert weights(tmp_path / "soup")["table.weight"].equal(naive["table.weight"])
    said = [record.getMessage() for record in caplog.records if record.name == "mergekit_geo"]
    assert any(text.startswith("kept step") for text in said)
    assert any(text.startswith("averaging ") for text in said)


# --- going on


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_resumed_training_goes_on_with_its_members(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2}
    whole = geo.SoupCallback(tmp_path / "whole", keep=3, **OFF)
    trainer(tmp_path / "first", whole, **settings).train()

    out, members = tmp_path / "soup", tmp_path / "elsewhere"

    def again(**changed: Any) -> geo.SoupCallback:
        return geo.SoupCallback(out, keep=3, members=members, **{**OFF, **changed})

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "run", Seen(7, interrupt), again(), **settings).train()
    torn = members / "step-9.partial"  # of a kill
    torn.mkdir()
    (torn / "journal.jsonl").touch()
    assert not out.exists()
    with pytest.raises(
        OutputExistsError, match=r"3 members of an earlier run are there \(train\(r"
    ):
        trainer(tmp_path / "run", again(), **settings).train()
    last = str(tmp_path / "run" / "checkpoint-4")
    callback = again()
    trainer(tmp_path / "run", callback, **settings).train(resume_from_checkpoint=last)
    assert sorted(path.name for path in members.iterdir()) == ["step-10", "step-6", "step-8"]
    assert (out / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()

    best = geo.SoupCallback(tmp_path / "best", which="best", members=members, **OFF)
    with pytest.raises(
        ArgumentError, match="kept by its step, and the best are sought by eval_loss"
    ):
        trainer(tmp_path / "run", best, eval_strategy="epoch", **settings).train(
            resume_from_checkpoint=last
        )
    fresh = again(output=geo.OutputConfig(fsync=False, overwrite=True))
    trainer(tmp_path / "run", fresh, max_steps=4, **settings).train()
    assert steps(fresh) == [2, 4]


def test_fewer_than_two_members_are_no_soup_and_no_failure(tmp_path: Path) -> None:
    callback = geo.SoupCallback(tmp_path / "soup", every=10, **OFF)
    with pytest.warns(UserWarning, match=r"one member was kept, .*step-10, and a soup of one is"):
        trainer(tmp_path, callback).train()
    assert callback.result is None
    assert not (tmp_path / "soup").exists()
    callback = geo.SoupCallback(tmp_path / "none", every=11, **OFF)
    with pytest.warns(UserWarning, match="no member was kept in .*none-members, so there is no"):
        trainer(tmp_path, callback).train()


def test_a_soup_that_fails_loses_nothing_and_its_command_goes_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    out = tmp_path / "soup"
    callback = geo.SoupCallback(
        out, keep=2, every=3, method="greedy", output=FAST, data=HELD_OUT, sharpness="off",
        compute=geo.Compute(dtype="float32", device="cpu"),
    )  # fmt: skip
    there = Seen(9, lambda: (out / "mine").mkdir(parents=True))
    done = trainer(tmp_path, there, callback, given={"processing_class": tokenizer})
    with pytest.warns(UserWarning, match=r"the soup of the 2 members here failed: .*the output ex"):
        assert done.train().global_step == 10
    with pytest.raises(
        GeoError, match=r"soup-members: the soup of .* \(after correcting that: geo"
    ):
        _ = callback.result
    assert steps(callback) == [6, 9]
    shutil.rmtree(out)
    ran = CliRunner().invoke(app, shlex.split(callback.command)[1:])
    assert ran.exit_code == 0, ran.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["result"]["selection"]["method"] == "greedy"
    assert [model["name"] for model in report["models"]] == [
        str(member.folder) for member in callback.members
    ]


class Impatient(Silent):
    """Stops what it is told of."""

    def phase(self, title: str, total: int) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_soup_leaves_the_members_and_nothing_half_written(tmp_path: Path) -> None:
    callback = geo.SoupCallback(tmp_path / "soup", every=5, progress=Impatient(), **OFF)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callback).train()
    assert not (tmp_path / "soup").exists()
    assert steps(callback) == [5, 10]
    ran = CliRunner().invoke(app, shlex.split(callback.command)[1:])
    assert ran.exit_code == 0, ran.stderr
    assert sorted(path.name for path in tmp_path.glob("soup*")) == ["soup", "soup-members"]


# --- refusals


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"keep": 1}, "keep must be at least 2, found 1: a soup of one is that model"),
    ({"which": "first"}, "which 'first': expected one of last, best"),
    ({"method": "ties"}, "method 'ties': expected one of uniform, weighted, greedy, learned"),
    ({"method": "weighted"}, "a weighted soup needs a weight for each member"),
    ({"method": "greedy"}, r"members chosen by loss \(greedy\) need held-out data to choose on"),
    ({"method": "learned", "data": None}, r"members chosen by loss \(learned\) need held-out data"),
    ({"which": "best", "every": 5}, "the best are taken at the Trainer's evaluations"),
    ({"every": 0}, "every must be at least 1 step, found 0"),
    ({"every": "day"}, "every 'day': expected one of save, epoch, or a number of steps"),
    ({"sharpness": "some"}, "sharpness 'some': expected one of off, quick, full"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        geo.SoupCallback("soup", **settings)


def test_what_could_not_be_done_at_the_end_is_refused_at_the_beginning(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], type[GeoError], str]] = [
        ({"which": "best"}, ArgumentError, "the best are taken at .* evaluations, and it makes no"),
        ({}, ArgumentError, "members are taken at the Trainer's saves, and it makes none"),
        ({"every": 5, "data": geo.EvalData("absent.txt")}, DataError, "absent.txt: no such file"),
        (
            {"every": 5, "data": {"own": HELD_OUT, "more": "absent.txt"}},
            DataError,
            "absent.txt: no such file",
        ),
        (
            {"every": 5, "data": HELD_OUT, "method": "greedy"},
            ArgumentError,
            "need what turns data in",
        ),
        ({"every": 5, "members": tmp_path / "soup" / "in"}, GeoError, "the output would touch the"),
    ]
    for settings, kind, message in refused:
        done = trainer(tmp_path, geo.SoupCallback(tmp_path / "soup", **{**OFF, **settings}))
        with pytest.raises(kind, match=message):
            done.train()
        assert done.state.global_step == 0
    (tmp_path / "soup").mkdir()
    (tmp_path / "soup" / "precious").touch()
    with pytest.raises(OutputExistsError, match="the output exists"):
        trainer(tmp_path, geo.SoupCallback(tmp_path / "soup", every=5, **OFF)).train()


@pytest.mark.slow
def test_a_soup_is_measured_on_several_sets(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """And its members are chosen by the worst of them."""
    sets = {"topics": HELD_OUT, "more": HELD_OUT.replaced(split="train")}
    callback = geo.SoupCallback(
        tmp_path / "soup", keep=2, every=2, data=sets, method="greedy", output=FAST,
        sharpness="off", aiming=geo.AimConfig("worst", keep=["more"]),
    )  # fmt: skip
    trainer(tmp_path, callback, given={"processing_class": tokenizer}).train()
    assert callback.result is not None
    found = callback.result.report.result
    assert list(found.sets) == list(callback.result.report.verdict.sets) == list(sets)
    assert found.selection.aim.startswith("maximum over topics, more")
    with pytest.raises(ArgumentError, match="no set 'code' to keep"):
        geo.SoupCallback("soup", data=sets, aiming=geo.AimConfig(keep=["code"]))
    with pytest.raises(ArgumentError, match="nothing is chosen by loss"):
        geo.SoupCallback("soup", data=sets, aiming=geo.AimConfig("worst"))


class ZeroThree:
    """What transformers asks of DeepSpeed's configuration."""

    def is_zero3(self) -> bool:
        return True


def test_weights_that_only_deepspeed_s_engine_has(tmp_path: Path) -> None:
    from transformers.integrations import deepspeed

    done, config = trainer(tmp_path, geo.SoupCallback(tmp_path / "soup", every=5)), ZeroThree()
    deepspeed.set_hf_deepspeed_config(config)  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(UnsupportedError, match="under ZeRO 3 only DeepSpeed's engine can put"):
            done.train()
    finally:
        deepspeed.unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]


def test_weights_in_pieces_without_names() -> None:
    model = FullyShardedDataParallel.__new__(FullyShardedDataParallel)  # needs an accelerator
    with pytest.raises(UnsupportedError, match="FSDP 1 keeps weights in flat pieces"):
        check_saving(model)
    parallel: Any = tiny()
    parallel._tp_size = 2
    with pytest.raises(UnsupportedError, match="tensor parallelism cuts weights in ways that only"):
        check_saving(parallel)
