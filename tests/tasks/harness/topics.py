"""Local tasks of lm-evaluation-harness on CPython's documentation, as a user would write them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import yaml

from mergekit_geo.data.text import builtin_documents

CHOICE = {
    "task": "topics", "output_type": "multiple_choice", "test_split": "train",
    "fewshot_split": "train",
    "doc_to_text": "Text: {{text}}\nTopic:",
    "doc_to_choice": "{{topics}}", "doc_to_target": "label",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ],
    "metadata": {"version": 1.0},
}  # fmt: skip

LETTERS = {
    **CHOICE, "task": "letters", "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_text": "{{text}}\n{% for t in topics %}{{'ABCD'[loop.index0]}}. {{t}}\n{% endfor %}"
    "Answer:",
    "metric_list": CHOICE["metric_list"][:1], "tag": "lettered",
}  # fmt: skip

SHORT_LETTERS = {
    **LETTERS, "task": "word_letters", "doc_to_text": "{{text.split(' ')[0]}}\nAnswer:"
}  # fmt: skip

CLOZE = {
    "task": "last_word", "output_type": "loglikelihood", "test_split": "train",
    "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
    "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
    "metric_list": [
        {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
    ],
}  # fmt: skip

TEXTS = {
    "task": "pages", "output_type": "loglikelihood_rolling", "test_split": "train",
    "doc_to_text": "", "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
}  # fmt: skip

WORDS = {
    "task": "next_word", "output_type": "generate_until", "test_split": "train",
    "doc_to_text": "{{text.split(' the ')[0]}}",
    "doc_to_target": "{{'the' if label else '[invalid]'}}",  # what the filter gives without a word
    "generation_kwargs": {"until": ["."], "max_gen_toks": 4, "do_sample": False},
    "filter_list": [
        {"name": "word", "filter": [
            {"function": "regex", "regex_pattern": r"(\w+)"}, {"function": "take_first"},
        ]},
    ],
    "metric_list": [
        {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    ],
}  # fmt: skip

GROUP = {
    "group": "quiz", "task": ["letters", "word_letters"],
    "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
}  # fmt: skip


def write(folder: Path) -> Path:
    """Write the tasks and their data: 40 paragraphs, each with its topic and three others."""
    documents = [one for one in builtin_documents("train") if len(one.text) > 400]
    draw = random.Random(0)
    rows = []
    for number, one in enumerate(documents[:40]):
        others = [other.name for other in documents if other.name != one.name]
        topics = [one.name, *draw.sample(others, 3)]
        draw.shuffle(topics)
        words = " ".join(one.text.split())[: 120 + 5 * number].rsplit(" ", 1)[0]
        rows.append({"text": words, "topics": topics, "label": topics.index(one.name)})
    data = folder / "paragraphs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"dataset_path": "json", "dataset_kwargs": {"data_files": str(data)}}
    for task in (CHOICE, LETTERS, SHORT_LETTERS, CLOZE, TEXTS, WORDS):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump({**own, **task}))
    (folder / "quiz.yaml").write_text(yaml.safe_dump(GROUP))
    return folder
