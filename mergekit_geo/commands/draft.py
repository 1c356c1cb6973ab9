"""A merge under way, and the report that it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.origin import model_entries, model_entry
from mergekit_geo.checkpoints.sources import opening, pinned
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands.as_recipe import as_recipe
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.sweep_evidence import sweep_entry
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.config.model_data import for_all
from mergekit_geo.config.sets import EvalSets
from mergekit_geo.evaluation.plan import LossReport, SharpnessReport
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import summarize
from mergekit_geo.merging.stack import Stack
from mergekit_geo.merging.weighed import Weighed
from mergekit_geo.records.merge import MergeCoefficients, MergeMeasurements
from mergekit_geo.records.model import ModelEntry, differing_licenses
from mergekit_geo.records.report import NotMeasured
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.selector import Selected
from mergekit_geo.specs.measures import BarrierSpec, SharpnessSpec
from mergekit_geo.specs.spec import Spec, command_line

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.merging.tensor import TensorRecord

CHOOSERS = ("soup", "run")
"""Commands that can choose a point by loss."""


STACKED = (
    "layers were left out, repeated or moved: the output is of another architecture than its "
    "parents, and no way leads from one to the other"
)
"""Why parents and output are not compared in weight space."""

UNLIKE = (
    "the output is of another architecture than its parents, and sharpness compares like models"
)

LAYERS = "layers"
"""Folder in which weights by layer are proposed."""

SHOWN = 5
"""Most tensors that a warning names; the others are counted."""


@dataclass(frozen=True)
class Evidence:
    """What a merge was measured by.

    Attributes:
        losses: Of parents and output, and the barriers between the parents.
        sharpness: Of parents and output.
    """

    losses: LossReport
    sharpness: SharpnessReport

    @classmethod
    def missing(cls, reason: str) -> Evidence:
        """No evidence, and why."""
        return cls(LossReport(reason=reason), SharpnessReport(reason=reason))


@dataclass
class Draft:
    """A merge under way.

    Attributes:
        request: What was asked for.
        study: The models, and what will be measured.
        blend: What is merged: the models, and the bends of a path between them.
        warnings: What the user should know so far.
        notes: Ordinary differences, and what was done about them.
        selection: The point, and what it was found on.
        evaluator: Where that was measured, if it was.
        left_out: Files of the donor that the output does not have.
        stack: What the blend is of, where layers are left out, repeated or moved.
    """

    request: Request
    study: Study
    blend: Blend
    warnings: list[str]
    notes: list[str]
    selection: Selected
    evaluator: PointEvaluator | None = None
    left_out: list[str] = field(default_factory=list)
    stack: Stack | None = None

    @property
    def parents(self) -> tuple[Checkpoint, ...]:
        """The models."""
        return self.study.anchors

    def measure(self, output: Path | tuple[Config, dict[str, Tensor]]) -> Evidence:
        """Losses and sharpness of the parents and of the output, or why there are none."""
        study, request = self.study, self.request
        if study.plan.objective is None:
            return Evidence.missing(study.plan.reason)
        # what needs torch is loaded here, and not where nothing is measured
        from mergekit_geo.commands.evidence import (
            loss_evidence,
            sharpness_evidence,
            stack_evidence,
        )
        from mergekit_geo.commands.merged import MergedState
        from mergekit_geo.modules.beside import merged_beside

        place = (
            output if isinstance(output, Path) else MergedState(*output, merged_beside(self.blend))
        )

        if self.stack is not None:
            with study.clock.running():
                losses = stack_evidence(study, place, self.blend.donor)
            return Evidence(losses, SharpnessReport(reason=UNLIKE))
        wanted = request.selector.config.control if request.asked.command in CHOOSERS else False
        with study.clock.running():
            losses = loss_evidence(study, place, self.selection, self.evaluator, wanted)
            self.evaluator = None  # the module that was measured makes room
            sharpness = sharpness_evidence(study, study.anchors, place, request.sharpness)
        return Evidence(losses, sharpness)

    def findings(
        self, records: dict[str, TensorRecord], found: Evidence, out: Path | None
    ) -> Findings:
        """What the report says of it."""
        losses, sharpness = found.losses, found.sharpness
        bends = () if self.stack else self.blend.anchors[len(self.parents) :]
        entries = [
            *model_entries(self.parents),
            *(model_entry(bend, "bend") for bend in bends),
        ]
        return Findings(
            self._with_layers(
                _measurements(self.selection, records, found, entries, self.as_recipe())
            ),
            entries,
            (losses.device, losses.dtype, losses.attention),
            {**self.request.settings, "alignment": self.notes},
            losses.data,
            warnings=[
                *self.warnings,
                *losses.warnings,
                *sharpness.warnings,
                *nonfinite_warnings(self.blend, records),
                *differing_licenses(entries),
            ],
            not_measured=self.not_measured(found, out),
            left_out=self.left_out,
            again=self.recipe(out),
        )

    def _with_layers(self, found: MergeMeasurements) -> MergeMeasurements:
        """Of a stack: where its layers are from; it is no point that weights tell."""
        if self.stack is None:
            return found
        entries = self.stack.entries([parent.name for parent in self.parents])
        told = found.coefficients.model_copy(update={"method": self.blend.rule.name, "weights": []})
        more = {"coefficients": told, "layers": entries, "unmerged": None}
        return found.model_copy(update=more)

    def command_line(self, out: Path) -> str:
        """The command that makes the same merge again, and measures it."""
        names = [opening(anchor) for anchor in self.parents]
        asked = self.request.again(out, names, overwrite=True)
        return command_line(replace(asked, data=asked.data or EvalData(), compute=Compute()))

    def recipe(self, out: Path | None) -> str:
        """The command that makes this merge of these commits again; empty where none can."""
        if out is None or not all(anchor.is_stored for anchor in self.parents):
            return ""
        names = [pinned(anchor) for anchor in self.parents]
        return command_line(self.request.again(out, names, overwrite=False))

    def as_recipe(self) -> dict[str, Any] | list[dict[str, Any]] | None:
        """The merge as a recipe; None where none says it."""
        if not all(anchor.is_stored for anchor in self.parents):
            return None
        names, rule = [pinned(anchor) for anchor in self.parents], self.selection.point.rule
        return as_recipe(self.request, names, rule.name, rule.weights)

    def not_measured(self, found: Evidence, out: Path | None) -> list[NotMeasured]:
        """Entries on what was not measured, each with the command that measures it."""
        losses, missing = found.losses, []
        if losses.reason and not losses.sets:
            can = out and self.blend.donor.folder and not losses.fails
            again = self.command_line(out) if out and can else ""
            missing.append(
                NotMeasured(what="losses", why=losses.reason, command=again, failed=losses.fails)
            )
        missing += missing_on_sets(losses)
        missing += self._no_barriers(losses)
        if losses.by_layer or losses.no_layers:
            missing.append(self._no_layers(losses))
        if losses.no_control and self.request.asked.command in CHOOSERS:
            missing.append(self._no_control(losses, out))
        if found.sharpness.reason:
            missing.append(self._no_sharpness(found.sharpness, out))
        return missing

    def _no_layers(self, losses: LossReport) -> NotMeasured:
        """What `barrier --by-layer` would tell: all of it, or weights that it would propose."""
        what, why = "by_layer", losses.no_layers
        if losses.by_layer:
            what, why = "weights by layer", "they are proposed by a measurement of their own"
        names = [opening(anchor) for anchor in self.parents]
        asked = BarrierSpec(
            names, LAYERS, data=self._data, by_layer=True, reshape=self.request.fitting
        )
        can = self.blend.donor.folder and not self._is_refitted
        return NotMeasured(what=what, why=why, command=self._further(asked) if can else "")

    def _no_control(self, losses: LossReport, out: Path | None) -> NotMeasured:
        if self.request.asked.command == "run":
            why = f"{losses.no_control}; `control: true` under along in the recipe trains them"
            return NotMeasured(what="control", why=why, command="")
        command = f"{self.command_line(out)} --control" if out else ""
        return NotMeasured(what="control", why=losses.no_control, command=command)

    def _no_sharpness(self, sharpness: SharpnessReport, out: Path | None) -> NotMeasured:
        command = ""
        if out and self.blend.donor.folder:
            known = () if self._is_refitted else self.parents
            names = [*(opening(anchor) for anchor in known), str(out)]
            asked = SharpnessSpec(names, data=self._data, compute=Compute(budget=0))
            command = self._further(asked)
        return NotMeasured(
            what="sharpness", why=sharpness.reason, command=command, failed=sharpness.fails
        )

    @property
    def _is_refitted(self) -> bool:
        """Whether parents as they are do not fit one another, or the output."""
        return self.stack is not None or any(model.reshaped for model in self.study.models)

    def _further(self, asked: Spec) -> str:
        """The command of a further measurement; empty where no flag says on what data."""
        source = source_of(self.request.asked.data)
        said = source.said if isinstance(source, EvalSets) else source.spoken
        is_told = source.is_default or (isinstance(said, EvalData) and bool(said.source))
        return command_line(asked) if is_told or source.is_nothing else ""

    @property
    def _data(self) -> EvalData | EvalSets:
        """What a further command would measure on."""
        found = source_of(self.request.asked.data).spoken
        held_out = found if isinstance(found, EvalData | EvalSets) else EvalData()
        return held_out.replaced(show_example=False)

    def _no_barriers(self, losses: LossReport) -> list[NotMeasured]:
        if self.stack is not None:
            return [NotMeasured(what="barriers", why=STACKED, command="")]
        if len(self.parents) == 1:
            return []
        if not losses.sets:
            return [] if losses.barriers else [self._no_barrier(losses)]
        without = [n for n, one in losses.sets.items() if not one.barriers and not one.reason]
        return [self._no_barrier(losses, f" on {name}") for name in without]

    def _no_barrier(self, losses: LossReport, on: str = "") -> NotMeasured:
        few = "more than four parents, or too few documents for two halves"
        why = few if on else losses.reason or few
        names = [opening(anchor) for anchor in self.parents]
        fitting = self.request.fitting
        training = for_all(self.request.train_data).as_settings
        asked = BarrierSpec(names, data=self._data, train_data=training, reshape=fitting)
        # no flag says how slices, or single tokens, make them fit
        lost = self._is_refitted and (fitting.is_nothing or bool(fitting.tokens))
        can = self.blend.donor.folder and not losses.fails and not lost
        command = self._further(asked) if can else ""
        return NotMeasured(what=f"barriers{on}", why=why, command=command)


def missing_on_sets(losses: LossReport) -> list[NotMeasured]:
    """Entries on sets that nothing was measured on, of several."""
    return [
        NotMeasured(what=f"losses on {name}", why=one.reason, command="", failed=True)
        for name, one in losses.sets.items()
        if one.reason
    ]


def _measurements(
    selection: Selected,
    records: dict[str, TensorRecord],
    found: Evidence,
    models: Sequence[ModelEntry],
    recipe: dict[str, Any] | list[dict[str, Any]] | None,
) -> MergeMeasurements:
    losses, alone = found.losses, _alone(records.values())
    return MergeMeasurements(
        coefficients=MergeCoefficients(
            method=selection.point.rule.name,
            weights=list(selection.point.rule.weights),
            branches=dict(Counter(record.branch for record in records.values())),
            kept=_kept(records),
            error=max((r.error for r in records.values() if r.error is not None), default=None),
            recipe=recipe,
        ),
        losses=losses.losses,
        differences=losses.differences,
        barriers=losses.barriers,
        sharpness=found.sharpness.entries,
        geometry=summarize({n: r.gram for n, r in records.items() if r.gram is not None}),
        selection=selection.entry,
        unmerged=None if alone is None else models[alone].name,
        tokenization=losses.tokenization,
        influence=losses.influence,
        sets=losses.sets,
        across=losses.across,
        by_layer=losses.by_layer,
        examples=losses.examples,
        sweep=sweep_entry(selection, losses),
        statistics=_statistics(selection, records),
        entropy=selection.entropy,
    )


def _statistics(selection: Selected, records: dict[str, TensorRecord]) -> list[StatisticEntry]:
    """What was computed of the models, with what each is in the merge where elements differ."""
    rule = selection.point.rule
    if not isinstance(rule, Weighed):
        return list(selection.statistics)
    found = [(r.coefficients, r.gram.count) for r in records.values()
             if r.branch == rule.name and r.gram]  # fmt: skip
    total = sum(count for _, count in found)
    means = [
        sum(shares[i] * count for shares, count in found) / total if total else None
        for i in range(len(selection.statistics))
    ]
    return [
        entry.model_copy(update={"share": share})
        for entry, share in zip(selection.statistics, means, strict=True)
    ]


def _alone(records: Iterable[TensorRecord]) -> int | None:
    """Index of the model that every tensor is taken from as it is; None where there is none."""
    merged = [record for record in records if record.coefficients or record.kept]
    found = {record.coefficients for record in merged}
    if len(found) != 1 or any(record.kept for record in merged):
        return None
    (shares,) = found
    is_whole = sorted(shares) == [0.0] * (len(shares) - 1) + [1.0]
    return shares.index(1.0) if is_whole else None


def _kept(records: dict[str, TensorRecord]) -> list[float | None]:
    """The share of each task vector that was kept."""
    masked = [(r.kept, r.gram.count) for r in records.values() if r.kept and r.gram]
    total = sum(count for _, count in masked)
    if not total:
        return []
    return [None, *(sum(kept) / total for kept in zip(*(kept for kept, _ in masked), strict=True))]


def nonfinite_warnings(blend: Blend, records: Mapping[str, TensorRecord]) -> list[str]:
    """A line for each model that holds some, and one for those that the merge has made."""
    found = []
    for i, anchor in enumerate(blend.anchors):
        held = {name: r.nonfinite[i] for name, r in records.items() if r.nonfinite}
        found.append(_line(held, f"of {anchor.name} are NaN or infinite"))
    made = {name: record.lost for name, record in records.items()}
    text = "are finite in every model, and NaN or infinite in the output"
    return [line for line in (*found, _line(made, text)) if line]


def _line(counts: Mapping[str, int], text: str) -> str:
    """One tensor and its count, or the sum and the first few.

    >>> _line({"w": 2, "b": 0}, "are odd"), _line({"w": 2, "b": 1}, "are odd")
    ('w: 2 elements are odd', '3 elements are odd, in 2 tensors: w (2), b (1)')
    """
    some = {name: count for name, count in counts.items() if count}
    if len(some) <= 1:
        return "".join(f"{name}: {count} elements {text}" for name, count in some.items())
    named = ", ".join(f"{name} ({count})" for name, count in [*some.items()][:SHOWN])
    rest = f", and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{sum(some.values())} elements {text}, in {len(some)} tensors: {named}{rest}"
