"""The command that makes an output again, as its card gives it: from the output's own folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mergekit_geo.config.sets import is_named, named
from mergekit_geo.files.hub_id import split_subfolder
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report

AGAIN = "-again"
"""What is made again lies beside the output, under its name with this."""

MODEL_KEYS = ("model", "base_model", "tokenizer_source", "source")
"""Keys of a recipe that name a model."""

NO_MODELS = "objective"
"""Key of a recipe below which no model is named."""

TRAINING = "train_data"
"""Key of a recipe that names data, or data by model."""

WORDS = {"tokenizer_source": ("base", "union"), "source": ("base", "union")}
"""Values of these keys that are no names, whatever lies in the folder."""

DATA = (
    "--data=",
    "--train-data=",
    "--include-path=",
    "--base=",
    "--along=",
    "--layer-weights=",
    "--tokenizer-source=",
)


def command_again(report: Report) -> str:
    """The command of a report, to be run in the folder that holds the card.

    Paths are as seen from there. What a recipe names is as seen from where it was run, so that is
    gone to first, unless it is all on the Hub. Empty where no command makes it again.

    Args:
        report: Of a merge.
    """
    words = shlex.split(report.provenance.command) if report.provenance else []
    if not words or report.output is None or "-o" not in words:
        return shlex.join(words)
    out = report.output
    if report.command == "run" and any(model.revision is None for model in report.models):
        home = os.path.relpath(Path.cwd(), out)
        renamed = [out + AGAIN if word == out else word for word in words]
        return f"cd {shlex.quote(home)} && {shlex.join(renamed)}"
    end = words.index("-o")
    inputs = [_input(word, out) for word in words[2:end]]
    flags = [_flag(word, out) for word in words[end + 2 :]]
    return shlex.join([*words[:2], *inputs, "-o", f"../{Path(out).name}{AGAIN}", *flags])


def recipe_again(report: Report) -> str:
    """The recipe of a merge as YAML, with paths as seen from the folder that holds the card.

    Empty where no recipe says it.

    Args:
        report: Of any command.
    """
    result, out = report.result, report.output
    if not isinstance(result, MergeMeasurements) or not result.coefficients.recipe or not out:
        return ""
    said = _data_seen(renamed(result.coefficients.recipe, lambda name: _input(name, out)), out)
    recipes = said if isinstance(said, list) else [said]
    return str(yaml.safe_dump_all(recipes, sort_keys=False, allow_unicode=True)).rstrip()


def renamed(said: Any, name_of: Callable[[str], str], key: object = "") -> Any:
    """A recipe with other names for its models.

    Args:
        said: The recipe, or a part of it.
        name_of: From a name to the other.
        key: What the part stands under.

    Example:
        >>> renamed({"models": [{"model": "a"}], "merge_method": "slerp"}, str.upper)
        {'models': [{'model': 'A'}], 'merge_method': 'slerp'}
    """
    if isinstance(said, dict):
        return {
            name: value if name == NO_MODELS else renamed(value, name_of, name)
            for name, value in said.items()
        }
    if isinstance(said, list):
        return [renamed(item, name_of) for item in said]
    is_name = key in MODEL_KEYS and isinstance(said, str) and said not in WORDS.get(str(key), ())
    return name_of(said) if is_name else said


def _data_seen(said: Any, out: str, key: object = "") -> Any:
    """A recipe whose training data is named as seen from the output's folder."""
    if isinstance(said, dict):
        below = {name: TRAINING if key == TRAINING else name for name in said}
        return {name: _data_seen(value, out, below[name]) for name, value in said.items()}
    if isinstance(said, list):
        return [_data_seen(item, out) for item in said]
    is_here = key == TRAINING and isinstance(said, str) and _is_here(said)
    return _seen_from(said, out) if is_here else said


def _input(word: str, out: str) -> str:
    """A model, an adapter on one, a path's folder or a recipe."""
    if Path(word).parent == Path(out):
        return Path(word).name
    if _is_here(word):
        return _seen_from(word, out)
    return "+".join(_part(part, out) for part in word.split("+"))


def _part(word: str, out: str) -> str:
    if inside := split_subfolder(word):
        return f"{_seen_from(str(inside[0]), out)}:{inside[1]}"
    return _seen_from(word, out) if _is_here(word) else word


def _flag(word: str, out: str) -> str:
    if word.startswith("--train-data=") and not _is_here(word.removeprefix("--train-data=")):
        model, sign, source = word.removeprefix("--train-data=").partition("=")
        if sign:
            seen = _seen_from(source, out) if _is_here(source) else source
            return f"--train-data={_input(model, out)}={seen}"
    flag, value = word.split("=", 1) if word.startswith("--data=") else ("", "")
    if flag and is_named(value):
        of_set, source = named(value)
        return f"{flag}={of_set}={_flag(f'{flag}={source}', out).removeprefix(f'{flag}=')}"
    for name in DATA:
        value = word.removeprefix(name)
        is_word = value in WORDS.get(name.strip("-=").replace("-", "_"), ())
        if word.startswith(name) and not is_word and _is_here(value):
            return name + _seen_from(value, out)
    return word


def _is_here(word: str) -> bool:
    return bool(word) and Path(word).expanduser().exists()


def _seen_from(word: str, out: str) -> str:
    return os.path.relpath(Path(word).expanduser(), out)
