"""Kill every command that writes, at random moments, and run it again.

    python benchmarks/kills.py [--count 20] [--seed 0] [--only soup,path]

Half of the kills come before a random one of all files that the command opens, makes, renames or
removes, the others at a random time. Half of them find an older output, to be replaced. After each
one the output is whole, or what it was before; then the same command ends well, and nothing lies
beside the output that did not without the kill. The output of a push is what the repository holds,
on a Hub on the loopback; what is pushed stays as it is. The models are tiny, and each run is a fork
of one process that has loaded all it needs.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from huggingface_hub import constants

from benchmarks import harness
from benchmarks.kills_commands import CACHE, NAMES, REPO, TOKEN, Commands, Write
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub, Token

EVENTS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "socket.connect",
}  # fmt: skip
"""Audit events of Python that tell of what is done to files, and of what is sent to a Hub."""
SAME = (".safetensors", ".csv", ".npz")
"""Ends of the names of files that are the same to the byte in each run."""
LATE = 25
"""So many of the last events are those of an output that appears: half of the kills are there."""


@dataclass(frozen=True)
class Run:
    """What came of a child.

    Attributes:
        code: Its exit code; that of the signal, negative, if it was killed.
        events: How many files it opened, made, renamed or removed; 0 if it was killed.
        seconds: How long it took.
    """

    code: int
    events: int
    seconds: float


def forked(work: Callable[[], object], *, event: int = 0, after: float | None = None) -> Run:
    """Run in a child, and kill it.

    Args:
        work: What the child does.
        event: Before which event of its it is killed, from 1 on; never if 0.
        after: After how many seconds; never if None.
    """
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        _child(work, event, writer)
    os.close(writer)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as told:
        events = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Run(code, int(events or 0), time.perf_counter() - began)


def _child(work: Callable[[], object], event: int, writer: int) -> None:
    code, seen = 1, 0

    def count(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in EVENTS:
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        work()
        code = 0
        os.write(writer, str(seen).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def files(folder: Path) -> dict[str, bytes] | None:
    """All that a folder holds, by name; None where there is no folder."""
    if not folder.is_dir():
        return None
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@dataclass
class Target:
    """A command, and what it writes when nothing stops it.

    Attributes:
        write: The command.
        folder: Its own, empty at first.
        whole: The files of its output.
        beside: What lies in the folder then.
        events: How many moments a run of it has.
        seconds: How long a run takes.
    """

    write: Write
    folder: Path
    whole: dict[str, bytes] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)
    events: int = 0
    seconds: float = 0.0

    @property
    def out(self) -> Path:
        """The output."""
        return self.folder / "out"

    def prepare(self) -> None:
        """Run it in this process, which loads what it needs, and once more in a child."""
        self.write(self.out, False)
        self.whole, self.beside = self.found() or {}, self._beside()
        self.clear(old=True)
        again = forked(lambda: self.write(self.out, True))
        assert again.code == 0, f"exit code {again.code}"
        self.events, self.seconds = again.events, again.seconds

    def kill(self, draw: random.Random, *, old: bool, timed: bool) -> str:
        """Kill it at a random moment and run it again; what happened.

        Args:
            draw: Chooses the moment.
            old: Whether there is an output to be replaced.
            timed: Whether the moment is one of time, not of an event.

        Raises:
            AssertionError: Something is wrong.
        """
        self.clear(old=old)
        before = self.found()
        work = lambda: self.write(self.out, old)  # noqa: E731
        if timed:
            run = forked(work, after=draw.uniform(0, self.seconds))
        else:
            first = draw.choice([1, max(1, self.events - LATE)])
            run = forked(work, event=draw.randint(first, self.events))
        assert run.code in (0, -signal.SIGKILL), f"exit code {run.code}"
        found = self.found()
        if found != before:
            self._require_whole(found)
        if found is None or old:
            self._run_again(old=old)
        if run.code == 0:
            return "done before"
        return "before it appeared" if found == before else "after it appeared"

    def found(self) -> dict[str, bytes] | None:
        """What the output holds, by name; None where there is none."""
        return files(self.out)

    def clear(self, *, old: bool) -> None:
        """Begin anew: without an output, or with one to be replaced."""
        shutil.rmtree(self.folder / CACHE, ignore_errors=True)
        if not old:
            shutil.rmtree(self.out)
        elif not self.out.exists():
            self._run_again(old=False)

    def _run_again(self, *, old: bool) -> None:
        run = forked(lambda: self.write(self.out, old))
        assert run.code == 0, f"exit code {run.code} of the second run"
        self._require_whole(self.found())
        assert self._beside() == self.beside, f"left: {self._beside() ^ self.beside}"

    def _beside(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {CACHE}

    def _require_whole(self, found: dict[str, bytes] | None) -> None:
        assert found is not None, "the output is gone"
        assert found.keys() == self.whole.keys(), f"{sorted(found.keys() ^ self.whole.keys())}"
        for name, content in self.whole.items():
            same = found[name] == content if name.endswith(SAME) else bool(found[name])
            assert same, f"{name} is not what it should be"
            if name.endswith(".json"):
                json.loads(found[name])


@dataclass
class Pushed(Target):
    """A push: its output is what the repository on the Hub holds.

    Attributes:
        hub: Empty at first.
        models: The folder with the output that is pushed, and an older one in other shards.
    """

    hub: Hub = field(kw_only=True)
    models: Path = field(kw_only=True)

    def found(self) -> dict[str, bytes] | None:
        """Files of the newest commit; None before the first commit of somebody's."""
        if REPO not in self.hub.repositories:
            return None
        there = {name: blob.path for name, blob in self.hub.files(REPO).items()}
        held = {n: p.read_bytes() for n, p in there.items() if p and n != ".gitattributes"}
        return held or None

    def clear(self, *, old: bool) -> None:
        """Without a repository, or with one that holds the older output."""
        self.hub.repositories.pop(REPO, None)
        self.hub.objects.clear()
        if old:
            self.hub.publish(REPO, self.models / "older")

    def _require_whole(self, found: dict[str, bytes] | None) -> None:
        super()._require_whole(found)
        assert found == files(self.models / "merged"), "it is not what was pushed"


@contextmanager
def target_of(commands: Commands, name: str, folder: Path) -> Iterator[Target]:
    """A command, with a cache in an empty folder; with a Hub of its own for a push."""
    write = getattr(commands, name)
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / CACHE)):
        if name != "push":
            yield Target(write, folder)
            return
        with tempfile.TemporaryDirectory() as store, serve_hub(Path(store)) as hub, client_of(hub):
            hub.tokens[TOKEN] = Token()
            yield Pushed(write, folder, hub=hub, models=commands.folder)


@contextmanager
def client_of(hub: Hub) -> Iterator[None]:
    """Lead the hub client of this process, and of its children, to a Hub without Xet."""
    told = {"ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": True}
    own = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with mock.patch.multiple(constants, **told), mock.patch.dict(os.environ, own):
        yield


def main() -> int:
    """Kill them, and print what came of it."""
    parser = harness.parser(__doc__)
    parser.add_argument("--count", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(NAMES))
    said = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    models = tempfile.TemporaryDirectory()
    commands = Commands.made_in(Path(models.name))
    for name in said.only.split(","):
        draw, outcomes = random.Random(f"{said.seed} {name}"), Counter[str]()
        place = tempfile.TemporaryDirectory()
        with place, target_of(commands, name, Path(place.name)) as target:
            target.prepare()
            for number in range(said.count):
                try:
                    outcome = target.kill(draw, old=number % 2 == 0, timed=number % 4 > 1)
                except AssertionError as error:
                    outcome, wrong = f"wrong: {error}", wrong + 1
                outcomes[outcome] += 1
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{name}: {target.events} moments, {target.seconds:.2f} s: {told}", flush=True)
    models.cleanup()
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
