"""Losses of tokens against float64 references, whether or not the output layer sees all of them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.tasks import token_losses as of_tokens
from mergekit_geo.tasks.counted_logits import _MAY_SELECT
from mergekit_geo.tasks.token_losses import IGNORED, token_losses
from tests.architectures import ARCHITECTURES, VOCABULARY

ROWS, LENGTH, CLASSES = 3, 12, 50


class Plain(nn.Module):
    """An embedding and an output layer, as a model of transformers has it.

    Attributes:
        after: What the logits go through after the output layer.
        calls: How often the model has run.
    """

    def __init__(self, after: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(CLASSES, 8), nn.Linear(8, CLASSES)
        self.after, self.calls = after, 0
        self.eval()

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor) -> Any:
        self.calls += 1
        return SimpleNamespace(logits=self.after(self.head(self.embed(input_ids).tanh())))


class ByKeyword(Plain):
    """A model whose output layer never sees a positional argument."""

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.head(input=self.embed(input_ids)))


class Headless(Plain):
    """A model that does not say which its output layer is."""

    def get_output_embeddings(self) -> Any:
        return None


def batch(classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Token ids, and labels of which every third or so counts: (b, l) each."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(4, classes, (ROWS, LENGTH), generator=draw)
    counted = torch.rand(ROWS, LENGTH, generator=draw) < 0.4
    counted[:, 0] = True
    return ids, torch.where(counted, ids.roll(1, 1), torch.tensor(IGNORED))


def reference(logits_blv: Tensor, labels_bl: Tensor) -> Tensor:
    """Row by row, token by token, in float64."""
    rows = []
    for logits, labels in zip(logits_blv.double(), labels_bl, strict=True):
        found = [-row.log_softmax(0)[y] for row, y in zip(logits, labels, strict=True) if y >= 0]
        rows.append(torch.stack(found).mean())
    return torch.stack(rows)


def by_place(logits: Tensor) -> Tensor:
    """Logits times the number of their position, however many there are."""
    return logits * torch.arange(1, logits.shape[1] + 1)[:, None]


def by_twelve(logits: Tensor) -> Tensor:
    """The same of twelve positions and no other number."""
    return logits * torch.arange(1, LENGTH + 1)[:, None]


@pytest.mark.parametrize("model", [Plain(), ByKeyword(), Headless(), Plain(by_place)])
@pytest.mark.parametrize("chunk", [1, 7 * CLASSES, 1 << 19])
def test_losses_and_answers_are_the_reference_s(
    model: Plain, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_tokens, "CPU_CHUNK", chunk)
    ids, labels = batch()
    logits = model(ids).logits
    with torch.no_grad():
        found = token_losses(model, {"input_ids": ids}, labels, answers=True)
    torch.testing.assert_close(found.loss.double(), reference(logits, labels), atol=1e-6, rtol=0)
    counted = labels != IGNORED
    said = logits.argmax(-1)
    right = ((said == labels) & counted).sum(1) / counted.sum(1)
    assert found.score is not None
    torch.testing.assert_close(found.score, right)
    assert found.owner is not None
    assert found.owner.tolist() == counted.nonzero()[:, 0].tolist()
    assert torch.equal(torch.as_tensor(found.predicted), said[counted])
    assert torch.equal(torch.as_tensor(found.target), labels[counted])


def test_the_output_layer_sees_the_counted_positions_alone() -> None:
    model, (ids, labels), seen = Plain(), batch(), []
    model.head.register_forward_hook(lambda _, given, made: seen.append(made.shape[:-1].numel()))
    token_losses(model, {"input_ids": ids}, labels)
    tried = [LENGTH, LENGTH // 2]  # a row, once
    assert seen == [*tried, int((labels != IGNORED).sum())]
    token_losses(model, {"input_ids": ids}, labels)
    assert len(seen) == len(tried) + 2


@pytest.mark.parametrize("after", [by_place, by_twelve])
def test_logits_that_depend_on_the_position_are_all_made(after: Callable[..., Tensor]) -> None:
    """The selected ones would be wrong, or fail."""
    model, (ids, labels) = Plain(after), batch()
    token_losses(model, {"input_ids": ids}, labels)
    assert _MAY_SELECT[model] is False


def test_a_model_in_training_is_run_once() -> None:
    model, (ids, labels) = Plain().train(), batch()
    token_losses(model, {"input_ids": ids}, labels)
    assert model.calls == 1
    assert model not in _MAY_SELECT


@pytest.mark.parametrize("kind", [Plain, Headless])
def test_gradients_of_both_orders_are_the_reference_s(kind: type[Plain]) -> None:
    """Hessian-vector products among them, in chunks of a few positions."""
    model, (ids, labels) = kind(), batch()
    parameters = list(model.parameters())

    def products(loss: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(loss.sum(), parameters, create_graph=True)
        along = sum((one * one.detach()).sum() for one in first)
        second = torch.autograd.grad(torch.as_tensor(along), parameters)
        return [one.detach().double() for one in (*first, *second)]

    found = products(token_losses(model, {"input_ids": ids}, labels).loss)
    wanted = products(reference(model.double()(ids).logits, labels))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_of_equal_logits_the_first_is_said() -> None:
    """In bfloat16 many are equal."""
    model = Plain().bfloat16()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    ids, labels = batch()
    labels = torch.where(labels == IGNORED, IGNORED, labels % 2)
    found = token_losses(model, {"input_ids": ids}, labels)
    zeros = [(row[row != IGNORED] == 0).float().mean().item() for row in labels]
    assert found.score is not None
    assert found.score.tolist() == pytest.approx(zeros)
    assert found.loss.tolist() == pytest.approx([torch.tensor(CLASSES).log().item()] * ROWS)


def test_a_loss_that_is_not_a_number_is_told_as_one() -> None:
    model, (ids, labels) = Plain(), batch()
    nn.init.constant_(model.head.bias, torch.nan)
    assert token_losses(model, {"input_ids": ids}, labels).loss.isnan().all()


@pytest.mark.parametrize(
    "name", ["GPT-2", "Gemma 2", "Cohere", "Mamba 2", "OPT", "T5", "ModernBERT"]
)
def test_architectures_have_the_losses_of_all_their_logits(name: str) -> None:
    """Of a batch with padding; what follows the output layer is done to the selected logits."""
    model = ARCHITECTURES[name].build()
    ids, labels = batch(VOCABULARY)
    mask = torch.ones_like(ids)
    ids[1, 8:], mask[1, 8:], labels[1, 8:] = 2, 0, IGNORED
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        found = token_losses(model, inputs, labels)
        logits = model(**inputs).logits
    assert _MAY_SELECT[model]
    torch.testing.assert_close(found.loss.double(), reference(logits, labels), atol=1e-5, rtol=0)
