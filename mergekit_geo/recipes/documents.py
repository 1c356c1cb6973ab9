"""Several recipes in one file, of which some are models of others: what is made, and in what order.

As in mergekit-multi, a document with `name:` is a model that others name; the one without is the
output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.local_path import local_path
from mergekit_geo.recipes.members import members_of
from mergekit_geo.recipes.reading import Document, read_documents
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.views.again import renamed

if TYPE_CHECKING:
    from mergekit_geo.specs.merges import Recipes


@dataclass(frozen=True)
class Documents:
    """The recipes of a file.

    Attributes:
        output: The one whose output is the command's.
        before: Those that it needs, each after those that it needs itself.
    """

    output: Document
    before: tuple[Document, ...] = ()

    def needed_by(self, document: Document) -> tuple[Document, ...]:
        """Documents that one of them needs, in their order."""
        names = {str(one.name) for one in self.before}
        found = _used(document.recipe, names)
        for one in reversed(self.before):
            if one.name in found:
                found |= _used(one.recipe, names)
        return tuple(one for one in self.before if one.name in found)


def read_all(source: Recipes, *, strict: bool = False) -> Documents:
    """The recipes of a file, of YAML text, of a mapping or of a list of mappings.

    Args:
        source: As a call names it.
        strict: Refuse keys that have no effect where they stand.

    Raises:
        RecipeError: One is none, or which is the output cannot be told, or they go in a circle.

    Example:
        >>> first = {"name": "x", "merge_method": "linear", "models": [{"model": "a"}]}
        >>> last = {"merge_method": "linear", "models": [{"model": "x"}, {"model": "b"}]}
        >>> found = read_all([last, first])
        >>> [one.name for one in found.before], found.output.name
        (['x'], None)
    """
    documents = read_documents(source, strict=strict)
    if len(documents) == 1:
        return Documents(documents[0])
    _refuse_repeated(documents)
    names = {one.name for one in documents if one.name is not None}
    by_name = {one.name: _by_names(one, names) for one in documents}
    uses = {name: _used(one.recipe, names) for name, one in by_name.items()}
    order = _in_order(by_name, uses)
    output = by_name[_output(by_name, uses)]
    found = Documents(output, tuple(by_name[name] for name in order if name != output.name))
    needed = found.needed_by(output)
    told = [_unused(one) for one in found.before if one not in needed]
    told += [_shadowing(one) for one in needed if local_path(str(one.name)).exists()]
    return Documents(replace(output, warnings=(*output.warnings, *told)), needed)


def documents_of(asked: RunSpec) -> Documents:
    """The recipes of a call; its seed goes before theirs.

    Raises:
        RecipeError: As `read_all`.
    """
    found = read_all(asked.recipe, strict=asked.strict)
    if asked.seed is None:
        return found
    return Documents(
        _seeded(found.output, asked.seed), tuple(_seeded(one, asked.seed) for one in found.before)
    )


def _seeded(document: Document, seed: int) -> Document:
    return replace(document, recipe=document.recipe.model_copy(update={"seed": seed}))


def named_in(reference: str, names: set[str]) -> str | None:
    """The document that a model's name stands for, an adapter on it aside.

    Example:
        >>> named_in("first+org/adapter", {"first"}), named_in("org/first", {"first"})
        ('first', None)
    """
    base = reference.partition("+")[0]
    return next((name for name in (reference, base) if name in names), None)


def _by_names(document: Document, names: set[str]) -> Document:
    """A recipe that may name others by where mergekit-multi leaves them: `intermediates/NAME`."""
    told: list[str] = []

    def meant(reference: str) -> str:
        path, plus, adapter = reference.partition("+")
        name = next((name for name in names if path.endswith(f"/{name}")), None)
        if name is None or path[0] not in "./" or path in names or local_path(path).exists():
            return reference
        told.append(f"{document.source}: {path} is no folder: the recipe {name} is meant")
        return f"{name}{plus}{adapter}"

    said = renamed(document.recipe.model_dump(exclude_none=True, exclude_defaults=True), meant)
    if not told:
        return document
    warnings = (*document.warnings, *dict.fromkeys(told))
    return replace(document, recipe=Recipe.model_validate(said), warnings=warnings)


def _used(recipe: Recipe, names: set[str]) -> set[str]:
    """Documents that a recipe names as models; members that it trains itself go before them."""
    found: set[str] = set()
    own = {member.name for member in members_of(recipe)}

    def note(reference: str) -> str:
        found.add(named_in(reference, names - own) or "")
        return reference

    renamed(recipe.model_dump(exclude_none=True), note)
    return found - {""}


def _refuse_repeated(documents: Sequence[Document]) -> None:
    counts = Counter(one.name for one in documents)
    name, count = counts.most_common(1)[0]
    if count == 1:
        return
    last = [one for one in documents if one.name == name][-1]
    if name is None:
        raise RecipeError(
            f"{count} recipes have no name; the one without is the output",
            where=last.where(),
            remedy="give the others a `name`, by which models of later ones name them",
        )
    raise RecipeError(
        f"{count} recipes are called {name}",
        where=last.where("name"),
        remedy="give each a name of its own",
    )


def _in_order(
    by_name: Mapping[str | None, Document], uses: Mapping[str | None, set[str]]
) -> list[str | None]:
    try:
        return list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        circle = error.args[1][::-1]  # each needs the next
        raise RecipeError(
            f"recipes go in a circle, each made of the next: {' -> '.join(circle)}",
            where=by_name[circle[0]].where("name"),
            remedy="one of them must be made of models that are there",
        ) from error


def _output(
    by_name: Mapping[str | None, Document], uses: Mapping[str | None, set[str]]
) -> str | None:
    """The recipe without a name, else the only one that no other is made of."""
    if None in by_name:
        return None
    last = [name for name in by_name if not any(name in used for used in uses.values())]
    if len(last) == 1:
        return last[0]
    raise RecipeError(
        f"which recipe makes the output cannot be told: nothing is made of {_row(last)}",
        where=by_name[last[-1]].where("name"),
        remedy="leave out the `name` of the output, or put each into a file of its own",
    )


def _row(names: Sequence[str | None]) -> str:
    return ", ".join(map(str, names))


def _unused(document: Document) -> str:
    return f"{document.where('name')}: nothing is made of {document.name}: it is left out"


def _shadowing(document: Document) -> str:
    name = document.name
    return (
        f"{document.where('name')}: {name} is a folder, too: the recipe is meant wherever a model "
        f"is called {name} (write ./{name} for the folder)"
    )
