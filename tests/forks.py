"""Python processes that begin with what commands import, each a fork of one that has imported it.

A command against a Hub takes a second, of which its imports are nine tenths. What the hub client
reads from the environment when it is imported is read again in each fork.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import reload
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE = 180.0
"""Seconds for a process, on a busy machine: a guard, and no promise."""


class Forks:
    """The process that is forked, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Python with arguments that begin with `-m mergekit_geo` or `-c CODE`."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            streams = [Path(place) / "out", Path(place) / "err"]
            asked = [arguments, str(folder), dict(environment), [*map(str, streams)]]
            print(json.dumps(asked), file=process.stdin, flush=True)
            code = int(process.stdout.readline())
            said = [path.read_text() for path in streams]
        return subprocess.CompletedProcess(list(arguments), code, *said)

    def _start(self) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name[:3] != "HF_"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT, env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        atexit.register(process.communicate)
        return process


FORKS = Forks()


def serve() -> None:
    """Fork for each line of the standard input; its exit code is a line of the output."""
    _import()
    sys.path.remove(str(ROOT))  # of this process alone, as `-m` was given there
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _child(*json.loads(line))
        print(_code(child), flush=True)


def _import() -> None:

    import mergekit_geo.cli.progress
    import mergekit_geo.commands.check
    import mergekit_geo.commands.push
    import mergekit_geo.commands.soup
    import mergekit_geo.outputs.upload  # noqa: F401


def _code(child: int) -> int:
    ends = time.monotonic() + PATIENCE
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def _child(
    arguments: list[str], folder: str, environment: dict[str, str], streams: list[str]
) -> None:
    for end, path in enumerate([os.devnull, *streams]):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, end)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    reload(sys.modules["huggingface_hub.constants"])
    os._exit(_ended(lambda: _run(*arguments)))


def _run(how: str, what: str, *arguments: str) -> None:
    sys.argv = [how, *arguments]
    if how == "-c":
        sys.path.insert(0, "")
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(what, names)
    else:
        from mergekit_geo.cli.app import main

        main()


def _ended(work: Callable[[], None]) -> int:
    """Its exit code, after all that is done at an end."""
    code: Any = 0
    try:
        work()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    serve()
