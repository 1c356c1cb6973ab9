"""What an output is measured by on one evaluation set, beside what it was made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.as_they_are import AsTheyAre, OneModule, on_common_documents
from mergekit_geo.evaluation.block_influence import block_influence
from mergekit_geo.evaluation.changed_examples import changed_examples
from mergekit_geo.evaluation.evaluator import Evaluator
from mergekit_geo.evaluation.example_rows import Described
from mergekit_geo.evaluation.losses import OUTPUT, NamedLosses, report_losses
from mergekit_geo.evaluation.model_losses import OutputLosses
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.over_sets import SetReport, beside_best
from mergekit_geo.evaluation.plan import LossReport, failure
from mergekit_geo.evaluation.study import Study
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.records.sweep import SweepPoint
from mergekit_geo.tasks.losses import Indices, Losses


@dataclass
class SetEvidence:
    """What is measured on one evaluation set, as far as nothing fails there.

    Attributes:
        study: Of the set.
        evaluator: Measures modules on it.
        apart: Whether parents are measured in architectures of their own.
        layers: Whether layers are looked at.
        examples: Whether examples that changed are looked for.
        models: Losses of parents, references and, last, of the output.
        barriers: Between the parents.
        influence: Of the layers of parents.
        sweep: Losses at even places between two models.
        warnings: What was left out.
        rows: Examples that are reported; all if None.
        output: All losses of the output, for commands to come.
        failed: Why nothing is reported.
        found: What is reported.
    """

    study: Study
    evaluator: Evaluator
    apart: bool = False
    layers: bool = False
    examples: bool = False
    models: NamedLosses = field(default_factory=list)
    barriers: list[BarrierEntry] = field(default_factory=list)
    influence: list[InfluenceEntry] = field(default_factory=list)
    sweep: list[SweepPoint] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: Indices | None = None
    output: OutputLosses | None = None
    failed: LossReport | None = None
    found: SetReport | None = None
    _output: InfluenceEntry | None = None
    _as_they_are: dict[int, Losses] = field(default_factory=dict)

    def attempt(self, step: Callable[[SetEvidence], None]) -> None:
        """Take a step, if nothing has failed yet; a failure is noted."""
        if self.failed is None:
            try:
                step(self)
            except Exception as error:  # a model's and a tokenizer's own code raise anything
                self.failed = LossReport(**vars(failure(error, self.study.data)))

    def measure_output(self, module: Module) -> None:
        """Measure the output, and keep of all losses those that are reported."""
        objective = self.evaluator.objective
        losses = self.evaluator.measure_any(OUTPUT, module)
        self.output = OutputLosses(self.study, self.evaluator.count, losses)
        self.models.append((OUTPUT, "output", losses))
        if self.rows is not None:
            self.models = [(name, role, found.take(self.rows)) for name, role, found in self.models]
        if self.layers and isinstance(objective, TaskObjective):
            self._output = block_influence(module, objective, OUTPUT, self.study.seed)

    @cached_property
    def own(self) -> AsTheyAre:
        """Measures parents as they are, on the documents that the output was measured on."""
        instead = "is left out" if self.apart else "is measured by the output's tokenizer"
        return AsTheyAre(self.study, self.models[-1][2], instead)

    def measure_as_it_is(self, index: int, opened: OneModule) -> None:
        """Measure a parent by its own tokenizer, in place of what the output's says of it."""
        found = self.own.measure(original(self.study.anchors[index]), opened)
        if found is not None:
            self._as_they_are[index] = found[0]

    def measure_apart(self, parent: Checkpoint, opened: OneModule) -> None:
        """Measure a parent in its own architecture, and look at its layers."""
        found = self.own.measure(parent, opened, layers=self.layers)
        if found is not None:
            self.models.insert(-1, (parent.name, "parent", found[0]))
            self.influence += [] if found[1] is None else [found[1]]

    def report(self, place: tuple[str, str, str], no_control: str = "") -> None:
        """Say what was found.

        Args:
            place: Device, dtype and attention backend.
            no_control: Why the ends of a fitted path were not trained further.

        Raises:
            DataError: A loss is not a number.
        """
        models = require_finite(self._compared())
        found = report_losses(
            self.study,
            models,
            place,
            [*self.evaluator.warnings, *self.warnings, *self.own.warnings],
            measured=self.models[-1][2],
            half="" if self.rows is None else "report",
            barriers=self.barriers,
            no_control=no_control,
        )
        found = replace(
            found,
            tokenization=self.own.tokenization(),
            influence=[*self.influence, *([] if self._output is None else [self._output])],
            output=() if self.output is None else (self.output,),
            sweep={self.study.name: self.sweep} if self.sweep else {},
        )
        if self.examples:
            found = self._with_examples(found, models)
        assert found.data is not None
        self.found = SetReport(self.study, found, beside_best(self.study, models, found.data))

    def _with_examples(self, found: LossReport, models: NamedLosses) -> LossReport:
        """The report with the examples that changed; they are nothing that it could fail for."""
        study, objective = self.study, self.evaluator.objective
        sample = study.sample
        if sample is not None and isinstance(objective, TaskObjective):
            sample = replace(sample, objective=objective)
        numbers = None
        if models is self.models:
            numbers = np.arange(len(models[-1][2].loss)) if self.rows is None else self.rows
        try:
            described = Described(sample, private=study.private_examples)
            changed = changed_examples(study.name, models, described, numbers)
        except Exception as error:  # a tokenizer's own code raises anything
            told = f"examples that changed are not told: {failure(error, None).reason}"
            return replace(found, warnings=[*found.warnings, told])
        return replace(found, changed=() if changed is None else (changed,))

    @property
    def result(self) -> SetReport:
        """What was found, or why nothing was."""
        if self.failed is not None:
            return SetReport(self.study, self.failed)
        assert self.found is not None
        return self.found

    def _compared(self) -> NamedLosses:
        """Losses of the same examples; by document, where models cut texts into unlike examples."""
        if not self.apart and not self._as_they_are:
            return self.models
        found = [self._as_they_are.get(i, losses) for i, (_, _, losses) in enumerate(self.models)]
        shared = on_common_documents(found)
        return [(name, role, x) for (name, role, _), x in zip(self.models, shared, strict=True)]


def require_finite(models: NamedLosses) -> NamedLosses:
    """Return the losses, all of which are numbers.

    Raises:
        DataError: One is not.
    """
    for name, _, found in models:
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
    return models


def attempt_each(sets: Sequence[SetEvidence], step: Callable[[SetEvidence], None]) -> None:
    """Take a step on every set."""
    for one in sets:
        one.attempt(step)
