"""Encoders without a head against sentence-transformers' losses, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import mergekit_geo as geo
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError, UnsupportedError
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.evaluation.statistics import mean_score, paired_score
from mergekit_geo.modules.load import load_model
from mergekit_geo.tasks.losses import Losses, Ratings
from mergekit_geo.tasks.table import make_task, task_name
from mergekit_geo.tasks.task import Example, Task
from mergekit_geo.tasks.texts import ExampleTexts
from mergekit_geo.views.card_data import card_data
from tests.tasks.tiny import TINY, Make, measured, rows_of

FAST = geo.OutputConfig(fsync=False)
EMBEDDED = 4
KINDS = "sentence_transformers.models"


def sentences(count: int) -> list[tuple[str, str]]:
    """Pairs of CPython's documentation: the first words of a paragraph, and the rest of it."""
    paragraphs = [p for topic in builtin_documents("train") for p in topic.text.split("\n\n")]
    words = [found for p in paragraphs if len(found := p.split()) > 12]
    pairs = {" ".join(w[:6]): " ".join(w[6:20]) for w in words}
    return list(pairs.items())[:count]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def save_module(folder: Path, settings: Mapping[str, Any], **state: Tensor) -> None:
    write(folder / "config.json", settings)
    tensors = {name.replace("_", "."): t for name, t in state.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def save_encoder(
    folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, *, backbone: str = ""
) -> Path:
    """A tiny BERT, mean pooling, Dense, LayerNorm and Normalize, all drawn at random."""
    torch.manual_seed(0)
    model = BertModel(BertConfig(**TINY))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder / backbone)
    tokenizer.save_pretrained(folder / backbone)
    places = [("Transformer", backbone), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"),
              ("LayerNorm", "3_LayerNorm"), ("Normalize", "4_Normalize")]  # fmt: skip
    write(folder / "modules.json", [{"idx": i, "name": str(i), "path": path,
          "type": f"{KINDS}.{kind}"} for i, (kind, path) in enumerate(places)])  # fmt: skip
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    shared = torch.Generator().manual_seed(5)
    weight, bias = (torch.randn(*s, generator=shared) for s in ((EMBEDDED, 16), (EMBEDDED,)))
    save_module(folder / "2_Dense", {"in_features": 16, "out_features": EMBEDDED},
                linear_weight=weight + 0.1 * seed, linear_bias=bias)  # fmt: skip
    save_module(folder / "3_LayerNorm", {"dimension": EMBEDDED},
                norm_weight=torch.full((EMBEDDED,), 1.0 + seed), norm_bias=bias)  # fmt: skip
    return folder


def vector(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: str) -> Tensor:
    """Mean of one text's last states."""
    with torch.no_grad():
        inputs = tokenizer(text, return_tensors="pt")
        accepted = {k: t for k, t in inputs.items() if k != "token_type_ids"}
        given = inputs if isinstance(model, BertModel) else accepted
        return model(**given).last_hidden_state[0].mean(dim=0)


def ranking(vectors: Sequence[Tensor], others: Sequence[Tensor], scale: float = 20.0) -> Tensor:
    """MultipleNegativesRankingLoss of a batch, one number an anchor."""
    one, two = (functional.normalize(torch.stack(list(v)), dim=-1) for v in (vectors, others))
    target = torch.arange(len(one))
    return functional.cross_entropy(scale * one @ two.T, target, reduction="none")


def same_in_any_batch(task: Task, examples: Sequence[Example], model: PreTrainedModel) -> Losses:
    first, *rest = (measured(task, examples, model, size) for size in (1, 3, len(examples)))
    for other in rest:
        np.testing.assert_allclose(first.loss, other.loss, atol=1e-5, rtol=0)
    return first


@pytest.mark.parametrize(
    ("architecture", "config"),
    [(BertModel, BertConfig(**TINY)), (LlamaModel, LlamaConfig(**TINY, pad_token_id=0))],
    ids=["bert", "llama"],
)
def test_pairs_have_the_ranking_loss_of_their_group(
    make: Make, tokenizer: PreTrainedTokenizerFast, architecture: Any, config: Any
) -> None:
    model, task = make(architecture, config)
    pairs = sentences(11)
    rows = rows_of(anchor=[a for a, _ in pairs], positive=[b for _, b in pairs])
    examples = task.examples(rows)
    found = same_in_any_batch(task, examples, model)
    groups = {example.document for example in examples}
    texts = ExampleTexts(task, rows)
    told = [texts.of(example) for example in examples]
    assert told == ["\n".join(pairs[example.row]) for example in examples]
    assert task.name == "sentence-similarity"
    assert len(groups) == 2
    assert len(examples) == len(pairs)
    for group in groups:
        own = [i for i, example in enumerate(examples) if example.document == group]
        firsts = [examples[i].fields["first"] for i in own]
        expected = ranking(
            [vector(model, tokenizer, text) for text in firsts],
            [vector(model, tokenizer, dict(pairs)[text]) for text in firsts],
        )
        np.testing.assert_allclose(found.loss[own], expected, atol=1e-4, rtol=0)
    assert found.score is not None
    assert set(found.score) <= {0.0, 1.0}
    assert rows.notes[-1].startswith("a text's partner is told from those of about 3 others")


def test_groups_do_not_depend_on_the_order_of_rows_and_equal_texts_are_no_negatives(
    make: Make,
) -> None:
    model, task = make(BertModel, BertConfig(**TINY))
    pairs = [*sentences(7), ("numbers", "have a type"), ("numbers", "are immutable")]
    both = [
        task.examples(rows_of(query=[a for a, _ in some], answer=[b for _, b in some]))
        for some in (pairs, pairs[::-1])
    ]
    one, two = ({(e.fields["first"], e.fields["others"][0]): e for e in found} for found in both)
    assert one.keys() == two.keys()
    assert all({*e.fields["others"]} == {*two[key].fields["others"]} for key, e in one.items())
    twin = one["numbers", "have a type"]
    assert "are immutable" not in twin.fields["others"]
    assert len(twin.fields["others"]) > 1
    assert np.isfinite(measured(task, both[0], model, 4).loss).all()


def test_negatives_are_candidates_of_the_whole_group(
    make: Make, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, task = make(BertModel, BertConfig(**TINY))
    pairs = sentences(6)
    texts = {"anchor": [a for a, _ in pairs[:3]], "positive": [b for _, b in pairs[:3]],
             "negative": [b for _, b in pairs[3:]]}  # fmt: skip
    examples = task.examples(rows_of(**texts))
    found = same_in_any_batch(task, examples, model)
    cells = dict(zip(texts["anchor"], range(3), strict=True))
    order = [cells[example.fields["first"]] for example in examples]
    candidates = [vector(model, tokenizer, t) for t in [*texts["positive"], *texts["negative"]]]
    expected = ranking([vector(model, tokenizer, t) for t in texts["anchor"]], candidates)
    np.testing.assert_allclose(found.loss, expected[order], atol=1e-4, rtol=0)


def scored(count: int) -> Rows:
    pairs = sentences(count)
    words = [(len({*a.split()} & {*b.split()}) % 6) for a, b in pairs]
    return rows_of(sentence1=[a for a, _ in pairs], sentence2=[b for _, b in pairs], score=words)


def test_scored_pairs_have_the_squared_error_and_spearman(
    make: Make, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, task = make(BertModel, BertConfig(**TINY))
    rows = scored(40)
    examples = task.examples(rows)
    found = same_in_any_batch(task, examples, model)
    cosines = [
        functional.cosine_similarity(
            vector(model, tokenizer, c["sentence1"]),
            vector(model, tokenizer, c["sentence2"]),
            dim=0,
        )
        for c in rows.cells
    ]
    said = np.array([float(c) for c in cosines])
    top = 5 if max(c["score"] for c in rows.cells) > 1 else 1
    rated = np.array([c["score"] / top for c in rows.cells])
    np.testing.assert_allclose(found.loss, (said - rated) ** 2, atol=1e-5, rtol=0)
    assert task.metric == "cosine Spearman"
    assert found.accuracy == pytest.approx(spearmanr(said, rated).statistic, abs=1e-6)
    estimate = mean_score(found)
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.low < found.accuracy < (estimate.high or 0)


def test_the_interval_of_a_rank_correlation_is_the_jackknife_s() -> None:
    draw = np.random.default_rng(0)
    rated = draw.normal(size=60)
    one, two = (rated + noise * draw.normal(size=60) for noise in (0.3, 2.0))
    each = np.arange(60)
    losses = [
        Losses((said - rated) ** 2, np.ones(60), each, ratings=Ratings(rated, said))
        for said in (one, two)
    ]
    without = [
        spearmanr(np.delete(rated, i), np.delete(one, i)).statistic
        - spearmanr(np.delete(rated, i), np.delete(two, i)).statistic
        for i in each
    ]
    whole = spearmanr(rated, one).statistic - spearmanr(rated, two).statistic
    error = np.sqrt(59 / 60 * np.sum((np.array(without) - whole) ** 2))
    found = paired_score(*losses)
    assert found is not None
    assert found.value == pytest.approx(whole)
    assert found.high == pytest.approx(whole + 2.001 * error, rel=1e-3)
    assert found.is_significant
    few = paired_score(*(some.take(np.arange(4)) for some in losses))
    assert few is not None
    assert few.low is None


POOLED = {
    "cls": lambda s: s[0],
    "max": lambda s: s.max(dim=0).values,
    "mean": lambda s: s.mean(dim=0),
    "mean_sqrt_len_tokens": lambda s: s.sum(dim=0) / len(s) ** 0.5,
    "weightedmean": lambda s: (
        (s * torch.arange(1, len(s) + 1)[:, None]).sum(dim=0) / (len(s) * (len(s) + 1) / 2)
    ),
    "lasttoken": lambda s: s[-1],
}


def test_every_module_is_applied(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    folder = save_encoder(tmp_path / "a", tokenizer, 1, backbone="0_Transformer")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": [*POOLED]})
    write(folder / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 9})
    write(folder / "config_sentence_transformers.json",
          {"prompts": {"query": "find: "}, "default_prompt_name": "query"})  # fmt: skip
    weight = torch.randn(EMBEDDED, 16 * len(POOLED), generator=torch.Generator().manual_seed(0))
    save_module(folder / "2_Dense", {"activation_function": "torch.nn.modules.linear.Identity"},
                linear_weight=weight)  # fmt: skip
    model = load_model(folder / "0_Transformer", Compute())
    config = json.loads((folder / "0_Transformer" / "config.json").read_text())
    task = make_task(task_name(config), folder / "0_Transformer", config, EvalData(), Compute())
    rows = scored(5)
    found = same_in_any_batch(task, task.examples(rows), model)

    def embedded(text: str) -> Tensor:
        inputs = tokenizer(f"find: {text}", return_tensors="pt", truncation=True, max_length=9)
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0]
        pooled = torch.cat([mode(states) for mode in POOLED.values()]) @ weight.T
        bias = torch.randn(EMBEDDED, 16, generator=(g := torch.Generator().manual_seed(5))), g
        normed = nn.functional.layer_norm(
            pooled,
            (EMBEDDED,),
            torch.full((EMBEDDED,), 2.0),
            torch.randn(EMBEDDED, generator=bias[1]),
        )
        return functional.normalize(normed, dim=-1)

    said = np.array(
        [float(embedded(c["sentence1"]) @ embedded(c["sentence2"])) for c in rows.cells]
    )
    assert found.ratings is not None
    np.testing.assert_allclose(found.ratings.rating, said, atol=1e-5, rtol=0)


def save_pairs(path: Path, count: int) -> Path:
    lines = [json.dumps({"anchor": a, "positive": b}) for a, b in sentences(count)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_a_merge_is_measured_with_its_merged_modules(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Two models with one encoder, whose Dense layers are not the same."""
    a, b = (save_encoder(tmp_path / name, tokenizer, 1) for name in "ab")
    weight, bias = torch.eye(EMBEDDED, 16), torch.zeros(EMBEDDED)
    sizes = {"in_features": 16, "out_features": EMBEDDED}
    save_module(b / "2_Dense", sizes, linear_weight=weight, linear_bias=bias)
    data = geo.EvalData(str(save_pairs(tmp_path / "pairs.jsonl", 80)))
    report = geo.soup([a, b], data=data, sharpness="off").report
    assert report.data is not None
    assert (report.data.metric, report.data.documents, report.data.examples) == (
        "retrieval accuracy", 20, 80,
    )  # fmt: skip
    assert card_data(report).pipeline_tag == "sentence-similarity"
    losses = [entry.loss for entry in report.result.losses]
    assert len(set(losses)) == 3
    (barrier,) = report.result.barriers
    assert len(set(barrier.loss)) == len(barrier.loss)
    out = geo.soup([a, b], tmp_path / "out", data=None, output=FAST).out
    assert out is not None
    found = prepare(data, out, json.loads((out / "config.json").read_text()), Compute())
    again = found.objective.measure(load_model(out, Compute())).mean
    assert losses[-1] == pytest.approx(again, abs=1e-6)


def test_samples_are_whole_groups(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    folder = save_encoder(tmp_path / "a", tokenizer, 1)
    data = EvalData(str(save_pairs(tmp_path / "pairs.jsonl", 40)), max_examples=13)
    config = json.loads((folder / "config.json").read_text())
    found = prepare(data, folder, config, Compute())
    kept = [example.document for example in found.objective.kept]
    assert found.available == 40
    assert len(kept) == 12
    assert all(kept.count(document) == 4 for document in kept)


@pytest.mark.parametrize(
    ("columns", "data", "message"),
    [
        ({"anchor": ["a"]}, {}, "texts in column 'anchor' have no partner: expected 'positive'"),
        ({"body": ["a"], "title": ["b"]}, {}, "no column that looks like the first text of a pair"),
        ({"body": ["a"], "title": ["b"]}, {"text_column": "body"}, "'body' have no partner"),
        ({"anchor": ["a"], "positive": ["b"]}, {}, "one pair of texts alone"),
        ({"sentence1": ["a"], "sentence2": ["b"], "label": [2]}, {}, "may be classes or scores"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": ["x"]}, {}, "x.jsonl:1 has no score"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": [200]}, {}, "a number from -1 to 100"),
        ({"anchor": ["a"], "positive": [3]}, {}, "no text in column 'positive', found int"),
    ],
)
def test_pairs_that_are_none(
    make: Make, columns: Any, data: Mapping[str, Any], message: str
) -> None:
    _, task = make(BertModel, BertConfig(**TINY), EvalData(**data))
    with pytest.raises(DataError, match=message):
        task.examples(rows_of(**columns))


def test_named_columns_hold_a_partner_or_a_score(make: Make) -> None:
    data = EvalData(text_column="title", label_column="body")
    _, task = make(BertModel, BertConfig(**TINY), data)
    assert task.columns(rows_of(title=["a", "b"], body=["c", "d"])) == ["title", "body"]
    data = EvalData(label_column="same")
    _, task = make(BertModel, BertConfig(**TINY), data)
    pairs = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "same": [0, 1]}
    assert task.columns(rows_of(**pairs)) == ["sentence1", "sentence2", "same"]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("LSTM", {}, "the module LSTM cannot be run here"),
        ("Dense", {"activation_function": "os.system"}, "activation 'os.system' cannot be run"),
        ("Dense", {"module_input_name": "token_embeddings"}, "a Dense whose module_input_name is"),
        ("Pooling", {"pooling_mode": "none"}, "the pooling mode 'none' cannot be run here"),
        ("Dropout", {}, "a model without a Pooling"),
    ],
)
def test_modules_that_cannot_be_run(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, kind: str, settings: Any, message: str
) -> None:
    tokenizer.save_pretrained(tmp_path)
    names = [("Transformer", ""), (kind, "1_X")]
    write(tmp_path / "modules.json", [{"type": f"{KINDS}.{k}", "path": p} for k, p in names])
    write(tmp_path / "1_X" / "config.json", settings)
    with pytest.raises(UnsupportedError, match=message):
        make_task("sentence-similarity", tmp_path, {"model_type": "bert"}, EvalData(), Compute())


def test_which_encoders_can_do_it() -> None:
    bert = {"architectures": ["BertModel"], "model_type": "bert"}
    assert task_name(bert) == "sentence-similarity"
    with pytest.raises(
        ArgumentError, match="BertModel cannot do masked-lm; it can do sentence-sim"
    ):
        task_name(bert, "masked-lm")
    own = {"architectures": ["MyModel"], "auto_map": {"AutoModel": "x.MyModel"}}
    assert task_name(own) == "sentence-similarity"
    with pytest.raises(DataError, match="no task goes with ViTModel"):
        task_name({"architectures": ["ViTModel"], "model_type": "vit"})


@pytest.mark.parametrize("backbone", ["", "0_Transformer"])
def test_an_encoder_stored_without_the_head_that_its_configuration_names(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, backbone: str
) -> None:
    """As in all-mpnet-base-v2; nor is there the pooler, which no module of it uses."""
    data = geo.EvalData(str(save_pairs(tmp_path / "pairs.jsonl", 40)))
    losses = []
    for name in ("whole", "bare"):
        a, b = (
            save_encoder(tmp_path / name / which, tokenizer, seed, backbone=backbone)
            for seed, which in enumerate("ab")
        )
        for folder in (a, b) if name == "bare" else ():
            place = folder / backbone
            config = json.loads((place / "config.json").read_text())
            write(place / "config.json", {**config, "architectures": ["BertForMaskedLM"]})
            state = load_file(place / "model.safetensors")
            kept = {key: t for key, t in state.items() if not key.startswith("pooler.")}
            save_file(kept, place / "model.safetensors", {"format": "pt"})
        report = geo.soup([a, b], data=data, sharpness="off").report
        losses.append([entry.loss for entry in report.result.losses])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert report.data is not None
    assert report.data.task == "sentence-similarity"
