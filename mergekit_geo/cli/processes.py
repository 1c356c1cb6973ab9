"""Restart a command in several processes, one per rank, as torchrun would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import typer

from mergekit_geo.cli.stopping import LAUNCHER

PATIENCE = 5.0
"""Seconds that the other processes have to end by themselves after one has failed."""
GRACE = 3.0
"""Seconds that processes have to end after they are told to stop."""
POLL = 0.05


def relaunch(count: int) -> None:
    """Run this command line again in `count` processes, unless this is one of them already.

    They end with this process, however it ends.

    Args:
        count: Processes on this machine; with 1 nothing happens.

    Raises:
        typer.Exit: With the exit code of the processes.
    """
    if count <= 1 or "WORLD_SIZE" in os.environ:
        return
    workers: list[subprocess.Popen[bytes]] = []
    shared = _environment(count)
    # The folder that the command is given in is on no path of theirs.
    command = [sys.executable, "-P", "-m", "mergekit_geo", *sys.argv[1:]]
    try:
        for rank in map(str, range(count)):
            own = {**shared, "RANK": rank, "LOCAL_RANK": rank}
            workers.append(subprocess.Popen(command, env=own))
        code = _code(workers)
    finally:
        _stop(workers)
    raise typer.Exit(code)


def _environment(count: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // count))
    # DDP remarks on every model that uses all its weights.
    environment = {"OMP_NUM_THREADS": threads, "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment | {
        "PYTHONSAFEPATH": "1",
        LAUNCHER: str(os.getpid()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _code(workers: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all, or for the first that fails and a little longer; the exit code."""
    codes = _codes(workers)
    while None in codes and not any(codes):
        time.sleep(POLL)
        codes = _codes(workers)
    if not any(codes):
        return 0
    own = _await(workers[:1], PATIENCE)[0]
    if own is not None and own > 0:  # the first process has told why
        return own
    rank = next(rank for rank, code in enumerate(codes) if code)
    code = codes[rank] or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    typer.echo(f"geo-merge: process {rank + 1} of {len(workers)} {how}", err=True)
    return code if code > 0 else 128 - code


def _codes(workers: list[subprocess.Popen[bytes]]) -> list[int | None]:
    return [worker.poll() for worker in workers]


def _await(workers: list[subprocess.Popen[bytes]], seconds: float) -> list[int | None]:
    """Exit codes after waiting at most `seconds`; None for processes that still run."""
    deadline = time.monotonic() + seconds
    while None in (codes := _codes(workers)) and time.monotonic() < deadline:
        time.sleep(POLL)
    return codes


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    """Stop the processes that still run."""
    for worker in workers:
        worker.terminate()
    _await(workers, GRACE)
    for worker in workers:
        worker.kill()
        worker.wait()
