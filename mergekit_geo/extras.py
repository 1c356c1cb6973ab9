"""Libraries that only some work needs, and the extras of this package that bring them."""

from __future__ import annotations

from importlib.util import find_spec

from mergekit_geo.errors import ArgumentError, GeoError

EXTRAS = {
    "datasets": "data", "pyarrow": "data", "peft": "peft", "lm_eval": "lm-eval",
    "optuna": "search", "cmaes": "search", "psycopg": "search", "ray": "ray",
}  # fmt: skip
"""The extra that installs each optional library."""


def install_command(library: str) -> str:
    """The command that installs an optional library; empty where it is installed.

    Args:
        library: One of `EXTRAS`.

    Example:
        >>> install_command("pyarrow")
        ''
    """
    return "" if find_spec(library) else f"pip install 'mergekit_geo[{EXTRAS[library]}]'"


def require(
    library: str, use: str, *, where: str = "", kind: type[GeoError] = ArgumentError
) -> None:
    """Refuse what needs an optional library that is not installed; nothing is imported.

    Args:
        library: One of `EXTRAS`.
        use: What needs it, for the message.
        where: The file, model or setting concerned.
        kind: Class of the error.

    Raises:
        GeoError: Of that class, with the command that installs the library.

    Example:
        >>> require("pyarrow", "reading parquet")
    """
    if remedy := install_command(library):
        raise kind(f"{use} needs {library}, which is not installed", where=where, remedy=remedy)
