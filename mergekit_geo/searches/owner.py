"""Which process runs a trial, and whether it still does."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import psutil

APART = 1.0
"""Seconds by which the start of one process may be told differently."""


@cache
def host() -> str:
    """This machine, or container: where the number of a process means that process."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{space.stat().st_ino if space.exists() else 0}"


def owner() -> str:
    """This process, as others can ask for it by `is_gone`.

    Example:
        >>> is_gone(owner())
        False
    """
    pid = os.getpid()
    return f"{host()} {pid} {psutil.Process(pid).create_time():.2f}"


def is_gone(told: str) -> bool:
    """Whether a process of this machine has ended; False for one of another machine.

    Args:
        told: By that process's `owner`.

    Example:
        >>> is_gone("elsewhere/1 4 0.00")
        False
    """
    try:
        at, pid, started = told.rsplit(" ", 2)
        return at == host() and not _runs(int(pid), float(started))
    except ValueError:
        return False


def _runs(pid: int, started: float) -> bool:
    """Whether the process with that number is the one that began then, and is no zombie."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < APART
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
