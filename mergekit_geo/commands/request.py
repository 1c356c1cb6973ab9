"""A merge as it was asked for, with the rule that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.data import source_of
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.spec import Writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mergekit_geo.checkpoints.reshape.result import Reshaped
    from mergekit_geo.config.data import Data
    from mergekit_geo.merging.stack import StackPlan


@dataclass(frozen=True)
class Request:
    """A merge as it was asked for.

    Attributes:
        asked: The command's options: those that make the same merge again.
        selector: The point that is merged, or how it is found.
        settings: The command's own settings, for the report.
        warnings: What the user should know of the settings.
        notes: What was done to make the models fit.
        fitting: How they were made to fit.
        files: Texts that go beside the weights, by name; they replace what the donor has.
        recipe: The merge as a recipe of its own says it; empty where the options and the point say
            it, None where nothing does.
        before: Recipes of models that it names, in the order in which they are made.
        stack: Which layers make the output, where it is another architecture: then it is no point
            between the models.
    """

    asked: Writing
    selector: Selector
    settings: dict[str, Any]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fitting: ReshapeConfig = ReshapeConfig()
    files: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = field(default_factory=dict)
    before: Sequence[Mapping[str, Any]] = ()
    stack: StackPlan | None = None

    def with_reshaped(self, found: Reshaped) -> Request:
        """Add what was said when the models were made to fit."""
        return replace(
            self,
            warnings=(*self.warnings, *found.warnings),
            notes=(*self.notes, *found.notes),
            fitting=found.config,
        )

    @property
    def train_data(self) -> Data:
        """What is trained on, and what BatchNorm statistics are estimated on, as a flag says it."""
        return source_of(self.asked.train_data).spoken

    @property
    def sharpness(self) -> str:
        """How much of it is measured: `off`, `quick` or `full`."""
        return self.asked.sharpness or "quick"

    def again(self, out: Path, names: Sequence[str], *, overwrite: bool) -> Writing:
        """The options that make the same merge of these models, on any machine.

        Args:
            out: The folder.
            names: Of the models, where the command names models.
            overwrite: Whether an earlier output is replaced.
        """
        asked = self.asked
        output = replace(asked.output.local, overwrite=overwrite, device="cpu")
        compute = replace(asked.compute, device=None)
        data = source_of(self.asked.data).spoken  # a function has no flag
        again = replace(
            asked.naming(names),
            output=output,
            compute=compute,
            data=data,
            train_data=self.train_data,
        )
        return replace(again, out=out)  # type: ignore[call-arg]
