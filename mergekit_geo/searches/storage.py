"""Where a study is kept: memory, a journal file, or a database that several machines reach."""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages.journal import JournalStorage

from mergekit_geo.errors import ArgumentError, OutputError
from mergekit_geo.searches.journal_file import JournalFile
from mergekit_geo.searches.ownership import queue_again

URL = re.compile(r"(?P<dialect>[a-z0-9]+)(\+(?P<driver>[a-z0-9_]+))?://", re.IGNORECASE)
MEMORY = "the study in memory"
CONNECT = 10
"""Seconds in which a database has to answer."""
BEAT = 30
"""Seconds between two signs of life of a trial in a database."""
STALE = 10 * BEAT
"""Seconds without one after which its process is taken for ended."""


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
            return _database(str(at))
        return JournalStorage(JournalFile(Path(at)))


def is_url(at: str | Path | None) -> bool:
    """Whether a place is a database's URL rather than a file.

    Example:
        >>> is_url("sqlite:///study.db"), is_url("study.journal")
        (True, False)
    """
    return isinstance(at, str) and URL.match(at) is not None


def shown(at: str | Path | None) -> str:
    """A place as it is printed: without the password that a URL may hold.

    Example:
        >>> shown("postgresql://me:secret@host/studies?password=secret")
        'postgresql://me:***@host/studies'
    """
    if at is None:
        return MEMORY
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", str(at).partition("?")[0])


def public(where: str) -> str:
    """A place as a report names it, which may be published: a file, or the kind of a database.

    Args:
        where: As `shown` gives it.

    Example:
        >>> public("out.study.log"), public("postgresql://me@host/studies"), public(shown(None))
        ('out.study.log', 'a database (postgresql)', '')
    """
    found = URL.match(where)
    return "" if where == MEMORY else f"a database ({found['dialect']})" if found else where


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
        raise _unreached(error, where) from error
    finally:
        logger.setLevel(level)


def _database(url: str) -> RDBStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError as UrlError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        made = make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
        timeout = "timeout" if made.drivername.startswith("sqlite") else "connect_timeout"
        known = {} if timeout in made.query else {timeout: CONNECT}
        return _with_tables(
            lambda: RDBStorage(
                made.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "connect_args": known},
                heartbeat_interval=BEAT, grace_period=STALE,
                heartbeat_stale_trial_callback=queue_again,
            )
        )  # fmt: skip
    except (UrlError, ImportError, TypeError) as error:
        raise ArgumentError(
            f"no database can be opened by this URL: {error}", where=shown(url),
            remedy="such as postgresql://USER@HOST/NAME; the driver of a database other than "
            "PostgreSQL and SQLite has to be installed",
        ) from error  # fmt: skip
    except (SQLAlchemyError, RuntimeError) as error:  # RuntimeError: tables of another Optuna
        raise _unreached(error, shown(url)) from error


def _with_tables(make: Callable[[], RDBStorage], attempts: int = 5) -> RDBStorage:
    """Processes that begin at the same time make the tables: all but one of them meet an error."""
    from sqlalchemy.exc import DBAPIError

    for number in range(attempts):
        try:
            return make()
        except DBAPIError as error:
            if "already exists" not in str(error) or number + 1 == attempts:
                raise
            time.sleep(0.1 * 2**number)
    raise AssertionError


def _unreached(error: Exception, where: str) -> OutputError:
    cause = error.__cause__ or error
    line = " ".join(str(getattr(cause, "orig", None) or cause).split())
    return OutputError(
        f"the storage of the study cannot be used: {line}", where=where,
        remedy="see that it is there and can be written to, or name another by --storage; "
        "what it holds is kept, and the same command goes on with it",
    )  # fmt: skip
