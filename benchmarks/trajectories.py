"""Paths of real trainings on one plane, and when they enter one basin: one training against two.

Usage:
    python benchmarks/trajectories.py --work FOLDER    # goes on with what is there

Trains a Llama of 0.16 M parameters on CPython's documentation: `adam` and `sgd` from one start,
with checkpoints, `again` (the same with other batches), and forks of `adam` at some of its
checkpoints, trained on with other batches and a new optimizer. Shares of variance are those of
`geo-merge landscape --checkpoints`, barriers of `geo-merge barrier`, on held-out text; the barrier
between two runs that part at a checkpoint is Frankle's (2020), beside that from the checkpoint to
the run's own end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

import mergekit_geo as geo
from benchmarks import harness
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.records.barrier import BarrierEntry
from tests.demo.train import CONTEXT, QUICK, new_model, token_stream, train_tokenizer

STEPS, EVERY, BATCH = 240, 40, 16
FORKS = (40, 120)
DATA = geo.EvalData("builtin:python-docs", max_examples=150)
ALL = geo.Compute(budget=0)

Optimizers = dict[str, Callable[[Sequence[Tensor]], torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    "adam": lambda weights: torch.optim.AdamW(weights, lr=4e-3, weight_decay=0.01),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.5, momentum=0.9),
}


class Trainings:
    """Makes trainings in a folder, and keeps those that are there.

    Args:
        folder: Of all runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        texts = [document.text for document in builtin_documents("train")]
        self.tokenizer = train_tokenizer(texts)
        self.stream = token_stream(self.tokenizer, texts)
        self.save(new_model(0, QUICK), "start")

    def save(self, model: LlamaForCausalLM, name: str) -> None:
        """Write a model, if it is not there."""
        if not (self.folder / name).exists():
            model.save_pretrained(self.folder / name)
            self.tokenizer.save_pretrained(self.folder / name)

    def run(self, name: str, origin: str, first: int, optimizer: str, seed: int) -> None:
        """Train from step `first` to the end, with a checkpoint at every so manieth step."""
        if (self.folder / name / f"checkpoint-{STEPS}").exists():
            return
        began = time.monotonic()
        model = LlamaForCausalLM.from_pretrained(self.folder / origin).train()
        stepper = OPTIMIZERS[optimizer](list(model.parameters()))
        rate = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: _rate(first + step))
        draw = torch.Generator().manual_seed(seed)
        for step in range(first + 1, STEPS + 1):
            starts = torch.randint(len(self.stream) - CONTEXT, (BATCH,), generator=draw)
            ids = torch.stack([self.stream[start : start + CONTEXT] for start in starts])
            model(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            stepper.step()
            rate.step()
            stepper.zero_grad()
            if step % EVERY == 0:
                self.save(model, f"{name}/checkpoint-{step}")
        harness.say(f"trained {name}", began)


def _rate(step: int) -> float:
    """A short warm-up, and a cosine down to a tenth."""
    return min(1.0, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * step / STEPS))


def main() -> None:
    """Train, measure, and print the tables."""
    asked = harness.parser(__doc__, keeps=True).parse_args()
    harness.work_offline()
    with harness.work_folder(asked.work, keep=asked.keep) as folder:
        made = Trainings(folder)
        made.run("adam", "start", 0, "adam", seed=1)
        made.run("sgd", "start", 0, "sgd", seed=1)
        made.run("again", "start", 0, "adam", seed=2)
        for step in FORKS:
            made.run(f"fork-{step}", f"adam/checkpoint-{step}", step, "adam", seed=2)
        _planes(folder)
        _barriers(folder)


def _planes(folder: Path) -> None:
    """Variance explained, beside that of random walks, and distances off the plane."""
    rows, start = [], str(folder / "start")
    for runs in (["adam"], ["sgd"], ["adam", "sgd"]):
        found = geo.landscape(
            checkpoints=[start, *(f"{folder}/{run}/checkpoint-*" for run in runs)],
            out=folder / f"plane-{'-'.join(runs)}", data=DATA, compute=ALL, overwrite=True,
            view=geo.LandscapeConfig(grid=9),
        )  # fmt: skip
        (surface,) = found.measurements.surfaces
        walk = surface.trajectory.random_walk
        shares = [f"{axis.explained:.0%}" for axis in surface.axes]
        off = max(mark.off_plane for mark in surface.marks)
        walked = " and ".join(f"{share:.0%}" for share in walk) if walk else ""
        rows.append([" and ".join(runs), " and ".join(shares), walked, f"{off:.2f}"])
    harness.table(["run", "explained", "a random walk", "farthest off"], rows)


def _barriers(folder: Path) -> None:
    """Barriers to the run's own end, and to the end of a run that parts at the checkpoint."""
    adam, end = str(folder / "adam"), f"checkpoint-{STEPS}"
    own = geo.barrier(
        checkpoints=[str(folder / "start"), f"{adam}/checkpoint-*"], data=DATA, compute=ALL,
        out=folder / "stability", overwrite=True,
    )  # fmt: skip
    print(f"\n{own}\n", flush=True)
    rows = []
    for origin, other in (("start", "again"), *((f"{s}", f"fork-{s}") for s in FORKS)):
        first = str(folder / "start") if origin == "start" else f"{adam}/checkpoint-{origin}"
        to_end = next(p for p in own.measurements.pairs if p.first == first and _ends(p, end))
        (apart,) = geo.barrier(
            [f"{adam}/{end}", str(folder / other / end)], data=DATA, compute=ALL
        ).measurements.pairs
        rows.append([origin, _told(to_end), _told(apart)])
    harness.table(["from", "barrier to its own end", "between two runs that part there"], rows)


def _ends(path: BarrierEntry, end: str) -> bool:
    return path.second.endswith(end)


def _told(path: BarrierEntry) -> str:
    found = path.barrier
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


if __name__ == "__main__":
    main()
