"""Commands that write a merged checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import PANEL, sets_of, source_of
from mergekit_geo.config.measures import SHARPNESS
from mergekit_geo.config.option import Option, argument, group, option
from mergekit_geo.config.selection import PANEL as CHOOSING
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.specs.spec import SHARPNESS_TEXT, Merging, TrainedByModel, Writing, models, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

    Recipes = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    """A file, YAML text, one recipe or several."""

ANTIPODAL = ("error", "linear")
WRITTEN = "Output folder."


@dataclass(frozen=True, kw_only=True)
class Weighted(Merging):
    """Models have weights."""

    weights: Sequence[float] | None = option(
        None, "Weights of the models, one each, such as .5,.3,.2.", unset="equal"
    )


@dataclass(frozen=True)
class SoupSpec(Weighted):
    """A weighted soup, or the one that loss chooses."""

    command: ClassVar[str] = "soup"
    work: ClassVar[str] = "mergekit_geo.commands.soup:soup"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge soup a b c -o out --weights .5,.3,.2",
        "geo-merge soup a b c -o out --method greedy --data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "models",
        "out",
        "method",
        "weights",
        "along",
        "data",
        "sharpness",
    )

    models: Sequence[Model] = models()
    out: str | Path | None = out(WRITTEN)
    _: KW_ONLY
    normalize: bool = option(
        True,
        "Use the weights as given, not divided by their sum.",
        "--no-normalize",
        panel=CHOOSING,
        switches_off=True,
    )
    layer_weights: str | Path | None = option(
        None,
        "Take the weights by layer that `geo-merge barrier --by-layer -o DIR` proposed; measured "
        "on the documents that did not choose them.",
        panel=CHOOSING, metavar="DIR", unset="none",
    )  # fmt: skip
    choosing: SelectionConfig = group(SelectionConfig, inline=True)
    aiming: AimConfig = group(AimConfig, inline=True)
    fitting: CurveFitConfig = option(
        CurveFitConfig(),
        "How a path is fitted that `choosing` takes a point of.",
        "",
        recorded=False,
    )
    fit_seed: int | None = option(
        None, "Seed of that fit.", "", recorded=False, unset="0, and the other seeds of restarts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            self.aiming.require_known([one.name for one in sets_of(self.data)])


@dataclass(frozen=True)
class SlerpSpec(Weighted):
    """SLERP, or the Karcher mean."""

    command: ClassVar[str] = "slerp"
    work: ClassVar[str] = "mergekit_geo.commands.slerp:slerp"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge slerp a b -o out --t 0.3",
        "geo-merge slerp a b c -o out --weights .5,.3,.2 --data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = ("models", "out", "t", "weights", "data")

    models: Sequence[Model] = models()
    out: str | Path | None = out(WRITTEN)
    _: KW_ONLY
    t: float | None = option(
        None, "Position on the arc between two models, from 0 (the first) to 1.", unset="0.5"
    )
    antipodal: str = option(
        "error", "What to do with opposite tensors, between which there is no unique arc: stop, or "
        "interpolate linearly.", choices=ANTIPODAL,
    )  # fmt: skip


@dataclass(frozen=True)
class PointSpec(Writing):
    """A point of a fitted path."""

    command: ClassVar[str] = "point"
    work: ClassVar[str] = "mergekit_geo.commands.point:point"
    examples: ClassVar[tuple[str, ...]] = ("geo-merge point path -o out --t 0.4",)
    essential: ClassVar[tuple[str, ...]] = ("folder", "out", "t", "data")

    folder: str | Path = argument("Folder of a fitted path.", "DIR")
    out: str | Path | None = out(WRITTEN)
    _: KW_ONLY
    t: float | None = option(
        None, "Position on the path, from 0 to 1.", unset="where the held-out loss is lowest"
    )

    def naming(self, names: Sequence[str]) -> Self:
        """The command names no models."""
        return self


@dataclass(frozen=True, kw_only=True)
class OfRecipe(TrainedByModel):
    """A recipe says what is merged, and much of how it is measured."""

    models: Mapping[str, Model] | None = option(
        None, "What names of models in the recipe stand for.", "", recorded=False,
        unset="folders and models of the Hub",
    )  # fmt: skip
    seed: int | None = option(
        None,
        "Seed of masks, training, fits and samples; the recipe's if None.",
        "--seed",
        shared=True,
        least=0,
    )
    aiming: AimConfig = group(AimConfig, inline=True)
    sharpness: str | None = option(  # type: ignore[assignment]
        None, SHARPNESS_TEXT, panel=PANEL, choices=SHARPNESS, unset="quick"
    )

    def naming(self, names: Sequence[str]) -> Self:
        """The command names no models."""
        return self

    def check_requirement(self) -> None:
        """Refuse to require unknown sets; those of a recipe are checked when it is read."""
        if not source_of(self.data).is_default:
            super().check_requirement()


@dataclass(frozen=True)
class RunSpec(OfRecipe):
    """A merge as a recipe says it."""

    command: ClassVar[str] = "run"
    work: ClassVar[str] = "mergekit_geo.recipes.run:run"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge run recipe.yml --dry-run",
        "geo-merge run recipe.yml -o out --data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = ("recipe", "out", "dry_run", "data")

    recipe: Recipes = argument(
        "Recipe in YAML, or - for standard input: mergekit's keys, and those of mergekit_geo.",
        "RECIPE",
    )
    out: str | Path | None = out(WRITTEN, unset="required without --dry-run")
    _: KW_ONLY
    members_in: str | Path | None = option(
        None,
        "Folder for the members that the recipe trains first.",
        recorded=False,
        unset="OUT.members",
    )
    strict: bool = option(
        False, "Refuse keys of the recipe that have no effect where they stand.", recorded=False
    )
    dry_run: bool = option(
        False, "Print the plan (coefficients, sizes, disk space) and write nothing."
    )

    def settings(self) -> dict[str, Any]:
        """The options as the report has them: the recipe says the others, and all of a dry run."""
        found = super().settings()
        if self.dry_run:
            return {"dry_run": found["dry_run"]}
        return {name: value for name, value in found.items() if name not in {"seed", "dry_run"}}

    @classmethod
    def misused(cls, given: Collection[str]) -> Option | None:
        """`--out` is needed, but for a dry run."""
        if "out" in given or "dry_run" in given:
            return None
        return Option("say where to write, or --dry-run", "--out")

    def unmet(self, result: Any) -> str:
        """What the output does not hold; a dry run has none."""
        return "" if self.dry_run else super().unmet(result)
