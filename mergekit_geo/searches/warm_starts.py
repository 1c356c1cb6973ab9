"""Where a search starts: the recipe's defaults, the uniform soup and the parents, where it can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from mergekit_geo.errors import GeoError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.masked import Elementwise, Masked
from mergekit_geo.geometry.median import GeometricMedian
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.method import BaseUse
from mergekit_geo.merging.parameter import Argument
from mergekit_geo.merging.whole import Whole
from mergekit_geo.recipes.inputs import Inputs, inputs_of
from mergekit_geo.recipes.reading import read_recipe
from mergekit_geo.recipes.values import Value, number_of, numbers_in
from mergekit_geo.searches.dimension import Dimension
from mergekit_geo.searches.gaps import METHOD
from mergekit_geo.searches.names import short_names
from mergekit_geo.searches.space import Space
from mergekit_geo.searches.trial import Values

Start = tuple[str, Values]
"""What a start is called, and its values."""

CLOSE = 1e-9
"""Coefficients this near are equal."""

WHOLE = {"density": 1.0, "lambda": 1.0}
"""Parameters at which a method changes nothing of a weighted sum of task vectors."""


def warm_starts(space: Space) -> list[Start]:
    """Points to try first: defaults, then the uniform soup and the parents where it has them.

    Equal points are there once, under all their titles.

    Args:
        space: What is searched.

    Example:
        >>> models = [{"model": name, "parameters": {"weight": {"min": 0, "max": 1}}}
        ...           for name in ("prose", "code")]
        >>> space = Space.of({"merge_method": "linear", "models": models})
        >>> [title for title, _ in warm_starts(space)]
        ['default recipe and uniform soup', 'prose alone', 'code alone']
    """
    starts = list(_defaults(space))
    models = models_of(space)
    equal = dict.fromkeys(models, 1 / len(models))
    named = short_names(models)
    wanted = [("uniform soup", equal)] if len(models) > 1 else []
    wanted += [(f"{named[one]} alone", {one: 1.0}) for one in models]
    for title, weights in wanted:
        if (values := with_weights(space, weights)) is not None:
            starts.append((title, values))
    return _once(starts)


def with_weights(
    space: Space, weights: Mapping[str, float], *, exact: bool = True
) -> Values | None:
    """Values at which the merge is a weighted sum of models; None where the space has none.

    Args:
        space: What is searched.
        weights: Of models, as the recipe names them; the others have none.
        exact: Whether the merge must be that sum. Else the weights are given to a method that
            makes something else of them, such as TIES, as near as the ranges allow.
    """
    methods: Sequence[str | None] = space.methods or (None,)
    for method in methods:
        chosen: Values = {} if method is None else {METHOD: method}
        if not exact:
            return _weighted(space, chosen, weights, exact=False)
        for scale in _scales(space, weights):
            scaled = {one: scale * weight for one, weight in weights.items()}
            values = _weighted(space, chosen, scaled)
            if space.contains(values) and _holds(_inputs(space, values), weights):
                return values
    return None


def models_of(space: Space) -> list[str]:
    """The models that the recipes of a space merge, without the base of task vectors."""
    found = [part for title, values in _defaults(space) for part in _inputs(space, values).parts]
    return list(dict.fromkeys(name for part in found for name in _parents(part)))


def _parents(part: Inputs) -> tuple[str, ...]:
    return part.taken if part.method.base is BaseUse.END else part.members


def _defaults(space: Space) -> Iterator[Start]:
    """The defaults of the recipe, and of it under every other method."""
    yield "default recipe", space.defaults
    for method in space.methods:
        if method != space.defaults[METHOD]:
            yield f"default of {method}", space.with_defaults({METHOD: method})


def _once(starts: Sequence[Start]) -> list[Start]:
    """Starts of which no two have the same values."""
    found: list[Start] = []
    for title, values in starts:
        same = next((i for i, (_, known) in enumerate(found) if known == values), None)
        if same is None:
            found.append((title, values))
        else:
            found[same] = (f"{found[same][0]} and {title}", values)
    return found


def _inputs(space: Space, values: Values) -> Inputs:
    return inputs_of(read_recipe(space.resolved(values)))


def _scales(space: Space, weights: Mapping[str, float]) -> list[float]:
    """Factors of all weights to try: where weights are normalised, they change nothing."""
    rooms = [
        one.high / weights[one.model]
        for one in space.dimensions
        if one.parameter == "weight" and not one.is_choice and weights.get(one.model, 0) > 0
    ]
    return [1.0, len(weights), *([min(rooms)] if rooms else [])]


def _weighted(
    space: Space, chosen: Values, weights: Mapping[str, float], *, exact: bool = True
) -> Values:
    """Values with these weights, and all else as it is or, exactly, so that it adds nothing."""
    end = _inputs(space, space.with_defaults(chosen)).members[0]
    wanted = dict(WHOLE) if exact else {}
    wanted |= {"t": weights.get(end, 0.0), "weight": next(iter(weights.values()))}
    values = dict(chosen)
    for one in space.dimensions:
        number = (
            weights.get(one.model, 0.0)
            if one.parameter == "weight" and one.model
            else (wanted.get(one.parameter))
        )
        if number is not None:
            values[one.name] = _taken(one, number, exact=exact)
    return space.with_defaults(values)


def _taken(one: Dimension, number: float, *, exact: bool) -> float | str:
    """The number as a dimension has it: the choice of it, or within the range."""
    if one.is_choice:
        return next((label for label in one.labels if number_of(label) == number), one.default)
    return number if exact else min(max(number, one.low), one.high)


def _holds(inputs: Inputs, weights: Mapping[str, float]) -> bool:
    """Whether a merge is this weighted sum of models."""
    return all(_is_sum(part, weights) for part in inputs.parts)


def _is_sum(part: Inputs, weights: Mapping[str, float]) -> bool:
    rule = _rule(part)
    if rule is None or not {one for one, w in weights.items() if w} <= set(part.taken):
        return False
    if isinstance(rule, Elementwise) and not _is_linear(rule):
        return False
    if isinstance(rule, Whole):
        return False
    if isinstance(rule, GeometricMedian) and np.count_nonzero(rule.weights) > 1:
        return False  # between two models of equal weight every point is one
    count = len(part.taken)
    vectors = np.random.default_rng(0).normal(size=(count, 4 * count))
    found = rule.coefficients(Gram.of(vectors)).values
    wanted = [weights.get(name, 0.0) for name in part.taken]
    return bool(np.allclose(found, wanted, rtol=0, atol=CLOSE))


def _rule(part: Inputs) -> Rule | None:
    """The rule of all tensors; None where tensors differ, or the numbers contradict each other."""
    each = {key: [_only(value) for value in values] for key, values in part.each.items()}
    shared = {key: _only(value) for key, value in part.shared.items()}
    if any(None in numbers for numbers in [*each.values(), shared.values()]):
        return None
    values: dict[str, Argument] = {key: tuple(map(float, own)) for key, own in each.items()}  # type: ignore[arg-type]
    with suppress(GeoError):
        return part.method.make({**values, **shared}, len(part.members), part.base is not None)  # type: ignore[dict-item]
    return None


def _only(value: Value) -> float | bool | None:
    """The number that all tensors have; None where they differ."""
    numbers = set(numbers_in(value))
    return numbers.pop() if len(numbers) == 1 else None


def _is_linear(rule: Elementwise) -> bool:
    """Whether a rule by elements keeps all of what counts, and no signs are voted on."""
    if not isinstance(rule, Masked):
        return False
    counting = [kept for weight, kept in zip(rule.step, rule.kept, strict=True) if weight]
    alone = len(counting) <= 1
    return all(one.density == 1 for one in counting) and (alone or not rule.elect)
