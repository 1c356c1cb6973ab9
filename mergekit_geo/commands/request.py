"""A merge as asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.choices import SHARPNESS
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.config import Fitting
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.selection.config import Choosing

if TYPE_CHECKING:
    from mergekit_geo.connectivity.paths import Route
    from mergekit_geo.evaluation.losses import Data


@dataclass(frozen=True)
class Request:
    """A merge as asked for.

    Attributes:
        command: `soup`, `slerp`, `point` or `run`.
        rule: The merge rule.
        settings: The command's own settings, for the record.
        flags: The same as flags of the command.
        output: How it is written.
        data: What loss is measured on; None measures none.
        train_data: What BatchNorm statistics are estimated on.
        choosing: How the point is chosen, where it is chosen by loss.
        compute: How models are run.
        route: The path that a point of is taken, where one is.
        fit_data: What paths are fitted on when they are needed.
        fitting: How they are fitted.
        fit_seed: Of the fits; that of the data if None.
        t: The point that is asked for, where one is.
        named: What the command names, where that is not the models.
        sharpness: `off`, `quick` or `full`.
        warnings: What the user should know of the settings.
        rules: By tensor, where one has a rule of its own.
        files: Texts that go beside the weights, by name; they replace what the donor has.
        tokenizer_of: Position of the model whose tokenizer the output has; if None, that of the
            first, or of an adapter on it that brings one.
    """

    command: str
    rule: Rule
    settings: dict[str, Any]
    flags: Sequence[str]
    output: OutputConfig
    data: Data
    compute: Compute
    sharpness: str = "quick"
    warnings: tuple[str, ...] = ()
    train_data: EvalData | None = None
    choosing: Choosing = Choosing()
    route: Route | None = None
    fit_data: Data = None
    fitting: Fitting = Fitting()
    fit_seed: int | None = None
    t: float | None = None
    named: tuple[str, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    tokenizer_of: int | None = None

    def __post_init__(self) -> None:
        if self.sharpness not in SHARPNESS:
            raise ArgumentError(
                f"sharpness {self.sharpness!r}: expected one of {', '.join(SHARPNESS)}"
            )
