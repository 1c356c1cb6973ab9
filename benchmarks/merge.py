"""Time merges as whole processes, beside the I/O floor and, if asked, beside mergekit.

Usage:
    python benchmarks/merge.py                               # 3 x 1.1 B parameters, 3 rounds
    python benchmarks/merge.py --size 0.3 --work DIR --keep  # models stay for the next run
    python benchmarks/merge.py --peer OTHER/bin/python       # an interpreter with mergekit
    python benchmarks/merge.py --durable --memory            # flushed output; RSS by size

Makes three Llama-shaped bf16 checkpoints, reads them once into the page cache, then runs every
work once a round, so that noise hits all alike, and prints medians as a Markdown table. Ratios
are of medians. The I/O floor is `cat` of the inputs to nowhere plus `cp` of one of them. "Kernel"
rows time `write_blend` alone; their memory is the whole process's. Linux only (`cp --reflink`,
`ru_maxrss` in KiB).

This process stays without torch: a child's `ru_maxrss` starts at its parent's, so no row shows
less than the 23 MB of this one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Command, Cost
from benchmarks.llamas import SIZES, models_of

if TYPE_CHECKING:
    import argparse

MODELS = 3
SHARD_BYTES = 5 * 10**9
SMALL, LARGE = "0.3", "2.2"
"""Sizes that --memory compares."""


@dataclass
class Work:
    """A row of the table.

    Attributes:
        name: What the row is called.
        run: Does it once, and cleans up.
        rounds: How often it is done.
        floor: The row that is its I/O floor.
        peer: The row of the peer that does the same.
        samples: What its runs cost.
    """

    name: str
    run: Callable[[], Cost]
    rounds: int
    floor: Work | None = None
    peer: Work | None = None
    samples: list[Cost] = field(default_factory=list)

    @property
    def result(self) -> Cost:
        """The median."""
        return Cost.median(self.samples)

    def cells(self) -> list[str]:
        """The row."""
        cost = self.result
        numbers = [f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.rss:.0f}"]
        return [self.name, *numbers, self._ratio(self.floor, ".2f"), self._ratio(self.peer, ".3f")]

    def _ratio(self, other: Work | None, form: str) -> str:
        return format(self.result.wall / other.result.wall, form) if other else ""


def measure_floor(models: list[Path], out: Path) -> Cost:
    """`cat` of all, then `cp` of one."""
    files = [model / "model.safetensors" for model in models]
    cat = harness.measure(["cat", *files])
    cp = harness.measure(["cp", "--reflink=never", files[0], out])
    out.unlink()
    return cat + cp


def measure_output(out: Path, *commands: Command) -> Cost:
    """Run commands that make a folder, then remove it."""
    costs = [harness.measure(command) for command in commands]
    shutil.rmtree(out)
    return sum(costs, Cost())


def measure_kernel(name: str, models: list[Path], out: Path) -> Cost:
    """`write_blend` alone; to be called in a process of its own."""
    from mergekit_geo.checkpoints.compatibility import preflight
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.merging.disk import write_blend
    from mergekit_geo.merging.methods import rule_of
    from mergekit_geo.outputs.kind import MERGED
    from mergekit_geo.outputs.output import Output

    base = 0 if METHODS[name][0] == "run" else None
    masks = {"weights": 0.5, "density": 0.5} if name in MASKING else {}
    rule = rule_of(method_of(name), len(models), base, **masks, **GIVEN.get(name, {}))
    blend = Blend(preflight([open_checkpoint(model) for model in models]).fetch(), rule)
    output = Output(out, MERGED, fsync=False)
    output.begin(name)
    os.sync()
    cost = harness.timed(lambda: write_blend(blend, output, SHARD_BYTES))
    output.discard()
    return cost


def run_all(works: Sequence[Work]) -> None:
    """Round by round."""
    runs, rounds = {w.name: w.run for w in works}, {w.name: w.rounds for w in works}
    samples = harness.alternate(runs, rounds, tell=True)
    for work in works:
        work.samples = samples[work.name]


# The works

PLAIN = ("--no-eval", "--sharpness", "off", "--quiet")
METHODS = {
    "linear": ("soup", 3), "slerp": ("slerp", 2), "karcher": ("slerp", 3),
    "task_arithmetic": ("run", 3), "model_stock": ("run", 3), "ties": ("run", 3),
    "dare_linear": ("run", 3), "dare_ties": ("run", 3), "della": ("run", 3), "sce": ("run", 3),
    "nearswap": ("run", 2), "arcee_fusion": ("run", 2), "ram": ("run", 3),
    "ramplus_tl": ("run", 3), "nuslerp by row": ("run", 3), "nuslerp by column": ("run", 3),
    "model_stock by row": ("run", 3), "geometric_median": ("merge", 3),
}  # fmt: skip
"""What the peer calls it, our command, and the number of models, of which `run` takes the first as
the base."""

GIVEN: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.5}, "nearswap": {"t": 1e-4},
    "nuslerp by row": {"nuslerp_flatten": False},
    "nuslerp by column": {"nuslerp_flatten": False, "nuslerp_row_wise": True},
    "model_stock by row": {"filter_wise": True},
}  # fmt: skip
"""Parameters of a whole merge."""

MASKING = ("ties", "dare_linear", "dare_ties", "della")
"""Those that take a density."""

OURS = ("geometric_median",)
"""Those that the peer lacks."""


def method_of(name: str) -> str:
    """What the peer calls it.

    Example:
        >>> method_of("nuslerp by row")
        'nuslerp'
    """
    return name.partition(" ")[0]


@dataclass(frozen=True)
class Bench:
    """Makes the rows.

    Attributes:
        models: The inputs.
        runs: A folder for outputs and recipes.
        rounds: How often our works and the floor are done.
        peer: An interpreter that has mergekit.
        peer_rounds: How often its works are done.
        methods: Which of `METHODS` are done.
    """

    models: list[Path]
    runs: Path
    rounds: int
    peer: Path | None = None
    peer_rounds: int = 0
    methods: Sequence[str] = tuple(METHODS)

    def works(self, *, durable: bool) -> list[Work]:
        """The rows, in order."""
        floors = {count: self.floor(count) for count in (3, 2)}
        both = [method for method in self.methods if self.peer and method not in OURS]
        peers = {method: self.theirs(method, floors) for method in both}
        ours = [self.ours(method, floors, peers) for method in self.methods]
        kernels = [self.kernel(method, floors) for method in self.methods]
        extra = self.durable(floors[3]) if durable else []
        return [*floors.values(), *ours, *kernels, *peers.values(), *extra]

    def floor(self, count: int) -> Work:
        """What reading the inputs and copying one costs."""
        run = partial(measure_floor, self.models[:count], self.runs / "copy")
        return Work(f"I/O floor: `cat` of {count}, `cp` of 1", run, self.rounds)

    def ours(self, method: str, floors: dict[int, Work], peers: dict[str, Work]) -> Work:
        """Our command."""
        command, count = METHODS[method]
        inputs = [self._recipe(method)] if command == "run" else self.models[:count]
        chosen = ["--method", method] if command == "merge" else []
        run = self._run_ours(command, inputs, *chosen, *PLAIN, "--no-fsync")
        name = f"`geo-merge {command}`, {inputs_of(method)}"
        return Work(name, run, self.rounds, floors.get(count), peers.get(method))

    def kernel(self, method: str, floors: dict[int, Work]) -> Work:
        """Our streaming alone."""
        _, count = METHODS[method]
        arguments = method, self.models[:count], self.runs / "kernel"
        run = partial(harness.in_child, measure_kernel, *arguments)
        return Work(f"kernel alone: {inputs_of(method)}", run, self.rounds, floors[count])

    def theirs(self, method: str, floors: dict[int, Work]) -> Work:
        """The peer's command."""
        _, count = METHODS[method]
        run = self._run_theirs(method)
        return Work(f"mergekit: {inputs_of(method)}", run, self.peer_rounds, floors[count])

    def durable(self, floor: Work) -> list[Work]:
        """Soups on the disk, and one with its losses measured."""
        run = self._run_ours("soup", self.models, *PLAIN)
        flushed = Work("`geo-merge soup`, flushed to the disk", run, self.rounds, floor)
        run = self._run_ours("soup", self.models, "--budget", "1")
        evaluated = Work("`geo-merge soup --budget 1`, flushed and evaluated", run, self.rounds)
        if not self.peer:
            return [flushed, evaluated]
        run = self._run_theirs("linear", ["sync", "-f", self.runs / "theirs"])
        name = "mergekit linear, then `sync -f`"
        flushed.peer = Work(name, run, self.peer_rounds, floor)
        return [flushed, flushed.peer, evaluated]

    def _run_ours(self, command: str, inputs: Sequence[Path], *flags: str) -> Callable[[], Cost]:
        out = self.runs / "ours"
        program = Path(sys.executable).with_name("geo-merge")
        line: list[str | Path] = [program, command, *inputs, "-o", out, *flags]
        return partial(measure_output, out, line)

    def _run_theirs(self, method: str, *after: Command) -> Callable[[], Cost]:
        assert self.peer
        out, recipe = self.runs / "theirs", self._recipe(method)
        line: list[str | Path] = [self.peer.with_name("mergekit-yaml"), recipe, out, "--quiet"]
        return partial(measure_output, out, line, *after)

    def _recipe(self, method: str) -> Path:
        """A file with what mergekit is asked to do, and `geo-merge run` too. JSON is YAML."""
        path = self.runs / f"{method.replace(' ', '-')}.yaml"
        path.write_text(json.dumps(self.recipe(method)))
        return path

    def recipe(self, method: str) -> dict[str, Any]:
        """The recipe of a method."""
        command, count = METHODS[method]
        first, *others = (str(model) for model in self.models[:count])
        given = {"weight": 0.5, "density": 0.5} if method in MASKING else {"weight": 1.0}
        names = others if command == "run" else [first, *others]
        models = [{"model": name, "parameters": given} for name in names]
        recipe: dict[str, Any] = {
            "merge_method": method_of(method), "models": models, "dtype": "bfloat16",
            "parameters": GIVEN.get(method, {}),
        }  # fmt: skip
        return recipe | ({"base_model": first} if command == "run" or method == "slerp" else {})


def inputs_of(method: str) -> str:
    """The method and its models."""
    command, count = METHODS[method]
    return (
        f"{method}, {count - 1} models + base" if command == "run" else f"{method}, {count} models"
    )


def memory_rows(work: Path, runs: Path, *, keep: bool) -> list[list[str]]:
    """Our commands on small and on large models, once each, and what the size adds."""
    small, large = (memory_works(label, work, runs, keep=keep) for label in (SMALL, LARGE))
    rows = [work.cells() for work in [*small, *large]]
    for less, more in zip(small, large, strict=True):
        added = f"{round(more.result.rss - less.result.rss):+d}"
        rows.append([f"{more.name} less {SMALL} B", "", "", added, "", ""])
    return rows


def memory_works(label: str, work: Path, runs: Path, *, keep: bool) -> list[Work]:
    with models_of(SIZES[label], MODELS, work, keep=keep) as models:
        bench = Bench(models, runs, 1)
        works = [bench.ours(method, {}, {}) for method in ("linear", "slerp")]
        for row in works:
            row.name += f" of {label} B"
        run_all(works)
    return works


# Printing

HEAD = ["work", "wall s", "CPU s", "peak RSS MB", "x I/O floor", "x peer"]


def versions(peer: Path | None) -> str:
    """Of everything that was timed, and the number of cores."""
    if peer is None:
        return harness.versions()
    code = (
        "import platform; from importlib.metadata import version as v; print("
        "f\"mergekit {v('mergekit')} (Python {platform.python_version()}, torch {v('torch')})\")"
    )
    theirs = subprocess.run([peer, "-c", code], check=True, capture_output=True, text=True)
    return f"{harness.versions()}; {theirs.stdout.strip()}"


# The command line


def parse() -> argparse.Namespace:
    parser = harness.parser(__doc__, repeats=3, keeps=True)
    parser.add_argument("--size", choices=SIZES, default="1.1", metavar="|".join([*SIZES][1:]))
    parser.add_argument("--peer", type=Path, help="an interpreter that has mergekit")
    parser.add_argument("--peer-repeats", type=harness.positive, help="of the peer (--repeats)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--durable", action="store_true", help="rows with output flushed")
    parser.add_argument("--memory", action="store_true", help=f"RSS at {SMALL} B and {LARGE} B")
    options = parser.parse_args()
    if options.peer and not options.peer.with_name("mergekit-yaml").is_file():
        parser.error("--peer: there is no mergekit-yaml beside this interpreter")
    return options


def main() -> None:
    options = parse()
    peer = options.peer.absolute() if options.peer else None
    size, keep = SIZES[options.size], options.keep
    harness.work_offline()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles a program at every start
    with (
        harness.work_folder(options.work, keep=keep) as work,
        tempfile.TemporaryDirectory(prefix="runs-", dir=work) as runs,
    ):
        with models_of(size, MODELS, work, keep=keep) as models:
            peer_rounds = options.peer_repeats or options.repeats
            bench = Bench(models, Path(runs), options.repeats, peer, peer_rounds, options.methods)
            works = bench.works(durable=options.durable)
            run_all(works)
        rows = [work.cells() for work in works]
        if options.memory:
            rows += memory_rows(work, Path(runs), keep=keep)
    rounds = f"{options.repeats} rounds" + (f" (mergekit: {peer_rounds})" if peer else "")
    print(f"{MODELS} x {size.count:,} parameters, medians of {rounds}:\n")
    harness.table(HEAD, rows)
    print(f"\n{versions(peer)}")


if __name__ == "__main__":
    main()
