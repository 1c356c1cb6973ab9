"""Python processes that begin with what commands import, each a fork of one that has imported it.

A command against a Hub takes a second, of which its imports are nine tenths; a training in two
processes takes fifteen, of which they are two thirds. What the hub client reads from the
environment when it is imported is read again in each fork.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
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
PATIENCE = 400.0
"""Seconds for a process, on a busy machine: a guard, and no promise."""


class Fork:
    """A process that was begun, and that ends by itself or by a signal."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.forks, self.pid = forks, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._code is None:
            self._code = self.forks.ask("poll", self.pid)
        return self._code

    def kill(self) -> int:
        """Its exit code, by SIGKILL if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Its exit code."""
        ends = time.monotonic() + PATIENCE
        while (code := self.poll()) is None:
            if time.monotonic() > ends:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.002)
        return code


class Forks:
    """The process that is forked, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Python with arguments that begin with `-m mergekit_geo`, `-c CODE` or a script."""
        return self._ended(arguments, folder, [environment])[0]

    def together(
        self, arguments: Sequence[str], folder: Path, **told: str
    ) -> subprocess.CompletedProcess[str]:
        """The same in two processes that work together, told of each other as torchrun does.

        Its exit code and its streams are those of the first that fails, or of the first.
        """
        shared = {**os.environ, **_meeting(), **told}
        ranks = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        ended = self._ended(arguments, folder, ranks)
        return next((done for done in ended if done.returncode), ended[0])

    def begin(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] = os.environ,
        streams: tuple[str, str] = (os.devnull, os.devnull),
    ) -> Fork:
        """The process, while it runs; it writes to the files that are named."""
        return Fork(self, self.ask("begin", arguments, str(folder), dict(environment), streams))

    def _ended(
        self, arguments: Sequence[str], folder: Path, environments: Sequence[Mapping[str, str]]
    ) -> list[subprocess.CompletedProcess[str]]:
        with tempfile.TemporaryDirectory() as place:
            streams = [(f"{place}/out-{n}", f"{place}/err-{n}") for n in range(len(environments))]
            begun = [
                self.begin(arguments, folder, *one)
                for one in zip(environments, streams, strict=True)
            ]
            codes = [fork.wait() for fork in begun]
            said = [[Path(path).read_text() for path in paths] for paths in streams]
        return [
            subprocess.CompletedProcess(list(arguments), code, *texts)
            for code, texts in zip(codes, said, strict=True)
        ]

    def ask(self, *asked: Any) -> Any:
        """The answer of the process that is forked."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(asked), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    def _start(self) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name[:3] != "HF_"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT, env={**inherited, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        atexit.register(process.communicate)
        return process


FORKS = Forks()


def _meeting() -> dict[str, str]:
    """Where two processes on this machine find each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip


def serve() -> None:
    """Answer each line of the standard input by a line of the output."""
    _import()
    sys.path.remove(str(ROOT))  # of this process alone, as `-m` was given there
    asked = {"begin": _begun, "poll": _polled}
    for line in sys.stdin:
        what, *given = json.loads(line)
        print(json.dumps(asked[what](*given)), flush=True)


def _import() -> None:

    import torch.distributed.fsdp  # noqa: F401
    import transformers.models.llama.modeling_llama
    import transformers.trainer  # noqa: F401

    import mergekit_geo.checkpoints.architecture
    import mergekit_geo.cli.app
    import mergekit_geo.cli.commands
    import mergekit_geo.cli.progress
    import mergekit_geo.commands.check
    import mergekit_geo.commands.evidence
    import mergekit_geo.commands.push
    import mergekit_geo.commands.soup
    import mergekit_geo.outputs.upload  # noqa: F401


def _begun(*asked: Any) -> int:
    child = os.fork()
    if child == 0:
        _child(*asked)
    return child


def _polled(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


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


def _run(how: str, *arguments: str) -> None:
    sys.argv = [how, *arguments]
    if how == "-c":
        sys.path.insert(0, "")
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(sys.argv.pop(1), names)
    elif how == "-m":
        from mergekit_geo.cli.app import main

        sys.argv.pop(1)
        main()
    else:
        sys.path.insert(0, str(Path(how).parent))
        runpy.run_path(how, run_name="__main__")


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
