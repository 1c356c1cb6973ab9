"""`geo-merge` as a process that knows no Hub but the one on the loopback."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.checkpoints.hub_store import Hub
from tests.forks import FORKS

Cli = Callable[..., subprocess.CompletedProcess[str]]


def command_line(hub: Hub, folder: Path) -> Cli:
    """`geo-merge` as a process in `folder`; keyword arguments are environment variables."""
    return process(hub, folder, "-m", "mergekit_geo")


def process(hub: Hub, folder: Path, *first: str) -> Cli:
    """Python in `folder`, with these arguments before its own."""
    settings = hub_settings(hub, folder)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name[:3] != "HF_"}
        return FORKS([*first, *arguments], folder, {**inherited, **settings, **environment})

    return run


def hub_settings(hub: Hub, folder: Path) -> dict[str, str]:
    """Environment variables that lead the hub client to a Hub, with a cache in a folder."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def succeeded(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert result.returncode == 0, result.stderr
    return result


def failed(result: subprocess.CompletedProcess[str], message: str) -> None:
    """The command failed, and `message` is all that it said."""
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    said = result.stderr.rstrip("\n")
    assert re.fullmatch(rf"geo-merge \w+: {message}", said, re.DOTALL), said
