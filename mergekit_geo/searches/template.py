"""A recipe with gaps where a search puts numbers and choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergekit_geo.searches.trial import Values


@dataclass(frozen=True)
class Slot:
    """A gap for a number.

    Attributes:
        name: Of its range.
    """

    name: str


@dataclass(frozen=True)
class Fork:
    """A gap for one of several values, which can have gaps themselves.

    Attributes:
        name: Of the choice.
        branches: The values, by their labels.
    """

    name: str
    branches: Mapping[str, Any]


class _Absent:
    """Stands for a value that is not asked for."""


ABSENT = _Absent()


def filled(template: Any, values: Values) -> Any:
    """A template with values in its gaps.

    Parameters whose gaps have no value are left out.

    Args:
        template: A recipe or a part of one.
        values: By the names of the gaps.

    Example:
        >>> parameters = {"density": Slot("density"), "t": [0, Slot("t[1]")]}
        >>> filled({"parameters": parameters}, {"t[1]": 0.25})
        {'parameters': {'t': [0, 0.25]}}
    """
    if isinstance(template, Slot):
        return values.get(template.name, ABSENT)
    if isinstance(template, Fork):
        label = values.get(template.name)
        return ABSENT if label is None else filled(template.branches[str(label)], values)
    if isinstance(template, list):
        items = [filled(item, values) for item in template]
        return ABSENT if any(item is ABSENT for item in items) else items
    if not isinstance(template, dict):
        return template
    found = {key: _below(key, value, values) for key, value in template.items()}
    return ABSENT if any(value is ABSENT for value in found.values()) else found


def _below(key: str, value: Any, values: Values) -> Any:
    if key != "parameters" or not isinstance(value, dict):
        return filled(value, values)
    parameters = {name: filled(said, values) for name, said in value.items()}
    return {name: said for name, said in parameters.items() if said is not ABSENT}


def plain(template: Any) -> Any:
    """A template as JSON has it, its gaps by their names.

    Example:
        >>> plain({"parameters": {"density": Slot("density")}})
        {'parameters': {'density': '<density>'}}
    """
    if isinstance(template, Slot):
        return f"<{template.name}>"
    if isinstance(template, Fork):
        return {"choices": {label: plain(branch) for label, branch in template.branches.items()}}
    if isinstance(template, list):
        return [plain(item) for item in template]
    if isinstance(template, dict):
        return {str(key): plain(value) for key, value in template.items()}
    return template if isinstance(template, str | int | float | None) else str(template)


def laid_over(recipe: Mapping[str, Any], branch: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with the keys of a choice in place of its own.

    Parameters are laid over one by one; a key without a value takes the recipe's away.

    Args:
        recipe: Whose keys go behind.
        branch: Whose keys go before.

    Example:
        >>> recipe = {"base_model": "b", "parameters": {"lambda": 1}}
        >>> laid_over(recipe, {"merge_method": "linear", "base_model": None})
        {'parameters': {'lambda': 1}, 'merge_method': 'linear'}
    """
    found = {**recipe, **branch}
    both = [said.get("parameters") for said in (recipe, branch)]
    if all(isinstance(one, dict) for one in both):
        found["parameters"] = {**both[0], **both[1]}  # type: ignore[dict-item]
    return {key: value for key, value in found.items() if value is not None}
