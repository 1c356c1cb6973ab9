"""A command: the soup of the last checkpoints that a Trainer saved.

python examples/extend/command.py latest runs/1 --count 3 -o out
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Self

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.cli.app import main
from mergekit_geo.commands._merge import merge
from mergekit_geo.commands._run import Work, command
from mergekit_geo.commands.request import Request
from mergekit_geo.config.option import argument, option
from mergekit_geo.errors import NotFoundError
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.spec import Writing, out
from mergekit_geo.specs.table import COMMANDS


@dataclass(frozen=True)
class LatestSpec(Writing):
    """Options of the command; those of evaluation data and of the output come with `Writing`."""

    command: ClassVar[str] = "latest"
    work: ClassVar[str] = f"{__name__}:latest"
    examples: ClassVar[tuple[str, ...]] = ("geo-merge latest runs/1 --count 3 -o out",)

    folder: str | Path = argument("Output folder of a Trainer.", "DIR")
    out: str | Path | None = out("Folder to write.")
    _: KW_ONLY
    count: int = option(5, "How many checkpoints, the last ones.", least=1)

    def naming(self, names: Sequence[str]) -> Self:
        """The command that makes the same output names no models."""
        return self


@command(LatestSpec)
def latest(asked: LatestSpec) -> Work:
    """Average the last checkpoints of a training.

    Raises:
        NotFoundError: The folder has no checkpoints.
    """
    found = sorted(Path(asked.folder).glob("checkpoint-*"), key=step)[-asked.count :]
    if not found:
        raise NotFoundError("expected folders checkpoint-STEP, found none", where=str(asked.folder))
    rule = Linear(normalized([1.0] * len(found)))
    checkpoints, request = open_checkpoints(found), Request(asked, Selector(rule), settings={})
    return Work(asked, lambda output: merge(checkpoints, request, output), MERGED, checkpoints)


def step(folder: Path) -> int:
    """The step at which a checkpoint was saved."""
    return int(folder.name.rpartition("-")[2])


COMMANDS["latest"] = (LatestSpec, "Average the last checkpoints of a training.")  # the line

if __name__ == "__main__":
    main()
