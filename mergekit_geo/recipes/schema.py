"""The recipe: mergekit's keys, and ours beside them. Unknown keys are errors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.keys import RecipeKeys, keyed
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.sets_file import SetKeys, sets_in
from mergekit_geo.errors import ArgumentError, RecipeError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.recipes.along import AlongKeys
from mergekit_geo.recipes.finetune import FinetuneKeys
from mergekit_geo.recipes.reference import Reference, overrides
from mergekit_geo.recipes.tokenizer import Tokenizer, TokenizerSource
from mergekit_geo.recipes.values import layered
from mergekit_geo.specs.merges import RunSpec

Parameters = Annotated[dict[str, Any], BeforeValidator(lambda said: {} if said is None else said)]
"""A mapping of parameters; an empty value in YAML is an empty mapping."""

Label = Annotated[
    str, BeforeValidator(lambda said: str(said) if isinstance(said, int | float) else said)
]

DEFAULT_MODULE = "default"
"""The name of the only module of a language model."""


class ModelKeys(RecipeKeys):
    """A model of the merge.

    Attributes:
        model: A folder, `org/name` or `org/name@revision`; each `+` an adapter, or as a mapping.
        parameters: Its own, such as `weight`.
    """

    model: Reference
    parameters: Parameters = Field(default={})


class ListedKeys(ModelKeys):
    """A model of a list.

    Attributes:
        train_data: Its own training data, for methods that need data of the models.
    """

    train_data: str | None = Field(default=None, min_length=1)


class SourceKeys(ModelKeys):
    """A model of a slice.

    Attributes:
        layer_range: First layer and the one after the last: the whole model.
    """

    layer_range: tuple[int, int] | None = None

    @field_validator("layer_range", mode="before")
    @classmethod
    def _is_a_pair(cls, said: object) -> object:
        if said is not None and not (isinstance(said, Sequence) and len(said) == 2):  # noqa: PLR2004
            raise ArgumentError(
                f"expected the first layer and the one after the last, found {brief(said)}",
                remedy="write two numbers: [0, 8] takes the layers 0 to 7",
            )
        return said

    @field_validator("layer_range")
    @classmethod
    def _has_layers(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        start, stop = value or (0, 1)
        if min(start, stop) < 0:
            raise ArgumentError(
                f"[{start}, {stop}] goes below layer 0",
                remedy="count from 0; without layer_range all layers are taken",
            )
        if start == stop:
            raise ArgumentError(
                f"[{start}, {stop}] is empty: the upper bound is exclusive",
                remedy=f"[{start}, {start + 1}] takes layer {start} alone",
            )
        if start > stop:
            raise ArgumentError(f"[{start}, {stop}] is reversed", remedy=f"write [{stop}, {start}]")
        return value


class Slice(RecipeKeys):
    """Models and the layers that are taken of them.

    Attributes:
        sources: The models.
        base_model: That of the recipe.
        parameters: For all of them.
    """

    sources: list[SourceKeys] = Field(min_length=1)
    base_model: Reference | None = None
    parameters: Parameters = Field(default={})


_Dtype: Any = keyed(OutputConfig, only=("dtype",))
_OutDtype: Any = keyed(OutputConfig, only=("dtype",), called={"dtype": "out_dtype"})


class Dtypes(_Dtype, _OutDtype):  # type: ignore[misc]
    """Dtypes as mergekit names them: `out_dtype` of the output, `dtype` where that is not given.

    Arithmetic is in float32 or wider.
    """

    @field_validator("dtype", "out_dtype", mode="before")
    @classmethod
    def _plain(cls, said: object) -> object:
        return said.removeprefix("torch.") if isinstance(said, str) else said


class ModuleKeys(Dtypes):
    """A part of an architecture: `encoder`, `text_decoder`; language models have one, `default`.

    Attributes:
        models: As in a recipe; or
        slices: as in a recipe.
        parameters: For all of them.
    """

    models: list[ListedKeys] | None = None
    slices: list[Slice] | None = None
    parameters: Parameters = Field(default={})


_Data: Any = keyed(EvalData, leave=("data", "seed"), called={"data_config": "config"})
_Aim: Any = keyed(AimConfig, stated=False)


class ObjectiveKeys(_Aim, _Data):  # type: ignore[misc]
    """What loss is measured on, and points are chosen by; keys are called as the flags are.

    Attributes:
        data: As `--data`; or
        sets: several by name, each with options of its own; the others are for all of them.
    """

    data: str | None = None
    sets: list[SetKeys] | None = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        if (self.data is None) == (self.sets is None):
            raise ArgumentError(
                "an objective has data or sets: one of them", remedy="add `data: held_out.jsonl`"
            )
        shared = self.settings(EvalData)
        if self.sets is not None:
            self.aiming(AimConfig()).require_known(sets_in(self.sets, shared).names)
        return self

    def aiming(self, call: AimConfig, given: Collection[str] = ()) -> AimConfig:
        """What is minimised over several sets.

        Args:
            call: Of the call, which goes before.
            given: Options that the call says even where they are the defaults.
        """
        said = {"aim": self.aim, "keep": self.keep and tuple(self.keep)}
        usual = AimConfig()
        own = {
            name: value
            for name, value in said.items()
            if value is not None
            and name not in given
            and getattr(call, name) == getattr(usual, name)
        }
        return replace(call, **own)


_Push: Any = keyed(OutputConfig, only=("push_to",))
_Run: Any = keyed(RunSpec, only=("sharpness", "seed"), stated=False)


class Recipe(Dtypes, _Push, _Run):  # type: ignore[misc]
    """A merge as a file says it.

    Beside its own, it has the keys `dtype`, `out_dtype`, `sharpness`, `push_to` and `seed`.

    Attributes:
        name: What other recipes of the file call the model that it makes.
        merge_method: As in the table of methods.
        models: The models; or
        slices: ranges of layers, of which the output is put together; or
        modules: either of them for each part of an architecture, by its name.
        base_model: Where task vectors start, or the end of SLERP at t = 0.
        parameters: Of the method: numbers, gradients, or lists of filters.
        train_data: For methods that need data of the models, and for BatchNorm statistics: one
            source for all, or a mapping by model; a model of the list can say its own.
        tokenizer_source: `base`, `union`, or the model whose tokenizer the output has; or
        tokenizer: the same as `source` under this key, and whose rows tokens have.
        chat_template: `auto`, a name such as `chatml`, or a Jinja template.
        finetune: Members that are trained first.
        objective: What loss is measured on.
        along: A path, for `merge_method: along`.
        architectures: By model, the class that takes the place of the one in its `config.json`;
            `override_architecture` in the mapping of a model says the same.
    """

    name: Label | None = None
    merge_method: str
    models: list[ListedKeys] | None = None
    slices: list[Slice] | None = None
    modules: dict[str, ModuleKeys] | None = None
    base_model: Reference | None = None
    parameters: Parameters = Field(default={})
    train_data: str | dict[str, str] | None = None
    tokenizer_source: TokenizerSource | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    finetune: list[FinetuneKeys] = Field(default=[])
    objective: ObjectiveKeys | None = None
    along: AlongKeys | None = None
    architectures: dict[str, str] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _with_overrides(cls, raw: object) -> object:
        """Move architectures out of the mappings of models, whose names are text from here on."""
        if not isinstance(raw, dict) or not (found := overrides(raw)):
            return raw
        return {**raw, "architectures": {**(raw.get("architectures") or {}), **found}}

    @field_validator("sharpness", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        """YAML 1.1 reads a bare `off` as false."""
        return "off" if value is False else value


def without_modules(recipe: Recipe) -> Recipe:
    """Move a single `default` module's models or slices to the top level of the recipe.

    Raises:
        RecipeError: Models beside modules, or modules that ask for unlike dtypes.

    Example:
        >>> module = {"models": [{"model": "a"}], "parameters": {"weight": 1}}
        >>> recipe = {"merge_method": "linear", "modules": {"default": module}}
        >>> found = without_modules(Recipe.model_validate(recipe))
        >>> found.models[0].model, found.parameters, found.modules
        ('a', {'weight': 1}, None)
    """
    if recipe.modules is None:
        return recipe
    if recipe.models is not None or recipe.slices is not None:
        raise RecipeError("a recipe has models, slices or modules: one of them", where="modules")
    if not recipe.modules:
        raise RecipeError("no modules", where="modules", remedy="name at least one")
    update: dict[str, Any] = {key: _dtype(recipe, key) for key in ("dtype", "out_dtype")}
    if list(recipe.modules) == [DEFAULT_MODULE]:
        only = recipe.modules[DEFAULT_MODULE]
        update |= {
            "modules": None,
            "models": only.models,
            "slices": only.slices,
            "parameters": layered(recipe.parameters, only.parameters),
        }
    moved: Recipe = recipe.model_copy(update=update)
    return moved


def _dtype(recipe: Recipe, key: str) -> str | None:
    """The dtype that the modules ask for, or else the recipe."""
    modules = (recipe.modules or {}).values()
    found: set[str] = {said for module in modules if (said := getattr(module, key))}
    if len(found) > 1:
        raise RecipeError(
            f"the modules have unlike values of {key}: {', '.join(sorted(found))}",
            where="modules",
            remedy="an output has one dtype: write it once, at the top of the recipe",
        )
    above: str | None = getattr(recipe, key)
    return next(iter(found), above)
