"""One option: a field of a frozen dataclass that knows its text, its flag and what it admits.

From the fields of a command's dataclass come its command line, the settings in its report, the
command that repeats it, what resumption compares, and a schema for forms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Self

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count, check_finite

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

GROUP = "group"

KINDS = {
    "str": "text", "bool": "flag", "int": "whole", "float": "number",
    "str | Path": "path", "Path": "path", "Model": "text", "Data": "data",
    "Sequence[float]": "numbers", "tuple[float, float]": "pair", "str | Sequence[str]": "sources",
    "TrainData": "by_model",
}  # fmt: skip
"""What an annotation means on a command line; other sequences are texts, all else is a text."""


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name, type and default.

    Attributes:
        text: One sentence of help.
        flag: With its dashes; empty where only Python has it, or where it stands by its position.
        short: A second spelling, such as `-o`.
        choices: The words that it admits.
        least: The smallest count that makes sense.
        panel: Heading in `--help`.
        metavar: What its value is called there.
        unset: What happens where it is not given, shown as its default where that is None.
        recorded: Whether it is among the settings in the report.
        required: Whether a command line has to give it, where Python may leave it out.
        positional: Whether it stands by its position.
        switches_off: Whether the flag turns off what is on by default.
        shared: Whether its flag is another option's of the command: both get the same value.
        greedy: Whether it takes all words up to the next option, as a shell spells out a pattern.
    """

    text: str
    flag: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()
    least: int | None = None
    panel: str = ""
    metavar: str = ""
    unset: str = ""
    recorded: bool = True
    required: bool = False
    positional: bool = False
    switches_off: bool = False
    shared: bool = False
    greedy: bool = False

    @property
    def name(self) -> str:
        """The flag as an identifier; empty where there is none.

        Example:
            >>> Option("", "--no-eval").name, Option("", "--lambda").name
            ('no_eval', 'lambda_')
        """
        found = self.flag.lstrip("-").replace("-", "_")
        return found + "_" * iskeyword(found)


class Text(str):
    """The text of an option, with what else is known of it.

    transformers' HfArgumentParser hands all metadata of a field to argparse, which takes a help
    text and nothing of ours.
    """

    flag: str | None
    known: dict[str, Any]

    def __new__(cls, text: str, flag: str | None, known: dict[str, Any]) -> Self:
        """A string with attributes."""
        made = super().__new__(cls, text)
        made.flag, made.known = flag, known
        return made

    def option(self, name: str) -> Option:
        """The option of a field of this name."""
        spelt = f"--{name.replace('_', '-')}" if self.flag is None else self.flag
        return Option(str(self), spelt, **self.known)


def option(default: Any, text: str, flag: str | None = None, **known: Any) -> Any:
    """A field that is an option.

    Args:
        default: Its value where it is not given; `dataclasses.MISSING` where it has to be.
        text: One sentence of help; transformers' HfArgumentParser shows it, too.
        flag: Its spelling where that is not its name; empty where only Python has it.
        known: As in `Option`.
    """
    return field(default=default, metadata={"help": Text(text, flag, known)})


def argument(text: str, metavar: str, default: Any = MISSING, unset: str = "") -> Any:
    """A field that stands by its position on the command line."""
    return option(default, text, "", metavar=metavar, positional=True, recorded=False, unset=unset)


def like(made: type[DataclassInstance], name: str, **known: Any) -> Any:
    """A field that is the option of another dataclass.

    Args:
        made: Where the option is declared.
        name: Of the field there.
        known: What is otherwise here, as in `Option`.

    Example:
        >>> from mergekit_geo.config.output import OutputConfig
        >>> like(OutputConfig, "overwrite", panel="").metadata["help"].known
        {'panel': ''}
    """
    found = made.__dataclass_fields__[name]
    text = found.metadata["help"]
    return option(found.default, str(text), text.flag, **{**text.known, **known})


def group(made: type[DataclassInstance], *, inline: bool = False, off: Option | None = None) -> Any:
    """A field that holds further options.

    Args:
        made: Their dataclass; its defaults are the field's.
        inline: Whether its settings stand beside the command's own in a report.
        off: The option that leaves all of them out: the field is None then.
    """
    return field(default=made(), metadata={GROUP: made, "inline": inline, "off": off})


@dataclass(frozen=True)
class Declared:
    """An option where it is declared.

    Attributes:
        path: Names of the fields that lead to it from the command's dataclass.
        option: What is known of it.
        kind: One of the values of `KINDS`, or `off`: the flag that leaves out a group.
        default: Where it is not given; `MISSING` where it has to be.
        optional: Whether None is a value of it.
    """

    path: tuple[str, ...]
    option: Option
    kind: str
    default: Any
    optional: bool

    @property
    def name(self) -> str:
        """An identifier, distinct among the options of a command: the flag's, or the field's.

        Example:
            >>> from mergekit_geo.config.measures import Compute
            >>> [found.name for found in own_options(Compute)][:2]
            ['device', 'compute_dtype']
        """
        return self.option.name or self.path[-1]

    @property
    def on_command_line(self) -> bool:
        """Whether it can be given there."""
        return bool(self.option.flag) or self.option.positional


def own_options(made: type[DataclassInstance], before: tuple[str, ...] = ()) -> Iterator[Declared]:
    """Options of a dataclass itself, without those of its groups."""
    for found in own_first(made):
        text = found.metadata.get("help")
        if isinstance(text, Text):
            annotation = _annotation(made, found.name)
            yield Declared(
                (*before, found.name), text.option(found.name),
                _kind_of(annotation.removesuffix(" | None")), found.default,
                annotation.endswith(" | None"),
            )  # fmt: skip


def _annotation(made: type[DataclassInstance], name: str) -> str:
    """An annotation as text: HfArgumentParser replaces `Field.type` by a class."""
    bases = (vars(base).get("__annotations__", {}) for base in made.__mro__)
    return str(next(own[name] for own in bases if name in own))


def _kind_of(annotation: str) -> str:
    return KINDS.get(annotation, "texts" if "Sequence[" in annotation else "text")


def declared(made: type[DataclassInstance], before: tuple[str, ...] = ()) -> Iterator[Declared]:
    """All options of a dataclass: its own, those of its groups, then what it inherits."""
    for found in own_first(made):
        path = (*before, found.name)
        if "help" in found.metadata:
            yield from (one for one in own_options(made, before) if one.path == path)
        elif GROUP in found.metadata:
            yield from declared(found.metadata[GROUP], path)
            if (off := found.metadata["off"]) is not None:
                yield Declared(path, off, "off", default=False, optional=False)


def own_first(made: type[DataclassInstance]) -> list[dataclasses.Field[Any]]:
    """Fields, those of a subclass before those that it inherits."""
    order = [name for base in made.__mro__ for name in vars(base).get("__annotations__", ())]
    return sorted(dataclasses.fields(made), key=lambda found: order.index(found.name))


def check(settings: DataclassInstance) -> None:
    """Refuse words that an option does not admit, and numbers that cannot be meant.

    Raises:
        ArgumentError: With what was expected.

    Example:
        >>> from mergekit_geo.config.data import EvalData
        >>> EvalData(seq_len=1)
        Traceback (most recent call last):
        mergekit_geo.errors.ArgumentError: seq-len must be at least 2, found 1
    """
    for found in own_options(type(settings)):
        value = getattr(settings, found.path[-1])
        if value is None and found.optional:
            continue
        if found.option.choices:
            _check_choice(found, value)
        elif found.option.least is not None:
            check_count(found.path[-1], value, found.option.least)
        elif found.kind == "number":
            check_finite(found.path[-1], value)


def _check_choice(found: Declared, value: object) -> None:
    if value not in found.option.choices:
        name = found.name.replace("_", "-")
        raise ArgumentError(f"{name} {value!r}: expected one of {', '.join(found.option.choices)}")
