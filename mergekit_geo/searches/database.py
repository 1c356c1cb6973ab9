"""A database that keeps studies, reached by SQLAlchemy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError as UrlError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches.ownership import queue_again
from mergekit_geo.searches.storage import unreached
from mergekit_geo.searches.storage_place import shown

CONNECT = 10
"""Seconds in which a database has to answer."""
BEAT = 30
"""Seconds between two signs of life of a trial in a database."""
STALE = 10 * BEAT
"""Seconds without one after which its process is taken for ended."""


def open_database(url: str) -> RDBStorage:
    """The storage of studies in a database; its tables are made where they are missing.

    Args:
        url: As SQLAlchemy takes it; PostgreSQL is reached by psycopg.

    Raises:
        ArgumentError: No sound URL, or of a database whose driver is not installed.
        OutputError: It cannot be reached, or has the tables of another version of Optuna.
    """
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
        raise unreached(error, shown(url)) from error


def _with_tables(make: Callable[[], RDBStorage], attempts: int = 5) -> RDBStorage:
    """Processes that begin at the same time make the tables: all but one of them meet an error."""
    for number in range(attempts):
        try:
            return make()
        except DBAPIError as error:
            if "already exists" not in str(error) or number + 1 == attempts:
                raise
            time.sleep(0.1 * 2**number)
    raise AssertionError
