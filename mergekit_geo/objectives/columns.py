"""Which column of the data holds what: named by the user, or guessed from the usual names."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.task import Rows


def find_column(rows: Rows, asked: str | None, usual: Sequence[str], what: str, flag: str) -> str:
    """The column that holds `what`; a guess is noted in `rows.notes`.

    Args:
        rows: The data.
        asked: The column that the user names.
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
    if asked is not None:
        if asked in rows.columns:
            return asked
        problem = f"no column {asked!r}"
    else:
        found = next((name for name in usual if name in rows.columns), None)
        if found is not None:
            if len(rows.columns) > 1:
                rows.notes.append(f"{what} is taken from column {found!r}")
            return found
        problem = f"no column that looks like {what}"
    raise DataError(
        f"{problem}; its columns are {', '.join(rows.columns) or 'none'}",
        where=rows.source,
        remedy=f"name the column with {flag}",
    )
