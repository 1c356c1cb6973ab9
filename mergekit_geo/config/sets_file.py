"""A YAML file that lists evaluation sets, each with options of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from mergekit_geo.config.data import OF_BENCHMARKS, EvalData
from mergekit_geo.config.keys import keyed
from mergekit_geo.config.sets import EvalSets, benchmarks_in, sets_named, stem
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_yaml import compose, construct
from mergekit_geo.printable import nearest_of

SETS = "sets"

_Data: Any = keyed(EvalData, leave=("data", "seed"), called={"data_config": "config"}, stated=False)


class SetKeys(_Data):  # type: ignore[misc]
    """An evaluation set as a mapping says it; keys are called as the flags are.

    Attributes:
        source: As `--data`; `data` says the same.
        name: Of the set; the stem of its source if None.
        weight: What it counts beside other sets.
    """

    source: str
    name: str | None = None
    weight: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _source(cls, raw: object) -> object:
        """Take `data` for `source`, and a text for the source alone."""
        if isinstance(raw, str):
            return {"source": raw}
        if isinstance(raw, dict) and "data" in raw and "source" not in raw:
            return {"source": raw["data"], **{k: v for k, v in raw.items() if k != "data"}}
        return raw

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.on(EvalData())
        return self

    def on(self, shared: EvalData) -> EvalData:
        """Settings of the set, where those that it leaves out are shared ones.

        Raises:
            ArgumentError: A value that cannot be meant.
        """
        own = self.model_dump(exclude={"name"}, exclude_none=True)
        if not benchmarks_in(self.source):
            shared = shared.replaced(**dict.fromkeys(OF_BENCHMARKS))
        return replace(shared, **own)


def sets_in(said: Sequence[SetKeys], shared: EvalData, words: EvalData | None = None) -> EvalSets:
    """Evaluation sets of mappings.

    Args:
        said: The mappings.
        shared: Settings that they leave out.
        words: What a command line says of them.

    Raises:
        ArgumentError: Two of one name, no sets, or weights that sum to zero.
    """
    pairs = [(one.name or stem(one.source), one.on(shared)) for one in said]
    return sets_named(pairs, said=words)


def sets_in_file(data: EvalData) -> EvalSets:
    """The sets that a file lists; other settings of `data` are those that it leaves out.

    Args:
        data: Whose source is the file.

    Raises:
        DataError: No such file, or it lists no sets; the message names what is wrong.
        ArgumentError: Two sets of one name, or weights that sum to zero.
    """
    name = data.origin
    raw = _read(name)
    said = raw.get(SETS, raw) if isinstance(raw, Mapping) else raw
    if not isinstance(said, list) or not said:
        raise DataError(
            "expected a list of sets, each with `source` and, if it is to have one, `name`",
            where=name,
        )
    return sets_in([_keys(one, i, name) for i, one in enumerate(said, 1)], data, words=data)


def _read(name: str) -> Any:
    try:
        text = read_bytes(Path(name)).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=name) from error
    nodes = compose(text, name)
    return construct(nodes[0], name) if nodes else None


def _keys(raw: Any, number: int, name: str) -> SetKeys:
    try:
        found: SetKeys = SetKeys.model_validate(raw)
    except ArgumentError as error:
        raise DataError(f"set {number}: {error}", where=name) from error
    except ValidationError as error:
        raise _refusal(error, number, name) from error
    return found


def _refusal(error: ValidationError, number: int, name: str) -> DataError:
    wrong = error.errors()[0]
    key = str(wrong["loc"][-1]) if wrong["loc"] else ""
    hint = nearest_of(key, SetKeys.model_fields) if wrong["type"] == "extra_forbidden" else ""
    told = f"set {number}: {f'{key}: ' if key else ''}{wrong['msg']}"
    keys = ", ".join(SetKeys.model_fields)
    return DataError(told, where=name, remedy=f"{hint}keys are {keys}")
