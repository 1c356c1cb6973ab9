"""A pass of a model over data in which the inputs of its linear layers are summed up on the disk.

Beside the forward pass, memory holds one Gram matrix at a time: that of a layer is read, what its
call adds is added, and it is written back.

Shapes: n positions, w features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergekit_geo.activations.inputs import Probe, Turn, inputs_seen
from mergekit_geo.activations.layers import LinearLayer
from mergekit_geo.activations.padding import Padding
from mergekit_geo.activations.products import add_products
from mergekit_geo.activations.spool import Mark, Spool, empty, room_for
from mergekit_geo.errors import DataError

if TYPE_CHECKING:
    from torch.nn import Module

    Run = Callable[[Module], object]


class StartOverError(Exception):
    """The sums on the disk are not those of this pass."""


class ApartError(StartOverError):
    """Layers that shared an activation at first do not do so later."""


@torch.no_grad()
def probed(model: Module, layers: Sequence[LinearLayer], run: Run) -> dict[str, str]:
    """Which layers a forward pass calls, and which of them share a Gram matrix.

    Args:
        model: In evaluation mode.
        layers: All of them.
        run: The forward pass.

    Returns:
        By weight of each layer that is called, that of the layer that it shares one with.
    """
    probe = Probe()
    with inputs_seen(model, layers, probe.see):
        run(model)
    return probe.settled()


class Collector:
    """Sums up what goes into linear layers, batch by batch.

    Args:
        model: In evaluation mode.
        layers: Those that are summed up.
        leaders: By weight, that of the layer whose Gram matrix is its own, from `probed`.
        spool: Where the matrices are.
        files: Name of each layer's file, by weight; those of layers that share one stay empty.

    Attributes:
        rows: By weight, the positions that a matrix is the sum of.
    """

    def __init__(
        self,
        model: Module,
        layers: Sequence[LinearLayer],
        leaders: Mapping[str, str],
        spool: Spool,
        files: Mapping[str, str],
    ) -> None:
        self.model, self.layers, self.spool = model, layers, spool
        self._leaders, self._files, self._turn = dict(leaders), files, Turn()
        self._padding = Padding(model)
        self._room = room_for([layer.width for layer in layers])
        self._marks = {weight: spool.mark(file) for weight, file in files.items()}
        self._batch, self._calls = 0, Counter[str]()

    @property
    def rows(self) -> dict[str, int]:
        """Positions that each file is the sum of, by weight."""
        return {weight: mark.rows for weight, mark in self._marks.items() if mark.rows}

    @torch.no_grad()
    def add(self, number: int, run: Run) -> None:
        """Add a batch to the sums; what a killed run has added of it already is left out.

        Args:
            number: Of the batch, from 0, each once and in order.
            run: Runs the model on it.

        Raises:
            StartOverError: A matrix is damaged, or layers do not share what they shared at first.
            OutputError: A matrix cannot be written.
            DataError: Activations are not finite.
        """
        self._batch, self._calls = number, Counter()
        with inputs_seen(self.model, self.layers, self._see), self._padding.followed():
            run(self.model)

    def _see(self, layer: LinearLayer, given: Tensor) -> None:
        leader = self._leaders.setdefault(layer.weight, layer.weight)
        if leader != layer.weight:
            if self._turn.leader(given) != leader:
                raise ApartError
            return
        self._turn.lead(layer, given)
        call, mark = self._calls[layer.weight], self._marks[layer.weight]
        self._calls[layer.weight] += 1
        if not mark.has(self._batch, call):
            rows_nw = self._padding.rows(given)
            self._add(layer, rows_nw, Mark(self._batch, call + 1, mark.rows + len(rows_nw)))

    def _add(self, layer: LinearLayer, rows_nw: Tensor, found: Mark) -> None:
        """Add XᵀX to the layer's file, on the device where X is."""
        gram, file = empty(layer.width, self._room), self._files[layer.weight]
        if self._marks[layer.weight].batch < 0:
            gram.zero_()
        elif not self.spool.read(file, gram):
            raise StartOverError
        there = gram.to(rows_nw.device)
        add_products(there, rows_nw)
        if not bool(there.diagonal().isfinite().all()):
            raise DataError(
                "activations are not finite, or their squares overflow float32",
                where=f"input of {layer.weight}",
                remedy="--compute-dtype float32, or leave that model out",
            )
        if there is not gram:
            gram.copy_(there)
        self.spool.write(file, layer.weight, gram, found)
        self._marks[layer.weight] = found
