"""`geo-merge eval`: losses of models side by side, each as it is, measured once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError, OutputError, OutputExistsError
from mergekit_geo.evaluation.statistics import estimate
from mergekit_geo.records.report import read_report

WINDOW = 24
TEXTS = [" ".join(d.text[:300].split()) for d in builtin_documents("held-out")[:16]]
FAST = geo.OutputConfig(fsync=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "held.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("models") / "bytewise"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: i for i, token in enumerate(["<end>", *alphabet])}
    own = Tokenizer(models.BPE(tokens, []))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokens), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=None,
        eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def data_of(text: Path, **more: Any) -> geo.EvalData:
    return geo.EvalData(str(text), seq_len=WINDOW, **more)


@contextmanager
def forward_passes() -> Iterator[list[str]]:
    """The forward passes of whole models while inside."""
    seen: list[str] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if hasattr(module, "config") and hasattr(output, "logits"):
            seen.append(type(module).__name__)

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


class Told:
    """What is measured, as progress tells it."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, title: str, total: int) -> None:
        self.phases.append(title)

    def advance(self, count: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass


@torch.no_grad()
def naive(folder: Path) -> tuple[np.ndarray[Any, Any], ...]:
    """Loss, weight and document of every window, straight from transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer("")["input_ids"][:1]
    rows = []
    for number, one in enumerate(TEXTS):
        ids = tokenizer(one, add_special_tokens=False)["input_ids"]
        step = WINDOW - len(begin)
        for start in range(0, len(ids), step):
            own = torch.tensor([[*begin, *ids[start : start + step]]])
            if own.shape[1] > 1:
                rows.append((model(own, labels=own).loss.item(), own.shape[1] - 1, number))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def test_losses_and_paired_differences_are_those_of_a_plain_loop(small: Path, text: Path) -> None:
    names = [str(small / name) for name in "abc"]
    found = geo.evaluate(names, data=data_of(text)).report
    plain = {name: naive(Path(name)) for name in names}
    means = {name: np.average(loss, weights=weight) for name, (loss, weight, _) in plain.items()}
    best = min(means, key=means.__getitem__)
    assert found.result.best == best
    for entry in found.result.losses:
        assert entry.loss == pytest.approx(means[entry.model], abs=1e-5)
    assert {entry.model for entry in found.result.differences} == set(names) - {best}
    for entry in found.result.differences:
        loss, weight, document = plain[entry.model]
        own = estimate(loss - plain[best][0], weight.astype(float), document)
        assert (entry.value, entry.low) == pytest.approx((own.value, own.low), abs=1e-5)
    assert found.data is not None
    assert found.data.documents == len(TEXTS)


def test_a_soup_after_an_evaluation_measures_no_parent_again(small: Path, text: Path) -> None:
    parents = [small / "a", small / "b"]
    sets = {"first": data_of(text), "more": data_of(text, text_column="text", seed=1)}
    told = Told()
    before = geo.evaluate(parents, data=sets, progress=told)
    assert [one for one in told.phases if one.startswith("loss of")] == [
        f"loss of {parent}" for parent in parents for _ in sets
    ]
    told = Told()
    merged = geo.soup(parents, data=sets, sharpness="off", progress=told)
    assert not [f"loss of {one}" for one in parents if f"loss of {one}" in told.phases]
    assert [entry.loss for entry in merged.measurements.losses[:2]] == [
        entry.loss for entry in before.measurements.losses
    ]


def test_an_evaluation_after_a_barrier_runs_no_model(small: Path, text: Path) -> None:
    parents = [small / "a", small / "b"]
    geo.barrier(parents, data=data_of(text), points=3)
    with forward_passes() as passes:
        found = geo.evaluate([parents[1], parents[0]], data=data_of(text))
    assert passes == []
    with forward_passes() as passes:
        assert geo.evaluate(parents[1], data=data_of(text)).measurements.best == str(parents[1])
    assert passes == []
    assert len(found.measurements.losses) == 2


def test_models_of_other_depth_are_compared_example_by_example(
    small: Path, deep: Path, text: Path
) -> None:
    found = geo.evaluate([small / "a", deep / "a", small / "b"], data=data_of(text))
    assert found.report.data is not None
    assert found.report.data.unit == "token"
    assert [entry.metric for entry in found.measurements.losses] != [None] * 3
    alone = geo.evaluate(deep / "a", data=data_of(text))
    assert found.measurements.losses[1].loss == alone.measurements.losses[0].loss
    loss, weight, _ = naive(deep / "a")
    assert alone.measurements.losses[0].loss == pytest.approx(np.average(loss, weights=weight))


@torch.no_grad()
def nats(folder: Path, text: str) -> float:
    """Sum over all tokens of a text, in windows that the token of begin or end begins."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.bos_token_id
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for start in range(0, len(ids), WINDOW - 1):
        first = tokenizer.eos_token_id if begin is None else begin
        own = torch.tensor([[first, *ids[start : start + WINDOW - 1]]])
        total += model(own, labels=own).loss.item() * (own.shape[1] - 1)
    return total


@pytest.mark.slow
def test_models_of_other_tokenizers_are_measured_per_byte(
    small: Path, bytewise: Path, text: Path
) -> None:
    found = geo.evaluate([bytewise, small / "a"], data=data_of(text))
    assert found.report.data is not None
    assert found.report.data.unit == "byte"
    sizes = sum(len(one.encode()) for one in TEXTS)
    for folder, entry in zip([bytewise, small / "a"], found.measurements.losses, strict=True):
        total = sum(nats(folder, one) for one in TEXTS)
        assert entry.loss == pytest.approx(total / sizes, rel=1e-5)
    (difference,) = found.measurements.differences
    first, second = found.measurements.losses
    assert abs(difference.value) == pytest.approx(abs(first.loss - second.loss))


def test_a_budget_leaves_the_same_documents_for_all(
    small: Path, bytewise: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {
        "data": data_of(text, batch_size=1), "compute": geo.Compute(budget=1)
    }  # fmt: skip
    with monkeypatch.context() as slow:
        slow.setattr("mergekit_geo.evaluation.evaluator._seconds_each", lambda *_: 60.0)
        found = geo.evaluate([small / "a", bytewise], **asked)
    assert found.report.data is not None
    assert 0 < found.report.data.documents < len(TEXTS)
    assert any("to stay within 1 minutes" in warning for warning in found.report.warnings)
    with forward_passes() as passes:
        again = geo.evaluate([small / "a", bytewise], **asked)
    assert passes == []
    assert again.measurements == found.measurements


@pytest.mark.pictures
def test_the_table_and_the_report(small: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["eval", small / "a", small / "b", "--data", f"own={text}", "--data", f"too={text}",
             "--seq-len", WINDOW, "-o", out]  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    head = next(line for line in done.stdout.splitlines() if "own ↓" in line)
    assert "too ↓" in head
    assert "has the lowest loss on own" in " ".join(done.stdout.split())
    report = read_report(out)
    assert list(report.result.sets) == ["own", "too"]
    assert report.result.losses == report.result.sets["own"].losses
    assert (out / "figures" / "losses.png").is_file()
    assert "geo-merge eval" in (out / "report.html").read_text()
    with pytest.raises(OutputExistsError):
        geo.evaluate(small / "a", out, data=data_of(text))
    geo.evaluate(small / "a", out, data=data_of(text), overwrite=True)
    assert "sets" not in json.loads((out / "report.json").read_text())["result"]


def test_bad_input(small: Path, text: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(small / "a")
    with pytest.raises(ArgumentError, match="no models to evaluate"):
        geo.evaluate([], data=data_of(text))
    with pytest.raises(ArgumentError, match="a is named twice"):
        geo.evaluate([small / "a", small / "b", small / "a"], data=data_of(text))
    with pytest.raises(ArgumentError, match=r"a and .*link are one model"):
        geo.evaluate([small / "a", link], data=data_of(text))
    with pytest.raises(DataError, match="loss cannot be measured: evaluation was turned off"):
        geo.evaluate(small / "a", data=None)


def test_an_architecture_that_the_data_is_not_for(small: Path, text: Path, tmp_path: Path) -> None:
    other = tmp_path / "classifier"
    config = LlamaConfig(
        vocab_size=json.loads((small / "a" / "config.json").read_text())["vocab_size"],
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(other)
    for file in (small / "a").glob("token*"):
        shutil.copy(file, other)
    with pytest.raises(DataError, match=r"classifier.*label"):
        geo.evaluate([small / "a", other], data=data_of(text))
    with pytest.raises(DataError, match="cannot be measured on the built-in text"):
        geo.evaluate(other, data=geo.EvalData())
    labelled = tmp_path / "labelled.jsonl"
    rows = ({"text": one, "label": i % 2} for i, one in enumerate(TEXTS))
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"is that of causal-lm, .* that of sequence-class"):
        geo.evaluate([small / "a", other], data=data_of(labelled))


def rows_in(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    from pyarrow import parquet

    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_losses_of_every_example(small: Path, text: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"losses{suffix}"
    names = [str(small / "a"), str(small / "b")]
    words = ["eval", *names, "--data", f"own={text}", "--seq-len", WINDOW, "--per-example", path]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    rows = rows_in(path)
    loss, weight, document = naive(Path(names[1]))
    own = [row for row in rows if row["model"] == names[1]]
    assert [row["model"] for row in rows] == [names[0]] * len(loss) + [names[1]] * len(loss)
    assert [row["loss"] for row in own] == pytest.approx(loss.tolist(), abs=1e-5)
    assert [row["weight"] for row in own] == weight.tolist()
    assert [row["document"] for row in own] == document.tolist()
    assert {row["set"] for row in rows} == {"own"}
    for number, full in enumerate(TEXTS):  # windows of a document make its text
        joined = "".join(row["text"] for row in own if row["document"] == number)
        assert full.startswith(joined)
        assert len(full) - len(joined) < 12  # a last token by itself is no example
    assert next(row["name"] for row in own) == "held.jsonl:1"
    code = CliRunner().invoke(app, [str(word) for word in words])
    assert code.exit_code == 1
    assert "--overwrite replaces it" in " ".join(code.stderr.split())
    assert rows_in(path) == rows
    geo.evaluate(
        names[0], data=data_of(text), per_example=path, private_examples=True, overwrite=True
    )
    private = rows_in(path)
    assert not [row for row in private if TEXTS[0][:20] in row["text"]]
    assert all(row["text"].startswith("sha256:") for row in private)
    assert list(tmp_path.glob("losses*")) == [path]


def test_a_classifier_s_examples_have_their_class(small: Path, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=json.loads((small / "a" / "config.json").read_text())["vocab_size"],
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, id2label={0: "dull", 1: "fine"}, label2id={"dull": 0, "fine": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    for file in (small / "a").glob("token*"):
        shutil.copy(file, tmp_path / "classifier")
    data = tmp_path / "labelled.jsonl"
    rows = [{"text": one, "label": "fine" if i % 3 else "dull"} for i, one in enumerate(TEXTS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "losses.jsonl"
    geo.evaluate(tmp_path / "classifier", data=geo.EvalData(str(data)), per_example=path)
    found = rows_in(path)
    assert [(row["text"], row["label"]) for row in found] == [
        (row["text"], row["label"]) for row in rows
    ]
    assert {row["score"] for row in found} <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("losses.csv", ArgumentError, r"expected a \.jsonl or \.parquet file, found 'losses\.csv'"),
        ("missing/losses.jsonl", OutputError, "missing: no such folder"),
        ("out/losses.jsonl", ArgumentError, "lies in the folder of the report"),
    ],
)
def test_a_file_that_cannot_be_written(
    small: Path, text: Path, tmp_path: Path, file: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "out").mkdir()
    told = Told()
    with pytest.raises(error, match=message):
        geo.evaluate(
            small / "a", tmp_path / "out", data=data_of(text), per_example=tmp_path / file,
            progress=told,
        )  # fmt: skip
    assert told.phases == []


def test_parquet_needs_a_library(
    small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergekit_geo.extras.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"needs pyarrow.*pip install 'mergekit_geo\[data\]'"):
        geo.evaluate(small / "a", data=data_of(text), per_example=tmp_path / "losses.parquet")
