"""What the weights of a model that a recipe makes depend on, in one hash."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import loaded_files
from mergekit_geo.checkpoints.origin import versions
from mergekit_geo.checkpoints.sources import parts_of
from mergekit_geo.config.data import sets_of
from mergekit_geo.config.model_data import ModelData
from mergekit_geo.files.local_path import local_path
from mergekit_geo.files.regular import file_digest
from mergekit_geo.recipes.plan import Prepared
from mergekit_geo.records.model import Source
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.views.again import renamed

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data
    from mergekit_geo.config.sets import DataSource

IDLE = ("name", "push_to", "sharpness", "objective")
"""Keys of a recipe that no weight depends on where nothing is chosen by loss or trained."""

DATA = ("data", "train_data")
"""Keys of a recipe that name data."""


def stage_key(prepared: Prepared, asked: RunSpec) -> str:
    """A hash of recipe, inputs, data where they have a say, and versions.

    Args:
        prepared: The recipe, with the headers of its models.
        asked: How it is made.
    """
    said = prepared.recipe.model_dump(exclude_none=True, exclude_defaults=True)
    by_data = prepared.inputs.method.by_loss or bool(prepared.members)
    by_data |= bool(prepared.inputs.method.needs)
    if not by_data:
        said = {key: value for key, value in said.items() if key not in IDLE}
    inputs = _inputs(prepared)
    work = [
        renamed(said, lambda name: inputs.get(name, name)),
        versions(),
        [asked.output.allow_nonfinite, asked.output.device, asdict(prepared.fitting)],
        [_data_key(one) for one in (asked.train_data, *([asked.data] * by_data))],
        [asdict(asked.compute)] * by_data,
        [_file_key(file) for file in _files_in(said)],
        *([asdict(asked.aiming)] if by_data and not asked.aiming.is_default else []),
    ]
    return hashlib.sha256(json.dumps(work, sort_keys=True, default=repr).encode()).hexdigest()[:32]


def _inputs(prepared: Prepared) -> dict[str, str]:
    """What stands for each model that is not trained here."""
    found = dict(zip(prepared.inputs.models, prepared.opened, strict=True))
    for member in prepared.members:
        found.pop(member.name, None)
        base = prepared.bases[member.name].of
        assert base is not None
        found[member.entry.model] = base
    return {name: json.dumps(_input(one), default=repr) for name, one in found.items()}


def _input(checkpoint: Checkpoint) -> list[object]:
    """Commits of what comes from the Hub, whether it is here yet or not; states of files else."""
    found: list[object] = []
    for part in parts_of(checkpoint):
        if part.revision:
            found.append(Source(name=part.name, revision=part.revision).pinned)
        else:
            found += [part.fingerprint(), part.folder and loaded_files(part.folder)]
    return found


def _data_key(data: Data) -> object:
    if isinstance(data, ModelData):
        own = [(name, _source_key(source)) for name, source in data.own]
        return [own, _source_key(data.shared)]
    return [_source_key(one.data) for one in sets_of(data)]


def _source_key(source: DataSource) -> object:
    settings = source.as_settings
    if settings is not None:
        return [asdict(settings), _file_key(settings.origin)]
    return None if source.is_nothing else uuid.uuid4().hex  # a function is never known again


def _files_in(said: Any) -> Iterator[str]:
    """Data that a recipe names."""
    if isinstance(said, list):
        for one in said:
            yield from _files_in(one)
    elif isinstance(said, dict):
        for key, value in said.items():
            if key in DATA and isinstance(value, str | dict):
                yield from [value] if isinstance(value, str) else value.values()
            elif key == "sets":
                yield from (one["source"] for one in value)
            else:
                yield from _files_in(value)


def _file_key(name: str) -> str:
    """The content of a file; the name of what is none."""
    path = local_path(name)
    if not name or not path.is_file():
        return name
    return file_digest(path)
