"""The commands. A new one is its own file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergekit_geo.specs.spec import Spec

COMMANDS: dict[str, tuple[str | type[Spec], str]] = {
    "soup": (
        "merges:SoupSpec",
        "Average models: with equal, given or learned weights, or greedily by loss.",
    ),
    "slerp": (
        "merges:SlerpSpec",
        "Interpolate two models spherically, or merge more into their Karcher mean.",
    ),
    "merge": (
        "merge:MergeSpec",
        "Merge models by any method: TIES, DARE, task arithmetic, Model Stock, ...",
    ),
    "search": (
        "search:SearchSpec",
        "Search over recipes for the merge of lowest loss: weights, densities, methods.",
    ),
    "eval": ("measures:EvalSpec", "Measure the loss of models on evaluation data, side by side."),
    "barrier": (
        "measures:BarrierSpec",
        "Measure the loss and its barriers on paths between models.",
    ),
    "path": ("measures:PathSpec", "Fit a curve of low loss between two models."),
    "point": ("merges:PointSpec", "Write a checkpoint from a fitted path."),
    "sharpness": ("measures:SharpnessSpec", "Measure the curvature of the loss at models."),
    "landscape": (
        "measures:LandscapeSpec",
        "Draw the loss on a plane through up to three models, around one, or along a training.",
    ),
    "finetune": (
        "training:FinetuneSpec",
        "Fine-tune a model with SAM, and measure it before and after.",
    ),
    "escape": (
        "training:EscapeSpec",
        "Leave a saddle: along the direction of negative curvature, then by perturbed descent.",
    ),
    "check": (
        "measures:CheckSpec",
        "Check whether models can be merged, without downloading weights.",
    ),
    "push": ("training:PushSpec", "Push an output to the Hub, and verify what arrived."),
    "run": ("merges:RunSpec", "Run a recipe: mergekit's format, and keys of mergekit_geo's own."),
}
"""Where each command's options are, and what it does, in the order of `--help`.

Options are imported when their command is asked for: a list of commands takes no time. A command of
another package gives the class itself.
"""


def spec_of(name: str) -> type[Spec]:
    """The options of a command.

    Example:
        >>> spec_of("soup").__name__
        'SoupSpec'
    """
    place, _ = COMMANDS[name]
    if not isinstance(place, str):
        return place
    module, kind = place.split(":")
    found: type[Spec] = getattr(import_module(f"{__package__}.{module}"), kind)
    return found


def work_of(spec: type[Spec]) -> Any:
    """The function that does what a command is asked; imported when it is needed."""
    module, name = spec.work.split(":")
    return getattr(import_module(module), name).of
