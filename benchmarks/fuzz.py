"""Damaged inputs, thousands of them: each has to end in a result or in one clear line.

Usage:
    python benchmarks/fuzz.py                              # 1,000 of each kind
    python benchmarks/fuzz.py --mutations 50 --kind recipes --kind configs
    python benchmarks/fuzz.py --kind recipes --only 17     # again, with all that it printed

Every mutation is a folder of its own with damaged copies of small sound inputs, and one command
that is run in a child, forked from this process so that nothing is imported again. Told as faults
are a traceback, an error that is called unexpected, a signal, 20 s, 1 GB above the start, files
touched outside the folder, code of the folder run, a connection, and control characters printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import io
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

SECONDS, EXTRA = 20, 10**9

sys.dont_write_bytecode = True
os.environ |= {
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    "TRANSFORMERS_VERBOSITY": "error", "MALLOC_ARENA_MAX": "2", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}  # fmt: skip

from benchmarks.confinement import Watch, limit_memory, resident  # noqa: E402
from benchmarks.subjects import FORMATS, KINDS, LOSS, QUICK, RECIPE, example, lay_out, make  # noqa: E402

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
SCRIPT = re.compile("<script.*?</script>", re.DOTALL)


@dataclass
class Ended:
    """How a mutation ended.

    Attributes:
        code: Exit code; None after a signal.
        faults: What should not have been.
        out: What it printed.
        command: What was run.
    """

    code: int | None = None
    faults: list[str] = field(default_factory=list)
    out: str = ""
    command: str = ""


def run_one(kind: str, number: int, seed: int, sound: Path, here: Path) -> Ended:
    """Fork a child for one mutation, and wait for it.

    Args:
        kind: Of input.
        number: Of the mutation.
        seed: Of all.
        sound: Folder of the sound inputs.
        here: Its folder, not there yet.
    """
    lay_out(kind, sound, here)
    command = KINDS[kind][0](random.Random(f"{seed}:{kind}:{number}"), here)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(command, here, sound, writing)
    os.close(writing)
    ended = _waited(child, reading)
    ended.command = " ".join(command)
    for path in here.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix in (".md", ".html"):
            ended.faults += _written(path)
    shutil.rmtree(here, ignore_errors=True)
    return ended


def _written(path: Path) -> list[str]:
    """Control characters in a card or a page; plotly's own code has some."""
    text = SCRIPT.sub("", path.read_text("utf-8", "replace"))
    return [f"terminal: {CONTROL.findall(text)[:3]} in {path.name}"] if CONTROL.search(text) else []


def _waited(child: int, reading: int) -> Ended:
    """Until it ends, is too large, or has taken too long."""
    began, start, data, fault = time.monotonic(), resident(child), b"", ""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while not fault:
            if select.select([pipe], [], [], 0.02)[0]:
                part = pipe.read(1 << 16)
                if not part:
                    break
                data += part
            if resident(child) - start > EXTRA:
                fault = "memory: more than 1 GB above the start"
            elif time.monotonic() - began > SECONDS:
                fault = f"hang: more than {SECONDS} s"
    if fault:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if fault or not data:
        return Ended(faults=[fault or f"signal: {os.waitstatus_to_exitcode(status)}"])
    return Ended(**json.loads(data))


def _child(command: list[str], here: Path, sound: Path, writing: int) -> None:
    """The command, in this process, which ends with it."""
    ended = Ended()
    try:
        os.chdir(here)
        os.environ |= {
            "XDG_CACHE_HOME": str(here / ".cache"),
            "HOME": str(here),
            "TMPDIR": str(here),
        }
        tempfile.tempdir = str(here)
        devnull = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(devnull, descriptor)
        sys.stdin = open(0)  # noqa: SIM115
        known = [str(Path(p).resolve()) for p in sys.path if p]
        limit_memory(EXTRA)
        watch = Watch(here.resolve(), known, (sound / "secret").resolve())
        ended.code, ended.out = invoke(command)
        ended.faults = [*watch.found, *judged(ended.code, ended.out)]
    except BaseException:
        ended.faults.append("traceback: " + traceback.format_exc()[-3000:])
    try:
        os.write(writing, b"")
        with open(writing, "wb") as pipe:
            ended.out = ended.out[-20_000:]
            pipe.write(json.dumps(vars(ended)).encode())
    finally:
        os._exit(0)


def invoke(command: list[str]) -> tuple[int, str]:
    """Exit code and output of a command, run in this process."""
    from mergekit_geo.cli.app import app

    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            app(command, standalone_mode=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            return code, printed.getvalue()
    return 0, printed.getvalue()


def judged(code: int, out: str) -> list[str]:
    """What is wrong with what was printed."""
    found = []
    if "this should not happen" in out:
        found.append("unexpected: " + out[-1500:])
    if "Traceback (most recent call last)" in out:
        found.append("traceback: " + out[-3000:])
    if CONTROL.search(out):
        found.append(f"terminal: {CONTROL.findall(out)[:3]}")
    if code not in (0, 1, 3) or (code == 1 and not out.strip()):
        found.append(f"exit: {code}")
    return found


def warm(folder: Path) -> None:
    """Import all that the commands import, by running each once on sound inputs."""
    import torch

    torch.set_num_threads(1)
    here = folder / "warm"
    shutil.copytree(folder / "sound", here)
    os.chdir(here)
    os.environ["XDG_CACHE_HOME"] = str(here / ".cache")
    (here / "recipe.yaml").write_text(example(RECIPE))
    commands = [
        ["check", "m", "b", "m+adapter"], ["soup", "sharded", "adapter", "-o", "one", *QUICK],
        ["run", "recipe.yaml", "--dry-run"], ["run", "recipe.yaml", "-o", "two", *QUICK],
    ]  # fmt: skip
    for suffix in FORMATS:
        commands.append(["soup", "m", "b", "-o", suffix, *LOSS, "--data", f"data.{suffix}"])
    for command in commands:
        code, out = invoke(command)
        assert code == 0, (command, out)
    os.chdir(folder)
    shutil.rmtree(here)


def main() -> int:
    """Run, tell, and exit 1 where anything was found."""
    given = parse()
    faulthandler.disable()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        make(folder / "sound")
        warm(folder)
        print(f"warm after {time.monotonic() - began:.1f} s", flush=True)
        numbers = range(given.mutations) if given.only is None else [given.only]
        gc.freeze()
        bad = False
        print(f"{'kind':12}{'mutations':>10}{'refused':>9}{'done':>6}{'faults':>8}{'ms each':>9}")
        for kind in given.kind or KINDS:
            bad |= _kind(
                kind, numbers, given.seed, folder, given.jobs, verbose=given.only is not None
            )
        os.chdir("/")
    return int(bad)


def _kind(
    kind: str, numbers: Sequence[int], seed: int, folder: Path, jobs: int, *, verbose: bool
) -> bool:
    began, codes, found = time.monotonic(), Counter[int | None](), []
    readers = [_worker(kind, numbers[job::jobs], seed, folder) for job in range(jobs)]
    for reading in readers:
        with os.fdopen(reading, encoding="utf-8") as pipe:
            for number, entry in map(json.loads, pipe):
                ended = Ended(**entry)
                codes[ended.code] += 1
                found += [(number, ended.command, fault) for fault in ended.faults]
                if verbose:
                    print(ended.command, ended.code, ended.out, sep="\n")
    for _ in readers:
        os.wait()
    each = (time.monotonic() - began) / max(1, len(numbers)) * 1000
    print(
        f"{kind:12}{len(numbers):10}{codes[1]:9}{codes[0]:6}{len(found):8}{each:9.1f}", flush=True
    )
    for number, command, fault in sorted(found):
        print(f"  --seed {seed} --kind {kind} --only {number}: {command}\n    {fault}", flush=True)
    return bool(found)


def _worker(kind: str, numbers: Sequence[int], seed: int, folder: Path) -> int:
    """A process that runs some of the mutations, and the pipe that it tells of them in."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    try:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            for number in numbers:
                ended = run_one(kind, number, seed, folder / "sound", folder / f"{kind}-{number}")
                pipe.write(json.dumps([number, vars(ended)]) + "\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="Damaged inputs, each in a child of one process.")
    parser.add_argument("--mutations", type=int, default=1000, help="of each kind")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="all by default")
    parser.add_argument("--jobs", type=int, default=2, help="mutations at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one, with all that it prints")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
