"""Gram matrices layer by layer, each of what the merged layers before it make (RegMean++).

Nguyen et al. 2025, arXiv 2508.03121: a block of each model is given the activations of its own data
that come out of the merged blocks before; when the Gram matrices of all models are there, the block
is merged, and goes before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING

from torch import Tensor

from mergekit_geo.activations.examples import Examples
from mergekit_geo.activations.grams import Gathering, Grams, bytes_on_disk, cost
from mergekit_geo.activations.layers import linear_layers
from mergekit_geo.activations.spool import Spool
from mergekit_geo.activations.stages import Stage, run_until, stages_of
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.regmean import RegMean
from mergekit_geo.modules.blend import InPlace, in_place
from mergekit_geo.modules.open import open_live
from mergekit_geo.progress import Progress

if TYPE_CHECKING:
    from mergekit_geo.activations.examples import Run


@dataclass(frozen=True)
class StagedGrams:
    """Gram matrices of one model, made stage by stage.

    Attributes:
        stages: Those of each stage.
    """

    stages: tuple[Grams, ...]

    @cached_property
    def widths(self) -> Mapping[str, int]:
        """Number of input features of each layer that was called, by weight."""
        return {name: width for one in self.stages for name, width in one.widths.items()}

    @cached_property
    def by_column(self) -> frozenset[str]:
        """Weights that are stored (in, out), and not (out, in)."""
        return frozenset(chain.from_iterable(one.by_column for one in self.stages))

    def digests(self) -> list[str]:
        """SHA-256 of the matrices of each stage."""
        return [one.digest() for one in self.stages]

    def of(self, weight: str) -> Tensor:
        """XᵀX / n of a layer's inputs: (w, w) float32."""
        return next(one for one in self.stages if weight in one.widths).of(weight)


@dataclass(frozen=True)
class PrefixPass:
    """Merges a module block by block, and makes the Gram matrices of each on the way.

    Attributes:
        models: The checkpoints, under the same tensor names.
        rule: Merges a block, given its Gram matrices.
        examples: Of each model's data.
        spool_of: Where the matrices of a model and a stage go.
        compute: How the module is run.
        dtype: Of the output, to which every merged block is rounded before it goes on.
        progress: Told what is going on.
        left: Seconds that may be spent.
        warn: Told where they do not hold all batches.
    """

    models: tuple[Checkpoint, ...]
    rule: RegMean
    examples: Sequence[Examples]
    spool_of: Callable[[int, int], Spool]
    compute: Compute
    dtype: str | None
    progress: Progress
    left: Callable[[], float]
    warn: Callable[[str], None]

    def run(self) -> list[StagedGrams]:
        """The Gram matrices of every model; what an earlier run has made is taken up.

        Raises:
            UnsupportedError: The module has other tensors than are stored, or no linear layers.
        """
        live = self._opened()
        layers = linear_layers(live.model, self.models[0])
        stages = stages_of(live.model, layers, self.examples[0].first)
        self._tell(stages)
        found: list[list[Grams]] = []
        for number, stage in enumerate(stages):
            names = _names_in(live, stage)
            found.append(
                [
                    self._gathered(live, names, stage, number, position)
                    for position in range(len(self.models))
                ]
            )
            live.put(self._blend(self.rule.given(found[-1], ())), names)
        return [StagedGrams(tuple(grams)) for grams in zip(*found, strict=True)]

    def _tell(self, stages: Sequence[Stage]) -> None:
        widths = [layer.width for stage in stages for layer in stage.layers]
        where = self.spool_of(0, 0).folder.parent
        self.progress.say(
            f"Gram matrices of {len(widths)} linear layers of {len(self.models)} models, in "
            f"{len(stages)} steps: at most "
            f"{cost(len(self.models) * bytes_on_disk(widths), max(widths))}, in {where}"
        )

    def _opened(self) -> InPlace:
        """A module at the mean of the models."""
        mean = self._blend(self.rule.others)
        why = "every block is merged before the next one runs"
        live = in_place(open_live(mean, self.compute), why, self.models[0].name, "--method regmean")
        live.put(mean)
        return live

    def _gathered(
        self, live: InPlace, names: frozenset[str], stage: Stage, number: int, position: int
    ) -> Grams:
        """The Gram matrices of one model's own block, after the merged ones."""
        spool, examples = self.spool_of(position, number), self.examples[position]
        if (kept := Grams.kept(spool)) is not None:
            return kept
        alone = tuple(float(i == position) for i in range(len(self.models)))
        live.put(self._blend(Linear(alone)), names)
        return Gathering(
            live.model, stage.layers, [_until(stage, run) for run in examples.batches],
            examples.sizes, _until(stage, examples.first), spool, self.progress,
            f"{self.models[position].name}, {stage.block or 'the rest'}",
            told=True, left=lambda: self.left() / len(self.models), warn=self.warn,
        ).gathered()  # fmt: skip

    def _blend(self, rule: RegMean | Linear) -> Blend:
        return Blend(self.models, rule, self.dtype)


def _until(stage: Stage, run: Run) -> Run:
    return partial(_run_until, stage, run)


def _run_until(stage: Stage, run: Run, model: object) -> None:
    run_until(model, stage, run)  # type: ignore[arg-type]


def _names_in(live: InPlace, stage: Stage) -> frozenset[str]:
    """Stored names of all that a stage's block and its linear layers hold."""
    modules = [stage.block] if stage.block else []
    modules += [path for layer in stage.layers for path in layer.modules]
    starts = tuple(f"{path}." for path in modules)
    inside = (stored for stored, name in live.names.items() if name.startswith(starts))
    return frozenset({layer.weight for layer in stage.layers}.union(inside))
