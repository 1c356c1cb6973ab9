"""Where a study is kept: memory, a journal file, or a database that several machines reach."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages.journal import JournalStorage

from mergekit_geo.searches.journal_file import JournalFile
from mergekit_geo.searches.storage_errors import told
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
