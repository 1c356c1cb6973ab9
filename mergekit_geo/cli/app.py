"""Where `geo-merge` begins: signals and streams are seen to before anything else is imported."""

from __future__ import annotations

import sys
from typing import Any

from mergekit_geo.cli import stopping, streams


def main() -> None:
    """Entry point of the `geo-merge` command."""
    stopping.heed()
    streams.keep()
    stopping.watch()
    try:
        code = _run()
    except stopping.Stopped:  # between two steps of the machinery
        code = 1
    if stopping.is_stopped() or (stopping.is_early() and code == 0):
        sys.stderr.write(stopping.line())
        code = stopping.code()
    stopping.end(streams.settle(code))


def _run() -> int:
    """Run the command; its exit code."""
    try:
        __getattr__("app")()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # asked for by --debug
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mergekit_geo.cli.commands import app

    return app
