"""Diagonal Fishers: beside an enumeration of all labels, and beside plain per-example gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import Linear, Module
from torch.nn.functional import cross_entropy, log_softmax

from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.clock import Clock
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.curvature.fisher import SquaredGradients
from mergekit_geo.curvature.fisher_store import ModelFisher
from mergekit_geo.curvature.model_fisher import FisherRun
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import FunctionObjective, TaskObjective
from mergekit_geo.merging.weighed import FisherSettings
from mergekit_geo.progress import Silent
from mergekit_geo.tasks.drawn_labels import class_labels, label_sets, labels_drawn, numbers
from mergekit_geo.tasks.problem_types import class_losses
from mergekit_geo.tasks.task import BatchLosses, Example

CLASSES, SIZE = 4, 3


class Classifier:
    """A task of rows of numbers and their classes."""

    name, unit, metric = "rows", "example", "accuracy"

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Rows (b, n) and classes (b,)."""
        rows = torch.stack([torch.tensor(one.fields["x"]) for one in examples])
        return {"x": rows, "y": torch.tensor([one.fields["y"] for one in examples])}

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Cross entropy of each."""
        return class_losses(model(batch["x"]), batch["y"])


class Unlabelled(Classifier):
    """The same, by a loss that asks for no labels."""

    name = "unlabelled rows"

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """The squared length of the output."""
        return BatchLosses(model(batch["x"]).square().sum(1))


def objective(times: int = 1, batch_size: int = 1, task: Classifier | None = None) -> TaskObjective:
    """Five rows, each so many times as documents of their own."""
    draw = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(5, SIZE, generator=draw).tolist(), [0, 3, 1, 1, 2]
    pairs = list(zip(rows, labels, strict=True)) * times
    kept = [Example(i, 1, 1.0 + i % 2, {"x": x, "y": y}) for i, (x, y) in enumerate(pairs)]
    documents = [f"document {i}" for i in range(len(kept))]
    return TaskObjective(task or Classifier(), kept, documents, batch_size)  # type: ignore[arg-type]


@pytest.fixture
def model() -> Linear:
    torch.manual_seed(3)
    found = Linear(SIZE, CLASSES)
    with torch.no_grad():
        found.weight.mul_(3)
    return found


def fisher(model: Module, examples: TaskObjective, **settings: object) -> dict[str, Tensor]:
    found = SquaredGradients.of(model, examples, **settings)  # type: ignore[arg-type]
    return found.mean(found.add(0, found.count))


def squares(model: Linear, examples: TaskObjective, label: int | None) -> dict[str, Tensor]:
    """(n, ...) squared gradients of each example's log p of one label, or of its own."""
    batch = examples.task.batch(examples.kept)
    labels = batch["y"] if label is None else torch.full_like(batch["y"], label)
    weights = torch.tensor([one.weight for one in examples.kept])

    def loss(state: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return weight * cross_entropy(functional_call(model, state, (x[None],)), y[None])

    state = dict(model.named_parameters())
    found = vmap(grad(loss), in_dims=(None, 0, 0, 0))(state, batch["x"], labels, weights)
    return {name: gradient.detach().square() for name, gradient in found.items()}


def test_the_empirical_fisher_is_the_mean_of_squares_of_single_gradients(model: Linear) -> None:
    examples = objective()
    found, expected = fisher(model, examples, empirical=True), squares(model, examples, None)
    for name, diagonal in found.items():
        torch.testing.assert_close(diagonal, expected[name].mean(0))


def test_the_true_fisher_is_that_of_all_labels_by_their_probabilities(model: Linear) -> None:
    times = 200
    found, few = fisher(model, objective(times), seed=1), objective()
    with torch.no_grad():
        chances = log_softmax(model(few.task.batch(few.kept)["x"]), dim=1).exp()
    by_label = [squares(model, few, label) for label in range(CLASSES)]
    for name, diagonal in found.items():
        each = torch.stack([one[name] for one in by_label])
        shape = (CLASSES, len(few.kept), *[1] * (each.dim() - 2))
        weight = chances.T.reshape(shape)
        # an odd number of rows: by turns each weighs 1 and 2, and squares 1 and 4
        mean = (weight * each).sum(0)
        plain = mean / torch.tensor([one.weight**2 for one in few.kept]).view(-1, *shape[2:])
        second = (weight * each.square()).sum(0)
        expected = 2.5 * plain.mean(0)
        error = (8.5 * second / (2.5 * times * len(few.kept))).sum(0).sqrt() + 1e-6
        assert ((diagonal - expected).abs() < 6 * error).all(), name


def test_the_batch_size_changes_nothing(model: Linear) -> None:
    for settings in ({"empirical": True}, {"seed": 4}):
        one, many = (fisher(model, objective(2, size), **settings) for size in (1, 7))
        assert all(torch.equal(one[name], many[name]) for name in one)


def test_labels_are_those_of_an_example_whichever_others_there_are(model: Linear) -> None:
    whole = objective(4)
    few = whole.of(torch.arange(0, 20, 2).numpy())
    every, some = (SquaredGradients.of(model, one, seed=2).examples for one in (whole, few))
    assert every is not None
    assert some is not None
    seeds = {one.row: one.seed for one in every}
    assert {one.seed for one in some} == {seeds[row] for row in range(0, 20, 2)}
    assert len(set(seeds.values())) == 20


def test_a_task_without_labels_has_an_empirical_fisher_alone(model: Linear) -> None:
    examples = objective(task=Unlabelled())
    assert fisher(model, examples, empirical=True)["weight"].min() > 0
    with pytest.raises(DataError, match="unlabelled rows has no labels that can be drawn from the"):
        fisher(model, examples)
    function = FunctionObjective(lambda model, x: model(x)[:, 0], [torch.ones(2, SIZE)])
    with pytest.raises(DataError, match="a loss function of the caller's has no labels"):
        SquaredGradients.of(model, function)


def test_a_loss_that_is_no_number(model: Linear) -> None:
    with torch.no_grad():
        model.bias[0] = torch.nan
    with pytest.raises(DataError, match="the loss of an example is not a number"):
        fisher(model, objective(), empirical=True)


def test_labels_are_drawn_by_their_probabilities() -> None:
    count, draw = 20_000, torch.Generator().manual_seed(0)
    logits = torch.randn(1, 6, generator=draw) * 2
    with labels_drawn(0):
        drawn = class_labels(logits.expand(count, -1), torch.zeros(count, dtype=torch.long))
        sets = label_sets(logits.expand(count, -1), torch.zeros(count, 6))
        values = numbers(logits.expand(count, -1), torch.zeros(count, 6))
    chances, single = torch.softmax(logits[0], 0), torch.sigmoid(logits[0])
    shares = torch.bincount(drawn, minlength=6) / count
    assert ((shares - chances).abs() < 5 * (chances * (1 - chances) / count).sqrt() + 1e-4).all()
    assert ((sets.mean(0) - single).abs() < 5 * (single * (1 - single) / count).sqrt()).all()
    torch.testing.assert_close(values.mean(0), logits[0], atol=0.06, rtol=0)
    torch.testing.assert_close(values.var(0), torch.full((6,), 3.0), atol=0.2, rtol=0)
    assert class_labels(logits, torch.tensor([5])).item() == 5


# Kept and resumed


class _Killed(Silent):
    """Progress that stops the work at an example."""

    def __init__(self, at: int) -> None:
        self.at, self.done = at, 0

    def advance(self, count: int) -> None:
        """Raise at the example."""
        self.done += count
        if self.done == self.at:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run_of(**settings: object) -> FisherRun:
    usual = FisherRun(
        FisherSettings(12), Compute(), Clock(0), Silent(), lambda text: None, keep_every=0.0
    )
    return replace(usual, **settings)  # type: ignore[arg-type]


def of_small(small: Path, **settings: object) -> ModelFisher:
    data = EvalData("builtin:python-docs", split="train", seq_len=16)
    return run_of(**settings).of(open_checkpoint(str(small / "a")), data)


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.docs.place import few_documents

    monkeypatch.setattr("mergekit_geo.data.load.builtin_documents", few_documents)


@pytest.mark.usefixtures("few_texts")
def test_a_killed_fisher_goes_on_to_the_same_bytes(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = of_small(small)
    assert (whole.entry.examples, whole.entry.reused) == (12, False)
    assert of_small(small).entry.reused
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        of_small(small, progress=_Killed(7))
    (partial,) = (tmp_path / "other" / "mergekit_geo").glob("*/partial.safetensors")
    resumed = of_small(small)
    assert resumed.key == whole.key
    assert (resumed.entry.examples, resumed.entry.seconds) == (12, None)
    assert not partial.exists()


@pytest.mark.usefixtures("few_texts")
def test_a_budget_that_holds_fewer_examples(small: Path) -> None:
    clock = Clock(10)
    clock.limit = 0.0
    with pytest.raises(DataError, match=r"the Fisher of .* on 12 examples would take .* minutes"):
        of_small(small, clock=clock)
