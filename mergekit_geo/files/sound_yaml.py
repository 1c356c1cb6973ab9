"""YAML from outside, read within bounds.

Aliases of aliases say in a hundred characters what no memory holds, a circle of them has no end,
and numbers of thousands of digits or days that no calendar has end the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from mergekit_geo.errors import RecipeError

TEXT, DEPTH, NODES, NUMBER = 1 << 20, 50, 200_000, 100
"""Most characters, levels, values with aliases spelt out, and characters of a number."""

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")


def compose(text: str, name: str) -> list[yaml.Node]:
    """The documents of a text that hold anything, of bounded size.

    Args:
        text: Of a file.
        name: Of the file, for errors.

    Raises:
        RecipeError: It is no sound YAML, or larger than any recipe.
    """
    if len(text) > TEXT:
        raise RecipeError(f"{len(text):,} characters; expected at most {TEXT:,}", where=name)
    with _errors(name):
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if not _is_empty(node)]
        for node in nodes:
            _Bounds(name).count(node)
    return nodes


def construct(node: yaml.Node, name: str) -> Any:
    """What a document says.

    Args:
        node: As `compose` gives it.
        name: Of the file, for errors.

    Raises:
        RecipeError: Something in it is no value.
    """
    with _errors(name):
        return yaml.SafeLoader("").construct_document(node)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except RecipeError:
        raise
    except RecursionError:
        raise RecipeError(f"nested deeper than {DEPTH} levels", where=name) from None
    except yaml.YAMLError as error:
        raise _unsound(error, name) from error
    except (ValueError, OverflowError, TypeError, AttributeError) as error:
        raise RecipeError(f"not sound YAML: {error}", where=name) from error


def _is_empty(node: yaml.Node) -> bool:
    """Whether there is nothing between two lines of `---`."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


class _Bounds:
    """Counts what a document comes to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counted: dict[int, int] = {}
        self.open: set[int] = set()

    def count(self, node: yaml.Node) -> int:
        """Values in it, with aliases spelt out.

        Raises:
            RecipeError: Too many or too deep, a circle, or a number that is none.
        """
        if id(node) in self.open:
            raise self._refusal(node, "an alias stands inside what it stands for")
        if id(node) not in self.counted:
            self.open.add(id(node))
            if len(self.open) > DEPTH:
                raise self._refusal(node, f"nested deeper than {DEPTH} levels")
            self.counted[id(node)] = 1 + sum(map(self.count, self._parts(node)))
            self.open.remove(id(node))
        if self.counted[id(node)] > NODES:
            raise self._refusal(node, f"more than {NODES:,} values, with aliases spelt out")
        return self.counted[id(node)]

    def _parts(self, node: yaml.Node) -> list[yaml.Node]:
        """Keys and values of a mapping, or items of a list."""
        if isinstance(node, yaml.MappingNode):
            if odd := next((k for k, _ in node.value if not isinstance(k, yaml.ScalarNode)), None):
                raise self._refusal(odd, "a key is text")
            return [part for pair in node.value for part in pair]
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if node.tag in NUMBERS and len(node.value) > NUMBER:
            raise self._refusal(node, f"a number of {len(node.value):,} characters")
        return []

    def _refusal(self, node: yaml.Node, why: str) -> RecipeError:
        return RecipeError(why, where=f"{self.name}, line {node.start_mark.line + 1}")


def _unsound(error: yaml.YAMLError, name: str) -> RecipeError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    why = getattr(error, "problem", None) or str(error).splitlines()[0]
    place = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
    remedy = "indent with spaces" if "\\t" in why else "quote text that holds : or #"
    return RecipeError(f"not sound YAML: {why}", where=place, remedy=remedy)
