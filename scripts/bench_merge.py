"""Time merges as whole processes, beside the I/O floor and, if asked, beside mergekit.

Usage:
    python scripts/bench_merge.py                               # 3 x 1.1 B parameters, 3 rounds
    python scripts/bench_merge.py --size 0.3 --work DIR --keep  # models stay for the next run
    python scripts/bench_merge.py --peer OTHER/bin/python       # an interpreter with mergekit
    python scripts/bench_merge.py --durable --memory            # flushed output; RSS by size

Makes three Llama-shaped bf16 checkpoints, reads them once into the page cache, then runs every
work once a round, so that noise hits all alike, and prints medians as a Markdown table. Ratios
are of medians. The I/O floor is `cat` of the inputs to nowhere plus `cp` of one of them. "Kernel"
rows time `write_blend` alone; their memory is the whole process's. Linux only (`cp --reflink`,
`ru_maxrss` in KiB).

This process stays without torch: a child's `ru_maxrss` starts at its parent's, so no row shows
less than the 23 MB of this one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from math import prod
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.geometry.rule import Rule

    Command = Sequence[str | Path]

MODELS = 3
SPREAD, NOISE = 0.02, 0.002
"""Standard deviations of the common base weights, and of what each model adds."""
BLOCK = 1 << 22
"""Elements made at once, out of a block of random numbers that is used again and again."""
SHARD_BYTES = 5 * 10**9
BYTE_ALPHABET = 256
END_OF_TEXT = "<|endoftext|>"
SMALL, LARGE = "0.3", "2.2"
"""Sizes that --memory compares."""


@dataclass(frozen=True)
class Size:
    """The shape of a Llama."""

    layers: int
    hidden: int = 2048
    mlp: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocabulary: int = 32000

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, in the order of the file."""
        outer = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        layers = {
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(self.layers)
            for name, shape in self._layer().items()
        }
        last = {
            "model.norm.weight": (self.hidden,),
            "lm_head.weight": (self.vocabulary, self.hidden),
        }
        return outer | layers | last

    def _layer(self) -> dict[str, tuple[int, ...]]:
        wide, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        return {
            "input_layernorm": (wide,),
            "self_attn.q_proj": (wide, wide),
            "self_attn.k_proj": (kv, wide),
            "self_attn.v_proj": (kv, wide),
            "self_attn.o_proj": (wide, wide),
            "post_attention_layernorm": (wide,),
            "mlp.gate_proj": (self.mlp, wide),
            "mlp.up_proj": (self.mlp, wide),
            "mlp.down_proj": (wide, self.mlp),
        }

    @property
    def count(self) -> int:
        """Number of parameters."""
        return sum(prod(shape) for shape in self.shapes().values())

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.mlp,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "torch_dtype": "bfloat16",
            "tie_word_embeddings": False,
            "bos_token_id": BYTE_ALPHABET,
            "eos_token_id": BYTE_ALPHABET,
        }


SIZES = {
    "0.02": Size(4, hidden=512, mlp=1408, heads=8, kv_heads=2, vocabulary=8000),
    "0.3": Size(4),
    "1.1": Size(22),
    "2.2": Size(47),
}
"""By billions of parameters; the first is for trying the script out."""


@dataclass(frozen=True)
class Measurement:
    """What one run cost: seconds, seconds of CPU, and most megabytes resident."""

    wall: float
    cpu: float
    rss: float

    def __add__(self, other: Measurement) -> Measurement:
        """One after the other."""
        return Measurement(self.wall + other.wall, self.cpu + other.cpu, max(self.rss, other.rss))

    @staticmethod
    def median(samples: Sequence[Measurement]) -> Measurement:
        """Of each number by itself."""
        columns = zip(*((s.wall, s.cpu, s.rss) for s in samples), strict=True)
        return Measurement(*(median(column) for column in columns))


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
    run: Callable[[], Measurement]
    rounds: int
    floor: Work | None = None
    peer: Work | None = None
    samples: list[Measurement] = field(default_factory=list)

    @property
    def result(self) -> Measurement:
        """The median."""
        return Measurement.median(self.samples)

    def cells(self) -> list[str]:
        """The row."""
        cost = self.result
        numbers = [f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.rss:.0f}"]
        return [self.name, *numbers, self._ratio(self.floor, ".2f"), self._ratio(self.peer, ".3f")]

    def _ratio(self, other: Work | None, form: str) -> str:
        return format(self.result.wall / other.result.wall, form) if other else ""


# Models


def make_models(seeds: dict[Path, int], size: Size) -> None:
    for folder, seed in seeds.items():
        make_model(folder, size, seed)


def make_model(folder: Path, size: Size, seed: int) -> None:
    """Write a checkpoint, whole or not at all: the base, common to all seeds, plus noise."""
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_weights(unfinished / "model.safetensors", size.shapes(), seed)
    (unfinished / "config.json").write_text(json.dumps(size.config(), indent=2))
    write_tokenizer(unfinished)
    unfinished.rename(folder)


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    """A safetensors file of bf16, written by hand, a block at a time."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    numbers = torch.randn(2 * BLOCK, generator=torch.Generator().manual_seed(0))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for values in blocks(shapes, numbers, seed):
            file.write(values.view(torch.uint8).numpy().data)


def blocks(shapes: dict[str, tuple[int, ...]], numbers: Tensor, seed: int) -> Iterator[Tensor]:
    """The values: stretches of `numbers` that start elsewhere for every block and model."""
    import torch

    position = 0
    for shape in shapes.values():
        for begin in range(0, prod(shape), BLOCK):
            count = min(BLOCK, prod(shape) - begin)
            position += 1
            base, noise = (position * 104_729) % BLOCK, ((position + 1 + seed) * 1_299_709) % BLOCK
            values = numbers[noise : noise + count] * NOISE
            values.add_(numbers[base : base + count], alpha=SPREAD)
            yield (values + 1 if len(shape) == 1 else values).to(torch.bfloat16)


def write_tokenizer(folder: Path) -> None:
    """One token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(alphabet) == BYTE_ALPHABET
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


@contextmanager
def models_of(size: Size, work: Path, *, keep: bool) -> Iterator[list[Path]]:
    """Three models in the page cache; those made here are removed afterwards unless kept."""
    folders = [work / f"llama-{size.count}" / f"m{i}" for i in range(MODELS)]
    missing = [folder for folder in folders if not folder.exists()]
    began = time.perf_counter()
    try:
        if missing:
            in_child(make_models, {folder: folders.index(folder) for folder in missing}, size)
        say(f"{size.count:,} parameters, {len(missing)} of {MODELS} models made", began)
        for folder in folders:
            read(folder / "model.safetensors")
        yield folders
    finally:
        if not keep:
            for folder in missing:
                shutil.rmtree(folder, ignore_errors=True)


def read(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


# Measuring


def in_child(function: Callable[..., Any], *arguments: object) -> Any:
    """The result of a function that runs in a process of its own, started afresh."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(command: Command) -> Measurement:
    """Run a command to its end. If it fails, show why and exit."""
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
    return Measurement(wall, usage.ru_utime + usage.ru_stime, megabytes(usage))


def megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss * 1024 / 1e6


def measure_floor(models: list[Path], out: Path) -> Measurement:
    """`cat` of all, then `cp` of one."""
    files = [model / "model.safetensors" for model in models]
    cat = measure(["cat", *files])
    cp = measure(["cp", "--reflink=never", files[0], out])
    out.unlink()
    return cat + cp


def measure_output(out: Path, *commands: Command) -> Measurement:
    """Run commands that make a folder, then remove it."""
    costs = [measure(command) for command in commands]
    shutil.rmtree(out)
    return sum(costs[1:], costs[0])


def measure_kernel(name: str, models: list[Path], out: Path) -> Measurement:
    """`write_blend` alone; to be called in a process of its own."""
    from mergekit_geo.checkpoints.compatibility import preflight
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.geometry.linear import Linear
    from mergekit_geo.geometry.masked import Masked
    from mergekit_geo.geometry.model_stock import model_stock
    from mergekit_geo.geometry.sparsifiers import Dropout, TopK
    from mergekit_geo.geometry.sphere import Karcher, Slerp
    from mergekit_geo.geometry.task_vectors import task_arithmetic
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.merging.disk import write_blend
    from mergekit_geo.outputs.workspace import Workspace

    equal, half = (1 / len(models),) * len(models), (0.5, 0.5)
    rules: dict[str, Rule] = {
        "linear": Linear(equal),
        "slerp": Slerp(0.5),
        "karcher": Karcher(equal),
        "task_arithmetic": task_arithmetic(half),
        "model_stock": model_stock(2),
        "ties": Masked("ties", half, (TopK(0.5),) * 2, elect=True, normalize=True),
        "dare_linear": Masked("dare_linear", half, (Dropout(0.5),) * 2, rescale=True),
        "dare_ties": Masked("dare_ties", half, (Dropout(0.5),) * 2, rescale=True, elect=True),
    }
    blend = Blend(preflight([open_checkpoint(model) for model in models]).fetch(), rules[name])
    workspace = Workspace(out, name, fsync=False)
    began, cpu = time.perf_counter(), time.process_time()
    write_blend(blend, workspace, SHARD_BYTES)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    workspace.discard()
    return Measurement(wall, cpu, megabytes(resource.getrusage(resource.RUSAGE_SELF)))


def run_all(works: Sequence[Work]) -> None:
    """Round by round; what earlier work left to be written is written first."""
    for turn in range(max(work.rounds for work in works)):
        for work in works:
            if turn < work.rounds:
                os.sync()
                began = time.perf_counter()
                work.samples.append(work.run())
                say(f"round {turn + 1}: {work.name}, {work.samples[-1].wall:.2f} s", began)


def say(text: str, began: float) -> None:
    print(f"{text} ({time.perf_counter() - began:.0f} s in all)", file=sys.stderr, flush=True)


# The works

PLAIN = ("--no-eval", "--sharpness", "off", "--quiet")
METHODS = {
    "linear": ("soup", 3), "slerp": ("slerp", 2), "karcher": ("slerp", 3),
    "task_arithmetic": ("run", 3), "model_stock": ("run", 3), "ties": ("run", 3),
    "dare_linear": ("run", 3), "dare_ties": ("run", 3),
}  # fmt: skip
"""What the peer calls it, our command, and the number of models, of which `run` takes the first as
the base."""


MASKING = ("ties", "dare_linear", "dare_ties")
"""Those that take a density."""


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
        peers = {m: self.theirs(m, floors) for m in self.methods} if self.peer else {}
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
        run = self._run_ours(command, inputs, *PLAIN, "--no-fsync")
        name = f"`geo-merge {command}`, {inputs_of(method)}"
        return Work(name, run, self.rounds, floors.get(count), peers.get(method))

    def kernel(self, method: str, floors: dict[int, Work]) -> Work:
        """Our streaming alone."""
        _, count = METHODS[method]
        arguments = method, self.models[:count], self.runs / "kernel"
        run = partial(in_child, measure_kernel, *arguments)
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

    def _run_ours(
        self, command: str, inputs: Sequence[Path], *flags: str
    ) -> Callable[[], Measurement]:
        out = self.runs / "ours"
        program = Path(sys.executable).with_name("geo-merge")
        line: list[str | Path] = [program, command, *inputs, "-o", out, *flags]
        return partial(measure_output, out, line)

    def _run_theirs(self, method: str, *after: Command) -> Callable[[], Measurement]:
        assert self.peer
        out, recipe = self.runs / "theirs", self._recipe(method)
        line: list[str | Path] = [self.peer.with_name("mergekit-yaml"), recipe, out, "--quiet"]
        return partial(measure_output, out, line, *after)

    def _recipe(self, method: str) -> Path:
        """A file with what mergekit is asked to do, and `geo-merge run` too. JSON is YAML."""
        path = self.runs / f"{method}.yaml"
        path.write_text(json.dumps(self.recipe(method)))
        return path

    def recipe(self, method: str) -> dict[str, Any]:
        """The recipe of a method."""
        command, count = METHODS[method]
        first, *others = (str(model) for model in self.models[:count])
        given = {"weight": 0.5, "density": 0.5} if method in MASKING else {"weight": 1.0}
        names = others if command == "run" else [first, *others]
        models = [{"model": name, "parameters": given} for name in names]
        recipe: dict[str, Any] = {"merge_method": method, "models": models, "dtype": "bfloat16"}
        if method == "slerp":
            recipe["parameters"] = {"t": 0.5}
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
    with models_of(SIZES[label], work, keep=keep) as models:
        bench = Bench(models, runs, 1)
        works = [bench.ours(method, {}, {}) for method in ("linear", "slerp")]
        for row in works:
            row.name += f" of {label} B"
        run_all(works)
    return works


# Printing

HEAD = ["work", "wall s", "CPU s", "peak RSS MB", "x I/O floor", "x peer"]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *rows]
    for line in lines:
        print(f"| {' | '.join(line)} |")


def versions(peer: Path | None) -> str:
    """Of everything that was timed, and the number of cores."""
    cores = f"{len(os.sched_getaffinity(0))} cores"
    ours = [f"{name} {version(name)}" for name in ("mergekit_geo", "torch")]
    text = ", ".join([cores, f"Python {platform.python_version()}", *ours])
    if peer is None:
        return text
    code = (
        "import platform; from importlib.metadata import version as v; print("
        "f\"mergekit {v('mergekit')} (Python {platform.python_version()}, torch {v('torch')})\")"
    )
    theirs = subprocess.run([peer, "-c", code], check=True, capture_output=True, text=True)
    return f"{text}; {theirs.stdout.strip()}"


# The command line


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time merges; the table goes to stdout.")
    parser.add_argument("--size", choices=SIZES, default="1.1", metavar="|".join([*SIZES][1:]))
    parser.add_argument("--work", type=Path, help="folder for the models; a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave the models there for next time")
    parser.add_argument("--repeats", type=positive, default=3, help="rounds (3)")
    parser.add_argument("--peer", type=Path, help="an interpreter that has mergekit")
    parser.add_argument("--peer-repeats", type=positive, help="rounds of the peer (--repeats)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--durable", action="store_true", help="rows with output flushed")
    parser.add_argument("--memory", action="store_true", help=f"RSS at {SMALL} B and {LARGE} B")
    options = parser.parse_args()
    if options.peer and not options.peer.with_name("mergekit-yaml").is_file():
        parser.error("--peer: there is no mergekit-yaml beside this interpreter")
    return options


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


@contextmanager
def work_folder(asked: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder asked for, or a temporary one, which stays if `keep`."""
    folder = asked or Path(tempfile.mkdtemp(prefix="bench-merge-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder.resolve()
    finally:
        if keep and asked is None:
            print(f"kept: --work {folder}", file=sys.stderr)
        elif asked is None:
            shutil.rmtree(folder)


def main() -> None:
    options = parse()
    peer = options.peer.absolute() if options.peer else None
    size, keep = SIZES[options.size], options.keep
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles a program at every start
    with (
        work_folder(options.work, keep=keep) as work,
        tempfile.TemporaryDirectory(prefix="runs-", dir=work) as runs,
    ):
        with models_of(size, work, keep=keep) as models:
            peer_rounds = options.peer_repeats or options.repeats
            bench = Bench(models, Path(runs), options.repeats, peer, peer_rounds, options.methods)
            works = bench.works(durable=options.durable)
            run_all(works)
        rows = [work.cells() for work in works]
        if options.memory:
            rows += memory_rows(work, Path(runs), keep=keep)
    rounds = f"{options.repeats} rounds" + (f" (mergekit: {peer_rounds})" if peer else "")
    print(f"{MODELS} x {size.count:,} parameters, medians of {rounds}:\n")
    print_table(rows)
    print(f"\n{versions(peer)}")


if __name__ == "__main__":
    main()
