"""Where members that are trained first lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

MEMBERS = ".members"
"""Members lie in OUT.members, each in a folder of its name."""


@contextmanager
def folder_of_members(out: Path | None, given: str | Path | None) -> Iterator[Path]:
    """Folder of the members: as given, beside the output, or a temporary one.

    Args:
        out: Of the merge; None where it stays in memory.
        given: By the caller.
    """
    if given is not None:
        yield Path(given)
    elif out is not None:
        yield beside(out)
    else:
        with TemporaryDirectory(suffix=MEMBERS) as folder:
            yield Path(folder)


def beside(out: Path) -> Path:
    """The folder of the members of an output.

    >>> beside(Path("runs/out")).name
    'out.members'
    """
    return out.with_name(out.name + MEMBERS)
