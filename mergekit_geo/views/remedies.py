"""What can be done about a result: merge otherwise, go around a barrier, measure more."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergekit_geo.records.report import Report
from mergekit_geo.views.amount import listed
from mergekit_geo.views.geometry import base_of

PAIR = 2
FEWEST = 10
"""Documents below which little can be told of anything."""

CARRIED = (
    "--data", "--text-column", "--seq-len", "--batch-size", "--seed", "--data-config", "--split",
    "--task", "--label-column", "--image-column", "--loss-on", "--include-path", "--num-fewshot",
    "--limit", "--device", "--compute-dtype", "--trust-remote-code", "--max-examples", "--budget",
)  # fmt: skip
"""Flags of a command that hold for the next one, too: what is measured, and on what."""
RESHAPE = (
    "--tokenizer-source", "--pad-to-multiple-of", "--keep-padding", "--truncate-embeddings",
    "--part", "--allow-missing-parts",
)  # fmt: skip
"""Flags by which models are made to fit, which `path` does not take."""
SOUP = (*CARRIED, "--sharpness", "--dtype")


@dataclass(frozen=True)
class Next:
    """What to do next.

    Attributes:
        what: In words.
        command: Ready to paste; empty where none helps, or none can be said.
    """

    what: str
    command: str = ""

    @property
    def text(self) -> str:
        """Both in a line."""
        return f"Next: {self.what}{f': {self.command}' if self.command else '.'}"


def without_heads(apart: Mapping[str, float]) -> Next:
    """Merge all but heads that were initialised separately, by a recipe.

    Args:
        apart: These layers, with their cosines.
    """
    named = listed(list(apart))
    return Next(
        f"merge all but {named}: a recipe with {{filter: {next(iter(apart))}, value: 1}} for one "
        "model and value: 0 for the others keeps that head (docs/recipes.md)"
    )


def around(report: Report) -> Next:
    """Remedy of a barrier: the largest basin of several models, or a path between two."""
    if len(parents(report)) > PAIR:
        command = then(report, "soup", "basin", ["--basin"], SOUP)
        return Next("merge the largest basin alone, without the models beyond a barrier", command)
    return Next(
        "look for a way around the barrier",
        then(report, "path", "path", ["--train-data=TRAIN.jsonl"]),
    )


def by_layer(report: Report, group: str) -> Next:
    """Remedy of a mean that is worse: weights of their own for the layers that carry the rise.

    Args:
        report: Of the merge.
        group: The layers.
    """
    return Next(
        f"{group} carries most of the rise: have weights by layer proposed",
        then(report, "barrier", "layers", ["--by-layer"]),
    )


def with_layer_weights(report: Report) -> Next:
    """Next step where weights by layer were proposed: the soup that takes them."""
    if report.output is None:
        return Next(
            "have the proposed weights written", then(report, "barrier", "layers", ["--by-layer"])
        )
    flags = [f"--layer-weights={report.output}"]
    return Next("merge by the proposed weights", then(report, "soup", "soup", flags))


def documents_needed(documents: int, detectable: float | None, limit: float) -> int:
    """Documents on which a difference of this size would be detected.

    The size falls with the square root of their number.

    Args:
        documents: That were measured.
        detectable: The size that would be detected on these; None for too few to tell.
        limit: The size that is to be.

    Example:
        >>> documents_needed(16, 0.4, 0.074), documents_needed(1, None, 0.074)
        (470, 10)
    """
    if detectable is None or not documents:
        return max(FEWEST, 2 * documents)
    exact = max(documents * (detectable / limit) ** 2, FEWEST)
    step = int(10 ** max(math.floor(math.log10(exact)) - 1, 0))
    return math.ceil(exact / step) * step


def parents(report: Report) -> list[str]:
    """Names of the models that went in, without the base of their task vectors."""
    base = base_of(report)
    every = [model.name for i, model in enumerate(report.models) if i != base]
    return list(dict.fromkeys(every))


def then(
    report: Report,
    command: str,
    suffix: str,
    flags: Sequence[str] = (),
    carried: Sequence[str] = CARRIED,
    more: Sequence[str] = (),
) -> str:
    """A command on the same models and data; empty where they have no names, or a recipe does.

    Args:
        report: Of the command before.
        command: Such as `soup`.
        suffix: What is put behind the name of the output before.
        flags: Of its own.
        carried: Names of flags that it has from the command before.
        more: Models beside those that went in.
    """
    words = shlex.split(report.provenance.command) if report.provenance else []
    fitted = [word for word in words if word.partition("=")[0] in RESHAPE]
    if not words or report.command == "run" or (fitted and command == "path"):
        return ""
    same = [word for word in words if word.partition("=")[0] in (*carried, *RESHAPE)]
    out = f"{report.output}-{suffix}" if report.output else suffix
    models = [*parents(report), *more]
    return shlex.join(["geo-merge", command, *models, "-o", out, *flags, *same])
