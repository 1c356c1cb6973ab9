"""Which examples a merge changed: in report, page and a file beside them, and what is pushed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

import mergekit_geo as geo
from mergekit_geo.commands._push import publishable
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.outputs.verify import require_finished
from mergekit_geo.progress import Silent
from mergekit_geo.records.report import read_report
from tests.commands.test_evaluate import forward_passes

TEXTS = [" ".join(d.text[:120].split()) for d in builtin_documents("held-out")[:40]]
LABELS = [i % 2 for i in range(len(TEXTS))]
OFF: dict[str, Any] = {"sharpness": "off"}
FAST: dict[str, Any] = {"fsync": False}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("mergekit_geo.views.files.write_figures", lambda *_: None)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "labelled.jsonl"
    rows = [{"text": t, "label": i} for t, i in zip(TEXTS, LABELS, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def classifiers(small: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two random classifiers, whose mean is another one."""
    folder = tmp_path_factory.mktemp("classifiers")
    size = json.loads((small / "a" / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    for name in "ab":
        model = LlamaForSequenceClassification(config)
        torch.nn.init.normal_(model.score.weight)
        model.save_pretrained(folder / name)
        for file in (small / "a").glob("token*"):
            shutil.copy(file, folder / name)
    return [folder / "a", folder / "b"]


@torch.no_grad()
def right(folder: Path) -> list[bool]:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [model(**tokenizer(text, return_tensors="pt")).logits.argmax().item() for text in TEXTS]
    return [int(one) == label for one, label in zip(said, LABELS, strict=True)]


def test_a_merge_tells_what_it_lost_and_what_it_alone_has_right(
    classifiers: list[Path], text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    output = geo.OutputConfig(**FAST)
    found = geo.soup(classifiers, out, data=geo.EvalData(str(text)), output=output, **OFF)
    a, b, merged = (right(folder) for folder in (*classifiers, out))
    each = list(zip(a, b, merged, strict=True))
    lost = {i for i, (x, y, z) in enumerate(each) if x and y and not z}
    gained = {i for i, (x, y, z) in enumerate(each) if z and not x and not y}
    entry = found.measurements.examples
    assert (entry.lost, entry.gained) == (len(lost), len(gained))
    assert lost | gained, "the models are too much alike for this test"
    rows = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    assert {row["example"] for row in rows if row["change"] == "lost"} == lost
    assert {row["example"] for row in rows if row["change"] == "gained"} == gained
    for row in rows:
        assert row["text"] == TEXTS[row["document"]]
        assert row["label"] == f"LABEL_{LABELS[row['document']]}"
        assert list(row["loss"]) == [*map(str, classifiers), "output"]
    assert read_report(out).result.examples == entry
    page = (out / "report.html").read_text()
    assert f"the output has {entry.lost} wrong that both parents have right" in page
    assert "sign test, p = " in page
    assert entry.telling[0].text in page.replace("&#x27;", "'").replace("&quot;", '"')
    assert entry.telling[0].text not in (out / "README.md").read_text()
    with forward_passes() as passes:  # what was measured of the output is kept, too
        again = geo.evaluate([*classifiers, out], data=geo.EvalData(str(text))).measurements
    assert passes == []
    assert [one.loss for one in again.losses] == [one.loss for one in found.measurements.losses]


def texts_in(folder: Path) -> set[str]:
    """Texts of examples that files of an output hold."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".md"):
            held = path.read_text("utf-8")
            found |= {one for one in TEXTS if json.dumps(one[:40])[1:-1] in held}
    return found


def test_private_examples_are_hashes_everywhere(
    classifiers: list[Path], text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sets = {"own": geo.EvalData(str(text)), "too": geo.EvalData(str(text), seed=1)}
    output = geo.OutputConfig(private_examples=True, **FAST)
    found = geo.soup(classifiers, out, data=sets, output=output, **OFF)
    assert texts_in(out) == set()
    assert all(one.text.startswith("sha256:") for one in found.measurements.examples.telling)
    rows = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    assert {row["set"] for row in rows} == {"own", "too"}
    assert all(row["text"].startswith("sha256:") for row in rows)


def test_what_is_pushed_holds_no_text_of_private_data(
    classifiers: list[Path], text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    output = geo.OutputConfig(**FAST)
    geo.soup(classifiers, out, data=geo.EvalData(str(text)), output=output, **OFF)
    assert texts_in(out)
    before = read_report(out).result
    files = publishable(out, require_finished(out), Silent())
    assert Path("examples.jsonl") not in files
    for file in files:
        shutil.copy(out / file, tmp_path / file.name)
    (out / "examples.jsonl").rename(tmp_path / "aside")
    assert texts_in(out) == set()
    after = read_report(out).result
    assert after.losses == before.losses
    assert after.examples.documents == before.examples.documents
    assert publishable(out, require_finished(out), Silent()) == files


def test_texts_of_built_in_data_may_be_pushed(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = geo.EvalData("builtin:python-docs", max_examples=12, seq_len=16)
    geo.soup([small / "a", small / "b"], out, data=data, output=geo.OutputConfig(**FAST), **OFF)
    before = (out / "report.json").read_bytes()
    assert Path("examples.jsonl") in publishable(out, require_finished(out), Silent())
    assert (out / "report.json").read_bytes() == before


def test_an_output_s_examples_are_no_part_of_the_next_merge(small: Path, tmp_path: Path) -> None:
    data = geo.EvalData("builtin:python-docs", max_examples=12, seq_len=16)
    output = geo.OutputConfig(**FAST)
    geo.soup([small / "a", small / "b"], tmp_path / "one", data=data, output=output, **OFF)
    geo.soup([tmp_path / "one", small / "c"], tmp_path / "two", data=None, output=output, **OFF)
    assert (tmp_path / "one" / "examples.jsonl").is_file()
    assert not (tmp_path / "two" / "examples.jsonl").exists()
