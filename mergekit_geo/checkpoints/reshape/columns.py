"""Models seen as columns of one output: each tensor is read of the model that it is taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reading import Bytes, Read
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.view import view

MadeOf = Mapping[str, Sequence[tuple[int, str]]]
"""By tensor of the output: the models that it is made of, and what it is called in each."""


@dataclass(frozen=True)
class Columns:
    """Views of models, and which of them each tensor is made of.

    Attributes:
        views: At least one of each model; more where a tensor is made of several of its tensors.
        takers: By tensor, positions of its views, in the order in which it is made of them.
    """

    views: tuple[Checkpoint, ...]
    takers: Mapping[str, tuple[int, ...]]


def columns(models: Sequence[Checkpoint], made_of: MadeOf, frame: Frame) -> Columns:
    """Models as columns of an output.

    Args:
        models: Under the same names of tensors, so far as they have the same.
        made_of: What each tensor of the output is made of.
        frame: Configuration and side files of the output.

    Example:
        >>> from mergekit_geo.checkpoints.reference import open_checkpoint
        >>> import torch
        >>> state = {f"layers.{i}.w": torch.full((1,), float(i)) for i in range(2)}
        >>> found = open_checkpoint(state)
        >>> made_of = {"layers.0.w": [(0, "layers.1.w")], "layers.1.w": [(0, "layers.1.w")]}
        >>> columns([found], made_of, Frame(found, {})).takers
        {'layers.0.w': (0,), 'layers.1.w': (0,)}
    """
    stored: dict[tuple[int, int], dict[str, str]] = {(0, i): {} for i in range(len(models))}
    places: dict[str, list[tuple[int, int]]] = {}
    for name, sources in made_of.items():
        places[name] = []
        for j, (model, own) in enumerate(sources):
            turn = sum(other == model for other, _ in sources[:j])
            stored.setdefault((turn, model), {})[name] = own
            places[name].append((turn, model))
    order = {place: i for i, place in enumerate(sorted(stored))}
    views = tuple(_column(models[place[1]], stored[place], frame) for place in order)
    return Columns(views, {name: tuple(order[p] for p in found) for name, found in places.items()})


def _column(model: Checkpoint, stored: Mapping[str, str], frame: Frame) -> Checkpoint:
    def reader(source: Checkpoint) -> Read:
        def read(name: str, start: int, stop: int, out: Bytes) -> None:
            source.read(stored[name], start, stop, out)

        return read

    tensors = {name: model.tensors[own] for name, own in stored.items()}
    return view(model, tensors, reader, frame, sorted(stored.items()))
