"""`geo.run`: a merge as a recipe says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.sources import pinned
from mergekit_geo.errors import RecipeError
from mergekit_geo.live.settings import Compute
from mergekit_geo.merging.settings import Output
from mergekit_geo.objectives.settings import TRAIN, EvalData
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.recipes.cast import Cast, cast_of
from mergekit_geo.recipes.chat import chat_template
from mergekit_geo.recipes.reading import read_recipe
from mergekit_geo.recipes.resolve import Resolved, check_ranges, resolve
from mergekit_geo.recipes.schema import Objective, Recipe
from mergekit_geo.workflows.choosing import Choosing
from mergekit_geo.workflows.merge import merge
from mergekit_geo.workflows.request import Request
from mergekit_geo.workflows.result import MergeResult
from mergekit_geo.workflows.soup import BUILTIN_TEXT, soup_request

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.workflows.losses import Data

COPY = "recipe.yml"
"""Every output holds its recipe under this name, with the commits of models on the Hub."""

MODEL_KEYS = ("model", "base_model", "tokenizer_source")


@dataclass(frozen=True)
class Prepared:
    """A recipe with its models opened, and nothing done yet.

    Attributes:
        recipe: As read.
        cast: Who takes part.
        checkpoints: The anchors, headers read.
        resolved: The rule of every tensor.
        models: As the workflows take them.
        tokenizer_of: Position of the model whose tokenizer the output has.
    """

    recipe: Recipe
    cast: Cast
    checkpoints: list[Checkpoint]
    resolved: Resolved
    models: list[Model]
    tokenizer_of: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the recipe."""
        return (*self.cast.warnings, *self.resolved.warnings)


def run(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    models: Mapping[str, Model] | None = None,
    output: Output = Output(),
    data: Data = BUILTIN_TEXT,
    train_data: EvalData | None = None,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    progress: Progress | None = None,
) -> MergeResult:
    """Merge as a recipe says it; what the call says goes before what the recipe says.

    Args:
        recipe: A YAML file, YAML text of more than one line, or a mapping.
        out: Folder to write; None keeps the result in memory.
        models: What names in the recipe stand for, where not folders or Hub ids: modules, state
            dicts.
        output: How the checkpoint is written.
        data: What loss is measured on, where the recipe has no objective; None measures none.
        train_data: What BatchNorm statistics are estimated on, and paths are fitted to.
        compute: How models are run.
        sharpness: Of parents and output, where the recipe says nothing.
        progress: Told what is going on.

    Raises:
        RecipeError: The recipe cannot be meant.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
        >>> recipe = {"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}]}
        >>> run(recipe, models={"a": a, "b": b}, data=None).state["w"]
        tensor([2., 2.])
    """
    prepared = prepare(recipe, models)
    said = prepared.recipe
    output = _output(said, output)
    evaluated = _data(said, data)
    if train_data is None and said.along is not None and said.along.train_data:
        train_data = EvalData(said.along.train_data, split=TRAIN, seed=said.seed or 0)
    sharpness = said.sharpness or sharpness if sharpness == "quick" else sharpness
    told = progress or Silent()
    if prepared.cast.method.by_loss:
        choosing = _choosing(prepared, evaluated)
        request = soup_request(
            prepared.models, prepared.checkpoints, None if out is None else Path(out),
            choosing=choosing, output=output, data=evaluated, train_data=train_data,
            compute=compute, sharpness=sharpness, progress=told,
        )  # fmt: skip
    else:
        request = Request(
            "run", prepared.resolved.rule, {}, (), output, evaluated, compute, sharpness,
            train_data=train_data,
        )  # fmt: skip
    request = _recorded(prepared, request, out)
    return merge(prepared.checkpoints, request, None if out is None else Path(out), told)


def prepare(
    recipe: str | Path | Mapping[str, Any], models: Mapping[str, Model] | None = None
) -> Prepared:
    """Read a recipe and the headers of its models.

    Raises:
        RecipeError: The recipe cannot be meant.
        CheckpointError: A model cannot be used.
    """
    said = read_recipe(recipe)
    cast = cast_of(said)
    _check_own_keys(said, cast)
    chat_template(said.chat_template)
    position = _tokenizer_of(said, cast)
    known = models or {}
    found: list[Model] = [known.get(name, name) for name in cast.models]
    checkpoints = open_checkpoints(found)
    check_ranges(said, checkpoints, cast.models)
    resolved = resolve(cast, checkpoints[0])
    return Prepared(said, cast, checkpoints, resolved, found, position)


def _check_own_keys(recipe: Recipe, cast: Cast) -> None:
    if (cast.name == "along") != (recipe.along is not None):
        raise RecipeError(
            "merge_method: along and the key along go together",
            where="along",
            remedy="write `merge_method: along` and `along: {kind: linear, pick: best}`",
        )


def _tokenizer_of(recipe: Recipe, cast: Cast) -> int:
    source = recipe.tokenizer_source
    if source in {None, "base"}:
        return 0
    if source == "union":
        raise RecipeError(
            "a union of tokenizers is not built: rows of the embeddings would have to be made up",
            where="tokenizer_source",
            remedy="merge models of one vocabulary, with `tokenizer_source: base`",
        )
    if source not in cast.models:
        raise RecipeError(
            f"{source} is none of the models",
            where="tokenizer_source",
            remedy=f"expected base or one of {', '.join(cast.models)}",
        )
    return cast.models.index(source)


def _output(recipe: Recipe, output: Output) -> Output:
    dtype = output.dtype or recipe.out_dtype or recipe.dtype
    return replace(output, dtype=dtype, push_to=output.push_to or recipe.push_to)


def _data(recipe: Recipe, data: Data) -> Data:
    """The call's data, or the recipe's objective where the call names none."""
    if not isinstance(data, EvalData) or data.source:
        return data
    seed = data.seed or recipe.seed or 0
    if recipe.objective is None:
        return replace(data, seed=seed)
    return _objective(recipe.objective, data, seed)


def _objective(objective: Objective, data: EvalData, seed: int) -> EvalData:
    """What the recipe says, but for what the call sets."""
    said = objective.model_dump(exclude={"data"})
    given = {name: value for name, value in asdict(data).items() if name in said}
    usual = asdict(EvalData())
    said |= {name: value for name, value in given.items() if value != usual[name]}
    return EvalData(objective.data, seed=seed, **said)


def _choosing(prepared: Prepared, data: Data) -> Choosing:
    """How the point is chosen.

    Raises:
        RecipeError: It is chosen by loss, and there is no objective.
    """
    along, name = prepared.recipe.along, prepared.cast.name
    choosing = (
        Choosing(along=along.kind, pick=along.pick) if along else Choosing(method=name)
    )  # fmt: skip
    named = data is not None and not (isinstance(data, EvalData) and not data.source)
    if choosing.by_loss(len(prepared.cast.models)) and not named:
        raise RecipeError(
            f"{name} chooses by loss, and nothing says on what data",
            where="objective",
            remedy="add `objective: {data: held_out.jsonl}`, or give --data",
        )
    return choosing


def _recorded(prepared: Prepared, request: Request, out: str | Path | None) -> Request:
    """The same request as `run` records it, with the files that go beside the weights."""
    import yaml

    said = prepared.recipe.model_dump(exclude_none=True, exclude_defaults=True)
    opened = zip(prepared.cast.models, prepared.checkpoints, strict=True)
    commits = {name: pinned(checkpoint) for name, checkpoint in opened if checkpoint.revision}
    text = chat_template(prepared.recipe.chat_template)
    files = {COPY: yaml.safe_dump(_renamed(said, commits), sort_keys=False, allow_unicode=True)}
    return replace(
        request,
        command="run",
        settings={**request.settings, "recipe": said},
        flags=(),
        named=(str(Path(out or "") / COPY),),
        warnings=(*prepared.warnings, *_negative(request), *request.warnings),
        rules=prepared.resolved.rules,
        files={**files, "chat_template.jinja": text} if text else files,
        tokenizer_of=prepared.tokenizer_of,
    )


def _renamed(said: Any, names: Mapping[str, str], key: object = "") -> Any:
    """A recipe whose models are those of the commits that were taken."""
    if isinstance(said, dict):
        return {name: _renamed(value, names, name) for name, value in said.items()}
    if isinstance(said, list):
        return [_renamed(item, names) for item in said]
    return names.get(said, said) if key in MODEL_KEYS else said


def _negative(request: Request) -> Sequence[str]:
    """Weights outside the models' hull are meant in task arithmetic, and said elsewhere."""
    if request.rule.name != "linear":
        return ()
    return [f"weight {weight:g} is negative" for weight in request.rule.weights if weight < 0]
