"""The same command in several processes, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys

import typer


def relaunch(count: int) -> None:
    """Run this command line again in so many processes, unless this is one of them already.

    Args:
        count: Processes on this machine; with 1 nothing happens.

    Raises:
        typer.Exit: With the exit code of the processes.
    """
    if count <= 1 or "WORLD_SIZE" in os.environ:
        return
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *launcher, "-m", "mergekit_geo", *sys.argv[1:]]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    # DDP remarks on every model that uses all its weights.
    environment = {"OMP_NUM_THREADS": threads, "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
