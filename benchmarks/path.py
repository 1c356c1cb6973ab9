"""Weigh fitting a path: a step beside ordinary training and beside curve layers, and what it finds.

Usage:
    python tests/demo/train.py demo              # once: the Llamas
    python benchmarks/path.py                     # everything (about a quarter of an hour)
    python benchmarks/path.py --only step memory demo digits

step    Milliseconds of a step of the demo Llama, 32 x 64 tokens, AdamW, in alternating rounds:
        plain training; ours; the layer-rewriting way, in which the weights of every layer are
        computed inside the forward pass (Garipov 2018), from whose bends ours must not differ.
memory  Peak of a process that trains a Llama of 40 M parameters, and of one that fits a path
        between two such, with the ends streamed and held: in copies of the weights.
demo    From a fine-tune to an independent model, 400 steps, three seeds: barriers by geo-merge.
digits  Two MLPs and two ViTs trained apart on scikit-learn's digits: error on the way.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

import mergekit_geo as geo
from benchmarks import harness
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.config.measures import Compute
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.fit import Fit
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.geometry.curves import Bezier
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.modules.held import hold
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import open_live

TRAIN = geo.EvalData("builtin:python-docs", split="train")
ROUNDS, STEPS = 9, 5


def training(ends: Sequence[Path]) -> TaskObjective:
    checkpoint = open_folder(ends[0])
    return prepare(TRAIN, ends[0], checkpoint.config, Compute()).objective


def ours(
    ends: Sequence[Path], data: TaskObjective, *, in_memory: str = "on", batch: int = 32
) -> Fit:
    checkpoints = hold([open_folder(end) for end in ends], in_memory)
    live = open_live(Blend((checkpoints[0],), Linear((1.0,))), Compute())
    assert isinstance(live, InPlace)
    bends = Bends(checkpoints, Bezier(1), live)
    return Fit(bends, live, Shuffled(data, batch, 0), geo.CurveFitConfig(steps=400, clip=1e9), 0)


def plain(ends: Sequence[Path], data: TaskObjective, *, batch: int = 32) -> Callable[[], None]:
    """An ordinary training step of the first end, with the same fused AdamW."""
    model, batches = load_model(ends[0], Compute()).train(), Shuffled(data, batch, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0, fused=True)
    numbers = iter(range(10**6))

    def step() -> None:
        losses, weights = batches.at(next(numbers))(model)
        ((losses @ weights) / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        optimizer.step()
        optimizer.zero_grad()

    return step


class Layers:
    """The curve as a model whose weights are computed inside its forward pass.

    Each call of a parameter's owner sees (1-t)^2 a + 2t(1-t) θ + t^2 b as part of the graph.
    """

    def __init__(self, ends: Sequence[Path], data: TaskObjective, fit: Fit) -> None:
        first, last = (load_model(end, Compute()) for end in ends)
        self.model, self.fit, self.batches = first.train(), fit, Shuffled(data, 32, 0)
        self.ends = [
            {name: p.detach().clone() for name, p in model.named_parameters()}
            for model in (first, last)
        ]
        self.bend = {
            name: ((p + self.ends[1][name]) / 2).requires_grad_()
            for name, p in self.ends[0].items()
        }
        self.optimizer = torch.optim.AdamW(
            self.bend.values(), lr=3e-3, weight_decay=0.0, fused=True
        )
        self.done = 0

    def step(self) -> None:
        """One of AdamW, on the bend."""
        t = self.fit.t_of(self.done)
        weights = {
            name: (1 - t) ** 2 * p + 2 * t * (1 - t) * self.bend[name] + t**2 * self.ends[1][name]
            for name, p in self.ends[0].items()
        }
        losses, counts = self.batches.at(self.done)(_Bound(self.model, weights))
        ((losses @ counts) / counts.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.bend.values(), 1e9)
        self.optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (self.done + 1) / 20)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1


class _Bound(nn.Module):
    """A model called with other weights."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.inner, self.own = [model], weights
        self.device_of = nn.Parameter(torch.zeros(()))

    def forward(self, **inputs: Any) -> Any:
        """As the model's own."""
        return functional_call(self.inner[0], self.own, (), inputs, tie_weights=True)


def bench_step(demo: Path) -> None:
    ends = [demo / "a", demo / "independent"]
    data = training(ends)
    fit, streamed = ours(ends, data), ours(ends, data, in_memory="off")
    layers = Layers(ends, data, fit)
    ways: dict[str, Callable[[], object]] = {
        "plain training": plain(ends, data),
        "ours, ends in memory": fit.step,
        "ours, ends streamed": streamed.step,
        "curve layers": layers.step,
    }
    works = {name: partial(harness.timed, step, STEPS) for name, step in ways.items()}
    found = {
        name: [cost.wall / STEPS for cost in costs]
        for name, costs in harness.alternate(works, ROUNDS, warm_up=True).items()
    }
    rows = [
        [name, f"{median(own) * 1e3:.0f}", f"{harness.ratio(own, found['plain training']):.2f}"]
        for name, own in found.items()
    ]
    print("\n## step: the demo Llama, 32 x 64 tokens, AdamW, 2 threads\n")
    harness.table(("step", "ms", "x plain training"), rows)
    flat = torch.cat([layers.bend[n].detach().reshape(-1) for n in layers.ends[0]])
    distance = float((flat - fit.bends.vectors[0]).norm() / flat.norm())
    print(
        f"\nAfter {fit.done} steps the bends of ours and of curve layers differ by {distance:.1e}."
    )


WIDE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12}
WAYS = ("nothing", "plain training", "ours, ends streamed", "ours, ends in memory")


def wide_ends(demo: Path, folder: Path) -> list[Path]:
    """Two random Llamas of 40 M parameters, with the demo's tokenizer."""
    ends = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        config = LlamaConfig.from_pretrained(demo / "a", **WIDE)
        ends.append(folder / name)
        LlamaForCausalLM(config).save_pretrained(ends[-1])
        for file in demo.joinpath("a").glob("tokenizer*"):
            shutil.copy(file, ends[-1])
    return ends


def peak_of(way: str, ends: Sequence[Path]) -> float:
    """Most megabytes resident in three steps, in a process of its own."""
    if way == "nothing":
        return harness.peak()
    data = replace(training(ends), batch_size=4)
    if way == "plain training":
        step: Callable[[], object] = plain(ends, data, batch=4)
    else:
        held = "on" if way.endswith("memory") else "off"
        step = ours(ends, data, in_memory=held, batch=4).step
    return harness.timed(step, 3).rss


def bench_memory(demo: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        ends = wide_ends(demo, Path(work))
        size = sum(t.nbytes for t in load_file(ends[0] / "model.safetensors").values())
        peaks = {way: harness.in_child(peak_of, way, ends) for way in WAYS}
    base = peaks.pop("nothing")
    rows = [
        [way, f"{peak - base:.0f}", f"{(peak - base) * 1e6 / size:.2f}"]
        for way, peak in peaks.items()
    ]
    print(f"\n## memory: peak above the imports, weights of {size / 1e6:.0f} MB, 4 x 64 tokens\n")
    harness.table(("step", "MB", "copies of the weights"), rows)


def bench_demo(demo: Path) -> None:
    rows = []
    for seed in range(3):
        began = time.perf_counter()
        found = geo.fit_path(
            [demo / "a", demo / "independent"], train_data=TRAIN, seed=seed,
            fitting=geo.CurveFitConfig(steps=400), compute=geo.Compute(budget=0),
        ).measurements  # fmt: skip
        took = time.perf_counter() - began
        straight, curved = found.straight.barrier, found.fitted.barrier
        rows.append(
            [str(seed), f"{straight.value:.3f}", f"{curved.value:.3f}", f"{found.removed:.1%}",
             f"{found.length_ratio:.2f}", f"{took:.0f}"]
        )  # fmt: skip
        print("seed", *rows[-1], flush=True)
    print("\n## demo: from a fine-tune to an independent model, 400 steps\n")
    harness.table(("seed", "linear barrier", "Bezier barrier", "removed", "length", "s, all"), rows)


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


class Vit(nn.Module):
    """A small ViT that takes rows of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        config = ViTConfig(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
            image_size=8, patch_size=2, num_channels=1, num_labels=10,
        )  # fmt: skip
        self.vit = ViTForImageClassification(config)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits of (b, 64) pixels."""
        logits: Tensor = self.vit(rows.view(-1, 1, 8, 8)).logits
        return logits


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    logits = model(batch[0])
    loss = nn.functional.cross_entropy(logits, batch[1], reduction="none")
    return {"loss": loss, "score": (logits.argmax(-1) == batch[1]).float()}


def trained(make: Callable[[], nn.Module], seed: int, epochs: int) -> nn.Module:
    torch.manual_seed(seed)
    model, (images, labels) = make(), digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(1200).split(64):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def bench_digits(demo: Path) -> None:
    images, labels = digits()
    parts = [slice(0, 1200), slice(1200, None)]
    train, held = (
        geo.FunctionObjective(
            losses_of, list(zip(images[p].split(100), labels[p].split(100), strict=True))
        )
        for p in parts
    )
    rows = []
    for name, make, epochs in (("MLP", mlp, 30), ("ViT", Vit, 15)):
        ends = [trained(make, seed, epochs) for seed in (1, 2)]
        fitting = geo.CurveFitConfig(steps=600, learning_rate=3e-3, bends=1)
        found = geo.fit_path(ends, train_data=train, data=held, fitting=fitting).measurements
        straight, curved = found.straight.metric, found.fitted.metric
        assert straight is not None
        assert curved is not None
        errors = [1 - min(filter(None, way)) for way in (straight, curved)]
        worse = 1 - min(x for x in (curved[0], curved[-1]) if x is not None)
        rows.append([name, f"{worse:.1%}", f"{errors[0]:.1%}", f"{errors[1]:.1%}"])
    print("\n## digits: two models trained apart, largest error on held-out digits\n")
    harness.table(("model", "worse end", "straight line", "Bezier, 600 steps"), rows)


SECTIONS = {"step": bench_step, "memory": bench_memory, "demo": bench_demo, "digits": bench_digits}


def main() -> None:
    parser = harness.parser(__doc__, only=SECTIONS)
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    given = parser.parse_args()
    torch.set_num_threads(2)
    with harness.empty_cache():
        for chosen in given.only:
            SECTIONS[chosen](given.demo)


if __name__ == "__main__":
    main()
