"""What a merge's report lacks, each with the command that measures it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import opening
from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.config.model_data import for_all
from mergekit_geo.config.sets import DataSource
from mergekit_geo.evaluation.plan import Evidence, LossReport, SharpnessReport
from mergekit_geo.records.report import NotMeasured
from mergekit_geo.specs.measures import BarrierSpec, SharpnessSpec
from mergekit_geo.specs.spec import Spec, command_line

CHOOSERS = ("soup", "run")
"""Commands that can choose a point by loss."""

STACKED = (
    "layers were left out, repeated or moved: the output is of another architecture than its "
    "parents, and no way leads from one to the other"
)
"""Why parents and output are not compared in weight space."""

LAYERS = "layers"
"""Folder in which weights by layer are proposed."""


@dataclass(frozen=True)
class Further:
    """Tells what was not measured of a merge, and how it can be.

    Attributes:
        request: What was asked for.
        parents: The models.
        can_run: Whether the donor is in a folder, where later commands find it, and names a class.
        is_refitted: Whether parents as they are do not fit one another, or the output.
        is_stack: Whether layers were left out, repeated or moved.
        out: Where the output is; None in memory.
    """

    request: Request
    parents: tuple[Checkpoint, ...]
    can_run: bool
    is_refitted: bool
    is_stack: bool
    out: Path | None

    def not_measured(self, found: Evidence) -> list[NotMeasured]:
        """Entries on what was not measured.

        Args:
            found: What was.
        """
        losses, missing = found.losses, []
        if losses.reason and not losses.sets:
            again = self._again() if self.can_run and not losses.fails else ""
            missing.append(unmeasured("losses", losses, again))
        missing += missing_on_sets(losses)
        missing += self._barriers(losses)
        if losses.by_layer or losses.no_layers:
            missing.append(self._layers(losses))
        if losses.no_control and self.request.asked.command in CHOOSERS:
            missing.append(self._control(losses.no_control))
        if found.sharpness.reason:
            missing.append(unmeasured("sharpness", found.sharpness, self._sharpness()))
        return missing

    def _again(self) -> str:
        """The command that makes the same merge again, and measures it; empty in memory."""
        if self.out is None:
            return ""
        asked = self.request.again(self.out, self._names, overwrite=True)
        return command_line(replace(asked, data=asked.data or EvalData(), compute=Compute()))

    def _layers(self, losses: LossReport) -> NotMeasured:
        """What `barrier --by-layer` would tell: all of it, or weights that it would propose."""
        what, why = "by_layer", losses.no_layers
        if losses.by_layer:
            what, why = "weights by layer", "they are proposed by a measurement of their own"
        fitting = self.request.fitting
        asked = BarrierSpec(self._names, LAYERS, data=self._data, by_layer=True, reshape=fitting)
        can = self.can_run and not self.is_refitted
        return NotMeasured(what=what, why=why, command=self._command(asked) if can else "")

    def _control(self, why: str) -> NotMeasured:
        if self.request.asked.command == "run":
            why = f"{why}; `control: true` under along in the recipe trains them"
            return NotMeasured(what="control", why=why)
        again = self._again()
        return NotMeasured(what="control", why=why, command=again and f"{again} --control")

    def _sharpness(self) -> str:
        if self.out is None or not self.can_run:
            return ""
        names = [*([] if self.is_refitted else self._names), str(self.out)]
        return self._command(SharpnessSpec(names, data=self._data, compute=Compute(budget=0)))

    def _barriers(self, losses: LossReport) -> list[NotMeasured]:
        if self.is_stack:
            return [NotMeasured(what="barriers", why=STACKED)]
        if len(self.parents) == 1:
            return []
        if not losses.sets:
            return [] if losses.barriers else [self._barrier(losses)]
        without = [n for n, one in losses.sets.items() if not one.barriers and not one.reason]
        return [self._barrier(losses, f" on {name}") for name in without]

    def _barrier(self, losses: LossReport, on: str = "") -> NotMeasured:
        few = "more than four parents, or too few documents for two halves"
        why = few if on else losses.reason or few
        fitting = self.request.fitting
        training = for_all(self.request.train_data).as_settings
        asked = BarrierSpec(self._names, data=self._data, train_data=training, reshape=fitting)
        # no flag says how slices, or single tokens, make them fit
        lost = self.is_refitted and (fitting.is_nothing or bool(fitting.tokens))
        can = self.can_run and not losses.fails and not lost
        return NotMeasured(
            what=f"barriers{on}", why=why, command=self._command(asked) if can else ""
        )

    @property
    def _names(self) -> list[str]:
        """The models, as a command line opens them."""
        return [opening(parent) for parent in self.parents]

    @property
    def _data(self) -> DataSource:
        """What a further command would measure on."""
        said = source_of(self.request.asked.data).spoken or EvalData()
        return said.replaced(show_example=False)

    def _command(self, asked: Spec) -> str:
        """The command of a further measurement; empty where no flag says on what data."""
        source = source_of(self.request.asked.data)
        is_told = source.is_default or source.is_nothing or source.spoken is not None
        return command_line(asked) if is_told else ""


def unmeasured(what: str, part: LossReport | SharpnessReport, command: str) -> NotMeasured:
    """An entry on what was planned and not measured.

    Args:
        what: Its key.
        part: Says why.
        command: Measures it.
    """
    return NotMeasured(what=what, why=part.reason, command=command, failed=part.fails)


def missing_on_sets(losses: LossReport) -> list[NotMeasured]:
    """Entries on sets that nothing was measured on, of several."""
    return [
        NotMeasured(what=f"losses on {name}", why=one.reason, failed=True)
        for name, one in losses.sets.items()
        if one.reason
    ]
