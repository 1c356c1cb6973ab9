"""Members that a recipe trains first: their names, who uses them, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mergekit_geo.recipes.finetune import FinetuneKeys
from mergekit_geo.recipes.schema import Recipe

MEMBERS = ".members"
"""Members lie in OUT.members, each in a folder of its name."""


@dataclass(frozen=True)
class RecipeMember:
    """One model that is trained first.

    Attributes:
        name: What the recipe calls it, and the folder it lies in.
        position: Of its entry in the recipe.
        entry: How it is trained.
        offset: Added to the seed of the entry.
    """

    name: str
    position: int
    entry: FinetuneKeys
    offset: int = 0


@dataclass(frozen=True)
class Misnamed:
    """A member name that is not valid, and why.

    Attributes:
        loc: Keys that lead to it.
        said: What is wrong.
        remedy: What to write.
    """

    loc: tuple[int | str, ...]
    said: str
    remedy: str


def members_of(recipe: Recipe) -> tuple[RecipeMember, ...]:
    """Every member of a recipe, in its order.

    Example:
        >>> entry = {"name": "flat", "model": "base", "train_data": "x.txt", "members": 2}
        >>> recipe = {"merge_method": "linear", "finetune": [entry]}
        >>> [member.name for member in members_of(Recipe.model_validate(recipe))]
        ['flat-0', 'flat-1']
    """
    return tuple(m for i, entry in enumerate(recipe.finetune) for m in _of_entry(i, entry))


def _of_entry(position: int, entry: FinetuneKeys) -> Iterator[RecipeMember]:
    if entry.members is None:
        yield RecipeMember(entry.name, position, entry)
        return
    for i in range(entry.members):
        yield RecipeMember(f"{entry.name}-{i}", position, entry, i)


def misnamed(recipe: Recipe) -> Misnamed | None:
    """The first name of a member that is not valid; None where all are."""
    members = members_of(recipe)
    counts, used = Counter(member.name for member in members), _used(recipe)
    for member in reversed(members):
        if counts[member.name] > 1:
            said = f"two members are called {member.name}"
            return Misnamed(_loc(member, "name"), said, "give each a name of its own")
    for member in members:
        if member.entry.model in counts:
            said = f"{member.entry.model} is trained here itself, and cannot be trained on"
            return Misnamed(_loc(member, "model"), said, "name a model that is there already")
        if member.name not in used:
            remedy = f"add `- model: {member.name}` to models, or leave the member out"
            return Misnamed(_loc(member, "name"), f"nothing uses {member.name}", remedy)
    return None


def _loc(member: RecipeMember, key: str) -> tuple[int | str, ...]:
    return ("finetune", member.position, key)


def _used(recipe: Recipe) -> set[str | None]:
    """Names of models that take part."""
    parts = [recipe, *(recipe.modules or {}).values()]
    entries = [entry.model for part in parts for entry in part.models or []]
    slices = [one for part in parts for one in part.slices or []]
    sources = [source.model for one in slices for source in one.sources]
    return {*entries, *sources, *(one.base_model for one in slices), recipe.base_model}


@contextmanager
def folder_of_members(out: Path | None, given: str | Path | None) -> Iterator[Path]:
    """Folder of the members: as given, beside the output, or a temporary one.

    Args:
        out: Of the merge; None where it stays in memory.
        given: By the caller.
    """
    if given is not None:
        yield Path(given)
    elif out is not None:
        yield beside(out)
    else:
        with TemporaryDirectory(suffix=MEMBERS) as folder:
            yield Path(folder)


def beside(out: Path) -> Path:
    """The folder of the members of an output.

    >>> beside(Path("runs/out")).name
    'out.members'
    """
    return out.with_name(out.name + MEMBERS)
