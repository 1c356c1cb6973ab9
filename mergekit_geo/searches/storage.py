"""Where a study is kept: memory, a journal file, or a database that several machines reach.

What such a storage cannot do is an error in one line; Optuna says nothing by itself.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages.journal import JournalStorage

from mergekit_geo.errors import OutputError
from mergekit_geo.searches.journal_file import JournalFile
from mergekit_geo.searches.storage_place import is_url, shown


def open_storage(at: str | Path | None) -> BaseStorage:
    """The storage of studies at a place.

    Args:
        at: File of a journal; URL of a database, as SQLAlchemy takes it; None for memory.

    Raises:
        ArgumentError: It is no journal, no sound URL, or of a database without its driver.
        OutputError: It cannot be reached.

    Example:
        >>> type(open_storage(None)).__name__
        'InMemoryStorage'
    """
    with told(shown(at)):
        if at is None:
            return InMemoryStorage()
        if is_url(at):
            from mergekit_geo.searches.database import open_database  # SQLAlchemy: 0.2 s

            return open_database(str(at))
        return JournalStorage(JournalFile(Path(at)))


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
