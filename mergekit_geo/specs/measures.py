"""Commands that measure models, or what lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mergekit_geo.config.measures import SHARPNESS_LEVELS, LandscapeConfig, SharpnessRadii
from mergekit_geo.config.option import group, option
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.specs.spec import Reporting, Spec, models, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

REPORT = "Folder for report and pictures."
LINEAR = ("linear",)


@dataclass(frozen=True)
class CheckSpec(Spec):
    """Whether models can be merged."""

    command: ClassVar[str] = "check"
    work: ClassVar[str] = "mergekit_geo.commands.check:check"

    unmet_code: ClassVar[int] = 1
    examples: ClassVar[tuple[str, ...]] = ("geo-merge check a b c",)

    models: Sequence[Model] = models()

    def unmet(self, result: Any) -> str:
        """Non-empty where the models cannot be merged."""
        return "" if result.compatible else "compatibility"


@dataclass(frozen=True)
class BarrierSpec(Reporting):
    """The loss on the way between models."""

    command: ClassVar[str] = "barrier"
    work: ClassVar[str] = "mergekit_geo.commands.barrier:barrier"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge barrier a b c --data held-out.jsonl -o report",
        "geo-merge barrier a b --along linear --along slerp --fail-above 0.05",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "along",
        "points",
        "fail_above",
        "data",
    )

    models: Sequence[Model] = models()
    out: str | Path | None = out(REPORT)
    _: KW_ONLY
    along: Sequence[str] = option(
        LINEAR,
        "linear, slerp, a fitted path's DIR, or, with --train-data, bezier, polygon or neb; may be "
        "given again.",
    )
    points: int = option(11, "Even points before the maximum is sought.")
    fail_above: float | None = option(
        None, "Exit 3 if a barrier is significantly higher than this.", recorded=False
    )

    def unmet(self, result: Any) -> str:
        """`--fail-above`, where some barrier is higher."""
        holds = self.fail_above is None or not result.exceeds(self.fail_above)
        return "" if holds else f"--fail-above {self.fail_above}"


@dataclass(frozen=True)
class PathSpec(Reporting):
    """A curve of low loss between two models."""

    command: ClassVar[str] = "path"
    work: ClassVar[str] = "mergekit_geo.commands.path:fit_path"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge path a b --train-data train.jsonl --data held-out.jsonl -o path",
        "geo-merge path a b --train-data train.jsonl --kind polygon --bends 3 -o path",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "train_data",
        "data",
        "kind",
        "bends",
        "steps",
    )

    models: Sequence[Model] = models()
    out: str | Path | None = out("Folder to write.", required=True)
    _: KW_ONLY
    fitting: CurveFitConfig = group(CurveFitConfig, inline=True)
    seed: int = option(0, "Of the first fit.", "--seed", shared=True, least=0)


@dataclass(frozen=True)
class SharpnessSpec(Reporting):
    """How curved the loss is where models stand."""

    command: ClassVar[str] = "sharpness"
    work: ClassVar[str] = "mergekit_geo.commands.sharpness:sharpness"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge sharpness a b --data held-out.jsonl -o report",
        "geo-merge sharpness a --level full",
    )
    essential: ClassVar[tuple[str, ...]] = ("models", "out", "level", "data")

    models: Model | Sequence[Model] = models()
    out: str | Path | None = out(REPORT)
    _: KW_ONLY
    level: str = option(
        "quick", "full adds trace, spectrum, λ_min and ascents.", choices=SHARPNESS_LEVELS
    )
    radii: SharpnessRadii = group(SharpnessRadii)


@dataclass(frozen=True)
class LandscapeSpec(Reporting):
    """The loss on a plane."""

    command: ClassVar[str] = "landscape"
    work: ClassVar[str] = "mergekit_geo.commands.landscape:landscape"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge landscape a b c --mark out --data held-out.jsonl -o report",
        "geo-merge landscape a --hessian-directions -o report",
    )
    essential: ClassVar[tuple[str, ...]] = ("models", "out", "mark", "grid", "data")

    models: Model | Sequence[Model] = models()
    out: str | Path | None = out(REPORT)
    _: KW_ONLY
    mark: Sequence[Model] = option(
        (), "A further model to mark, such as an output; may be given again.", recorded=False
    )
    view: LandscapeConfig = group(LandscapeConfig)
    colours: tuple[float, float] | None = option(
        None, "Ends of the colour scale, the same for several pictures.", "--range", recorded=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours is not None:
            low, high = self.colours
            object.__setattr__(self, "view", replace(self.view, low=low, high=high))
