"""Gram matrices of the inputs of a model's linear layers: made once, kept, and read one by one.

Shapes: w features.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergekit_geo.activations.collecting import ApartError, Collector, StartOverError, probed
from mergekit_geo.activations.layers import LinearLayer
from mergekit_geo.activations.products import mirrored
from mergekit_geo.activations.spool import HEADER, ITEM, Spool
from mergekit_geo.errors import ChangedError, DataError
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.progress import Progress, Silent, expect

if TYPE_CHECKING:
    from torch.nn import Module

    Run = Callable[[Module], object]

TIMED = 1
"""Number of the batch by which the time of all is told; the first is not typical."""

BESIDE = 1.5
"""Memory beside the forward pass, in Gram matrices of the widest layer: one, and what is added."""


def bytes_on_disk(widths: Sequence[int]) -> int:
    """What the files of matrices of so many features take."""
    return sum(HEADER + ITEM * width**2 for width in widths)


def cost(on_disk: int, widest: int) -> str:
    """Room on the disk and in memory, in words.

    Example:
        >>> cost(4_000_000_000, 5632)
        '4.00 GB on the disk, and 190.317 MB of memory beside the forward pass'
    """
    beside = in_gigabytes(int(BESIDE * ITEM * widest**2))
    return f"{in_gigabytes(on_disk)} on the disk, and {beside} of memory beside the forward pass"


@dataclass(frozen=True)
class Grams:
    """Gram matrices of one model, on the disk.

    Attributes:
        spool: Where they are.
        files: Name of the file of each layer that was called, by weight.
        widths: Number of its features.
        rows: How many positions it is the sum of.
        by_column: Weights that are stored (in, out), and not (out, in).
    """

    spool: Spool
    files: Mapping[str, str]
    widths: Mapping[str, int]
    rows: Mapping[str, int]
    by_column: frozenset[str] = frozenset()

    @classmethod
    def kept(cls, spool: Spool) -> Grams | None:
        """Gram matrices that an earlier run has finished; None where there are none."""
        state = spool.state()
        return cls._of(spool, state) if state and state["batches"] == state["of"] else None

    @classmethod
    def _of(cls, spool: Spool, state: Mapping[str, Any]) -> Grams:
        rows: Mapping[str, int] = state["rows"]
        leaders = {w: leader for w, leader in state["leaders"].items() if leader in rows}
        leaders |= {weight: weight for weight in rows if weight not in leaders}
        return cls(
            spool,
            {weight: state["files"][leader] for weight, leader in leaders.items()},
            {weight: state["widths"][weight] for weight in leaders},
            {weight: rows[leader] for weight, leader in leaders.items()},
            frozenset(state["by_column"]),
        )

    def digest(self) -> str:
        """SHA-256 of the matrices' checksums, by weight."""
        sums = [[weight, self.spool.checksum(file)] for weight, file in sorted(self.files.items())]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def of(self, weight: str) -> Tensor:
        """XᵀX / n of a layer's inputs: (w, w) float32.

        The mean over positions, so that a model counts no more for having more data.

        Raises:
            ChangedError: The file is gone, or not what was written.
        """
        gram = torch.empty(self.widths[weight], self.widths[weight])
        if not self.spool.read(self.files[weight], gram):
            raise ChangedError(
                "a Gram matrix was removed or changed while it was in use",
                where=f"tensor {weight}",
                remedy=f"remove {self.spool.folder}, and start again",
            )
        return mirrored(gram).div_(self.rows[weight])


@dataclass(frozen=True)
class Gathering:
    """A model, its layers, and the batches that go through them.

    Attributes:
        model: In evaluation mode.
        layers: Its linear layers.
        batches: Each runs the model on a batch, in the same order every time.
        sizes: Units of progress of each batch.
        first: Runs the model on as little as can be, before any input counts: losses try out on
            their first batch how a model is best run.
        spool: Where the matrices go.
        progress: Told of the memory that it takes, and of each batch.
        name: What the user calls the model.
        told: Whether somebody has told the memory and the room on the disk.
        left: Seconds that may be spent.
        warn: Told where they do not hold all batches.
    """

    model: Module
    layers: Sequence[LinearLayer]
    batches: Sequence[Run]
    sizes: Sequence[int]
    first: Run
    spool: Spool
    progress: Progress = field(default_factory=Silent)
    name: str = "the model"
    told: bool = False
    left: Callable[[], float] = lambda: inf
    warn: Callable[[str], None] = lambda text: None

    def gathered(self) -> Grams:
        """The Gram matrices; what an earlier run has finished of them is taken up.

        Raises:
            DataError: There is no data.
            OutputError: The disk does not hold them.
        """
        if not self.batches:
            raise DataError("no examples to make Gram matrices of", where=self.name)
        for apart in (False, True, True):
            try:
                return self._gathered(apart=apart)
            except ApartError:
                self.spool.clear()
            except StartOverError:
                self.progress.say(f"{self.spool.folder} is damaged in part: started over")
                self.spool.clear()
        raise AssertionError("sums that are started over twice are damaged as they are written")

    def _gathered(self, *, apart: bool) -> Grams:
        state, probe = self.spool.state(), probed(self.model, self.layers, self.first)
        if not state:
            leaders = {weight: weight for weight in probe} if apart else probe
            state = self._begun(leaders)
        self._tell(state["leaders"])
        collector = Collector(self.model, self.layers, state["leaders"], self.spool, state["files"])
        self._check(state, collector)
        done: int = state["batches"]
        self.progress.phase(f"Gram matrices of {self.name}", sum(self.sizes[: state["of"]]))
        self.progress.advance(sum(self.sizes[:done]))
        for number in range(done, len(self.batches)):
            if number >= state["of"]:
                break
            began = time.monotonic()
            collector.add(number, self.batches[number])
            if number == TIMED:
                state["of"] = self._held(number, time.monotonic() - began)
            state |= {"batches": number + 1, "rows": collector.rows}
            self.spool.note(state)
            self.progress.advance(self.sizes[number])
        return Grams._of(self.spool, state)

    def _held(self, number: int, seconds: float) -> int:
        """How many batches the time left holds, by what one of them took."""
        each, rest = seconds / self.sizes[number], self.sizes[number + 1 :]
        expect(self.progress, f"Gram matrices of {self.name}", each * sum(rest))
        held = sum(each * sum(rest[: i + 1]) <= self.left() for i in range(len(rest)))
        if held < len(rest):
            self.warn(
                f"the Gram matrices of {self.name} are made of {number + 1 + held} of "
                f"{len(self.batches)} batches to stay within the budget; --budget 0 takes all"
            )
        return number + 1 + held

    def _begun(self, leaders: Mapping[str, str]) -> dict[str, Any]:
        """What is noted of a pass before its first batch is done."""
        return {
            "batches": 0,
            "of": len(self.batches),
            "rows": {},
            "leaders": leaders,
            "files": {one.weight: f"{i:05}.safetensors" for i, one in enumerate(self.layers)},
            "widths": {one.weight: one.width for one in self.layers},
            "by_column": [one.weight for one in self.layers if one.by_column],
        }

    def _tell(self, leaders: Mapping[str, str]) -> None:
        """Say what it takes, and refuse what the disk does not hold."""
        own = [one.width for one in self.layers if leaders.get(one.weight) == one.weight]
        if not own:
            raise DataError("no linear layer was called on the data", where=self.name)
        self.spool.begin(bytes_on_disk(own) + ITEM * max(own) ** 2)
        if not self.told:
            self.progress.say(
                f"Gram matrices of {len(leaders)} linear layers of {self.name}: "
                f"{cost(bytes_on_disk(own), max(own))}, in {self.spool.folder}"
            )

    def _check(self, state: Mapping[str, Any], collector: Collector) -> None:
        """Refuse sums from which something that was finished is gone."""
        found = collector.rows
        if any(found.get(weight, 0) < rows for weight, rows in state["rows"].items()):
            raise StartOverError
