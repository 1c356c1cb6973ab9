"""A merge under way, and the report that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.origin import model_entries, model_entry
from mergekit_geo.checkpoints.sources import pinned
from mergekit_geo.commands._run import Findings
from mergekit_geo.commands.as_recipe import as_recipe
from mergekit_geo.commands.measurements import measurements, nonfinite_warnings
from mergekit_geo.commands.not_measured import CHOOSERS, Further
from mergekit_geo.commands.request import Request
from mergekit_geo.evaluation.plan import Evidence, SharpnessReport
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.stack import Stack
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import differing_licenses
from mergekit_geo.selection.selector import Selected
from mergekit_geo.specs.spec import command_line

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.merging.tensor_record import TensorRecord

UNLIKE = (
    "the output is of another architecture than its parents, and sharpness compares like models"
)


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
        from mergekit_geo.commands import evidence
        from mergekit_geo.commands.merged import MergedState
        from mergekit_geo.modules.beside import merged_beside

        place = (
            output if isinstance(output, Path) else MergedState(*output, merged_beside(self.blend))
        )
        if self.stack is not None:
            with study.clock.running():
                losses = evidence.stack_evidence(study, place, self.blend.donor)
            return Evidence(losses, SharpnessReport(reason=UNLIKE))
        wanted = request.selector.config.control if request.asked.command in CHOOSERS else False
        with study.clock.running():
            losses = evidence.loss_evidence(study, place, self.selection, self.evaluator, wanted)
            self.evaluator = None  # the module that was measured makes room
            sharpness = evidence.sharpness_evidence(study, study.anchors, place, request.sharpness)
        return Evidence(losses, sharpness)

    def findings(
        self, records: dict[str, TensorRecord], found: Evidence, out: Path | None
    ) -> Findings:
        """What the report says of it."""
        losses, sharpness = found.losses, found.sharpness
        bends = () if self.stack else self.blend.anchors[len(self.parents) :]
        entries = [*model_entries(self.parents), *(model_entry(bend, "bend") for bend in bends)]
        return Findings(
            self._with_layers(
                measurements(self.selection, records, found, entries, self.as_recipe())
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
            not_measured=self._further(out).not_measured(found),
            left_out=self.left_out,
            again=self.recipe(out),
        )

    def _further(self, out: Path | None) -> Further:
        is_refitted = self.stack is not None or any(one.reshaped for one in self.study.models)
        donor, is_stack = self.blend.donor, self.stack is not None
        can_run = donor.folder is not None and bool(donor.config.get("architectures"))
        return Further(self.request, self.parents, can_run, is_refitted, is_stack, out)

    def _with_layers(self, found: MergeMeasurements) -> MergeMeasurements:
        """Where a stack's layers are from; it is no point that weights tell."""
        if self.stack is None:
            return found
        entries = self.stack.entries([parent.name for parent in self.parents])
        told = found.coefficients.model_copy(update={"method": self.blend.rule.name, "weights": []})
        more = {"coefficients": told, "layers": entries, "unmerged": None}
        return found.model_copy(update=more)

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
