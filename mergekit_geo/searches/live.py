"""Which gaps of a recipe change something, under which methods, and where a search starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mergekit_geo.errors import RecipeError
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.inputs import Inputs, inputs_of
from mergekit_geo.recipes.misplaced import swept
from mergekit_geo.recipes.reading import Document, document_of
from mergekit_geo.recipes.written import Written
from mergekit_geo.searches.dimension import Dimension
from mergekit_geo.searches.gaps import METHOD, RecipeGap
from mergekit_geo.searches.ranges import Choices, NumberRange
from mergekit_geo.searches.template import Fork, filled, laid_over
from mergekit_geo.searches.trial import Values


def recipe_of(template: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The plain recipe that values make of a template.

    Under a choice of methods, parameters that the chosen one does not take are left out.

    Args:
        template: A recipe with gaps.
        values: Of every gap that is asked for.
    """
    fork = template.get(METHOD)
    if not isinstance(fork, Fork):
        return dict(filled(template, values))
    branch = fork.branches[str(values[METHOD])]
    kept, _ = swept(filled(laid_over(template, branch), values))
    return kept


@dataclass(frozen=True)
class Variant:
    """The recipe under one of the methods that it may have.

    Attributes:
        label: Of the choice; None where there is one method.
        text: The recipe as written, with its gaps; lines are those of the file.
        template: The same.
        values: In the middle of every range.
        document: The recipe with these.
        inputs: Who takes part.
    """

    label: str | None
    text: Written
    template: Mapping[str, Any]
    values: Values
    document: Document
    inputs: Inputs

    @classmethod
    def of(
        cls,
        label: str | None,
        text: Written,
        template: Mapping[str, Any],
        gaps: Sequence[RecipeGap],
    ) -> Variant:
        """The recipe under one method, read and checked.

        Raises:
            RecipeError: It is no recipe, with the line; or its method chooses by loss itself.
        """
        lines = text if label is None else _lines(text, _number(gaps, label))
        chosen = {} if label is None else {METHOD: label}
        for end in (0, -1):
            _read(lines, template, {gap.name: _ends(gap.asks)[end] for gap in gaps} | chosen)
        values = {gap.name: _middle(gap.asks) for gap in gaps} | chosen
        document, inputs = _read(lines, template, values)
        if inputs.method.by_loss:
            raise RecipeError(
                f"{inputs.name} chooses by loss itself, and is not searched",
                where=document.where(METHOD),
                remedy="name a method with numbers: linear, task_arithmetic, ties",
            )
        return cls(label, lines, template, values, document, inputs)

    def holds(self, gap: RecipeGap) -> bool:
        """Whether the gap stands in this variant."""
        return all(label == self.label for name, label in gap.under if name == METHOD)

    def changes(self, gap: RecipeGap) -> bool:
        """Whether the merge depends on what is put into the gap.

        Raises:
            RecipeError: Something that may be put there cannot be meant.
        """
        under = {**self.values, **dict(gap.under)}
        found = [
            _read(self.text, self.template, {**under, gap.name: end})[1] for end in _ends(gap.asks)
        ]
        return any(one != found[0] for one in found)


def _read(text: Written, template: Mapping[str, Any], values: Values) -> tuple[Document, Inputs]:
    document = document_of(Written(recipe_of(template, values), text.source, text.node))
    return document, inputs_of(document.recipe)


def _middle(asks: NumberRange | Choices) -> float | str:
    return asks.labels[0] if isinstance(asks, Choices) else asks.middle


def _ends(asks: NumberRange | Choices) -> tuple[float | str, ...]:
    return asks.labels if isinstance(asks, Choices) else (asks.low, asks.high)


def _number(gaps: Sequence[RecipeGap], label: str) -> int:
    asks = next(gap.asks for gap in gaps if gap.name == METHOD)
    return asks.labels.index(label) if isinstance(asks, Choices) else 0


def _lines(text: Written, number: int) -> Written:
    """The recipe with the lines of one of the choices of its method laid over its own."""
    node = text.node
    if not isinstance(node, yaml.MappingNode):
        return text
    choices = _at(_at(node, METHOD), "choices")
    branch = choices.value[number] if isinstance(choices, yaml.SequenceNode) else None
    if not isinstance(branch, yaml.MappingNode):
        return text
    return Written(text.raw, text.source, _over(node, branch))


def _over(node: yaml.MappingNode, branch: yaml.MappingNode) -> yaml.MappingNode:
    own = {key.value: (key, value) for key, value in branch.value}
    outer, inner = _at(node, "parameters"), _at(branch, "parameters")
    if isinstance(outer, yaml.MappingNode) and isinstance(inner, yaml.MappingNode):
        own["parameters"] = (own["parameters"][0], _over(outer, inner))
    pairs = [pair for pair in node.value if pair[0].value not in own]
    return yaml.MappingNode(node.tag, [*own.values(), *pairs], node.start_mark, node.end_mark)


def _at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def dimensions_of(gaps: Sequence[RecipeGap], variants: Sequence[Variant]) -> tuple[Dimension, ...]:
    """A dimension for each gap, that is asked for where it changes something.

    Raises:
        RecipeError: A gap that changes nothing under any method, or that cannot take its values.
    """
    return tuple(_dimension(gap, variants) for gap in gaps)


def _dimension(gap: RecipeGap, variants: Sequence[Variant]) -> Dimension:
    _refuse_switch(gap)
    if gap.name == METHOD and isinstance(gap.asks, Choices):
        return Dimension(METHOD, METHOD, gap.asks.default, labels=gap.asks.labels)
    there = [one for one in variants if one.holds(gap)]
    live = [one for one in there if one.changes(gap)]
    if not live:
        _refuse_idle(gap, there)
    when: dict[str, tuple[str, ...]] = {name: (label,) for name, label in gap.under}
    if len(live) < len(variants):
        when[METHOD] = tuple(str(one.label) for one in live)
    where = gap.place.where
    if isinstance(gap.asks, Choices):
        labels, default = gap.asks.labels, gap.asks.default
        return Dimension(
            gap.name, gap.parameter, default,
            labels=labels, when=when, model=gap.model, where=where,
        )  # fmt: skip
    asks = gap.asks
    return Dimension(
        gap.name, gap.parameter, _default(gap, asks, live), asks.low, asks.high, asks.log,
        when=when, model=gap.model, where=where,
    )  # fmt: skip


def _refuse_switch(gap: RecipeGap) -> None:
    found = [p for method in METHODS.values() for p in method.parameters if p.name == gap.parameter]
    if isinstance(gap.asks, NumberRange) and any(one.is_switch for one in found):
        gap.place.refuse(
            f"{gap.parameter} is true or false, and no number", "write `{choices: [true, false]}`"
        )


def _refuse_idle(gap: RecipeGap, variants: Sequence[Variant]) -> None:
    methods = ", ".join(dict.fromkeys(one.inputs.name for one in variants))
    bases = {one.inputs.base for one in variants}
    why = (
        f"{gap.model} is the base"
        if gap.model and gap.model in bases
        else (f"{gap.parameter} has no part in {methods}")
    )
    gap.place.refuse(f"nothing depends on this: {why}", "leave it out")


def _default(gap: RecipeGap, asks: NumberRange, live: Sequence[Variant]) -> float:
    """Where a search starts: as the recipe says, or as the method does, or in the middle."""
    if asks.default is not None:
        return asks.default
    for variant in live:
        usual = {one.name: one.default for one in variant.inputs.method.parameters}
        own = [1 / len(variant.inputs.members)] if gap.parameter == "weight" else []
        for number in [*own, usual.get(gap.parameter, asks.middle)]:
            if number in asks:
                return float(number)
    return asks.middle
