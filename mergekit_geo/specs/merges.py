"""Commands that write a merged checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mergekit_geo.config.data import PANEL
from mergekit_geo.config.measures import SHARPNESS
from mergekit_geo.config.option import Option, argument, group, option
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.specs.spec import Writing, models, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model

ANTIPODAL = ("error", "linear")
WRITTEN = "Folder to write."


@dataclass(frozen=True, kw_only=True)
class Weighted(Writing):
    """Models have weights."""

    weights: Sequence[float] | None = option(
        None, "One per model, such as .5,.3,.2; equal by default."
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
    out: str | Path | None = out(WRITTEN, required=True)
    _: KW_ONLY
    normalize: bool = option(
        True, "Use the weights as they are.", "--no-normalize", switches_off=True
    )
    choosing: SelectionConfig = group(SelectionConfig, inline=True)
    fitting: CurveFitConfig = CurveFitConfig()
    fit_seed: int | None = None


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
    out: str | Path | None = out(WRITTEN, required=True)
    _: KW_ONLY
    t: float | None = option(None, "Position between two models; 0.5 by default.")
    antipodal: str = option("error", "What to do with opposite tensors.", choices=ANTIPODAL)


@dataclass(frozen=True)
class PointSpec(Writing):
    """A point of a fitted path."""

    command: ClassVar[str] = "point"
    work: ClassVar[str] = "mergekit_geo.commands.point:point"
    examples: ClassVar[tuple[str, ...]] = ("geo-merge point path -o out --t 0.4",)
    essential: ClassVar[tuple[str, ...]] = ("folder", "out", "t", "data")

    folder: str | Path = argument("Of a fitted path.", "DIR")
    out: str | Path | None = out(WRITTEN, required=True)
    _: KW_ONLY
    t: float | None = option(None, "From 0 to 1; the lowest loss if not said.")

    def naming(self, names: Sequence[str]) -> Self:
        """The command names no models."""
        return self


@dataclass(frozen=True)
class RunSpec(Writing):
    """A merge as a recipe says it."""

    command: ClassVar[str] = "run"
    work: ClassVar[str] = "mergekit_geo.recipes.run:run"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge run recipe.yml --dry-run",
        "geo-merge run recipe.yml -o out --data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = ("recipe", "out", "dry_run", "data")

    recipe: str | Path | Mapping[str, Any] = argument("A YAML file.", "RECIPE")
    out: str | Path | None = out("Folder to write; not needed with --dry-run.")
    _: KW_ONLY
    models: Mapping[str, Model] | None = None
    seed: int | None = option(
        None, "Of training, fits and samples; the recipe's if None.", "--seed", shared=True, least=0
    )
    members_in: str | Path | None = option(
        None, "Folder of members that are trained first; OUT.members if not said.", recorded=False
    )
    sharpness: str | None = option(  # type: ignore[assignment]
        None, "Of parents and output: how much; quick by default.", panel=PANEL, choices=SHARPNESS
    )
    dry_run: bool = option(False, "Print what would be done, and do nothing.")

    def naming(self, names: Sequence[str]) -> Self:
        """The command names no models."""
        return self

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
