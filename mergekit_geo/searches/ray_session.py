"""A connection to a Ray cluster: one that exists, or one that is started on this machine.

Ray prints much, and changes how the process that uses it handles SIGTERM. Neither is wanted here:
what is printed belongs to the command, and it decides what a signal does.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError, GeoError
from mergekit_geo.extras import require
from mergekit_geo.printable import shortened
from mergekit_geo.searches.ray_guard import Guard

PACKAGE = Path(__file__).parents[1]
STORE = 100 * 2**20
"""Bytes of the object store of a cluster that is started here: trials are small."""
LOCAL = "local"
PATIENCE = 15.0
"""Seconds for a cluster to answer."""
ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address that Ray's own programs use."""


class RaySession:
    """A connection, and the cluster where it was started for it.

    A program that has connected to Ray itself keeps its connection, which is used.

    Args:
        address: Of the cluster, as `ray start` prints it, or `auto` for one on this machine; None
            for that in RAY_ADDRESS, or else one that is started here.

    Raises:
        ArgumentError: Ray is not installed, or that is no address.
        GeoError: The cluster cannot be reached or used, or none can be started.

    Attributes:
        ray: The module.
        nodes: The resources of each node that is alive.
    """

    def __init__(self, address: str | None = None) -> None:
        require("ray", "--engine ray")
        self.ray: Any = import_module("ray")
        self._guard: Guard | None = None
        self._is_ours = not self.ray.is_initialized()
        self._print: Any = None
        if self._is_ours:
            self._connect(address or os.environ.get(ADDRESS, LOCAL))
        else:
            self._refuse_another(address)

    @property
    def nodes(self) -> Sequence[Mapping[str, float]]:
        """The resources of each node that is alive, such as CPU and GPU."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def close(self) -> None:
        """Disconnect, and end the cluster that was started."""
        if self._is_ours:
            self.ray.shutdown()
            self._print_again()
        if self._guard:
            self._guard.end()

    def _connect(self, address: str) -> None:
        is_local = address == LOCAL
        if not is_local:
            check_address(address)
        self._print_nothing()
        try:
            self._begin(self._local() if is_local else {"address": address})
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            raise _unusable("" if is_local else address, error) from error

    def _begin(self, options: Mapping[str, Any]) -> None:
        """Connect, so that workers find this package: by its path, or as it is sent to them."""
        if "://" in options["address"]:  # by Ray's client, which lives elsewhere
            self._init({**options, **shipped()})
            return
        path = self.ray.job_config.JobConfig(_py_driver_sys_path=[str(PACKAGE.parent)])
        self._init({**options, "job_config": path})
        if self._guard:
            self._guard.note_started()
        if self._is_elsewhere():
            self.ray.shutdown()
            self._init({**options, "job_config": path, **shipped()})

    def _refuse_another(self, address: str | None) -> None:
        """A program is connected to one cluster at a time."""
        found = self.ray.get_runtime_context().gcs_address
        if address not in {None, "auto", found}:
            raise ArgumentError(
                f"this program is connected to the Ray cluster at {found} already, found {address}",
                where="--ray-address", remedy="call ray.shutdown() first, or name no address",
            )  # fmt: skip

    def _init(self, options: Mapping[str, Any]) -> None:
        with _as_before(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)

    def _local(self) -> dict[str, Any]:
        """Options that start a cluster here, in a folder that goes with it."""
        place = "/tmp" if Path("/tmp").is_dir() else None  # names of sockets must be short
        folder = tempfile.mkdtemp(prefix="geo-ray-", dir=place)
        self._guard = Guard(folder)
        return {
            "address": LOCAL, "include_dashboard": False, "object_store_memory": STORE,
            "_temp_dir": folder,
        }  # fmt: skip

    def _is_elsewhere(self) -> bool:
        """Whether a node is another machine, where this package is to be sent."""
        here = self.ray.util.get_node_ip_address()
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        return bool(shipped()) and any(node["NodeManagerAddress"] != here for node in alive)

    def _print_nothing(self) -> None:
        """Drop what Ray would print of nodes that die: there is no setting for it."""
        module = import_module("ray._private.worker")
        self._print = getattr(module, "print_to_stdstream", None)
        module.print_to_stdstream = _drop  # type: ignore[attr-defined]

    def _print_again(self) -> None:
        module = import_module("ray._private.worker")
        module.print_to_stdstream = self._print  # type: ignore[attr-defined]


def shipped() -> dict[str, Any]:
    """Options that bring this package to every node; none where it is installed as a copy.

    A source tree, or a link to one, is on this machine alone; what is installed here is taken to
    be installed on the nodes as well.
    """
    if PACKAGE.parent.name in {"site-packages", "dist-packages"}:
        return {}
    return {"runtime_env": {"py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__"]}}


def check_reachable(address: str) -> None:
    """Refuse an address where nobody listens.

    Args:
        address: As it is given.

    Raises:
        ArgumentError: It is no address.
        GeoError: Nobody listens there.
    """
    if address in {"auto", LOCAL}:
        return
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), timeout=PATIENCE / 3).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise _unreachable(address, f"{why[:1].lower()}{why[1:]}") from error


def check_address(address: str) -> None:
    """Refuse an address where no Ray answers, within seconds; Ray itself tries for minutes.

    Args:
        address: As it is given.

    Raises:
        ArgumentError: It is no address.
        GeoError: Nobody answers, or no Ray does.
    """
    check_reachable(address)
    if "://" not in address:
        _check_health(address)


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ArgumentError(
            f"expected an address such as 10.0.0.1:6379, ray://10.0.0.1:10001 or auto, found "
            f"{address!r}", where="--ray-address", remedy="`ray start --head` prints it",
        )  # fmt: skip
    return host.strip("[]"), int(port)


def _check_health(address: str) -> None:
    """Ask in a process of its own, as Ray can be told neither to give up nor to be quiet."""
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(address, f"no Ray answers within {PATIENCE:g} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or "none is running"
        raise _unreachable(address, said.splitlines()[-1])


def _unreachable(address: str, why: str) -> GeoError:
    return GeoError(
        f"no Ray cluster can be reached at {address}: {shortened(why)}", where="--ray-address",
        remedy="`ray start --head` starts one and prints its address; without --ray-address one "
        "is started on this machine",
    )  # fmt: skip


def _unusable(address: str, error: Exception) -> GeoError:
    why = shortened(" ".join(str(error).split()) or type(error).__name__)
    if address:
        return GeoError(f"the Ray cluster cannot be used: {why}", where=f"--ray-address {address}")
    return GeoError(
        f"Ray cannot be started on this machine: {why}", where="--engine ray",
        remedy="--workers measures trials in processes of this machine without it",
    )  # fmt: skip


@contextmanager
def _as_before() -> Iterator[None]:
    """Context that leaves what SIGTERM does as it was."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # only the main thread may, and Ray knows that
            signal.signal(signal.SIGTERM, before)


def _drop(*given: Any, **named: Any) -> None:
    """Print nothing: this stands in for what does."""
