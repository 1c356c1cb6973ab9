"""A command's options as values, and as the words of a command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mergekit_geo.config.option import GROUP, Declared, declared, own_first, own_options
from mergekit_geo.errors import ArgumentError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNLIKE = ("source", "split", "max_examples")
"""What training data does not have of how data is read."""

CONVERTED = {"numbers", "texts", "sources", "by_model", "pair", "path", "flag"}
"""Kinds of options whose values are not what a command line gives."""

Made = TypeVar("Made", bound="DataclassInstance")


def flags(settings: DataclassInstance) -> list[str]:
    """The words that make these settings of the defaults: arguments first, then flags.

    Args:
        settings: A command's options, or a group of them.

    Example:
        >>> from mergekit_geo.config.data import EvalData
        >>> flags(EvalData("held.jsonl", max_examples=9))
        ['--data=held.jsonl', '--max-examples=9']
    """
    arguments, options, said = [], [], set()
    for found in sorted(declared(type(settings)), key=lambda one: one.option.shared):
        holder = _holder(settings, found)
        if found.name in said or holder is None:
            continue
        said.add(found.name)
        value = _value(holder, found)
        if found.option.positional:
            arguments += list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]
        elif value != found.default and found.option.flag:
            options += list(_words(found, value))
    return [*arguments, *options]


def _holder(settings: Any, found: Declared) -> Any:
    """What holds an option: the settings, or a group of them; None where that was left out.

    Training data is read as data would be that was left out.
    """
    if len(found.path) == 1:
        return settings
    group = getattr(settings, found.path[0])
    group = getattr(group, "said", group)  # of several sets, what they share
    if group is None and found.path[0] == "data" and found.path[-1] not in UNLIKE:
        return getattr(settings.train_data, "as_settings", None)
    return group


def _value(holder: Any, found: Declared) -> Any:
    value = getattr(holder, found.path[-1])
    return value is None if found.kind == "off" else value


def _words(found: Declared, value: Any) -> Iterator[str]:
    flag = found.option.flag
    if found.kind == "off":
        yield flag
    elif found.kind == "flag":
        yield flag if value or found.option.switches_off else f"--no-{flag[2:]}"
    elif found.kind in {"texts", "sources"} or hasattr(value, "words"):
        words = getattr(value, "words", value)
        several = words if isinstance(words, list | tuple) else [words]
        yield from (f"{flag}={one}" for one in several)
    elif found.kind == "numbers":
        values = value if isinstance(value, list | tuple) else [value]
        yield f"{flag}={','.join(map(repr, values))}"
    elif found.kind == "pair":
        yield from (flag, *map(repr, value))
    elif found.option.short:
        yield from (found.option.short, str(value))
    elif value is not None:
        yield f"{flag}={getattr(value, 'origin', value)}"


def made(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """Settings of the values of their options, by name; the others are the defaults.

    A group that is left out is checked all the same.

    Raises:
        ArgumentError: A value that cannot be meant.
    """
    own = {
        one.path[0]: read(one, values[one.name]) for one in own_options(kind) if one.name in values
    }
    groups = {one.name: one.metadata for one in fields(kind) if GROUP in one.metadata}
    built = {name: made(known[GROUP], values) for name, known in groups.items()}
    # made whole first: how data is read is said of training data, too
    whole = kind(**own, **built)
    off = [name for name, known in groups.items() if known["off"] and values.get(known["off"].name)]
    return replace(whole, **dict.fromkeys(off)) if off else whole


def read(found: Declared, value: Any) -> Any:
    """A value as the option has it, of what stands on a command line.

    Raises:
        ArgumentError: Numbers that are none.
    """
    if found.option.choices and value is not None:
        return str(value)
    if value is None or found.kind not in CONVERTED:
        return value
    if found.kind in {"sources", "by_model"} and (isinstance(value, str) or len(value) == 1):
        return value if isinstance(value, str) else value[0]
    if found.kind == "flag":
        return not value if found.option.switches_off else value
    if found.kind == "path":
        return Path(value)
    return numbers(value, found) if isinstance(value, str) else tuple(value)


def numbers(text: str, found: Declared) -> tuple[float, ...]:
    """Numbers written like `.5,.3,.2`.

    Raises:
        ArgumentError: One is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentError(
            f"{found.name} must be numbers, found {text!r}", remedy="write them like .5,.3,.2"
        ) from error


def settings_of(spec: DataclassInstance) -> dict[str, Any]:
    """All options as JSON keeps them: the command's own, then those of its groups.

    Objects that only memory holds, such as modules and objectives, are null.
    """
    own = {one.path[0]: one.option for one in own_options(type(spec))}
    found: dict[str, Any] = {}
    for one in own_first(type(spec)):
        value = getattr(spec, one.name)
        if GROUP in one.metadata and one.metadata["inline"]:
            found |= settings_of(value)
        elif GROUP in one.metadata or (one.name in own and own[one.name].recorded):
            found[one.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "settings"):
        return value.settings()
    if is_dataclass(value) and not isinstance(value, type):
        return settings_of(value) or None
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else None


def is_required(found: Declared) -> bool:
    """Whether an option has no default."""
    return found.default is MISSING
