"""What an output of a recipe keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mergekit_geo.checkpoints.sources import pinned
from mergekit_geo.commands.as_recipe import tokenizer_keys
from mergekit_geo.commands.request import Request
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.views.again import renamed

if TYPE_CHECKING:
    from mergekit_geo.recipes.plan import Prepared

COPY = "recipe.yml"
"""Every output holds its recipe under this name, with the commits of models on the Hub."""

BY_DATA = ("objective", "sharpness", "push_to", "along", "finetune")
"""Keys that no weight of the output depends on where nothing is chosen by loss or trained."""

TOKENIZER = ("tokenizer", "tokenizer_source")


def recorded(prepared: Prepared, request: Request, asked: RunSpec) -> Request:
    """Turn a request into what `run` records, with the files that it writes beside the weights."""
    said = prepared.recipe.model_dump(exclude_none=True, exclude_defaults=True)
    opened = zip(prepared.inputs.models, prepared.checkpoints, strict=True)
    commits = {name: pinned(checkpoint) for name, checkpoint in opened if checkpoint.revision}
    trained, resolved = prepared.trained, prepared.resolved
    if trained is not None:
        commits.update(trained.bases)
    text = prepared.template.text
    named = renamed(said, lambda name: commits.get(name, name))
    if stated := prepared.recipe.architectures:
        named["architectures"] = {commits.get(name, name): one for name, one in stated.items()}
    documents = [*(stage.recipe for stage in prepared.stages), named]
    files = {COPY: yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)}
    told = {**request.settings, "recipe": said}
    if prepared.stages:
        told["stages"] = documents[:-1]
    plain = {key: value for key, value in named.items() if key not in BY_DATA}
    if asked.reshape.is_by_token:
        plain = {key: value for key, value in plain.items() if key not in TOKENIZER}
        plain["tokenizer"] = tokenizer_keys(prepared.fitting)
    by_itself = {} if prepared.inputs.method.by_loss else plain
    if trained is not None:
        told["members"] = trained.entries
    return replace(
        request,
        asked=replace(asked, recipe=str(Path(asked.out or "") / COPY)),
        settings=told,
        warnings=(*prepared.warnings, *_negative(request), *request.warnings),
        notes=prepared.notes,
        fitting=prepared.fitting,
        selector=replace(request.selector, rules=resolved.rules, takers=resolved.takers),
        files={**files, "chat_template.jinja": text} if text else files,
        recipe=by_itself if trained is None else None,
        before=documents[:-1],
        stack=prepared.stack,
    )


def _negative(request: Request) -> Sequence[str]:
    """Weights outside the models' hull are meant in task arithmetic, and said elsewhere."""
    rule = request.selector.rule
    if rule.name != "linear":
        return ()
    return [f"weight {weight:g} is negative" for weight in rule.weights if weight < 0]
