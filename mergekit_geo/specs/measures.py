"""Commands that measure models, or what lies between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import sets_of
from mergekit_geo.config.fail_above import limits
from mergekit_geo.config.measures import (
    LAYER_BLOCKS,
    SHARPNESS_LEVELS,
    VIEW,
    LandscapeConfig,
    SharpnessRadii,
)
from mergekit_geo.config.option import Option, group, like, option
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.specs.spec import Reporting, Spec, checkpoints, models, needs_models, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.data import Data

REPORT = "Folder for the report and figures."
PRINTED = "the report is printed only"
LINEAR = ("linear",)


@dataclass(frozen=True)
class CheckSpec(Spec):
    """Whether models can be merged."""

    command: ClassVar[str] = "check"
    work: ClassVar[str] = "mergekit_geo.commands.check:check"

    unmet_code: ClassVar[int] = 1
    examples: ClassVar[tuple[str, ...]] = ("geo-merge check a b c",)

    models: Sequence[Model] = models()
    _: KW_ONLY
    reshape: ReshapeConfig = group(ReshapeConfig)

    def unmet(self, result: Any) -> str:
        """Non-empty where the models cannot be merged."""
        return "" if result.compatible else "compatibility"


@dataclass(frozen=True)
class EvalSpec(Reporting):
    """The loss of models on evaluation sets."""

    command: ClassVar[str] = "eval"
    work: ClassVar[str] = "mergekit_geo.commands.evaluate:evaluate"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge eval a b --data held-out.jsonl --per-example losses.jsonl",
        "geo-merge eval a b c --data code=code.jsonl --data chat=chat.jsonl -o report",
    )
    essential: ClassVar[tuple[str, ...]] = ("models", "out", "data", "per_example")

    models: Model | Sequence[Model] = models()
    out: str | Path | None = out(REPORT, unset=PRINTED)
    _: KW_ONLY
    per_example: str | Path | None = option(
        None, "File for the loss of every example under every model: .jsonl, or .parquet.",
        metavar="FILE", recorded=False, unset="not written",
    )  # fmt: skip
    private_examples: bool = like(OutputConfig, "private_examples", panel="")


@dataclass(frozen=True)
class BarrierSpec(Reporting):
    """The loss on paths between models."""

    command: ClassVar[str] = "barrier"
    work: ClassVar[str] = "mergekit_geo.commands.barrier:barrier"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge barrier a b c --data held-out.jsonl --fail-above 0.05 -o report",
        "geo-merge barrier a b --by-layer --data held-out.jsonl -o layers",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "checkpoints",
        "along",
        "points",
        "by_layer",
        "fail_above",
        "data",
    )

    models: Sequence[Model] = models((), unset="those of --checkpoints")
    out: str | Path | None = out(REPORT, unset=PRINTED)
    _: KW_ONLY
    checkpoints: Model | Sequence[Model] = checkpoints(
        "Checkpoints of a training: the paths from each to the next one and to the last one, and "
        "from when on no barrier is on them."
    )
    along: Sequence[str] = option(
        LINEAR,
        "Path between two models: linear, slerp, the DIR of a fitted path or, with --train-data, "
        "a path to fit: bezier, polygon or neb. Can be given several times.",
        metavar="PATH",
    )
    points: int = option(
        11, "Evenly spaced points of each path; more are added around the maximum."
    )
    by_layer: bool = option(
        False,
        "Measure which layers and kinds of module carry the rise from the better of two models to "
        "the mean of both, and propose weights by layer (see soup --layer-weights).",
    )
    layer_blocks: int = option(
        LAYER_BLOCKS, "Most blocks of consecutive layers that --by-layer tells apart.", least=1
    )
    aiming: AimConfig = group(AimConfig, inline=True)
    fail_above: float | Sequence[str] | None = option(
        None, "Exit with code 3 if a barrier is significantly higher than this, in units of the "
        "loss. Can be given for each of several sets.", metavar="[SET=]FLOAT", recorded=False,
        unset="no limit",
    )  # fmt: skip
    reshape: ReshapeConfig = group(ReshapeConfig)

    @classmethod
    def misused(cls, given: Collection[str]) -> Option | None:
        """Models or checkpoints are needed."""
        return needs_models(given)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._limits  # refuses what cannot be meant

    @property
    def _limits(self) -> dict[str, float]:
        """Limits of barriers by set."""
        return limits(self.fail_above, [one.name for one in sets_of(self.data)])

    def unmet(self, result: Any) -> str:
        """`--fail-above`, where some barrier is higher."""
        found = [
            f"--fail-above {name}={limit:g}" if len(self._limits) > 1 else f"--fail-above {limit:g}"
            for name, limit in self._limits.items()
            if result.exceeds({name: limit})
        ]
        return ", ".join(found)


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
    out: str | Path | None = out("Output folder.")
    _: KW_ONLY
    train_data: Data = option(
        None, "Data to fit the path on, read as the evaluation data is.", required=True
    )
    fitting: CurveFitConfig = group(CurveFitConfig, inline=True)
    aiming: AimConfig = group(AimConfig, inline=True)
    seed: int = option(0, "Seed of the first fit.", "--seed", shared=True, least=0)


@dataclass(frozen=True)
class SharpnessSpec(Reporting):
    """The curvature of the loss at models."""

    command: ClassVar[str] = "sharpness"
    work: ClassVar[str] = "mergekit_geo.commands.sharpness:sharpness"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge sharpness a b --data held-out.jsonl -o report",
        "geo-merge sharpness a --level full",
    )
    essential: ClassVar[tuple[str, ...]] = ("models", "out", "level", "data")

    models: Model | Sequence[Model] = models()
    out: str | Path | None = out(REPORT, unset=PRINTED)
    _: KW_ONLY
    level: str = option(
        "quick",
        "quick: λ_max (the largest eigenvalue of the Hessian), SAM sharpness and norms; "
        "full: also λ_min, trace, spectrum, adaptive measures and projected ascent.",
        choices=SHARPNESS_LEVELS,
    )
    radii: SharpnessRadii = group(SharpnessRadii)
    reshape: ReshapeConfig = group(ReshapeConfig)


@dataclass(frozen=True)
class LandscapeSpec(Reporting):
    """The loss on a plane."""

    command: ClassVar[str] = "landscape"
    work: ClassVar[str] = "mergekit_geo.commands.landscape:landscape"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge landscape a b c --mark out --data held-out.jsonl -o report",
        "geo-merge landscape --checkpoints run/checkpoint-* --data held-out.jsonl -o report",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "checkpoints",
        "trajectory",
        "mark",
        "grid",
        "data",
    )

    models: Model | Sequence[Model] = models((), unset="those of --checkpoints")
    out: str | Path | None = out(REPORT, unset=PRINTED)
    _: KW_ONLY
    checkpoints: Model | Sequence[Model] = checkpoints(
        "Checkpoints of a training, whose path is drawn on the plane of its two largest principal "
        "directions."
    )
    trajectory: bool = option(
        False, "The same with the models as they are named: they are the path of a training."
    )
    mark: Sequence[Model] = option(
        (),
        "Further model to mark on the plane, such as an output. Can be given several times.",
        recorded=False,
        metavar="MODEL",
        unset="none",
    )
    view: LandscapeConfig = group(LandscapeConfig)
    colours: tuple[float, float] | None = option(
        None,
        "Ends of the colour scale, as losses, to compare several pictures.",
        "--range",
        panel=VIEW,
        recorded=False,
        metavar="LOW HIGH",
        unset="lowest and highest loss",
    )
    reshape: ReshapeConfig = group(ReshapeConfig)

    @classmethod
    def misused(cls, given: Collection[str]) -> Option | None:
        """Models or checkpoints are needed."""
        return needs_models(given)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours is not None:
            low, high = self.colours
            object.__setattr__(self, "view", replace(self.view, low=low, high=high))
