"""A model as a recipe names it: text, or the mapping that mergekit writes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator

from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.hub_id import HubId
from mergekit_geo.files.sound_json import brief

OVERRIDE = "override_architecture"
PARTS = ("model", "lora", OVERRIDE)
PLACE = ("path", "revision")


def reference(said: Any) -> Any:
    """The text for a mapping of base and adapter; anything else as it is.

    Raises:
        ArgumentError: No model, a key that means nothing here, or a setting that is not built.

    Example:
        >>> reference({"model": {"path": "org/a", "revision": "v1"}, "lora": {"path": "org/l"}})
        'org/a@v1+org/l'
        >>> reference("org/a")
        'org/a'
    """
    if not isinstance(said, dict):
        return said
    if "path" in said:
        return _place(said)
    _refuse_others(said, PARTS)
    stated = said.get(OVERRIDE)
    if not isinstance(stated, str | None):
        raise ArgumentError(f"{OVERRIDE}: expected the name of a class, found {brief(stated)}")
    pieces = [said.get("model")] + ([] if said.get("lora") is None else [said["lora"]])
    return "+".join(map(_place, pieces))


def overrides(raw: Any) -> dict[str, str]:
    """Architectures that mappings of models name in the place of those in `config.json`.

    Args:
        raw: A recipe, or a part of it, as YAML has it.

    Raises:
        ArgumentError: One model has two.

    Example:
        >>> model = {"model": "a", "override_architecture": "LlamaForCausalLM"}
        >>> overrides({"base_model": model, "models": [{"model": "b"}]})
        {'a': 'LlamaForCausalLM'}
    """
    found: dict[str, str] = {}
    for name, architecture in _overrides(raw):
        if found.setdefault(name, architecture) != architecture:
            raise ArgumentError(
                f"{name} has two architectures, {found[name]} and {architecture}",
                remedy="name one of them wherever the model stands",
            )
    return found


def _overrides(raw: Any) -> Iterator[tuple[str, str]]:
    if isinstance(raw, dict):
        if isinstance(raw.get(OVERRIDE), str) and "model" in raw:
            with suppress(ArgumentError):  # told where the model is read
                yield reference(raw), raw[OVERRIDE]
        for value in raw.values():
            yield from _overrides(value)
    elif isinstance(raw, list):
        for one in raw:
            yield from _overrides(one)


def _place(said: Any) -> str:
    if isinstance(said, str):
        return said
    if not isinstance(said, dict) or not isinstance(said.get("path"), str):
        raise ArgumentError(
            f"expected a model, found {brief(said)}", remedy="write `model: org/name` or a folder"
        )
    _refuse_others(said, PLACE)
    path, revision = said["path"], said.get("revision")
    if not revision:
        return str(path)
    found = HubId.parse(path)
    return str(found.at(revision)) if found else f"{path}@{revision}"


def _refuse_others(said: dict[Any, Any], known: tuple[str, ...]) -> None:
    if other := [key for key in said if key not in known]:
        raise ArgumentError(f"unknown key {other[0]}", remedy=f"known here: {', '.join(known)}")


Reference = Annotated[str, BeforeValidator(reference)]
"""The text that opens a model."""
