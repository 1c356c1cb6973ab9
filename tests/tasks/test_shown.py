"""One example of each task, as `--show-example` tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import mergekit_geo as geo
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.rows import Row, Rows
from mergekit_geo.evaluation.example import told_example
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.progress import Silent
from mergekit_geo.tasks.causal_lm import CausalLM
from mergekit_geo.tasks.image_classification import ImageClassification
from mergekit_geo.tasks.masked_lm import MaskedLM
from mergekit_geo.tasks.per_byte import PerByte
from mergekit_geo.tasks.preference import Preference
from mergekit_geo.tasks.seq2seq import Seq2SeqLM
from mergekit_geo.tasks.sequence_classification import SequenceClassification
from mergekit_geo.tasks.shown import marked, shown
from mergekit_geo.tasks.task import Example, Task
from mergekit_geo.tasks.token_classification import TokenClassification

LABELS = {"id2label": {"0": "no", "1": "yes"}}
SETS = {**LABELS, "problem_type": "multi_label_classification"}
NUMBERS = {"num_labels": 1, "problem_type": "regression"}
DATA = EvalData()


@pytest.fixture
def tokenizer(family: Path) -> PreTrainedTokenizerFast:
    found = AutoTokenizer.from_pretrained(family / "a")
    found.mask_token = "<|endoftext|>"
    return found  # type: ignore[no-any-return]


def of(task: Task, **cells: Any) -> str:
    rows = Rows([Row(cells, "x.jsonl:1", "x.jsonl")], ["x.jsonl:1"], "x.jsonl")
    return shown(task, task.examples(rows)[0])


def test_what_counts_of_a_text_is_in_brackets(tokenizer: PreTrainedTokenizerFast) -> None:
    causal = CausalLM(tokenizer, 64, 1024, DATA)
    assert of(causal, prompt="two and", completion=" two") == "two and⟦ two⟧"
    assert of(PerByte(causal), prompt="two and", completion=" two") == "two and⟦ two⟧"
    pair = {"prompt": "two and", "chosen": " two", "rejected": " one"}
    assert of(Preference(causal), **pair) == "chosen: two and⟦ two⟧\nrejected: two and⟦ one⟧"
    text = of(causal, text="a green boat")
    assert text.replace("⟦", "").replace("⟧", "") == "a green boat"
    assert text.index("⟦") == len("a"), "nothing is before the first token, which does not count"
    masked = of(MaskedLM(tokenizer, 64, 1024, DATA), text="a green boat and a red one")
    assert masked.replace("⟦", "").replace("⟧", "") == "a green boat and a red one"
    assert 1 <= masked.count("⟦") <= 3


def test_labels_are_named(tokenizer: PreTrainedTokenizerFast) -> None:
    one = SequenceClassification(tokenizer, 64, LABELS, DATA)
    assert of(one, text="a boat", label=1) == "a boat\n⟦yes⟧"
    several = SequenceClassification(tokenizer, 64, SETS, DATA)
    assert of(several, text="a boat", labels=["no", "yes"]) == "a boat\n⟦no, yes⟧"
    assert of(several, text="a boat", labels=[]) == "a boat\n⟦none⟧"
    number = SequenceClassification(tokenizer, 64, NUMBERS, DATA)
    assert of(number, text="a boat", label=2.5) == "a boat\n⟦2.5⟧"
    picture = ImageClassification({**LABELS, "num_channels": 1}, DATA)
    image = np.zeros((1, 3, 4), np.float32)
    assert of(picture, pixel_values=image, label=0) == "a picture of 1 × 3 × 4 ⟦no⟧"
    translated = Seq2SeqLM(tokenizer, 64, 1024, DATA)
    assert of(translated, source="two", target="deux") == "two\n⟦deux⟧"
    tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    words = TokenClassification(tokenizer, 64, LABELS, DATA)
    assert of(words, words=["a", "boat"], labels=[0, 1]).startswith(" a⟦no⟧ ")


def test_a_task_that_shows_nothing_names_its_fields() -> None:
    assert shown(object(), Example(0, 1, 1, {"x": 1, "y": 2})) == "an example of x, y"  # type: ignore[arg-type]


def test_brackets_are_around_runs(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("two and two and two").input_ids
    for counted in range(2 ** min(len(ids), 5)):
        labels = [i if counted >> place & 1 else -100 for place, i in enumerate(ids)]
        text = marked(tokenizer, ids, labels)
        assert text.replace("⟦", "").replace("⟧", "") == "two and two and two"
        starts = [a != -100 and b == -100 for a, b in zip(labels, [-100, *labels], strict=False)]
        assert text.count("⟦") == sum(starts)


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


ROWS = [
    {"id": 1, "instruction": "say two", "input": "", "output": "two"},
    {"id": 2, "instruction": "say one", "input": "", "output": " "},
]


def test_shape_columns_counts_and_an_example_are_told(family: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    told, data = Said(), EvalData(str(path), show_example=True)
    found = geo.soup(
        [family / "a", family / "b"], data={"chat": data}, sharpness="off", progress=told
    )
    start = told.lines.index(f"chat: instructions in 'instruction' and 'input', answers in 'output'"
                             f", from {path}")  # fmt: skip
    assert told.lines[start + 1 : start + 11] == [
        "  columns: id, instruction, input, output",
        "  rows: 1 of 2; examples: 1 of 1; loss per token, next-token accuracy",
        "  note: 1 row is empty in column 'output' and left out",
        "  note: column 'output' counts, given 'instruction' and 'input'",
        "  example x.jsonl:1, what counts between ⟦ and ⟧:",
        "### Instruction:", "say two", "", "### Response:", "⟦two⟧",
    ]  # fmt: skip
    assert "show_example" not in json.dumps(found.report.settings)
    quiet = Said()
    geo.soup([family / "a", family / "b"], data=replace(data, show_example=False),
             sharpness="off", progress=quiet)  # fmt: skip
    assert not any("what counts" in line for line in quiet.lines)


def test_the_middle_of_a_long_example_is_left_out(family: Path, tmp_path: Path) -> None:
    path, folder = tmp_path / "x.txt", family / "a"
    path.write_text("a" * 30 + " boat" * 900)
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 9999}
    sample = prepare(EvalData(str(path), seq_len=5000), folder, config, Compute())
    text = "\n".join(told_example("data", str(path), sample))
    assert "\n... 2,532 characters ...\n" in text
    assert len(text) < 2500
