"""The commands. A new one is its own file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mergekit_geo.specs.measures import (
    BarrierSpec,
    CheckSpec,
    LandscapeSpec,
    PathSpec,
    SharpnessSpec,
)
from mergekit_geo.specs.merge import MergeSpec
from mergekit_geo.specs.merges import PointSpec, RunSpec, SlerpSpec, SoupSpec
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.training import FinetuneSpec, PushSpec

COMMANDS: tuple[type[Spec], ...] = (
    SoupSpec,
    SlerpSpec,
    MergeSpec,
    BarrierSpec,
    PathSpec,
    PointSpec,
    SharpnessSpec,
    LandscapeSpec,
    FinetuneSpec,
    CheckSpec,
    PushSpec,
    RunSpec,
)
"""Commands in the order of `--help`."""


def work_of(spec: type[Spec]) -> Any:
    """The function that does what a command is asked; imported when it is needed."""
    module, name = spec.work.split(":")
    return getattr(import_module(module), name).of
