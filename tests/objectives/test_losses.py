"""Windows, per-example losses and intervals, against independent computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from mergekit_geo.errors import ArgumentError, DataError, FormatError
from mergekit_geo.objectives.causal_lm import Losses, measure
from mergekit_geo.objectives.evaluation import Evaluator, context_length
from mergekit_geo.objectives.models import is_causal_lm, load_model, load_tokenizer
from mergekit_geo.objectives.settings import Compute, EvalData
from mergekit_geo.objectives.statistics import mean_loss, paired_difference
from mergekit_geo.objectives.text import Document, builtin_documents
from mergekit_geo.objectives.windows import Window, cut_windows, sample

CPU = Compute(device="cpu")


def test_windows_are_the_text_in_order(family: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(family / "a")
    documents = builtin_documents("held-out")[:3]
    windows = cut_windows(documents, tokenizer, 64)
    assert all(2 <= len(window.tokens) <= 64 for window in windows)
    for index, document in enumerate(documents):
        ids = [token for w in windows if w.document == index for token in w.tokens]
        whole = tokenizer(document.text)["input_ids"]
        assert ids == whole[: len(ids)]
        assert len(whole) - len(ids) <= 1  # a last lone token predicts nothing


def test_begin_of_sequence_starts_every_window_of_a_model_that_wants_it(family: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(family / "a")
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    windows = cut_windows(builtin_documents("held-out")[:1], tokenizer, 16)
    assert {window.tokens[0] for window in windows} == {0}
    assert max(len(window.tokens) for window in windows) == 16


def test_too_short_a_text(family: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(family / "a")
    with pytest.raises(DataError, match="no document has two tokens"):
        cut_windows([Document("x", "a")], tokenizer, 64)


def test_sample_is_seeded_and_in_order() -> None:
    windows = [Window((1, 2), i) for i in range(50)]
    chosen = sample(windows, 10, seed=3)
    assert chosen == sample(windows, 10, seed=3) != sample(windows, 10, seed=4)
    assert [w.document for w in chosen] == sorted(w.document for w in chosen)
    assert sample(windows, 99, seed=0) == windows


@pytest.mark.parametrize("batch_size", [1, 7])
def test_losses_are_those_transformers_computes_one_by_one(family: Path, batch_size: int) -> None:
    model = LlamaForCausalLM.from_pretrained(family / "a").eval()
    tokenizer = AutoTokenizer.from_pretrained(family / "a")
    windows = cut_windows(builtin_documents("held-out")[:4], tokenizer, 48)[-20:]
    losses = measure(model, windows, batch_size)
    for window, loss, weight in zip(windows, losses.loss, losses.weight, strict=True):
        ids = torch.tensor([window.tokens])
        with torch.no_grad():
            expected = model(input_ids=ids, labels=ids).loss.item()
        assert loss == pytest.approx(expected, abs=1e-5)
        assert weight == len(window.tokens) - 1


def test_budget_takes_a_smaller_sample_and_says_so(family: Path) -> None:
    evaluator = Evaluator(
        builtin_documents("held-out"), family / "a", {"max_position_embeddings": 64},
        EvalData(batch_size=2), Compute(device="cpu", budget=1e-6), models=1,
    )  # fmt: skip
    evaluator.measure("a", family / "a")
    found = evaluator.result()
    assert found.examples == 2 < found.available
    assert "--budget 0 measures all" in found.warnings[0]


def test_window_longer_than_the_context() -> None:
    with pytest.raises(DataError, match="longer than the model's context of 64"):
        context_length({"max_position_embeddings": 64}, 65)


@pytest.mark.parametrize("name", ["max_examples", "seq_len", "batch_size"])
def test_settings_are_checked_where_they_are_made(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name.replace('_', '-')} must be at least"):
        EvalData(**{name: 0})
    with pytest.raises(ArgumentError, match="expected one of float32"):
        Compute(dtype="int8")
    with pytest.raises(ArgumentError, match="the budget is in minutes"):
        Compute(budget=-1)


def test_gaps_are_not_filled_at_random(family: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in (family / "a").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"1 tensors of the architecture are missing"):
        load_model(tmp_path, CPU)


def test_architecture_and_tokenizer_are_found(family: Path, tmp_path: Path) -> None:
    assert is_causal_lm({"architectures": ["GPT2LMHeadModel"]})
    assert not is_causal_lm({"architectures": ["BertForMaskedLM"]})
    assert not is_causal_lm({})
    assert load_tokenizer(tmp_path, CPU) is None
    assert load_tokenizer(family / "a", CPU) is not None


def losses(per_document: np.ndarray, weights: np.ndarray) -> Losses:
    """Two windows a document."""
    document = np.repeat(np.arange(len(per_document)), 2)
    return Losses(np.repeat(per_document, 2), np.repeat(weights, 2), document)


def test_difference_is_token_weighted_and_paired() -> None:
    draw = np.random.default_rng(0)
    base, weights = draw.normal(3, 1, size=30), draw.uniform(10, 100, size=30)
    gap = draw.normal(0.1, 0.05, size=30)
    found = paired_difference(losses(base + gap, weights), losses(base, weights))
    assert found.value == pytest.approx(weights @ gap / weights.sum())
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high
    assert found.is_significant
    alone = mean_loss(losses(base, weights))
    assert alone.high is not None
    assert alone.low is not None
    assert alone.high - alone.low > 5 * (found.high - found.low)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Short; the full study over 2,000 repetitions belongs to a benchmark."""
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        weights = draw.uniform(50, 150, size=40)
        gap = draw.normal(0.1, 0.2, size=40)
        found = paired_difference(losses(gap, weights), losses(np.zeros(40), weights))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.1 <= found.high
    assert 87 <= covered <= 100


def test_same_model_twice_has_no_difference() -> None:
    some = losses(np.arange(8.0), np.ones(8))
    found = paired_difference(some, some)
    assert (found.value, found.low, found.high, found.is_significant) == (0, 0, 0, False)


def test_too_few_documents_have_no_interval() -> None:
    few = losses(np.arange(4.0), np.ones(4))
    assert mean_loss(few).low is None
    assert mean_loss(few).is_significant is None


def test_model_larger_than_memory_is_not_loaded(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would kill the process without a word."""
    from types import SimpleNamespace

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))
    with pytest.raises(DataError, match=r"needs 3\.445 MB of memory, and 1\.000 MB are free"):
        load_model(family / "a", CPU)


def test_too_small_a_sample_is_not_called_shrunk(family: Path) -> None:
    evaluator = Evaluator(
        builtin_documents("held-out"), family / "a", {}, EvalData(max_examples=3),
        Compute(device="cpu", budget=1e-6), models=1,
    )  # fmt: skip
    evaluator.measure("a", family / "a")
    assert evaluator.result().warnings == []
