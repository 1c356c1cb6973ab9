"""The commands. A new one is its own file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergekit_geo.specs.spec import Spec

COMMANDS = {
    "soup": ("merges:SoupSpec", "Average models: the weighted soup, or the one that loss chooses."),
    "slerp": (
        "merges:SlerpSpec",
        "Merge two models along the arc between them, or more into their Karcher mean.",
    ),
    "merge": ("merge:MergeSpec", "Merge models by any method: TIES, DARE, SLERP, Model Stock, ..."),
    "barrier": ("measures:BarrierSpec", "Measure the loss on the way between models."),
    "path": ("measures:PathSpec", "Fit a curve of low loss between two models."),
    "point": ("merges:PointSpec", "Write a checkpoint from a fitted path."),
    "sharpness": ("measures:SharpnessSpec", "Measure how curved the loss is where models stand."),
    "landscape": (
        "measures:LandscapeSpec",
        "Draw the loss on a plane through three models, beside a line, or around one model.",
    ),
    "finetune": (
        "training:FinetuneSpec",
        "Train a model further, with SAM, and measure it before and after.",
    ),
    "check": (
        "measures:CheckSpec",
        "Tell whether models can be merged, without downloading weights.",
    ),
    "push": (
        "training:PushSpec",
        "Push an output to the Hub, and compare what arrived with what is on the disk.",
    ),
    "run": (
        "merges:RunSpec",
        "Merge as a recipe says it: mergekit's format, and keys of our own.",
    ),
}
"""Where each command's options are, and what it does, in the order of `--help`.

Options are imported when their command is asked for: a list of commands takes no time.
"""


def spec_of(name: str) -> type[Spec]:
    """The options of a command.

    Example:
        >>> spec_of("soup").__name__
        'SoupSpec'
    """
    place, _ = COMMANDS[name]
    module, kind = place.split(":")
    found: type[Spec] = getattr(import_module(f"{__package__}.{module}"), kind)
    return found


def work_of(spec: type[Spec]) -> Any:
    """The function that does what a command is asked; imported when it is needed."""
    module, name = spec.work.split(":")
    return getattr(import_module(module), name).of
