"""Kill every command that writes, at random moments, and run it again.

    python benchmarks/kills.py [--count 20] [--seed 0] [--only soup,path]

Half of the kills come before a random one of all files that the command opens, makes, renames or
removes, the others at a random time. Half of them find an older output, to be replaced. After each
one the output is whole, or what it was before; then the same command ends well, and nothing lies
beside the output that did not without the kill. The models are tiny, and each run is a fork of one
process that has loaded all it needs.
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

import torch
from torch import Tensor

import mergekit_geo as geo
from benchmarks import harness

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}
"""Audit events of Python that tell of what is done to files."""
SAME = (".safetensors", ".csv", ".npz")
"""Ends of the names of files that are the same to the byte in each run."""
CACHE = "cache"
LATE = 25
"""So many of the last events are those of an output that appears: half of the kills are there."""

Write = Callable[[Path, bool], object]
"""Writes to a folder; replaces what is there or not."""


def models_in(folder: Path) -> tuple[Path, Path]:
    """Make two tiny Llamas that were never trained."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder / name)
    return folder / "a", folder / "b"


def loss(module: Any, batch: Tensor) -> Tensor:
    """Next-token loss of every row of tokens."""
    scores_bsv = module(input_ids=batch).logits[:, :-1]
    each_bs = torch.nn.functional.cross_entropy(
        scores_bsv.transpose(1, 2), batch[:, 1:], reduction="none"
    )
    return each_bs.mean(1)


def rows(seed: int) -> list[Tensor]:
    """Batches of tokens."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(32, (6, 8), generator=draw) for _ in range(8)]


DATA = geo.FunctionObjective(loss, rows(0))
TRAIN = geo.FunctionObjective(loss, rows(1))


@dataclass(frozen=True)
class Commands:
    """Every command that writes, each a method of the output's folder and whether it is replaced.

    Attributes:
        a: A model.
        b: Another one.
    """

    a: Path
    b: Path

    def soup(self, out: Path, overwrite: bool) -> object:
        """Average, and measure."""
        return geo.soup(
            [self.a, self.b], out, data=DATA, sharpness="off", output=_replacing(overwrite)
        )

    def slerp(self, out: Path, overwrite: bool) -> object:
        """Merge alone."""
        return geo.slerp([self.a, self.b], out, data=None, output=_replacing(overwrite))

    def run(self, out: Path, overwrite: bool) -> object:
        """Merge by a recipe."""
        models = [{"model": str(self.a)}, {"model": str(self.b)}]
        recipe = {"merge_method": "linear", "models": models}
        return geo.run(recipe, out, data=None, output=_replacing(overwrite))

    def barrier(self, out: Path, overwrite: bool) -> object:
        """Loss on a line."""
        return geo.barrier([self.a, self.b], out, points=3, data=DATA, overwrite=overwrite)

    def sharpness(self, out: Path, overwrite: bool) -> object:
        """Curvature."""
        return geo.sharpness([self.a], out, data=DATA, overwrite=overwrite)

    def landscape(self, out: Path, overwrite: bool) -> object:
        """Loss on a plane."""
        view = geo.LandscapeConfig(grid=2)
        return geo.landscape([self.a, self.b], out, view=view, data=DATA, overwrite=overwrite)

    def path(self, out: Path, overwrite: bool) -> object:
        """Fit a curve."""
        fitting = geo.CurveFitConfig(steps=4, batch_size=2)
        return geo.fit_path(
            [self.a, self.b], out, train_data=TRAIN, fitting=fitting, data=DATA, overwrite=overwrite
        )

    def finetune(self, out: Path, overwrite: bool, members: int | None = None) -> object:
        """Train for a few steps, with states, or go on."""
        return geo.finetune(
            self.a, out, train_data=TRAIN, data=None, sharpness="off", members=members,
            training=geo.TrainingConfig(steps=4, batch_size=1, save_every=2), resume=True,
            output=_replacing(overwrite),
        )  # fmt: skip

    def callback(self, out: Path, overwrite: bool) -> object:
        """Train by transformers' Trainer, keep checkpoints, average them; anew each time."""
        from transformers import LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

        arguments = TrainingArguments(
            str(out.with_name(CACHE) / "trainer"), max_steps=3, per_device_train_batch_size=2,
            save_strategy="no", use_cpu=True, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            LlamaForCausalLM.from_pretrained(self.a), arguments,
            train_dataset=[{"input_ids": row, "labels": row} for row in rows(1)[0]],
            callbacks=[
                geo.SoupCallback(
                    out, keep=2, every=1, data=None, sharpness="off", output=_replacing(True)
                )
            ],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        return trainer.train()

    def members(self, out: Path, overwrite: bool) -> object:
        """Train two."""
        return self.finetune(out, overwrite, members=2)


def _replacing(overwrite: bool) -> geo.OutputConfig:
    return geo.OutputConfig(overwrite=overwrite)


NAMES = tuple(name for name in vars(Commands) if not name.startswith("_") and name not in "ab")


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
        self.whole, self.beside = files(self.out) or {}, self._beside()
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
        self._clear(old=old)
        before = files(self.out)
        work = lambda: self.write(self.out, old)  # noqa: E731
        if timed:
            run = forked(work, after=draw.uniform(0, self.seconds))
        else:
            first = draw.choice([1, max(1, self.events - LATE)])
            run = forked(work, event=draw.randint(first, self.events))
        assert run.code in (0, -signal.SIGKILL), f"exit code {run.code}"
        found = files(self.out)
        if found != before:
            self._require_whole(found)
        if found is None or old:
            self._run_again(old=old)
        if run.code == 0:
            return "done before"
        return "before it appeared" if found == before else "after it appeared"

    def _clear(self, *, old: bool) -> None:
        shutil.rmtree(self.folder / CACHE, ignore_errors=True)
        if not old:
            shutil.rmtree(self.out)
        elif not self.out.exists():
            self._run_again(old=False)

    def _run_again(self, *, old: bool) -> None:
        run = forked(lambda: self.write(self.out, old))
        assert run.code == 0, f"exit code {run.code} of the second run"
        self._require_whole(files(self.out))
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


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Keep the user's cache in a folder."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / CACHE)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


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
    commands = Commands(*models_in(Path(models.name)))
    for name in said.only.split(","):
        draw, outcomes = random.Random(f"{said.seed} {name}"), Counter[str]()
        with tempfile.TemporaryDirectory() as place, cache_in(Path(place)):
            target = Target(getattr(commands, name), Path(place))
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
