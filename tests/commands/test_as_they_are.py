"""Parents whose tokenizer or architecture is another than the output's, measured as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.view import view
from mergekit_geo.commands._merge import merge
from mergekit_geo.commands._run import Work, carry_out
from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.evaluation.block_influence import MOST
from mergekit_geo.evaluation.drawing import draw
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.recipes.run import run
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.records.report import Report, read_report
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.tasks.table import TASKS
from mergekit_geo.tasks.task import Example
from mergekit_geo.views.console import print_report

pytestmark = pytest.mark.slow

WINDOW = 64
COMPUTE = Compute(device="cpu", budget=0)
TOKEN = "<tool>"
TEXTS = [d.text[i : i + 350] for d in builtin_documents("held-out")[:16] for i in (0, 350)]
for i in (3, 8, 12):
    TEXTS[i] += f" {TOKEN}"


@dataclass
class Parents:
    """Models with a token more than the output has."""

    folder: Path
    data: Path

    def own(self, name: str) -> Any:
        return AutoTokenizer.from_pretrained(self.folder / name)


@pytest.fixture(scope="module")
def parents(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Parents:
    """The family's a as it is; and b with a tokenizer that has a token more, and rows for it."""
    folder = tmp_path_factory.mktemp("parents")
    for name in "ab":
        shutil.copytree(family / name, folder / "plain" / name)
        model = AutoModelForCausalLM.from_pretrained(family / name)
        tokenizer = AutoTokenizer.from_pretrained(family / name)
        if name == "b":
            tokenizer.add_tokens(AddedToken(TOKEN, normalized=False))
            model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    data = folder / "held-out.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return Parents(folder, data)


def without_last_row(model: Checkpoint, frame: Frame, rows: int) -> Checkpoint:
    """The model seen with so many rows of its vocabulary alone."""
    tensors = {
        name: TensorInfo(info.dtype, (rows, *info.shape[1:])) if info.shape[0] > rows else info
        for name, info in model.tensors.items()
    }
    return view(model, tensors, lambda source: source.read, frame, "without the last row")


def views_of(parents: Parents) -> list[Checkpoint]:
    """Both under the tokenizer of the first."""
    first, other = (open_folder(parents.folder / name) for name in "ab")
    rows, frame = first.config["vocab_size"], Frame(first, first.config)
    return [without_last_row(one, frame, rows) for one in (first, other)]


def soup(models: list[Checkpoint], out: Path, data: Path, budget: float = 0, **more: Any) -> Report:
    asked = SoupSpec(
        [model.name for model in models], out, data=EvalData(str(data), seq_len=WINDOW),
        compute=replace(COMPUTE, budget=budget), sharpness="off",
    )  # fmt: skip
    request = Request(asked, Selector(Linear((0.5,) * len(models))), {}, **more)
    carry_out(Work(asked, lambda output: merge(models, request, output), MERGED, models))
    return read_report(out)


@pytest.fixture(scope="module")
def report(parents: Parents, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A soup under the tokenizer of the first."""
    return soup(views_of(parents), tmp_path_factory.mktemp("merge") / "out", parents.data)


@torch.no_grad()
def nats(folder: Path) -> np.ndarray[Any, Any]:
    """Each text's loss, all of its tokens, in windows that the end of a text begins."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return np.array([nats_of(model, tokenizer, text) for text in TEXTS])


def nats_of(model: Any, tokenizer: Any, text: str) -> float:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    total, step = 0.0, WINDOW - 1
    for start in range(0, len(ids), step):
        window = torch.tensor([[first, *ids[start : start + step]]])
        total += float(model(window, labels=window).loss) * (window.shape[1] - 1)
    return total


def by_name(report: Report) -> Mapping[str, LossEntry]:
    return {Path(entry.model).name: entry for entry in report.result.losses}


def test_each_is_measured_by_its_own_tokenizer_per_byte(parents: Parents, report: Report) -> None:
    assert report.data is not None
    assert report.data.unit == "byte"
    counts = [len(text.encode()) for text in TEXTS]
    assert report.data.tokens == sum(counts)
    found = by_name(report)
    assert report.output is not None
    folders = {"a": parents.folder / "a", "b": parents.folder / "b", "output": Path(report.output)}
    losses = {name: nats(folder) for name, folder in folders.items()}
    for name, each in losses.items():
        assert found[name].loss == pytest.approx(each.sum() / sum(counts), rel=1e-4), name
        assert found[name].perplexity is None
        assert found[name].metric is None
    for entry in report.result.differences:
        change = losses["output"] - losses[Path(entry.model).name]
        assert entry.value == pytest.approx(change.sum() / sum(counts), rel=1e-3)
        assert entry.low < entry.value < entry.high


def test_texts_that_are_cut_differently_are_counted(parents: Parents, report: Report) -> None:
    (entry,) = report.result.tokenization
    own, output = parents.own("b"), parents.own("a")
    cuts = [(own.tokenize(text), output.tokenize(text)) for text in TEXTS]
    assert entry.model == str(parents.folder / "b")
    assert (entry.texts, entry.differing) == (len(TEXTS), 3)
    assert entry.differing == sum(mine != theirs for mine, theirs in cuts)
    assert entry.tokens == sum(len(mine) for mine, _ in cuts)
    assert entry.output_tokens == sum(len(theirs) for _, theirs in cuts)


def test_a_budget_takes_the_same_documents_of_all(
    parents: Parents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergekit_geo.evaluation.evaluator._seconds_each", lambda *_: 50.0)
    found = soup(views_of(parents), tmp_path / "out", parents.data, budget=3.0)
    assert found.data is not None
    assert 5 <= found.data.documents < len(TEXTS)
    assert {entry.texts for entry in found.result.tokenization} == {found.data.documents}
    assert any("to stay within 3 minutes" in warning for warning in found.warnings)
    assert all(entry.low is not None for entry in found.result.differences)


def test_barriers_are_between_the_views_per_byte(report: Report) -> None:
    (entry,) = report.result.barriers
    assert entry.loss[0] == pytest.approx(by_name(report)["a"].loss, rel=0.2)  # on one half


def test_a_parent_that_cannot_be_measured_as_it_is(parents: Parents, tmp_path: Path) -> None:
    data = tmp_path / "talks.jsonl"
    talk = [{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]
    data.write_text((json.dumps({"messages": talk}) + "\n") * 6)
    for name in "ab":
        shutil.copytree(parents.folder / name, tmp_path / name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.chat_template += "{% if add_generation_prompt %}<assistant>{% endif %}"
    tokenizer.save_pretrained(tmp_path / "a")
    found = soup(views_of(replace(parents, folder=tmp_path)), tmp_path / "out", data)
    assert [Path(entry.model).name for entry in found.result.losses] == ["a", "b", "output"]
    (warning,) = [text for text in found.warnings if "is measured by the output's" in text]
    assert "the tokenizer has no chat template" in warning


def test_what_is_left_to_measure_fits_the_output_alone(report: Report) -> None:
    (entry,) = [entry for entry in report.not_measured if entry.what == "sharpness"]
    assert report.output is not None
    assert entry.command.startswith(f"geo-merge sharpness {report.output} ")


def test_a_task_without_a_loss_per_byte_keeps_the_output_s_tokenizer(
    parents: Parents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "causal-lm", replace(TASKS["causal-lm"], counts_bytes=False))
    found = soup(views_of(parents), tmp_path / "out", parents.data)
    assert found.data is not None
    assert found.data.unit == "token"
    assert [Path(entry.model).name for entry in found.result.losses] == ["a", "b", "output"]
    (warning,) = [text for text in found.warnings if "is measured by the output's" in text]
    assert "causal-lm has no loss that can be compared" in warning


@pytest.fixture(scope="module")
def stack(parents: Parents, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The layers of a and, once more, the last of b's."""
    a, b = (str(parents.folder / "plain" / name) for name in "ab")
    slices = [{"model": a, "layer_range": [0, 2]}, {"model": b, "layer_range": [1, 2]}]
    recipe = {"merge_method": "passthrough", "slices": [{"sources": [one]} for one in slices]}
    out = tmp_path_factory.mktemp("stack") / "out"
    run(recipe, out, data=EvalData(str(parents.data), seq_len=WINDOW), compute=COMPUTE)
    return read_report(out)


@torch.no_grad()
def losses_per_token(folder: Path) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        for start in range(0, len(ids), WINDOW):
            window = torch.tensor([ids[start : start + WINDOW]])
            if (predicted := window.shape[1] - 1) > 0:
                total += float(model(window, labels=window).loss) * predicted
                count += predicted
    return total / count


def test_a_stack_stands_beside_its_parents_in_their_own_architecture(
    parents: Parents, stack: Report
) -> None:
    assert stack.data is not None
    assert stack.data.unit == "token"
    assert stack.output is not None
    found = by_name(stack)
    folders = {name: parents.folder / "plain" / name for name in "ab"}
    for name, folder in {**folders, "output": Path(stack.output)}.items():
        assert found[name].loss == pytest.approx(losses_per_token(folder), rel=1e-5)
    assert len(stack.result.layers) == 3
    assert stack.result.tokenization == []
    missing = {entry.what: entry.why for entry in stack.not_measured}
    assert "another architecture" in missing["barriers"]
    assert "another architecture" in missing["sharpness"]


def test_a_stack_that_is_worse_is_told_with_the_number(
    stack: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.verdict is not None
    assert stack.verdict.word == "worse"
    best = min(stack.result.losses[:-1], key=lambda entry: entry.loss).model
    entry = next(entry for entry in stack.result.differences if entry.model == best)
    sentence = f"by {entry.value:.4f} [{entry.low:.4f}, {entry.high:.4f}]"
    assert sentence in stack.verdict.sentence
    assert "Most stacks are, until they are trained." in stack.verdict.sentence
    print_report(stack)
    assert "change their input least" in capsys.readouterr().out


@torch.no_grad()
def test_block_influence_is_that_of_transformers_hidden_states(stack: Report) -> None:
    entry = stack.result.influence[-1]
    assert entry.model == "output"
    assert stack.output is not None
    model = AutoModelForCausalLM.from_pretrained(stack.output).eval().double()
    tokenizer = AutoTokenizer.from_pretrained(stack.output)
    hidden: dict[int, list[torch.Tensor]] = {}
    model.model.norm = torch.nn.Identity()  # the last state is then the last layer's own
    for text in sampled(stack, tokenizer):
        states = model(torch.tensor([text]), output_hidden_states=True).hidden_states
        for i, (before, after) in enumerate(pairwise(states)):
            cosine = torch.nn.functional.cosine_similarity(before[0], after[0], dim=-1)
            hidden.setdefault(i, []).append(cosine)
    assert [layer.layer for layer in entry.layers] == [f"model.layers.{i}" for i in hidden]
    for layer, cosines in zip(entry.layers, hidden.values(), strict=True):
        assert layer.influence == pytest.approx(1 - float(torch.cat(cosines).mean()), abs=1e-6)
    assert entry.tokens == sum(map(len, hidden[0]))


def sampled(stack: Report, tokenizer: Any) -> list[list[int]]:
    """The windows that influence is measured on, drawn as `draw` draws whole documents."""
    windows = []
    for document, text in enumerate(TEXTS):
        ids = tokenizer(text)["input_ids"]
        cut = [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)]
        windows += [Example(document, len(ids), 1, {"ids": ids}) for ids in cut if len(ids) > 1]
    return [one.fields["ids"] for one in draw(windows, MOST, 0, whole=True)]
