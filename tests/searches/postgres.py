"""A PostgreSQL of its own for tests: on a socket in a temporary folder, under a user not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.optional import skip

PATIENCE = 60.0
QUICK = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "autovacuum=off")


@contextmanager
def served() -> Iterator[str]:
    """The URL of a database of a server that is stopped and removed at the end."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path has 107 characters
    options = _under_another_user(folder) if os.geteuid() == 0 else {}
    try:
        _initialise(programs, folder, options)
        server = _start(programs, folder, options)
        try:
            _wait_for(folder, server)
            yield f"postgresql://geo@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # "fast": sessions are ended
            server.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if all((place / name).exists() for name in ("initdb", "postgres")):
            return place
    skip("PostgreSQL", "apt-get install postgresql")
    return None


def _under_another_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run under root."""
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = known.get("postgres", known["nobody"])
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _initialise(programs: Path, folder: Path, options: dict[str, Any]) -> None:
    words = ["--no-sync", "--auth=trust", "--username=geo", "--encoding=UTF8", "--locale=C"]
    subprocess.run(
        [programs / "initdb", *words, "-D", folder / "data"],
        cwd=folder, check=True, capture_output=True, **options,
    )  # fmt: skip


def _start(programs: Path, folder: Path, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    settings = [f"-c{each}" for each in (*QUICK, "listen_addresses=")]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-k", folder, *settings],
            cwd=folder, stdout=log, stderr=log, **options,
        )  # fmt: skip


def _wait_for(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import alembic.migration  # noqa: F401 - so that forks of this process need not import it
    import optuna.storages._rdb.models  # noqa: F401
    import psycopg
    import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401

    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return psycopg.connect(f"host={folder} user=geo dbname=postgres").close()
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < ends, (folder / "log").read_text()
            time.sleep(0.02)
