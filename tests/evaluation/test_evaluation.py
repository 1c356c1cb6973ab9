"""Examples, per-example losses, halves and budgets, against independent computations."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError, FormatError
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.drawing import draw
from mergekit_geo.evaluation.evaluator import Evaluator
from mergekit_geo.evaluation.objective import FunctionObjective, TaskObjective
from mergekit_geo.evaluation.sample import Cut, Sample, prepare
from mergekit_geo.evaluation.split import Split
from mergekit_geo.modules.load import load_model, load_tokenizer
from mergekit_geo.tasks.causal_lm import CausalLM
from mergekit_geo.tasks.kind import context_length
from mergekit_geo.tasks.losses import Answers, Losses
from mergekit_geo.tasks.task import Example

CPU = Compute(device="cpu")
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, "vocab_size": 1024
}  # fmt: skip


def text_rows(texts: Sequence[str]) -> Rows:
    return Rows([{"text": text} for text in texts], [str(i) for i in range(len(texts))], "test")


def task(folder: Path, seq_len: int = 64, **data: object) -> CausalLM:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return CausalLM(tokenizer, seq_len, 1024, EvalData(**data))  # type: ignore[arg-type]


def held_out(family: Path, **data: object) -> Sample:
    return prepare(EvalData(**data), family / "a", CONFIG, CPU)  # type: ignore[arg-type]


def test_windows_are_the_text_in_order(family: Path) -> None:
    own = task(family / "a")
    texts = [document.text for document in builtin_documents("held-out")[:3]]
    windows = own.examples(text_rows(texts))
    assert all(2 <= window.size <= 64 for window in windows)
    for index, text in enumerate(texts):
        ids = [i for w in windows if w.document == index for i in w.fields["input_ids"]]
        whole = own.tokenizer(text)["input_ids"]
        assert ids == whole[: len(ids)]
        assert len(whole) - len(ids) <= 1  # a last lone token predicts nothing


def test_begin_of_sequence_starts_every_window_of_a_model_that_wants_it(family: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    own = task(family / "a", 16)
    tokenizer = own.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    windows = own.examples(text_rows([builtin_documents("held-out")[0].text]))
    assert {window.fields["input_ids"][0] for window in windows} == {0}
    assert max(window.size for window in windows) == 16


def test_too_short_a_text(family: Path) -> None:
    with pytest.raises(DataError, match="no document has two tokens"):
        task(family / "a").examples(text_rows(["a"]))


CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<assistant>{% endif %}"
TALK = [
    {"role": "user", "content": "two and two"},
    {"role": "assistant", "content": "four"},
    {"role": "user", "content": "and one"},
    {"role": "assistant", "content": "five"},
]


def test_only_the_assistant_s_tokens_count(family: Path) -> None:
    own = task(family / "a")
    own.tokenizer.chat_template = CHAT + ASK
    rows = Rows([{"messages": TALK}], ["1"], "test")
    (window,) = own.examples(rows)
    counted = [token for token in window.fields["labels"] if token != -100]
    assert own.tokenizer.decode(counted) == "four\nfive\n"
    assert window.weight == len(counted)
    (everything,) = task_with(own, loss_on="all").examples(rows)
    assert everything.weight == everything.size - 1


def task_with(own: CausalLM, **data: object) -> CausalLM:
    return CausalLM(own.tokenizer, own.seq_len, own.vocabulary, EvalData(**data))  # type: ignore[arg-type]


def test_chat_templates_that_cannot_be_used(family: Path) -> None:
    own = task(family / "a")
    rows = Rows([{"messages": TALK}], ["1"], "test")
    with pytest.raises(DataError, match="the tokenizer has no chat template"):
        own.examples(rows)
    own.tokenizer.chat_template = "{{ messages | length }}" + CHAT + ASK
    with pytest.raises(DataError, match="rewrites earlier turns"):
        own.examples(rows)
    own.tokenizer.chat_template = CHAT
    with pytest.raises(DataError, match="1 has neither text nor messages"):
        own.examples(Rows([{"text": 3}], ["1"], "test"))


def test_sample_is_seeded_and_in_order() -> None:
    examples = [Example(i, 1, 1, {}) for i in range(50)]
    chosen = draw(examples, 10, seed=3)
    assert chosen == draw(examples, 10, seed=3) != draw(examples, 10, seed=4)
    assert [e.document for e in chosen] == sorted(e.document for e in chosen)
    assert draw(examples, 99, seed=0) == examples


def test_whole_documents_are_drawn_where_models_cut_them_otherwise() -> None:
    sizes = [1, 5, 2, 4, 3, 2]
    examples = [Example(d, 1, 1, {}) for d, size in enumerate(sizes) for _ in range(size)]
    for most in (1, 6, 12):
        chosen = draw(examples, most, seed=1, whole=True)
        counts = Counter(example.document for example in chosen)
        assert all(sizes[document] == count for document, count in counts.items())
        assert len(chosen) <= most or len(counts) == 1
        assert draw(examples, len(chosen), seed=1, whole=True) == chosen


@pytest.mark.parametrize("batch_size", [1, 7])
def test_losses_are_those_transformers_computes_one_by_one(family: Path, batch_size: int) -> None:
    model = LlamaForCausalLM.from_pretrained(family / "a").eval()
    texts = [document.text for document in builtin_documents("held-out")[:4]]
    own = task(family / "a", 48)
    windows = own.examples(text_rows(texts))[-20:]
    losses = TaskObjective(own, windows, ["key"] * 4, batch_size).measure(model)
    for window, loss, weight in zip(windows, losses.loss, losses.weight, strict=True):
        ids = torch.tensor([window.fields["input_ids"]])
        with torch.no_grad():
            expected = model(input_ids=ids, labels=ids).loss.item()
        assert loss == pytest.approx(expected, abs=1e-5)
        assert weight == window.size - 1
    with torch.no_grad():
        right = model(input_ids=ids).logits[0, :-1].argmax(-1) == ids[0, 1:]
    assert losses.score is not None
    assert losses.score[-1] == pytest.approx(right.float().mean().item())


def test_memory_that_does_not_hold_a_batch_is_asked_for_less(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LlamaForCausalLM.from_pretrained(family / "a").eval()
    own = task(family / "a")
    windows = own.examples(text_rows([builtin_documents("held-out")[0].text]))[:8]
    expected = TaskObjective(own, windows, ["key"], 8).measure(model)
    whole = own.losses

    def small(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> object:
        if len(batch["input_ids"]) > 2:
            raise torch.OutOfMemoryError
        return whole(model, batch)

    monkeypatch.setattr(own, "losses", small)
    found = TaskObjective(own, windows, ["key"], 8).measure(model)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)


def test_budget_takes_a_smaller_sample_and_says_so(family: Path) -> None:
    sample = held_out(family, batch_size=2)
    evaluator = Evaluator(
        sample.objective, Compute(device="cpu", budget=1e-6), evaluations=1, seed=0
    )
    found = evaluator.measure("a", load_model(family / "a", CPU))
    assert len(found.loss) == 2 < sample.available
    assert "--budget 0 measures all" in evaluator.warnings[0]


def test_an_interrupted_run_s_sample_is_kept(family: Path, tmp_path: Path) -> None:
    evaluator = Evaluator(held_out(family).objective, CPU, evaluations=1)
    evaluator.take(3)
    found = evaluator.measure("a", load_model(family / "a", CPU))
    assert len(found.loss) == evaluator.count == 3


def test_too_small_a_sample_is_not_called_shrunk(family: Path) -> None:
    sample = held_out(family, max_examples=3)
    evaluator = Evaluator(sample.objective, Compute(device="cpu", budget=1e-6), evaluations=1)
    evaluator.measure("a", load_model(family / "a", CPU))
    assert evaluator.warnings == []


def test_window_longer_than_the_context() -> None:
    with pytest.raises(DataError, match="longer than the model's context of 64"):
        context_length({"max_position_embeddings": 64}, 65)


@pytest.mark.parametrize("name", ["max_examples", "seq_len", "batch_size"])
def test_settings_are_checked_where_they_are_made(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name.replace('_', '-')} must be at least"):
        EvalData(**{name: 0})
    with pytest.raises(ArgumentError, match="loss-on 'user': expected one of assistant, all"):
        EvalData(loss_on="user")
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


def test_tokenizer_is_found(family: Path, tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path, CPU) is None
    assert load_tokenizer(family / "a", CPU) is not None


def linear_loss(model: torch.nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    found = model(batch).square().mean(dim=1)
    return {"loss": found, "score": (found < 1).float()}


def test_any_function_is_an_objective() -> None:
    model, batches = torch.nn.Linear(3, 2), [torch.ones(4, 3), torch.zeros(2, 3)]
    found = FunctionObjective(linear_loss, batches).measure(model)
    expected = torch.cat([model(batch).square().mean(dim=1) for batch in batches])
    np.testing.assert_allclose(found.loss, expected.detach().double().numpy(), rtol=1e-6)
    assert found.document.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.score is not None
    plain = FunctionObjective(lambda m, b: m(b).sum(dim=1), batches).measure(model)
    assert plain.score is None


def test_functions_that_give_no_losses_are_refused() -> None:
    model, batches = torch.nn.Linear(3, 2), [torch.ones(4, 3)]
    with pytest.raises(DataError, match=r"'loss' of shape \[\]; expected one number an example"):
        FunctionObjective(lambda m, b: m(b).sum(), batches).measure(model)
    with pytest.raises(DataError, match=r"gave \['nll'\]; expected a tensor, or a mapping"):
        FunctionObjective(lambda m, b: {"nll": m(b)}, batches).measure(model)
    with pytest.raises(DataError, match="the loader gives no batches"):
        FunctionObjective(linear_loss, []).measure(model)


def test_halves_share_no_document_and_go_by_content() -> None:
    found = losses(np.arange(40.0), np.ones(40))
    keys = [f"text {i}" for i in range(40)]
    halves = Split.of(found, keys, seed=0)
    chosen, reported = (set(found.document[rows]) for rows in (halves.selection, halves.report))
    assert chosen.isdisjoint(reported)
    assert len(chosen | reported) == 40
    twin = Split.of(found, ["same"] * 20 + keys[20:], seed=0)
    assert len({bool(np.isin(i, twin.selection)) for i in range(40)}) == 1  # copies stay together
    assert set(Split.of(found, keys, seed=1).report) != set(halves.report)


def test_too_few_documents_for_halves() -> None:
    few = losses(np.arange(8.0), np.ones(8))
    with pytest.raises(DataError, match=r"expected at least \d+ in each"):
        Split.of(few, [str(i) for i in range(8)], seed=0)


def losses(per_document: np.ndarray, weights: np.ndarray) -> Losses:
    """Two windows a document."""
    document = np.repeat(np.arange(len(per_document)), 2)
    return Losses(np.repeat(per_document, 2), np.repeat(weights, 2), document)


def test_kept_losses_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answers = Answers(np.array([0, 1]), np.array([2, 1]), np.array([2, 0]))
    some = Losses(np.array([1.0, 2]), np.ones(2), np.arange(2), np.array([1.0, 0]), answers)
    LossCache(["work"]).put("point", some)
    found = LossCache(["work"]).get("point")
    assert found is not None
    assert found.loss.tolist() == [1, 2]
    assert found.answers is not None
    assert found.answers.macro_f1 == answers.macro_f1
    assert LossCache(["work"]).get("elsewhere") is None
    assert LossCache(["other"]).get("point") is None
    assert LossCache(["work"]).settled(9) is None
    LossCache(["work"]).settle(7)
    assert LossCache(["work"]).settled(9) == 7
    assert LossCache(["work"]).settled(6) is None  # there are not as many
    other = LossCache(["work"])
    other.count = 3
    assert other.get("point") is None  # on as many examples nothing was measured
    for path in LossCache(["work"]).folder.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    assert LossCache(["work"]).get("point") is None  # torn


def test_model_larger_than_memory_is_not_loaded(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would kill the process without a word."""
    from types import SimpleNamespace

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**5))
    with pytest.raises(DataError, match=r"needs 0\.628 MB of memory, and 0\.100 MB are free"):
        load_model(family / "a", CPU)


def test_texts_that_count_whole_share_what_counts() -> None:
    """Few long texts are shortened so that all of them are drawn; short ones stay."""
    long, short = "seven boats drift " * 400, "a harbour"
    rows = Rows([{"text": long}, {"text": short}, {"text": [1]}], ["1", "2", "3"], "x.jsonl")
    cut = Cut.of_texts(EvalData("x", max_examples=9, seq_len=100), {}, per_byte=True)
    found = cut.shortened(rows, ["text"])
    texts = [cells["text"] for cells in found.cells]
    assert texts[1:] == [short, [1]]
    assert long.startswith(texts[0] + " ")
    assert 880 < len(texts[0]) <= 900
    assert found.notes == ["of each text the first 900 characters count"]
    assert cut.shortened(rows, ["source", "target"]) is rows
    every = Cut.of_texts(EvalData("x", max_examples=None), {}, per_byte=True)
    assert every.shortened(rows, ["text"]) is rows
