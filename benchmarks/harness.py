"""What benchmarks share: costs, rounds, processes of their own, folders, options, tables.

It loads neither torch nor the package: the `ru_maxrss` of a command starts at that of the process
that starts it, so a benchmark that weighs commands has to stay small (23 MB). Linux only (`/proc`,
`ru_maxrss` in KiB).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Found = TypeVar("Found")
Command = Sequence[str | Path]

ROOT = Path(__file__).resolve().parents[1]

# Costs


@dataclass(frozen=True)
class Cost:
    """What a run cost, with the processes that it waited for.

    Attributes:
        wall: Seconds.
        cpu: Seconds of the processor, in all threads.
        rss: Most megabytes resident at once.
    """

    wall: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """One run after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.rss, other.rss))

    @staticmethod
    def median(costs: Iterable[Cost]) -> Cost:
        """Of each number by itself."""
        columns = zip(*((cost.wall, cost.cpu, cost.rss) for cost in costs), strict=True)
        return Cost(*map(median, columns))


def measure(command: Command) -> Cost:
    """Run a command to its end, after all is written that waits for it. If it fails, exit."""
    os.sync()
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.stderr.write(errors.read().decode(errors="replace"))
            sys.exit(f"failed with {process.returncode}: {' '.join(map(str, command))}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def timed(work: Callable[[], object], times: int = 1) -> Cost:
    """Cost of a function of this process, done so many times."""
    began, cpu = time.perf_counter(), _processor_seconds()
    for _ in range(times):
        work()
    return Cost(time.perf_counter() - began, _processor_seconds() - cpu, peak())


def _processor_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def peak() -> float:
    """Most megabytes resident since this process began its program."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


# Rounds


def alternate(
    works: Mapping[Name, Callable[[], Found]],
    rounds: int | Mapping[Name, int],
    *,
    warm_up: bool = False,
    tell: bool = False,
) -> dict[Name, list[Found]]:
    """Results of every work, done once a round, so that noise hits all alike.

    Args:
        works: By name; every other round takes them in reverse.
        rounds: That count: of all works, or of each.
        warm_up: Whether one round more comes first, which does not count.
        tell: Whether stderr hears of each.
    """
    counts = dict.fromkeys(works, rounds) if isinstance(rounds, int) else rounds
    found: dict[Name, list[Found]] = {name: [] for name in works}
    for turn in range(-warm_up, max(counts.values())):
        due = [name for name in works if turn < counts[name]]
        for name in reversed(due) if turn % 2 else due:
            began, result = time.perf_counter(), works[name]()
            if turn >= 0:
                found[name].append(result)
            if tell:
                say(f"round {turn + 1} of {counts[name]}: {name}", began)
    return found


def ratio(own: Iterable[float], other: Iterable[float]) -> float:
    """Median of the ratios of numbers of the same round."""
    return median(a / b for a, b in zip(own, other, strict=True))


def say(text: str, began: float) -> None:
    """Tell stderr of work that is done, and how long it took."""
    print(f"{text} ({time.perf_counter() - began:.2f} s)", file=sys.stderr, flush=True)


# Processes and folders


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """Result of a function that runs in a process of its own, started afresh."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def work_offline(threads: int | None = None) -> None:
    """Set the environment of what follows: nothing is fetched, and so many threads work."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)


@contextmanager
def empty_cache() -> Iterator[Path]:
    """A cache in which nothing is kept yet, and a folder that is removed with it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        yield Path(folder)


@contextmanager
def work_folder(asked: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder asked for, or a temporary one, which stays if `keep`."""
    folder = asked or Path(tempfile.mkdtemp(prefix="benchmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder.resolve()
    finally:
        if keep and asked is None:
            print(f"kept: --work {folder}", file=sys.stderr)
        elif asked is None:
            shutil.rmtree(folder)


# Options and tables


def parser(
    doc: str | None, *, only: Iterable[str] = (), repeats: int = 0, keeps: bool = False
) -> argparse.ArgumentParser:
    """The options of a benchmark, with those that several have.

    Args:
        doc: Its docstring, of which the first line is shown.
        only: Sections to choose from by --only; all by default.
        repeats: The default of --repeats.
        keeps: Whether models that are made can be kept for the next run: --work and --keep.
    """
    options = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if sections := list(only):
        options.add_argument("--only", nargs="+", choices=sections, default=sections)
    if repeats:
        options.add_argument("--repeats", type=positive, default=repeats, help=f"({repeats})")
    if keeps:
        options.add_argument("--work", type=Path, help="folder for the models; a temporary one")
        options.add_argument("--keep", action="store_true", help="leave the models there")
    return options


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print Markdown, each row as soon as it is there."""
    print(f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def met(holds: bool) -> str:
    """Whether what is asked for holds."""
    return "met" if holds else "missed"


def versions() -> str:
    """Of everything that was timed, and the number of cores."""
    ours = ", ".join(f"{name} {version(name)}" for name in ("mergekit_geo", "torch"))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, Python {platform.python_version()}, {ours}"
