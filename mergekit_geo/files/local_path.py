"""What somebody calls a file or folder, as a path that can be looked at."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mergekit_geo.errors import ArgumentError

LONG = 80


def local_path(text: str | Path) -> Path:
    """The path that a name stands for, `~` spelt out; there need not be anything.

    Raises:
        ArgumentError: No file system can have such a path, or nobody may look at it.

    Example:
        >>> local_path("models/a")
        PosixPath('models/a')
    """
    if problem := problem_of(str(text)):
        raise ArgumentError(problem, where=_brief(str(text)))
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ArgumentError(
            f"the ~ cannot be spelt out: {error}", where=_brief(str(text)), remedy="write ./~..."
        ) from error
    return path


def problem_of(text: str) -> str | None:
    """Why there cannot be such a path, None if there can.

    Example:
        >>> problem_of("n" * 300), problem_of("models/a")
        ('no path: File name too long', None)
    """
    try:
        os.stat(text.encode())  # noqa: PTH116
    except UnicodeEncodeError:
        return "a name that is not UTF-8, which no report can hold: rename it"
    except ValueError as error:
        return f"no path: {error}"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return f"no path: {error.strerror}"
    return None


def _brief(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:LONG]}..."
