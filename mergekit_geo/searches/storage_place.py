"""How the place where a study is kept is told from others, and printed: without its password."""

from __future__ import annotations

import re
from pathlib import Path

URL = re.compile(r"(?P<dialect>[a-z0-9]+)(\+(?P<driver>[a-z0-9_]+))?://", re.IGNORECASE)
MEMORY = "the study in memory"


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
