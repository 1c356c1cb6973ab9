"""What is minimised: a task on fixed examples, or any function of the user's on fixed batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.drawing import draw
from mergekit_geo.processes import gather, world
from mergekit_geo.tasks.losses import Answers, Floats, Indices, Losses, Ratings
from mergekit_geo.tasks.task import BatchLosses, Example, Task

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    PerExample = Tensor | Mapping[str, Tensor]
    LossFunction = Callable[[Module, Any], PerExample]
    Batch = Callable[[Module], tuple[Tensor, Tensor]]


class Objective(Protocol):
    """Something that has a loss under every model, on the same examples."""

    @property
    def cost(self) -> float:
        """Work of one measurement, in units of `advance`."""

    @property
    def documents(self) -> Sequence[str]:
        """A key of each document's content, by document index."""

    def measure(self, model: Module, advance: Callable[[int], None] = ...) -> Losses:
        """Loss of every example, in order, without gradients."""

    def batches(self) -> list[Batch]:
        """Each batch as a function of the model: losses and weights, (b,) each, differentiable."""


@dataclass(frozen=True)
class TaskObjective:
    """A task on its examples.

    Attributes:
        task: How losses come about.
        kept: The examples.
        documents: A key of each document's content.
        batch_size: Examples run together; those of like length are, so that little is padded.
        whole: Whether documents stay whole where a sample is drawn.
    """

    task: Task
    kept: Sequence[Example]
    documents: Sequence[str]
    batch_size: int
    whole: bool = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what models are given: token ids, labels, weights, pictures, in batches."""
        found = hashlib.sha256(f"{self.task.name} {self.batch_size}".encode())
        for example in self.kept:
            found.update(f"{example.document} {example.size} {example.weight!r}".encode())
            for name, value in sorted(example.fields.items()):
                found.update(f"{name} {_fed(value)}".encode())
        return found.hexdigest()

    @property
    def cost(self) -> float:
        """Tokens (or examples) of one measurement."""
        return sum(example.size for example in self.kept)

    def batch_rows(self) -> list[Indices]:
        """Indices of the examples of each batch, longest first."""
        sizes = np.array([example.size for example in self.kept])
        order = np.argsort(-sizes, kind="stable")
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def losses_of(self, model: Module, rows: Indices) -> BatchLosses:
        """Losses of some examples, differentiable where gradients are on."""
        batch = self.task.batch([self.kept[i] for i in rows])
        device = next(model.parameters()).device
        return self.task.losses(model, {name: t.to(device) for name, t in batch.items()})

    def batches(self) -> list[Batch]:
        """Each batch as a function of the model: losses and weights, (b,) each, differentiable."""
        return [partial(self.batch, rows) for rows in self.batch_rows()]

    def batch(self, rows: Indices, model: Module) -> tuple[Tensor, Tensor]:
        """Losses and weights of some examples, (b,) each, differentiable."""
        loss = self.losses_of(model, rows).loss
        return loss, torch.tensor([self.kept[i].weight for i in rows]).to(loss)

    @torch.no_grad()
    def measure(self, model: Module, advance: Callable[[int], None] = lambda units: None) -> Losses:
        """Loss of every example, in order; processes share the batches.

        Raises:
            DataError: Memory does not hold one example.
        """
        rank, size = world()
        parts = []
        for rows in self.batch_rows()[rank::size]:
            parts += self._parts(model, rows)
            advance(sum(self.kept[i].size for i in rows))
        weight = np.array([example.weight for example in self.kept], dtype=np.float64)
        document = np.array([example.document for example in self.kept])
        return assemble(gather(parts), weight, document)

    def _parts(self, model: Module, rows: Indices) -> list[MeasuredBatch]:
        """Results of a batch, in two halves where memory does not hold it."""
        try:
            return [MeasuredBatch.of(rows, self.losses_of(model, rows))]
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(rows) == 1:
                raise DataError(
                    "out of memory for one example", remedy="a smaller --seq-len"
                ) from error
        middle = len(rows) // 2
        return [*self._parts(model, rows[:middle]), *self._parts(model, rows[middle:])]

    def of(self, examples: Indices) -> TaskObjective:
        """Restrict the objective to some of its examples."""
        return replace(self, kept=[self.kept[i] for i in examples])

    def of_documents(self, documents: Collection[int]) -> TaskObjective:
        """Restrict the objective to the examples of some documents."""
        return replace(self, kept=[one for one in self.kept if one.document in documents])

    def drawn(self, most: int, seed: int) -> TaskObjective:
        """Restrict the objective to a random sample of at most so many examples."""
        return replace(self, kept=draw(self.kept, most, seed, whole=self.whole))


@dataclass(frozen=True)
class FunctionObjective:
    """A loss function of the user's on batches that are iterated anew for every model.

    Attributes:
        function: From a model and a batch to a (b,) tensor of losses, or a mapping with `loss` and,
            if there are such, `weight` and `score` (share of right answers), (b,) each.
        loader: Gives the batches, the same ones in the same order every time.

    Raises:
        DataError: When it is measured: the function gives something else, or there are no batches.

    Example:
        >>> def squared_error(model, batch):
        ...     return (model(batch) - batch.sum(1, keepdim=True)).square().squeeze(1)
        >>> loss = FunctionObjective(squared_error, [torch.ones(4, 3), torch.zeros(4, 3)])
        >>> model = torch.nn.Linear(3, 1)
        >>> with torch.no_grad():
        ...     _ = model.weight.fill_(1), model.bias.fill_(0.5)
        >>> float(loss.measure(model).mean)
        0.25
    """

    function: LossFunction
    loader: Iterable[Any]

    seed: ClassVar[int] = 0
    as_settings: ClassVar[None] = None
    spoken: ClassVar[None] = None
    is_nothing: ClassVar[bool] = False
    is_default: ClassVar[bool] = False
    is_named: ClassVar[bool] = True

    @property
    def as_objective(self) -> FunctionObjective:
        """The objective, which is measured as it is."""
        return self

    def settings(self) -> None:
        """No settings: a function is none."""

    def replaced(self, **changes: Any) -> FunctionObjective:
        """Return this objective: it has no settings."""
        return self

    @property
    def cost(self) -> float:
        """Number of batches."""
        return sum(1 for _ in self.loader)

    @property
    def documents(self) -> Sequence[str]:
        """Every example is a document of its own, known by its place."""
        return _Places()

    def batches(self) -> list[Batch]:
        """Each batch as a function of the model: losses and weights, (b,) each, differentiable."""
        return [partial(self._batch_losses, batch) for batch in self.loader]

    def _batch_losses(self, batch: Any, model: Module) -> tuple[Tensor, Tensor]:
        columns = _columns(self.function(model, batch))
        return columns["loss"], columns.get("weight", torch.ones_like(columns["loss"]))

    @torch.no_grad()
    def measure(self, model: Module, advance: Callable[[int], None] = lambda units: None) -> Losses:
        """Loss of every example, in order.

        Raises:
            DataError: The function gives something else, or there are no batches.
        """
        found = []
        for batch in self.loader:
            found.append(_per_example(self.function(model, batch)))
            advance(1)
        if not found:
            raise DataError(
                "the loader gives no batches",
                remedy="give one that can be gone "
                "through again and again, such as a list or a DataLoader",
            )
        columns = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        count = len(columns["loss"])
        weight = columns.get("weight", np.ones(count))
        return Losses(columns["loss"], weight, np.arange(count), columns.get("score"))


class _Places(Sequence[str]):
    """The keys `0`, `1`, ... without end."""

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, index: Any) -> Any:
        return str(index)


@dataclass(frozen=True)
class MeasuredBatch:
    """Results of one batch, on the CPU."""

    rows: Indices
    loss: Floats
    score: Floats | None
    answers: Answers | None
    ratings: Ratings | None = None
    score_weight: Floats | None = None
    margin: Floats | None = None

    @classmethod
    def of(cls, rows: Indices, found: BatchLosses) -> MeasuredBatch:
        """From tensors of b examples, which are number `rows` of all."""
        answers = None
        if found.owner is not None and found.target is not None and found.predicted is not None:
            owner, target, predicted = (
                tensor.cpu().numpy() for tensor in (found.owner, found.target, found.predicted)
            )
            answers = Answers(rows[owner], target, predicted)
        return cls(
            rows,
            _floats(found.loss),
            None if found.score is None else _floats(found.score),
            answers,
            _ratings(found),
            None if found.score_weight is None else _floats(found.score_weight),
            None if found.margin is None else _floats(found.margin),
        )


def assemble(parts: Sequence[MeasuredBatch], weight: Floats, document: Indices) -> Losses:
    """Results of all batches in the examples' order."""
    loss = np.empty(len(weight))
    for part in parts:
        loss[part.rows] = part.loss
    score, of_score, margin = (
        _all_floats(parts, name) for name in ("score", "score_weight", "margin")
    )
    answers, ratings = _all_answers(parts), _all_ratings(parts)
    return Losses(loss, weight, document, score, answers, ratings, of_score, margin)


def _all_floats(parts: Sequence[MeasuredBatch], name: str) -> Floats | None:
    """Numbers of all examples in their order; None where there are none."""
    found = [(part.rows, getattr(part, name)) for part in parts]
    if any(values is None for _, values in found):
        return None
    order = np.argsort(np.concatenate([rows for rows, _ in found]))
    return np.asarray(np.concatenate([values for _, values in found])[order])


def _ratings(found: BatchLosses) -> Ratings | None:
    if found.rated is None or found.rating is None:
        return None
    return Ratings(_floats(found.rated), _floats(found.rating))


def _all_ratings(parts: Sequence[MeasuredBatch]) -> Ratings | None:
    found = [(part.rows, part.ratings) for part in parts if part.ratings is not None]
    if not found:
        return None
    order = np.argsort(np.concatenate([rows for rows, _ in found]))
    rated = np.concatenate([ratings.rated for _, ratings in found])
    rating = np.concatenate([ratings.rating for _, ratings in found])
    return Ratings(rated[order], rating[order])


def _all_answers(parts: Sequence[MeasuredBatch]) -> Answers | None:
    found = [part.answers for part in parts if part.answers is not None]
    if not found:
        return None
    example = np.concatenate([answers.example for answers in found])
    order = np.argsort(example, kind="stable")
    target = np.concatenate([answers.target for answers in found])
    predicted = np.concatenate([answers.predicted for answers in found])
    return Answers(example[order], target[order], predicted[order])


def document_keys(rows: Rows) -> list[str]:
    """SHA-256 of each row's content: what a split by document goes by."""
    return [
        hashlib.sha256(
            json.dumps(dict(cells), default=_content, sort_keys=True).encode()
        ).hexdigest()
        for cells in rows.cells
    ]


def digest(keys: Sequence[str]) -> str:
    """SHA-256 of all documents, in order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _content(value: Any) -> str:
    if hasattr(value, "tobytes"):  # arrays and images
        value = value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)


def _fed(value: Any) -> str:
    """A field of an example; where it is all rows, the documents' keys tell them."""
    if isinstance(value, Rows):
        return ""
    return _content(np.asarray(value) if isinstance(value, list) else value)


def _floats(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _per_example(found: PerExample) -> dict[str, Floats]:
    return {name: _floats(tensor) for name, tensor in _columns(found).items()}


def _columns(found: PerExample) -> dict[str, Tensor]:
    columns = {"loss": found} if isinstance(found, torch.Tensor) else dict(found)
    wrong = columns.keys() - {"loss", "weight", "score"}
    if "loss" not in columns or wrong:
        raise DataError(
            f"the loss function gave {sorted(columns)}; expected a tensor, or a mapping with "
            "'loss' and, if there are such, 'weight' and 'score'"
        )
    count = columns["loss"].numel()
    for name, tensor in columns.items():
        if tensor.ndim != 1 or len(tensor) != count:
            raise DataError(
                f"the loss function gave {name!r} of shape {list(tensor.shape)}; expected one "
                "number an example, (b,)",
                remedy="reduction='none'",
            )
    return columns
