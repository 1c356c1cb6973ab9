"""Run on an accelerator what can run on one, beside the CPU, and print one table.

Usage: bash scripts/check_device.sh [--only NAME ...] [--device DEVICE]

Each check runs in a process of its own, since an error on an accelerator can end all work of a
process. What failed is named, with the end of its output, and the rest is done. All of it takes
at most five minutes: checks for which no time is left are named as well. `--device cpu` rehearses
it all, the CPU in both roles. Exit 0 if all agrees or there is no accelerator, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import mergekit_geo as geo
from benchmarks import harness
from benchmarks.harness import ROOT
from benchmarks.parity import units_apart
from tests.demo import train

SECONDS = 300
LEAST_SECONDS = 15
"""Less than this is not enough to begin a check."""

SPECTRAL: tuple[tuple[str, dict[str, bool]], ...] = (
    ("tsv", {}), ("iso_c", {}), ("iso_cts", {}), ("knots", {}), ("wudi", {}),
    ("wudi", {"least_squares": True}),
)  # fmt: skip
"""Methods on whole task matrices."""

TRAIN = geo.EvalData("builtin:python-docs", split="train", seq_len=64, max_examples=400)
TESTS = (
    "tests/merging/test_kernels.py", "tests/merging/test_stream.py", "tests/modules",
    "tests/evaluation/test_evaluation.py", "tests/curvature", "tests/connectivity/test_fit.py",
    "tests/training/test_sam.py", "tests/training/test_trainer.py",
    "tests/commands/test_sharpness.py", "tests/commands/test_landscape.py",
)  # fmt: skip
"""Tests whose models run on the accelerator where there is one."""


@dataclass(frozen=True)
class Row:
    """What a check found.

    Attributes:
        what: The work.
        error: The largest difference between the two devices, in the unit of the check.
        most: The largest error with which they agree.
        cpu: Seconds on the CPU.
        device: Seconds on the accelerator.
        note: What else is worth knowing.
    """

    what: str
    error: float
    most: float
    cpu: float = 0.0
    device: float = 0.0
    note: str = ""

    @property
    def agrees(self) -> bool:
        """NaN never does."""
        return self.error <= self.most


@dataclass(frozen=True)
class Place:
    """Where a check runs: on which device, and in which folder."""

    device: str
    folder: Path
    small: bool

    @property
    def models(self) -> list[Path]:
        """A base, and two fine-tunes of it."""
        return [self.folder / "models" / name for name in ("base", "a", "b")]

    def held(self, count: int) -> geo.EvalData:
        """Held-out text."""
        return geo.EvalData(max_examples=count, seq_len=32 if self.small else 64)

    def both(self, work: Callable[[str], Any]) -> tuple[Any, Any, float, float]:
        """What work finds on the CPU and on the device, and how long each took."""
        found, seconds = [], []
        for role, name in (("cpu", "cpu"), ("device", self.device)):
            os.environ["XDG_CACHE_HOME"] = str(self.folder / f"cache-{role}")
            began = time.perf_counter()
            found.append(work(name))
            synchronize(name)
            seconds.append(time.perf_counter() - began)
        return (*found, *seconds)


def synchronize(device: str) -> None:
    """Wait until all work of a device is done."""
    if device != "cpu":
        torch.accelerator.synchronize()


def environment(place: Place) -> Iterator[Row]:
    """A matrix product in float32, whose error tells of reduced precision (TF32)."""
    a, b = torch.randn(2, 512, 512)
    exact = a.double() @ b.double()
    _, there, *seconds = place.both(lambda device: (a.to(device) @ b.to(device)).cpu())
    error = float((there - exact).abs().max() / exact.abs().max())
    yield Row("float32 product", error, 1e-5, *seconds)


def merge(place: Place) -> Iterator[Row]:
    """Streams merges to the disk; the error is in units of the last place of bfloat16."""
    size, layers = (256, 1) if place.small else (4096, 4)
    parents = [_random_model(place.folder / f"parent-{i}", i, size, layers) for i in range(3)]
    works: dict[str, Callable[..., Any]] = {
        "soup, 3 models": geo.soup,
        "slerp, 2 models": lambda models, *rest, **more: geo.slerp(models[:2], *rest, **more),
        "karcher mean, 3 models": partial(geo.slerp, weights=[0.5, 0.3, 0.2]),
    }
    for name, work in works.items():
        outs = {d: place.folder / f"{name}-{d}".replace(" ", "") for d in ("cpu", "device")}
        seconds = []
        for device, out in zip(("cpu", place.device), outs.values(), strict=True):
            began = time.perf_counter()
            output = geo.OutputConfig(device=device, fsync=False)
            work(parents, out, output=output, data=None, sharpness="off")
            seconds.append(time.perf_counter() - began)
        error = max(float(units.max()) for units in units_apart(*outs.values()))
        yield Row(name, error, 1, *seconds)


def spectral(place: Place) -> Iterator[Row]:
    """Merges of whole task matrices; the error is in units of the last place of bfloat16."""
    size = 64 if place.small else 1024
    parents = [_random_model(place.folder / f"task-{i}", i, size, 1) for i in range(3)]
    for device in ("cpu", place.device):  # what happens once is not timed
        output = geo.OutputConfig(device=device)
        geo.merge(parents[1:], method="iso_c", base=parents[0], output=output, data=None)
    for method, own in SPECTRAL:
        outs = {d: place.folder / f"{method}{len(own)}-{d}" for d in ("cpu", "device")}
        seconds = []
        for device, out in zip(("cpu", place.device), outs.values(), strict=True):
            began = time.perf_counter()
            output = geo.OutputConfig(device=device, fsync=False)
            geo.merge(
                parents[1:], out, method=method, base=parents[0], output=output, data=None,
                sharpness="off", **own,
            )  # fmt: skip
            seconds.append(time.perf_counter() - began)
        error = max(float(units.max()) for units in units_apart(*outs.values()))
        yield Row(" ".join([method, *own]), error, 1, *seconds)


def _random_model(folder: Path, seed: int, size: int, layers: int) -> Path:
    folder.mkdir(parents=True)
    common, own = (torch.Generator().manual_seed(s) for s in (99, seed))
    tensors = {
        f"model.layers.{layer}.mlp.{name}_proj.weight": (
            0.02 * torch.randn(size, size, generator=common)
            + 0.002 * torch.randn(size, size, generator=own)
        ).bfloat16()
        for layer in range(layers)
        for name in ("up", "gate")
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": size}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def evaluation(place: Place) -> Iterator[Row]:
    """Losses of three models and the barrier between each two, in nats."""
    _, *ends = place.models

    def measured(dtype: str, device: str) -> list[float]:
        data, compute = place.held(120), geo.Compute(device=device, dtype=dtype)
        found = geo.barrier(ends, data=data, compute=compute).measurements
        return [entry.loss for entry in found.losses] + found.pairs[0].loss

    truth, there, *seconds = place.both(partial(measured, "float32"))
    yield Row("barrier, float32", _largest(truth, there), 1e-4, *seconds)
    for dtype in ("bfloat16", "float16"):
        began = time.perf_counter()
        there = measured(dtype, place.device)
        took = time.perf_counter() - began
        yield Row(f"barrier, {dtype}", _largest(truth, there), 0.02, seconds[0], took)


def _largest(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def sharpness(place: Place) -> Iterator[Row]:
    """λ_max and SAM sharpness of the quick level; the error is relative."""

    def measured(device: str) -> list[float]:
        compute = geo.Compute(device=device, budget=0)
        report = geo.sharpness(place.models[1:2], data=place.held(24), compute=compute)
        [found] = report.measurements.sharpness
        return [found.extremes.largest.value, found.slope.gradient_norm]

    on_cpu, there, *seconds = place.both(measured)
    relative = [abs(b / a - 1) for a, b in zip(on_cpu, there, strict=True)]
    yield Row("sharpness, quick", max(relative), 0.01, *seconds)


def sam(place: Place) -> Iterator[Row]:
    """Steps of SAM: the error is that of the last loss, in nats; after them, what a step costs."""
    on_cpu, there, *seconds = place.both(lambda device: _trained(place, device, "no", rho=0.05))
    yield Row("SAM, float32", _largest(on_cpu, there), 0.02, *seconds)
    for precision in ("bf16",) if place.device == "cpu" else ("bf16", "fp16"):
        began = time.perf_counter()
        losses = _trained(place, place.device, precision, rho=0.05)
        took = time.perf_counter() - began
        yield Row(f"SAM, {precision}", _largest(on_cpu, losses), 0.1, seconds[0], took)
    for variant in ("momentum", "look"):
        own = {"variant": variant, "every": 1 if variant == "momentum" else 5}
        here, there, *seconds = place.both(
            lambda device, own=own: _trained(place, device, "no", rho=0.05, **own)
        )
        yield Row(f"SAM, {variant}", _largest(here, there), 0.02, *seconds)
    plain = _trained(place, place.device, "no", rho=0.0)
    adamw = _trained(place, place.device, "no", rho=None)
    yield Row("SAM with rho = 0 beside AdamW", _largest(plain, adamw), 0)


def _trained(
    place: Place, device: str, precision: str, rho: float | None, **own: Any
) -> list[float]:
    """The loss of every step; AdamW alone where rho is None."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from transformers import AutoModelForCausalLM

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(place.models[0], dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer = accelerator.prepare(model, optimizer)
    settings = geo.SamArguments(rho=rho or 0.0, **own)
    step = None if rho is None else geo.Sam(model, optimizer, settings, accelerator=accelerator)
    draw, losses = torch.Generator().manual_seed(0), []
    for _ in range(3 if place.small else 15):
        ids = torch.randint(1000, (32, 64), generator=draw).to(accelerator.device)
        if step is None:
            loss = model(input_ids=ids, labels=ids).loss
            accelerator.backward(loss)
        else:
            loss = step.backward(lambda ids: model(input_ids=ids, labels=ids).loss, ids)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def by_data(place: Place) -> Iterator[Row]:
    """Merges by Fishers and by Gram matrices; the error is a share of the largest weight."""
    few = {"fisher": {"empirical": True, "fisher_examples": 16}, "regmean": {"gram_examples": 16}}

    def merged(method: str, device: str) -> dict[str, torch.Tensor]:
        return geo.merge(
            place.models[1:], method=method, train_data=TRAIN, data=None, sharpness="off",
            compute=geo.Compute(device=device, dtype="float32"), **few[method],
        ).state  # fmt: skip

    for method in few:
        here, there, *seconds = place.both(partial(merged, method))
        most = max(float(tensor.abs().max()) for tensor in here.values())
        error = max(float((here[name] - there[name]).abs().max()) for name in here)
        yield Row(method, error / most, 1e-3, *seconds)


def escape(place: Place) -> Iterator[Row]:
    """A saddle that is left: the error is that of the last loss, in nats."""

    def left(device: str) -> list[float]:
        network = torch.nn.Sequential(torch.nn.Linear(4, 4, False), torch.nn.Linear(4, 4, False))
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        data = geo.FunctionObjective(_squares, [x[:32], x[32:]])
        found = geo.escape(
            network, train_data=data, data=data, compute=geo.Compute(device=device),
            sharpness="off",
        ).measurements  # fmt: skip
        return [entry.loss for entry in found.losses]

    here, there, *seconds = place.both(left)
    yield Row("escape", _largest(here, there), 0.05, *seconds)


def _squares(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The error of a network that is to be the identity: (b,)."""
    x = x.to(next(model.parameters()).device)
    return (model(x) - x).square().mean(dim=1)


def path(place: Place) -> Iterator[Row]:
    """A Bezier curve: the error is that of the losses along it, in nats."""
    fitting = geo.CurveFitConfig(steps=5 if place.small else 30, batch_size=16)

    def fitted(device: str) -> list[float]:
        compute = geo.Compute(device=device)
        found = geo.fit_path(
            place.models[1:], train_data=TRAIN, fitting=fitting, data=place.held(120),
            compute=compute,
        )  # fmt: skip
        return found.measurements.fitted.loss

    on_cpu, there, *seconds = place.both(fitted)
    yield Row("path, 1 bend", _largest(on_cpu, there), 0.01, *seconds)


def finetune(place: Place) -> Iterator[Row]:
    """Fine-tuning with SAM: the error is that of the loss after it, in nats."""

    def tuned(bf16: bool, device: str) -> list[float]:
        out = place.folder / f"tuned-{bf16}-{device.replace(':', '')}"
        found = geo.finetune(
            place.models[0], out, train_data=TRAIN, data=place.held(120), sharpness="off",
            training=geo.TrainingConfig(steps=3 if place.small else 15, batch_size=16, bf16=bf16),
            output=geo.OutputConfig(overwrite=True, fsync=False),
            compute=geo.Compute(device=device),
        )  # fmt: skip
        return [entry.loss for entry in found.measurements.losses]

    on_cpu, there, *seconds = place.both(partial(tuned, False))
    yield Row("finetune, float32", _largest(on_cpu, there), 0.01, *seconds)
    began = time.perf_counter()
    error = _largest(on_cpu, tuned(True, place.device))
    yield Row("finetune, bf16", error, 0.05, seconds[0], time.perf_counter() - began)


def landscape(place: Place) -> Iterator[Row]:
    """The plane through three models: the error is that of the losses, in nats."""

    def drawn(device: str) -> list[float]:
        compute, view = (
            geo.Compute(device=device),
            geo.LandscapeConfig(grid=3 if place.small else 7),
        )
        found = geo.landscape(place.models, view=view, data=place.held(120), compute=compute)
        return [loss for row in found.measurements.surfaces[0].loss for loss in row]

    on_cpu, there, *seconds = place.both(drawn)
    yield Row("landscape", _largest(on_cpu, there), 1e-3, *seconds)


def tests(place: Place) -> Iterator[Row]:
    """Tests that can run on a device; the error is how many fail."""
    chosen = TESTS[:1] if place.small else TESTS
    # pytest-xdist need not be there.
    found = subprocess.run([sys.executable, "-c", "import xdist"], check=False, capture_output=True)
    workers = [] if found.returncode else ["-n", str(min(8, os.cpu_count() or 1))]
    alone = ["-k", "not gloo"]  # several processes need several accelerators
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", *alone, *workers, *chosen]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    took = time.perf_counter() - began
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    print("\n".join(failed), file=sys.stderr)
    count = len(failed) or float(done.returncode not in (0, 5))
    yield Row(
        "tests", count, 0, device=took, note=done.stdout.strip().splitlines()[-1].split(" in ")[0]
    )


CHECKS: dict[str, Callable[[Place], Iterator[Row]]] = {
    check.__name__: check
    for check in (
        environment, merge, spectral, by_data, evaluation, sharpness, escape, sam, path, finetune,
        landscape, tests,
    )
}  # fmt: skip
"""By name, in the order in which they run."""


def prepare(folder: Path) -> None:
    """Train a base and two fine-tunes, briefly."""
    train.make(folder / "models", ("base", "a", "b"), train.BRIEF)


def child(name: str, place: Place) -> None:
    """Run one check, and print what it found as JSON lines."""
    _warm_up(place.device)
    for row in CHECKS[name](place):
        print(json.dumps(asdict(row)), flush=True)


def _warm_up(device: str) -> None:
    """What happens once a process is not timed."""
    import accelerate  # noqa: F401
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

    torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)


def run(name: str, arguments: argparse.Namespace, folder: Path, left: float) -> list[Row]:
    """One check in a process of its own; prints what it was about to say if it fails."""
    command = [sys.executable, __file__, "--child", name, "--device", arguments.device]
    command += ["--work", str(folder), *(["--small"] if arguments.small else [])]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=left)
        output, error, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        output, error = (_text(late.stdout), _text(late.stderr))
        code, error = 1, f"{error}\nnot done after {left:.0f} s"
    rows = [Row(**json.loads(line)) for line in output.splitlines() if line.startswith("{")]
    if code:
        rows.append(Row(name, float("nan"), 0, note="failed"))
    if not all(row.agrees for row in rows):
        print(f"-- {name}:\n" + "\n".join(error.strip().splitlines()[-15:]), flush=True)
    return rows


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def show(rows: Sequence[Row]) -> None:
    """The table."""
    print()
    head = ["work", "error", "at most", "CPU s", "device s", "x", ""]
    harness.table(head, map(_cells, rows))


def _cells(row: Row) -> list[str]:
    ratio = f"{row.cpu / row.device:.1f}" if row.cpu and row.device else ""
    cells = [f"{row.error:.3g}", f"{row.most:g}", f"{row.cpu:.2f}", f"{row.device:.2f}", ratio]
    verdict = ("agrees" if row.agrees else "WRONG") + (f": {row.note}" if row.note else "")
    return [row.what, *cells, verdict]


def accelerator() -> str | None:
    """The accelerator of this machine."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found else None


def main() -> int:
    """Run what is asked for."""
    parser = harness.parser(__doc__, only=CHECKS)
    parser.add_argument("--device", default=accelerator())
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a rehearsal")
    parser.add_argument("--child", choices=CHECKS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device is None:
        print("no accelerator here: nothing to check (--device cpu rehearses)")
        return 0
    if arguments.child:
        child(arguments.child, Place(arguments.device, arguments.work, arguments.small))
        return 0
    return check_all(arguments)


def check_all(arguments: argparse.Namespace) -> int:
    """Every check in turn, until the time is up."""
    began, rows = time.monotonic(), []
    _describe(arguments.device)
    with tempfile.TemporaryDirectory() as work:
        if set(arguments.only) - {"environment", "merge", "tests"}:
            prepare(Path(work))
        for name in arguments.only:
            left = SECONDS - (time.monotonic() - began)
            if left < LEAST_SECONDS:
                rows.append(Row(name, float("nan"), 0, note="no time left"))
                continue
            rows += run(name, arguments, Path(work), left)
            print(f"{name}: done after {time.monotonic() - began:.0f} s", flush=True)
    show(rows)
    return 0 if all(row.agrees for row in rows) else 1


def _describe(device: str) -> None:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    print(f"{name}; torch {torch.__version__}, {os.cpu_count()} processors", flush=True)


if __name__ == "__main__":
    sys.exit(main())
