"""A merge by any method of the table; its options are the methods' parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import sets_of
from mergekit_geo.config.option import group, like, option
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.merging.method_help import defaults, listing, option_help, options
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.merging.parameter import Parameter
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.spec import TrainedByModel, models, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

PANEL = "Method parameters"
FORMULAS = "Methods (models a_i, base b, v_i = a_i - b, weights w_i)"


def _metavar(parameter: Parameter) -> str:
    return "" if parameter.is_switch else "FLOAT,..." if parameter.each else "FLOAT"


def _field(parameter: Parameter) -> tuple[str, str, Any]:
    """A parameter as a field: None where it is not given."""
    kind = "bool | None" if parameter.is_switch else "Sequence[float] | None"
    return (
        parameter.keyword,
        kind,
        option(
            None,
            option_help(parameter),
            parameter.flag,
            panel=PANEL,
            metavar=_metavar(parameter),
            unset=defaults(parameter),
        ),
    )


MethodParameters = make_dataclass(
    "MethodParameters", [_field(each) for each in options().values()], frozen=True
)
"""What methods take, by keyword; None where it is not given."""


@dataclass(frozen=True)
class MergeSpec(TrainedByModel):
    """A merge by one method of the table."""

    command: ClassVar[str] = "merge"
    work: ClassVar[str] = "mergekit_geo.commands.merge:merge"
    keywords: ClassVar[str] = "parameters"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge merge a b --method ties --base base --density .5 -o out",
        "geo-merge merge base a --method wise-ft --sweep 11 -o out --data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "method",
        "base",
        "weights",
        "density",
        "t",
        "data",
    )

    models: Sequence[Model] = models()
    out: str | Path | None = out("Output folder.")
    _: KW_ONLY
    method: str = option(
        "linear",
        "Merge method.",
        choices=tuple(name for name, each in METHODS.items() if not each.by_loss),
    )
    base: Model | None = option(
        None, "Base model, which task vectors start from; it may be among the models.",
        metavar="MODEL", unset="none",
    )  # fmt: skip
    sweep: int | None = like(SelectionConfig, "sweep", panel=PANEL, unset="the point at --t")
    layer_weights: str | Path | None = like(SoupSpec, "layer_weights", panel=PANEL)
    parameters: Any = group(MethodParameters, inline=True)
    aiming: AimConfig = group(AimConfig, inline=True)

    if TYPE_CHECKING:

        def __init__(
            self, models: Sequence[Model], out: str | Path | None = None, *, method: str = "linear",
            base: Model | None = None, sweep: int | None = None,
            layer_weights: str | Path | None = None, **settings: Any,
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            self.aiming.require_known([one.name for one in sets_of(self.data)])

    @classmethod
    def called(cls, *args: Any, **kwargs: Any) -> Self:
        """The options of a call, in which parameters of the method are keywords like all others."""
        own = {one.name for one in fields(MethodParameters)}
        given = {name: value for name, value in kwargs.items() if name in own}
        others = {name: value for name, value in kwargs.items() if name not in own}
        return cls(*args, **others, parameters=MethodParameters(**given))

    @classmethod
    def topics(cls) -> dict[str, list[tuple[str, str]]]:
        """Every method with its formula and source."""
        return {
            FORMULAS: [
                (name, f"{formula} ({source})" if source else formula)
                for name, formula, source, _ in listing()
                if not METHODS[name].by_loss
            ]
        }

    def naming(self, names: Sequence[str]) -> Self:
        """Replace the models by these names, the base first where there is one."""
        if self.base is None:
            return replace(self, models=tuple(names))
        return replace(self, base=names[0], models=tuple(names[1:]))

    def settings(self) -> dict[str, Any]:
        """The options as the report has them: of parameters those that were given."""
        own = {one.name for one in fields(MethodParameters)}
        others = {name: value for name, value in super().settings().items() if name not in own}
        return {**others, **self.given_parameters}

    @property
    def given_parameters(self) -> dict[str, Any]:
        """Parameters that were given, by keyword."""
        found = {one.name: getattr(self.parameters, one.name) for one in fields(MethodParameters)}
        return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """A number alone, where there is one: it holds for all models."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
