"""What every mapping of a recipe is, and keys that are options of a command."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
)

from mergekit_geo.config.flags import made
from mergekit_geo.config.option import Declared, own_options
from mergekit_geo.limits import LARGEST, MOST

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Whole = Annotated[int, Field(strict=True)]
"""An integer; YAML's `true` is refused."""

TYPES: dict[str, Any] = {
    "text": str, "texts": list[str], "data": str, "flag": bool, "whole": Whole, "number": float
}  # fmt: skip


class RecipeKeys(BaseModel):
    """A mapping of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _own_first(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of its own come before those that are options."""
        found: dict[str, Any] = usual(self)
        own = {name: found[name] for name in type(self).__annotations__ if name in found}
        return {**own, **found}

    def settings(self, made_of: type[DataclassInstance], **more: Any) -> Any:
        """Settings of the keys that are options of theirs.

        Args:
            made_of: Their dataclass.
            more: Options that the recipe says by other keys, by name.
        """
        own = {one.name: getattr(self, one.name, None) for one in own_options(made_of)}
        given = {name: value for name, value in own.items() if name in type(self).model_fields}
        return made(made_of, {**given, **more})


def keyed(
    kind: type[DataclassInstance],
    *,
    leave: Collection[str] = (),
    only: Collection[str] | None = None,
    called: Mapping[str, str] = {},
    stated: bool = True,
) -> Any:
    """A mapping of a recipe whose keys are the options of a dataclass, called as its flags are.

    Args:
        kind: The dataclass.
        leave: Names of options that are no keys.
        only: Names of those that are, where not all others are.
        called: Names to keys, where they differ.
        stated: Whether the defaults are the options'; None, for what is said elsewhere, if not.
    """
    chosen = [
        one
        for one in own_options(kind)
        if one.on_command_line and one.name not in leave and (only is None or one.name in only)
    ]
    fields: dict[str, Any] = {
        called.get(one.name, one.name): _field(one, stated=stated) for one in chosen
    }
    return create_model(kind.__name__, __base__=RecipeKeys, **fields)


def _field(found: Declared, *, stated: bool) -> tuple[Any, Any]:
    choices = found.option.choices
    kind = Literal[choices] if choices else TYPES[found.kind]
    if found.option.least is not None and not stated:  # others are checked as settings are made
        kind = Annotated[kind, Field(ge=found.option.least, le=MOST.get(found.name, LARGEST))]
    optional = found.optional or not stated
    default = found.default if stated else None
    return (kind | None if optional else kind), Field(
        default=default, description=found.option.text
    )
