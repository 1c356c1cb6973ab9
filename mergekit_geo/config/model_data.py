"""Training data of the models of a merge: each model's own, and one source for those without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, TypeAlias

from mergekit_geo.config.data import NO_DATA, Data, EvalData, source_of
from mergekit_geo.config.sets import DataSource
from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.local_path import local_path, problem_of
from mergekit_geo.files.sound_json import brief

TrainData: TypeAlias = Data
"""What a call says: one source, or by model: a mapping, or words such as `code=code.jsonl`."""

IN_MEMORY = " (in memory)"
"""What the names of models end with that have none."""


@dataclass(frozen=True)
class ModelData:
    """Training data by model; as one source of data it is the one for all, or else the first.

    Attributes:
        own: Name of a model and its data: the name as the call has it, or the last part of that.
        shared: Data of the models that are not named.

    Raises:
        ArgumentError: No model is named, or one is named twice.

    Example:
        >>> found = ModelData((("code", EvalData("code.jsonl")),), EvalData("all.jsonl"))
        >>> [one.origin for one in found.of(["org/base", "runs/code"])]
        ['all.jsonl', 'code.jsonl']
    """

    own: tuple[tuple[str, DataSource], ...]
    shared: DataSource = NO_DATA

    as_objective: ClassVar[None] = None
    is_nothing: ClassVar[bool] = False
    is_default: ClassVar[bool] = False
    is_named: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.own:
            raise ArgumentError("training data by model names no model")
        counts = Counter(self.names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ArgumentError(f"model {twice[0]} has two sources of training data")

    @property
    def names(self) -> tuple[str, ...]:
        """Models that have data of their own."""
        return tuple(name for name, _ in self.own)

    @property
    def seed(self) -> int:
        """Seed of the first source."""
        return self.own[0][1].seed

    @property
    def as_settings(self) -> EvalData | None:
        """Settings of the source for all, or else of the first."""
        return (self.own[0][1] if self.shared.is_nothing else self.shared).as_settings

    @property
    def spoken(self) -> ModelData | None:
        """This data, where a command line can say it."""
        every = [source for _, source in self.own]
        every += [] if self.shared.is_nothing else [self.shared]
        return self if all(source.spoken is not None for source in every) else None

    @property
    def words(self) -> list[str]:
        """The values of `--train-data`."""
        named = [f"{name}={_origin(source)}" for name, source in self.own]
        return [*([] if self.shared.is_nothing else [_origin(self.shared)]), *named]

    def settings(self) -> dict[str, Any]:
        """Settings by model, and of the source for all, as a JSON value."""
        return {
            "models": {name: source.settings() for name, source in self.own},
            "all": self.shared.settings(),
        }

    def replaced(self, **changes: Any) -> ModelData:
        """Copy in which every source has other settings."""
        own = tuple((name, source.replaced(**changes)) for name, source in self.own)
        return ModelData(own, self.shared.replaced(**changes))

    def of(self, models: Sequence[str]) -> tuple[DataSource, ...]:
        """The source of each model.

        Args:
            models: Their names.

        Raises:
            ArgumentError: Data of a model that is none of these, or may be several of them.
        """
        found: list[DataSource] = [self.shared] * len(models)
        for name, source in self.own:
            found[_place(name, models)] = source
        return tuple(found)


def model_data(given: Any, read_as: EvalData) -> Any:
    """Training data of a call: one source, or by model.

    Args:
        given: Words such as `all.jsonl` and `code=code.jsonl`, a mapping by model, or any data.
        read_as: How the sources are read.

    Raises:
        ArgumentError: Two sources for one model, or for all.

    Example:
        >>> model_data("all.jsonl", EvalData()).origin
        'all.jsonl'
        >>> model_data(["all.jsonl", "code=code.jsonl"], EvalData()).words
        ['all.jsonl', 'code=code.jsonl']
    """
    if isinstance(given, Mapping):
        return ModelData(tuple((name, _read(one, read_as)) for name, one in given.items()))
    if not isinstance(given, str | list | tuple):
        return given
    words = [given] if isinstance(given, str) else given
    bare = [word for word in words if _split(word) is None]
    if len(bare) > 1:
        raise ArgumentError(
            f"two sources of training data for all models: {bare[0]} and {bare[1]}",
            remedy="name the model of each: --train-data MODEL=SOURCE",
        )
    shared = read_as.training(bare[0]) if bare else NO_DATA
    pairs = [pair for pair in map(_split, words) if pair is not None]
    if not pairs:
        return shared
    return ModelData(tuple((name, read_as.training(one)) for name, one in pairs), shared)


def sources_of(data: Data, models: Sequence[str]) -> tuple[DataSource, ...]:
    """The training data of each model of a merge.

    Args:
        data: Of the call; a single source is that of all.
        models: Names of the models.

    Raises:
        ArgumentError: Data of a model that is none of these, or may be several of them.

    Example:
        >>> [one.origin for one in sources_of("all.jsonl", ["a", "b"])]
        ['all.jsonl', 'all.jsonl']
    """
    return data.of(models) if isinstance(data, ModelData) else (source_of(data),) * len(models)


def for_all(data: Data) -> DataSource:
    """The data that is no single model's."""
    return data.shared if isinstance(data, ModelData) else source_of(data)


def _read(one: Any, read_as: EvalData) -> DataSource:
    return read_as.training(one) if isinstance(one, str) else source_of(one)


def _origin(source: DataSource) -> str:
    return source.as_settings.origin if source.as_settings is not None else ""


def _split(word: str) -> tuple[str, str] | None:
    """Model and source; None for a source, such as a path that exists."""
    name, sign, source = word.partition("=")
    is_path = problem_of(word) is None and local_path(word).exists()
    return None if is_path or not (sign and name and source) else (name, source)


def _place(name: str, models: Sequence[str]) -> int:
    """Which of the models a name is of."""
    exact = [i for i, model in enumerate(models) if name == model]
    found = exact or [i for i, model in enumerate(models) if name in _short_names(model)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(models)
    if not found:
        raise ArgumentError(
            f"training data of {brief(name)}, which is none of the models",
            remedy=f"name one of {known}",
        )
    raise ArgumentError(
        f"training data of {brief(name)}, which may be {', '.join(models[i] for i in found)}",
        remedy="write the whole name",
    )


def _short_names(model: str) -> Iterable[str]:
    """What else a model is called: without its commit, and by the last part of its name."""
    plain = model.removesuffix(IN_MEMORY)
    bare = plain.partition("@")[0]
    return {plain, bare, PurePath(plain).name, PurePath(bare).name}
