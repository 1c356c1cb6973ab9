"""Every error that a user can meet.

GeoError
├── ArgumentError            an invalid setting (also a ValueError)
│   └── RecipeError          the same in a recipe, with the place in it
├── CheckpointError          an input cannot be used
│   ├── NotFoundError        no such folder, repository or revision
│   ├── HubError             the Hub could not be asked
│   ├── FormatError          the files contradict themselves
│   ├── ChangedError         a file was replaced or changed while it was in use
│   └── UnsupportedError     readable by others, refused here, with the way out
├── IncompatibleError        the inputs do not belong together; holds every problem found
├── NonFiniteError           NaN or infinity in an input, or made in merging
├── AntipodalError           no unique shortest arc between two tensors
├── DataError                evaluation data is missing or unusable
├── OutputError              the output cannot be written
│   ├── OutputExistsError
│   └── DiskFullError
├── PushError                an output could not be pushed to the Hub; on the disk it is untouched
└── InternalError            a fault of this package, to be reported

>>> try:
...     raise NotFoundError("no such folder", where="a", remedy="name a model")
... except CheckpointError as error:  # with all below it
...     print(error.where, error.remedy)
a name a model
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_geo.printable import printable


class GeoError(Exception):
    """An error with its remedy.

    Args:
        message: What was expected and what was found.
        where: The model, file or tensor concerned.
        remedy: The call or change that mends it.

    Example:
        >>> error = GeoError("no such file", where="a.jsonl", remedy="name a file")
        >>> print(error)
        a.jsonl: no such file (name a file)
    """

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.message}{cure}"


class ArgumentError(GeoError, ValueError):
    """An invalid setting."""


class RecipeError(ArgumentError):
    """An invalid recipe."""


class CheckpointError(GeoError):
    """An input cannot be used."""


class NotFoundError(CheckpointError):
    """No such folder, repository or revision."""


class HubError(CheckpointError):
    """The Hub could not be asked."""


class FormatError(CheckpointError):
    """The files of a checkpoint contradict themselves."""


class ChangedError(CheckpointError):
    """A file of an input was replaced, changed or removed while it was in use."""


class UnsupportedError(CheckpointError):
    """A checkpoint that others can read and that is refused here."""


class IncompatibleError(GeoError):
    """The inputs do not belong together.

    Args:
        problems: Every problem found, one line each.
        remedy: What to do.
    """

    shown = 10

    def __init__(self, problems: Sequence[str], *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"  - {printable(problem)}" for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  ... and {count - self.shown} more (--json has all)")
        noun = "problem" if count == 1 else "problems"
        message = "\n".join([f"the models cannot be merged, {count} {noun}:", *lines])
        super().__init__(message, remedy=remedy)


class NonFiniteError(GeoError):
    """NaN or infinity in an input, or made of finite elements in merging."""


class AntipodalError(GeoError):
    """No unique shortest arc between two tensors."""


class DataError(GeoError):
    """Evaluation data is missing or unusable."""


class OutputError(GeoError):
    """The output cannot be written."""


class OutputExistsError(OutputError):
    """The output is there already."""


class DiskFullError(OutputError):
    """The disk, a quota or a file size limit does not hold the output."""


class PushError(GeoError):
    """An output could not be pushed to the Hub; on the disk it is untouched."""


class InternalError(GeoError):
    """A fault of this package, not of what it was given."""

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """Wrap an error for the user: what happened, and how to report it."""
        remedy = "this should not happen: --debug shows where it did, please report it"
        return cls(f"{type(error).__name__}: {error}", remedy=remedy)


def is_of_this_package(error: BaseException) -> bool:
    """Whether the line that raised an error is in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    package = Path(__file__).parent
    return trace is not None and package in Path(trace.tb_frame.f_code.co_filename).parents
