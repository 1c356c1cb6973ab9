"""Which column of the data holds what: named by the user, or guessed from the usual names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mergekit_geo.data.row import column_names
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError

LOOKED_AT = 100
"""Number of rows searched for a nested column, which may be null in some."""


def find_column(rows: Rows, asked: str | None, usual: Sequence[str], what: str, flag: str) -> str:
    """The column that holds `what`; a guess is noted in `rows.notes`.

    Args:
        rows: The data.
        asked: The column that the user names; `translation.en` is nested.
        usual: Names to look for, best first, if none is asked for.
        what: For the message, such as `text`.
        flag: The option that names it.

    Raises:
        DataError: No such column; the message lists those there are.

    Example:
        >>> rows = Rows([{"id": 1, "content": "abc"}], ["1"], "x.jsonl")
        >>> find_column(rows, None, ("text", "content"), "text", "--text-column")
        'content'
        >>> rows.notes
        ["text is taken from column 'content'"]
    """
    names = rows.columns
    if asked is not None:
        if asked in names or any(asked in column_names(c) for c in islice(rows.cells, LOOKED_AT)):
            return asked
        problem = f"no column {asked!r}"
    else:
        found = next((name for name in usual if name in names), None)
        if found is not None:
            note = f"{what} is taken from column {found!r}"
            if len(names) > 1 and note not in rows.notes:
                rows.notes.append(note)
            return found
        problem = f"no column that looks like {what}"
    shown = column_names(next(filter(None, rows.cells), {}))
    raise DataError(
        f"{problem}; its columns are {', '.join(shown) or 'none'}",
        where=rows.source,
        remedy=f"name the column with {flag}",
    )
