"""What `--help` and the documentation say of the merge methods, derived from their table."""

from __future__ import annotations

from collections import defaultdict

from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.merging.parameter import Parameter


def options() -> dict[str, Parameter]:
    """Every parameter of the methods, by its keyword; defaults differ from method to method.

    Example:
        >>> list(options())[:3], options()["lambda_"].flag
        (['weights', 'normalize', 't'], '--lambda')
    """
    return {each.keyword: each for method in METHODS.values() for each in method.parameters}


def option_help(parameter: Parameter) -> str:
    """What an option does, its bounds, and whether models can differ in it.

    Example:
        >>> option_help(options()["gamma"])
        'Fraction of the largest elements dropped. In [0, 1); one for all models or one per \
model.'
    """
    said = [f"in {parameter.bounds}"] if parameter.bounds else []
    said += ["one for all models or one per model"] if parameter.each else []
    line = "; ".join(said)
    return f"{parameter.text} {line[:1].upper()}{line[1:]}." if line else parameter.text


def defaults(parameter: Parameter) -> str:
    """The default of an option, for each of the methods that take it.

    Example:
        >>> defaults(options()["gamma"])
        '0.01 (breadcrumbs, breadcrumbs_ties)'
    """
    found = defaultdict(list)
    for method in METHODS.values():
        for each in method.parameters:
            if each.keyword == parameter.keyword:
                found[_shown(each)].append(method.name)
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def requirements(method: Method, *, in_recipe: bool = False) -> str:
    """What a method takes, and its defaults, in one line.

    Args:
        method: Of the table.
        in_recipe: Leave out the defaults of what a recipe must give.

    Example:
        >>> requirements(METHODS["task_arithmetic"])
        'a base; weight 1, lambda 1, normalize false'
    """
    said = ", ".join(
        each.name if in_recipe and each.stated else f"{each.name} {_shown(each)}"
        for each in method.parameters
    )
    base = "" if method.base is BaseUse.NONE else method.base.value
    data = f"training data of each model: {method.needs}" if method.needs else ""
    return "; ".join(part for part in (base, data, said) if part)


def listing(*, in_recipe: bool = False) -> list[tuple[str, str, str, str]]:
    """Name, formula, source and requirements of every method, in the order of the table."""
    return [
        (each.name, each.formula, each.source, requirements(each, in_recipe=in_recipe))
        for each in METHODS.values()
    ]


def merge_command(name: str) -> str:
    """The command that merges by a method; empty where `geo-merge merge` has none of this name.

    Example:
        >>> merge_command("ties"), merge_command("greedy")
        ('geo-merge merge MODEL... --method ties --base BASE -o OUT', '')
    """
    method = METHODS.get(name)
    if method is None or method.by_loss:
        return ""
    base = " --base BASE" * (method.base is BaseUse.REQUIRED)
    data = " --train-data MODEL=SOURCE..." * bool(method.needs)
    return f"geo-merge merge MODEL... --method {name}{base}{data} -o OUT"


def _shown(parameter: Parameter) -> str:
    value = parameter.default
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
