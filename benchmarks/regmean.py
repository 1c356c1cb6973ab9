"""Weigh Gram matrices of linear layers: memory and time beside the forward passes that they need.

Usage:
    python benchmarks/regmean.py                 # 1.1 B parameters: 5 GB of memory, 9 of disk
    python benchmarks/regmean.py --size 0.3      # as wide, with fewer layers
    python benchmarks/regmean.py --only pass

Sections, each of its runs in a process of its own, on the CPU in float32:

pass   Peak memory of the losses of a model on a few batches of text, and of the pass that makes the
       Gram matrices on the same batches. The difference is given in Gram matrices of the widest
       layer (w² float32), of which there are at most 3; seconds are those of the batches.
solve  Peak memory of merging one weight of the widest layer from the finished matrices, beside
       what is told of it before.

Peaks are VmHWM, set back when the model is loaded: loading takes more than forward passes do.
Matrices are written and read through the system's page cache, which is not the process's memory.
Text is a few lines again and again: what is in it does not change the work. Batches are small, so
that seconds are those of reading and writing; in larger ones the forward pass outweighs them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import met
from benchmarks.llamas import SIZES, models_of

MOST = 3.0
"""Gram matrices of the widest layer that a pass may take beside the forward pass."""

TOKENS, WINDOWS, BATCH = 128, 8, 4
"""Of a window; windows of the data, and of a batch."""

LINE = "The quick brown fox jumps over the lazy dog, and goes on to say what it has seen. "
ITEM = 4


@dataclass(frozen=True)
class Run:
    """What a run of its own process found.

    Attributes:
        peak: Megabytes.
        seconds: Of the batches alone.
        told: What it said of its memory.
        widest: Features of the widest layer.
    """

    peak: float
    seconds: float
    told: str = ""
    widest: int = 0


def write_text(folder: Path) -> Path:
    """Documents of one window each; a token is a byte."""
    path = folder / "text.txt"
    path.write_text("\n\n".join(f"{i}. {LINE * 4}"[:TOKENS] for i in range(WINDOWS)))
    return path


def prepared(model: Path, text: Path) -> tuple[Any, Any, Any]:
    """Checkpoint, examples in batches, and how the model is run."""
    from mergekit_geo.activations.examples import examples_of
    from mergekit_geo.checkpoints.reference import open_checkpoints
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute

    checkpoint, compute = open_checkpoints([str(model)])[0], Compute(device="cpu")
    data = EvalData(str(text), seq_len=TOKENS, batch_size=BATCH)
    return checkpoint, examples_of(checkpoint, data, WINDOWS, compute), compute


def forget_peak() -> None:
    """Let the peak of this process be what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def losses(model: Path, text: Path) -> Run:
    """The forward passes alone."""
    import torch

    from mergekit_geo.modules.open import open_module

    checkpoint, examples, compute = prepared(model, text)
    module = open_module(checkpoint, compute)
    forget_peak()
    with torch.no_grad():
        examples.first(module)
        began = time.perf_counter()
        for batch in examples.batches:
            batch(module)
    return Run(harness.peak(), time.perf_counter() - began)


def grams(model: Path, text: Path, cache: Path) -> Run:
    """The pass that makes the Gram matrices."""
    import os

    os.environ["XDG_CACHE_HOME"] = str(cache)
    from mergekit_geo.activations.grams import Gathering
    from mergekit_geo.activations.layers import linear_layers
    from mergekit_geo.activations.spool import Spool
    from mergekit_geo.modules.open import open_module
    from mergekit_geo.progress import Silent

    said: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    checkpoint, examples, compute = prepared(model, text)
    module = open_module(checkpoint, compute)
    layers = linear_layers(module, checkpoint)
    gathering = Gathering(
        module, layers, examples.batches, examples.sizes, examples.first, Spool("grams"), Told()
    )
    forget_peak()
    began = time.perf_counter()
    gathering.gathered()
    widest = max(layer.width for layer in layers)
    return Run(harness.peak(), time.perf_counter() - began, said[0], widest)


def solve(model: Path, other: Path, cache: Path) -> Run:
    """Merging the weight of the widest layer of two models, by one's matrices for both."""
    import os

    os.environ["XDG_CACHE_HOME"] = str(cache)
    from mergekit_geo.activations.grams import Grams
    from mergekit_geo.activations.spool import Spool
    from mergekit_geo.checkpoints.reference import open_checkpoints
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.merging.memory import MemorySink
    from mergekit_geo.merging.regmean import PUBLISHED, GramSettings, RegMean
    from mergekit_geo.merging.stream import stream
    from mergekit_geo.merging.whole import largest_need

    found = Grams.kept(Spool("grams"))
    assert found is not None
    rule = RegMean("regmean", (1.0, 1.0), PUBLISHED, GramSettings(WINDOWS))
    blend = Blend(open_checkpoints([str(model), str(other)]), rule.given([found, found], ("", "")))
    name = max(found.widths, key=lambda weight: found.widths[weight])
    small = Blend(blend.anchors, blend.rule, layout=(name,))
    need = largest_need(small)
    sink = MemorySink(small)
    forget_peak()
    before = harness.peak()
    began = time.perf_counter()
    stream(small, sink)
    seconds = time.perf_counter() - began
    return Run(harness.peak() - before, seconds, str(need), found.widths[name])


def show_pass(models: list[Path], text: Path, cache: Path) -> None:
    """The table of both passes."""
    alone = harness.in_child(losses, models[0], text)
    both = harness.in_child(grams, models[0], text, cache)
    gram = ITEM * both.widest**2 / 1e6
    beside = (both.peak - alone.peak) / gram
    print(both.told, "\n")
    rows = [
        ("losses alone", f"{alone.seconds:.1f}", f"{alone.peak:.0f}", ""),
        ("with Gram matrices", f"{both.seconds:.1f}", f"{both.peak:.0f}", f"{beside:.2f}"),
    ]
    harness.table(("pass", "seconds", "peak, MB", f"beside, in {gram:.0f} MB"), rows)
    print(f"\nat most {MOST:g} Gram matrices of the widest layer: {met(beside <= MOST)}\n")


def show_solve(models: list[Path], cache: Path) -> None:
    """What one solution takes."""
    found = harness.in_child(solve, models[0], models[1], cache)
    print(found.told)
    print(f"found: {found.peak:.0f} MB, {found.seconds:.1f} s\n")


def main() -> None:
    """Run what is asked for."""
    parser = harness.parser(__doc__, only=("pass", "solve"), keeps=True)
    parser.add_argument("--size", choices=SIZES, default="1.1", help="billions of parameters (1.1)")
    asked = parser.parse_args()
    harness.work_offline()
    size, count = SIZES[asked.size], 1 + ("solve" in asked.only)
    with (
        harness.work_folder(asked.work, keep=asked.keep) as work,
        models_of(size, count, work, keep=asked.keep) as models,
        harness.empty_cache() as cache,
    ):
        print(f"{harness.versions()}; {size.count:,} parameters, {WINDOWS} windows of {TOKENS}\n")
        text = write_text(cache)
        show_pass(models, text, cache)
        if "solve" in asked.only:
            show_solve(models, cache)


if __name__ == "__main__":
    main()
