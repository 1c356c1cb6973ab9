"""What a storage of studies cannot do is an error in one line; Optuna says nothing by itself."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import OptunaError

from mergekit_geo.errors import OutputError


@contextmanager
def told(where: str) -> Iterator[None]:
    """Optuna works quietly inside, and what its storage cannot do is an error in one line.

    Args:
        where: The storage, for errors.

    Raises:
        OutputError: It cannot be reached, or does not take what is written.
    """
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, OptunaError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise unreached(error, where) from error
    finally:
        logger.setLevel(level)


def unreached(error: Exception, where: str) -> OutputError:
    """The error of a storage, as the user meets it.

    Args:
        error: As Optuna, the database or the system told it.
        where: The storage.
    """
    cause = error.__cause__ or error
    line = " ".join(str(getattr(cause, "orig", None) or cause).split())
    return OutputError(
        f"the storage of the study cannot be used: {line}", where=where,
        remedy="see that it is there and can be written to, or name another by --storage; "
        "what it holds is kept, and the same command goes on with it",
    )  # fmt: skip
