"""A search over recipes: which numbers, and which method, loss prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mergekit_geo.config.aim import SearchAim
from mergekit_geo.config.option import argument, group, like, option
from mergekit_geo.errors import ArgumentError
from mergekit_geo.specs.merge import MergeSpec
from mergekit_geo.specs.merges import WRITTEN, OfRecipe
from mergekit_geo.specs.spec import out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.specs.merges import Recipes

SAMPLERS = ("auto", "cmaes", "tpe", "gp", "nsga2", "random")
ENGINES = ("local", "ray")
RECIPES = (".yml", ".yaml")
PANEL = "Search"
WHERE = "Where trials run"


@dataclass(frozen=True)
class SearchSpec(OfRecipe):
    """A search over the ranges of a recipe, or over methods."""

    command: ClassVar[str] = "search"
    work: ClassVar[str] = "mergekit_geo.searches.run:search"
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge search recipe.yml -o out --data code=code.jsonl --data chat=chat.jsonl "
        "--aim worst",
        "geo-merge search a b --base base --methods ties,dare_ties,slerp -o out "
        "--data held-out.jsonl",
    )
    essential: ClassVar[tuple[str, ...]] = ("recipe", "out", "base", "methods", "trials", "data")
    recipe: Recipes | Sequence[Model] = argument(
        "A recipe in YAML with ranges, such as `weight: {min: 0, max: 1}`; or the models to merge.",
        "RECIPE|MODEL...",
    )
    out: str | Path | None = out(WRITTEN)
    _: KW_ONLY
    base: Model | None = like(MergeSpec, "base", panel=PANEL)
    methods: Sequence[str] = option(
        (), "Methods that are searched where models are named in place of a recipe, such as "
        "ties,dare_ties,slerp.", panel=PANEL,
        unset="linear and slerp; with --base task_arithmetic, ties and dare_ties",
    )  # fmt: skip
    aiming: SearchAim = group(SearchAim, inline=True)
    trials: int = option(
        100, "Trials: of the study in all, or of this process where --storage is shared.",
        panel=PANEL, least=1,
    )  # fmt: skip
    evaluations: float | None = option(
        None, "Stop when document losses worth so many full evaluations are measured, where one is "
        "every selection document of every set once.", panel=PANEL, unset="no limit",
    )  # fmt: skip
    sampler: str = option(
        "auto", "What proposes trials: CMA-ES for ranges alone, TPE where there are choices, "
        "NSGA-II for --aim pareto; Gaussian processes; or chance.", panel=PANEL, choices=SAMPLERS,
    )  # fmt: skip
    racing: bool = option(
        True, "Measure every trial on all selection documents, even one that is significantly "
        "worse than the best before.", "--no-racing", panel=PANEL, switches_off=True,
    )  # fmt: skip
    learned: bool = option(
        True, "Do not begin with the coefficients of a learned soup, where the space holds them.",
        "--no-learned", panel=PANEL, switches_off=True,
    )  # fmt: skip
    take: int | None = option(
        None, "Write this trial of the study, and make no others.", panel=PANEL, least=0,
        metavar="TRIAL", unset="the best",
    )  # fmt: skip
    storage: str | None = option(
        None, "Where the study is kept and shared: a journal file, or a database that Optuna takes "
        "(postgresql+psycopg://USER@HOST/NAME, sqlite:///FILE).", panel=WHERE, recorded=False,
        unset="the file OUT.study.log",
    )  # fmt: skip
    study: str | None = option(
        None,
        "Name of the study in it.",
        panel=WHERE,
        recorded=False,
        unset="that of the recipe's file, or search",
    )
    workers: int | None = option(
        None, "Processes that measure trials, each on a device of its own where there are several.",
        panel=WHERE, least=1, recorded=False,
        unset="1, or as many as a Ray cluster has GPUs for, or nodes",
    )  # fmt: skip
    engine: str = option(
        ENGINES[0], "Measure trials on this machine, or as tasks of a Ray cluster.",
        panel=WHERE, choices=ENGINES, recorded=False,
    )  # fmt: skip
    ray_address: str | None = option(
        None, "Address of a Ray cluster.", panel=WHERE, recorded=False,
        unset="one that is started on this machine",
    )  # fmt: skip
    num_gpus: float | None = option(
        None, "GPUs of each task of Ray.", panel=WHERE, recorded=False,
        unset="1 where the cluster has any, else 0",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluations is not None and self.evaluations <= 0:
            found = f"{self.evaluations:g}"
            raise ArgumentError(f"evaluations: expected a positive number, found {found}")
        if not self.is_recipe and not self.named:
            raise ArgumentError("no models to merge", remedy="name at least one, or a recipe")

    @property
    def is_recipe(self) -> bool:
        """Whether a recipe is searched, and not what is made of methods and models."""
        found = self.recipe
        if not isinstance(found, Sequence) or isinstance(found, str):
            return isinstance(found, Mapping) or "\n" in str(found) or _is_file(found)
        return len(found) == 1 and isinstance(found[0], str | Path) and _is_file(found[0])

    @property
    def source(self) -> Any:
        """The recipe: a file, YAML text or a mapping."""
        found = self.recipe
        return found[0] if isinstance(found, list | tuple) else found

    @property
    def named(self) -> tuple[Model, ...]:
        """The models that are named in place of a recipe."""
        found: Any = self.recipe
        return tuple(found) if isinstance(found, list | tuple) else (found,)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods, however they are written."""
        return tuple(name for part in self.methods for name in part.split(",") if name)


def _is_file(name: object) -> bool:
    return str(name) == "-" or str(name).lower().endswith(RECIPES)
