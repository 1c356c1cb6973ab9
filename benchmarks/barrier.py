"""Time the moves along a path beside the evaluations that they serve; weigh a learned soup.

Usage:
    python benchmarks/barrier.py                        # two models of 100 M, 5 rounds
    python benchmarks/barrier.py --learned              # memory with 3 and with 12 members
    python benchmarks/barrier.py --work DIR --keep      # models stay for the next run

Makes Llama-shaped bf16 checkpoints as merge.py does, and reads them once into the page cache.
Everything runs on the CPU in float32, as `geo-merge barrier` does there, with two threads.

The first table: medians of rounds, after one that does not count, of moving a live module to a
point between two anchors (`InPlace.put`), of measuring it there (8 of the 128 windows are timed,
and the time taken 16-fold), of reading both anchors once with `cat`, and of the naive way, which
writes the point with safetensors and loads it again. A move is to take no longer than 5 % of the
measurement, or than `cat` where that is more. Beside medians stand the fastest rounds, and the
verdict is on both: where another process holds a core, torch's threads wait for each other in
turns, a measurement takes three times as long, and medians alone would flatter the moves.

The second, with --learned: peak resident memory of two steps of a learned soup whose anchors stay
on disk, and of evaluating one member on the same batch; medians over fresh processes. What
learning takes above evaluating is to be the same for 3 and 12 members within 10 %, and at most two
gradients. This process stays without torch, as merge.py's does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.llamas import Size, models_of

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.modules.blend import InPlace

SIZE = Size(12, hidden=768, mlp=2048, heads=12, kv_heads=4, vocabulary=16000)
"""100 M parameters."""
THREADS = 2
WINDOWS, LENGTH = 128, 128
"""Of the evaluation: examples, and tokens in each."""
TIMED = 8
"""Windows that are timed."""
MOST_SHARE = 0.05
"""Of the evaluation's time, for a move."""
KINDS = ("linear", "slerp")
EVALUATION = f"evaluation, {WINDOWS} x {LENGTH} tokens ({TIMED} windows timed, scaled)"
READING = "reading both anchors once: `cat`"
NAIVE = "naive linear: merge, write with safetensors, `from_pretrained`"

MEMBERS = (3, 12)
STEPS = 2
TOKENS = 64
"""Of the one window in a step's batch."""
MOST_GROWTH, MOST_GRADIENTS = 0.1, 2
"""From few members to many; and of float32, above evaluating one member."""

# Models


def cpu() -> Compute:
    """How the models are run: in float32."""
    from mergekit_geo.config.measures import Compute

    return Compute(device="cpu")


def open_all(folders: Sequence[Path]) -> tuple[Checkpoint, ...]:
    from mergekit_geo.checkpoints.reference import open_checkpoint

    return tuple(open_checkpoint(folder) for folder in folders)


def open_in_place(anchor: Checkpoint) -> InPlace:
    """A live module at an anchor."""
    from mergekit_geo.geometry.linear import Linear
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.modules.blend import InPlace
    from mergekit_geo.modules.open import open_live

    live = open_live(Blend((anchor,), Linear((1.0,))), cpu())
    assert isinstance(live, InPlace)
    return live


def random_windows(folder: Path, count: int, length: int) -> TaskObjective:
    """The causal task on tokens drawn at random."""
    import numpy as np

    from mergekit_geo.config.data import EvalData
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.modules.load import load_tokenizer
    from mergekit_geo.tasks.causal_lm import CausalLM
    from mergekit_geo.tasks.task import Example

    tokenizer = load_tokenizer(folder, cpu())
    assert tokenizer is not None
    task = CausalLM(tokenizer, length, SIZE.vocabulary, EvalData())
    rows = np.random.default_rng(0).integers(0, SIZE.vocabulary, (count, length)).tolist()
    fields = [{"input_ids": row, "attention_mask": [1] * length, "labels": row} for row in rows]
    kept = [Example(i, length, length - 1, field) for i, field in enumerate(fields)]
    return TaskObjective(task, kept, [str(i) for i in range(count)], task.batch_size(kept))


# Time


def time_rounds(
    folders: Sequence[Path], scratch: Path, rounds: int
) -> dict[str, tuple[float, float]]:
    """Seconds of each work, the median and the least; to be called in a process of its own.

    Args:
        folders: Of the two anchors.
        scratch: A folder for the points that the naive way writes.
        rounds: How often everything is done, each time elsewhere on the path.
    """
    import torch

    torch.set_num_threads(THREADS)
    works = {
        name: partial(seconds_of, work, ((turn + 0.5) / (rounds + 1) for turn in range(rounds + 1)))
        for name, work in works_on(folders, scratch).items()
    }
    seconds = harness.alternate(works, rounds, warm_up=True, tell=True)
    seconds[EVALUATION] = [taken * WINDOWS / TIMED for taken in seconds[EVALUATION]]
    return {name: (median(samples), min(samples)) for name, samples in seconds.items()}


def seconds_of(work: Callable[[float], object], places: Iterator[float]) -> float:
    """Of a work at the next position on the path."""
    os.sync()  # what the naive way left to be written
    return harness.timed(lambda: work(next(places))).wall


def works_on(folders: Sequence[Path], scratch: Path) -> dict[str, Callable[[float], object]]:
    """What is timed, at a position on the path."""
    from mergekit_geo.modules.held import hold

    disk = open_all(folders)
    live = open_in_place(disk[0])
    objective = random_windows(folders[0], TIMED, LENGTH)
    shutil.copy(folders[0] / "config.json", scratch)
    files = [folder / "model.safetensors" for folder in folders]
    held = {"in memory": hold(disk, "on"), "on disk": disk}
    moves = {
        f"move, {kind}, anchors {place}": partial(move, live, anchors, kind)
        for place, anchors in held.items()
        for kind in KINDS
    }
    return {
        EVALUATION: lambda t: objective.measure(live.model),
        READING: lambda t: harness.measure(["cat", *files]),
        **moves,
        NAIVE: partial(write_and_load, disk, scratch),
    }


def move(live: InPlace, anchors: tuple[Checkpoint, ...], kind: str, t: float) -> None:
    from mergekit_geo.connectivity.paths import path
    from mergekit_geo.merging.blend import Blend

    live.put(Blend(anchors, path(kind).rule(t)))


def write_and_load(anchors: tuple[Checkpoint, ...], scratch: Path, t: float) -> None:
    """A point of the linear path by way of the disk (the page cache: nothing is flushed)."""
    from safetensors.torch import save_file

    from mergekit_geo.connectivity.paths import path
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.merging.memory import MemorySink
    from mergekit_geo.merging.stream import stream
    from mergekit_geo.modules.load import load_model

    blend = Blend(anchors, path("linear").rule(t))
    sink = MemorySink(blend)
    stream(blend, sink)
    save_file(sink.state, scratch / "model.safetensors", {"format": "pt"})
    load_model(scratch, cpu())


def report_time(work: Path, rounds: int, *, keep: bool) -> None:
    with (
        models_of(SIZE, 2, work, keep=keep) as folders,
        tempfile.TemporaryDirectory(prefix="points-", dir=work) as scratch,
    ):
        seconds = harness.in_child(time_rounds, folders, Path(scratch), rounds)
    whole = seconds[EVALUATION]
    limits = [
        max(MOST_SHARE * evaluation, reading)
        for evaluation, reading in zip(whole, seconds[READING], strict=True)
    ]
    rows = []
    for name, taken in seconds.items():
        within = all(own <= limit for own, limit in zip(taken, limits, strict=True))
        shares = [f"{own / all_:.2%}" for own, all_ in zip(taken, whole, strict=True)]
        verdict = harness.met(within) if name.startswith("move") else ""
        rows.append([name, *(f"{own:.3f}" for own in taken), *shares, verdict])
    print(f"2 x {SIZE.count:,} parameters, {rounds} rounds:\n")
    head = ["work", "median s", "fastest s", "of the evaluation's median", "of its fastest"]
    harness.table([*head, "at most {:.2f} and {:.2f} s".format(*limits)], rows)


# Memory


def peak_evaluating(folders: Sequence[Path]) -> float:
    """Most megabytes resident while a member is measured; in a process of its own."""
    live, objective = _ready(folders)
    objective.measure(live.model)
    return harness.peak()


def peak_learning(folders: Sequence[Path]) -> float:
    """The same while a soup of all members is learned, whose anchors stay on disk."""
    import numpy as np

    from mergekit_geo.geometry.linear import Linear
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.modules.held import hold
    from mergekit_geo.selection.learned import Descent, learn

    live, objective = _ready(folders)
    anchors = hold(open_all(folders), "off")

    def loss_of(step: int) -> Tensor:
        return objective.losses_of(live.model, np.array([0])).loss.mean()

    blend = Blend(anchors, Linear((1 / len(anchors),) * len(anchors)))
    learn(live, blend, loss_of, Descent("layer", steps=STEPS))
    return harness.peak()


def _ready(folders: Sequence[Path]) -> tuple[InPlace, TaskObjective]:
    import torch

    torch.set_num_threads(THREADS)
    return open_in_place(open_all(folders[:1])[0]), random_windows(folders[0], 1, TOKENS)


def report_memory(work: Path, rounds: int, *, keep: bool) -> None:
    works: dict[str, Callable[[], float]] = {}
    with models_of(SIZE, max(MEMBERS), work, keep=keep) as folders:
        works["evaluating one member"] = partial(harness.in_child, peak_evaluating, folders[:1])
        for count in MEMBERS:
            name = f"learning, {count} members, {STEPS} steps"
            works[name] = partial(harness.in_child, peak_learning, folders[:count])
        peaks = harness.alternate(works, rounds, tell=True)
    found = {name: median(samples) for name, samples in peaks.items()}
    alone, *learning = found.values()
    added = [peak - alone for peak in learning]
    gradient = 4 * SIZE.count / 1e6
    rows = [
        [name, f"{peak:.0f}", f"{peak - alone:+.0f}", f"{(peak - alone) / gradient:.2f}"]
        for name, peak in found.items()
    ]
    print(f"{SIZE.count:,} parameters, 1 x {TOKENS} tokens, medians of {rounds} processes:\n")
    harness.table(["work", "peak RSS MB", "above evaluating MB", "in gradients"], rows)
    growth = added[-1] / added[0] - 1
    few, many = MEMBERS
    print(f"\nFrom {few} to {many} members: {growth:+.1%}; ", end="")
    print(f"at most {MOST_GROWTH:+.0%}: {harness.met(abs(growth) <= MOST_GROWTH)}.", end=" ")
    print(f"At most {MOST_GRADIENTS} gradients: ", end="")
    print(f"{harness.met(max(added) <= MOST_GRADIENTS * gradient)}.")


def main() -> None:
    parser = harness.parser(__doc__, keeps=True)
    parser.add_argument("--learned", action="store_true", help="memory of learned soups instead")
    parser.add_argument("--repeats", type=harness.positive, help="rounds (5; --learned: 3)")
    options = parser.parse_args()
    harness.work_offline(THREADS)
    with harness.work_folder(options.work, keep=options.keep) as work:
        if options.learned:
            report_memory(work, options.repeats or 3, keep=options.keep)
        else:
            report_time(work, options.repeats or 5, keep=options.keep)
    print(f"\n{harness.versions()}")


if __name__ == "__main__":
    main()
