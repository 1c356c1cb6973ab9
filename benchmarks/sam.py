"""Weigh SAM: a step beside AdamW's and beside the widespread way, memory, two processes.

Usage:
    python tests/demo/train.py demo base           # once: the Llama
    python benchmarks/sam.py                       # everything (some minutes)
    python benchmarks/sam.py --only step memory ranks

step    A step of the demo Llama, 32 x 64 tokens, AdamW and clipping, in alternating rounds: ratios
        to AdamW's, in wall time and in processor time (which other work on the machine disturbs
        less). The naive way is the widespread one: first_step and second_step, each a loop
        over parameters (davda54's recipe, stated anew), without what makes SAM right elsewhere.
memory  Peak of a process that trains a wide MLP, whose weights outweigh all else.
ranks   200 steps of the demo Llama in two gloo processes: what differs between their weights.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import mergekit_geo as geo
from benchmarks import harness
from benchmarks.harness import Cost
from mergekit_geo.config.measures import Compute
from mergekit_geo.modules.load import load_model

ROUNDS, STEPS, RATE = 15, 5, 1e-4
TOKENS = (32, 64)
RANK_STEPS = 200
WIDTH, DEPTH = 2048, 12
"""Of the wide MLP: 50 M parameters, 201 MB."""

Step = Callable[[], object]


class Naive:
    """The widespread SAM: two steps, loops over parameters, a copy of each in the state."""

    def __init__(self, optimizer: torch.optim.Optimizer, rho: float) -> None:
        self.optimizer, self.rho, self.old = optimizer, rho, {}

    def parameters(self) -> Iterator[Tensor]:
        """With gradients."""
        for group in self.optimizer.param_groups:
            yield from (p for p in group["params"] if p.grad is not None)

    @torch.no_grad()
    def first_step(self) -> None:
        """To w + e."""
        norms = [p.grad.norm(p=2) for p in self.parameters()]
        scale = self.rho / (torch.norm(torch.stack(norms), p=2) + 1e-12)
        for p in self.parameters():
            self.old[p] = p.data.clone()
            p.add_(p.grad * scale.to(p))
        self.optimizer.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        """Back, and a step of the base optimizer."""
        for p in self.parameters():
            p.data = self.old[p]
        self.optimizer.step()
        self.optimizer.zero_grad()


def plain_step(model: nn.Module, loss: Callable[[Any], Tensor], batches: Iterator[Any]) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def step() -> None:
        loss(next(batches)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def naive_step(model: nn.Module, loss: Callable[[Any], Tensor], batches: Iterator[Any]) -> Step:
    sam = Naive(torch.optim.AdamW(model.parameters(), lr=RATE), rho=0.05)

    def step() -> None:
        batch = next(batches)
        loss(batch).backward()
        sam.first_step()
        loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        sam.second_step()

    return step


def sam_step(
    model: nn.Module, loss: Callable[[Any], Tensor], batches: Iterator[Any], **settings: Any
) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    sam = geo.Sam(model, optimizer, geo.SamArguments(**settings))

    def step() -> None:
        sam.backward(loss, next(batches))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


WAYS: dict[str, Callable[..., Step]] = {
    "AdamW": plain_step,
    "SAM": sam_step,
    "adaptive SAM": lambda *given: sam_step(*given, adaptive=True),
    "SAM every fifth step": lambda *given: sam_step(*given, every=5),
    "LookSAM, k = 5": lambda *given: sam_step(*given, variant="look", every=5),
    "momentum-SAM": lambda *given: sam_step(*given, variant="momentum", rho=0.3),
    "naive SAM": naive_step,
}


def llama(demo: Path) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    model = load_model(demo / "base", Compute()).train()
    return model, lambda ids: model(input_ids=ids, labels=ids).loss


def token_batches(seed: int = 0) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randint(1024, TOKENS, generator=draw)


def bench_step(demo: Path) -> None:
    ways = {name: make(*llama(demo), token_batches()) for name, make in WAYS.items()}
    works = {name: partial(harness.timed, step, STEPS) for name, step in ways.items()}
    found = harness.alternate(works, ROUNDS, warm_up=True)
    print(f"\n## step: the demo Llama, 32 x 64 tokens, {torch.get_num_threads()} threads\n")
    head = ("step", "ms, best", "x AdamW, wall", "x AdamW, processor", "x naive, processor")
    harness.table(head, [[name, *beside(own, found)] for name, own in found.items()])
    pass_, rest, own = anatomy(demo)
    whole = pass_ + rest
    print(
        f"\nBest of each, processor: a forward and backward pass takes {pass_ / whole:.1%} of "
        f"AdamW's step; SAM's own work {own * 1e3:.1f} ms, {own / whole:.1%} of it."
    )


def beside(own: list[Cost], found: dict[str, list[Cost]]) -> list[str]:
    """The fastest step, and ratios to others of the same round."""
    wall, cpu = ([cost.wall for cost in own], [cost.cpu for cost in own])
    ratios = [
        harness.ratio(wall, (cost.wall for cost in found["AdamW"])),
        *(harness.ratio(cpu, (cost.cpu for cost in found[way])) for way in ("AdamW", "naive SAM")),
    ]
    return [f"{min(wall) / STEPS * 1e3:.0f}", *(f"{ratio:.2f}" for ratio in ratios)]


def anatomy(demo: Path) -> tuple[float, float, float]:
    """Seconds of a pass, of the rest of AdamW's step, and of SAM without its passes."""
    model, loss = llama(demo)
    batches, optimizer = token_batches(), torch.optim.AdamW(model.parameters(), lr=RATE)
    sam, found = geo.Sam(model, optimizer), []
    for _ in range(ROUNDS):
        times = [time.process_time()]
        loss(next(batches)).backward()
        times.append(time.process_time())
        gradients = [p.grad for p in model.parameters()]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time())
        sam.run(partial(_give, model, gradients))
        times.append(time.process_time())
        found.append([b - a for a, b in pairwise(times)])
    pass_, rest, own = (min(column) for column in zip(*found, strict=True))
    return pass_, rest, own


def _give(model: nn.Module, gradients: Sequence[Tensor]) -> Tensor:
    """A pass that costs nothing."""
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    return torch.zeros(())


def wide() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    return model, lambda rows: model(rows).square().mean()


def peak_of(name: str, threads: int) -> float:
    """Most megabytes resident in three steps of the wide MLP, in a process of its own."""
    torch.set_num_threads(threads)
    rows = torch.ones(4, WIDTH)
    return harness.timed(WAYS[name](*wide(), iter(lambda: rows, None)), 3).rss


def bench_memory(demo: Path) -> None:
    weights, threads = WIDTH * WIDTH * DEPTH * 4 / 1e6, torch.get_num_threads()
    found = {name: harness.in_child(peak_of, name, threads) for name in WAYS}
    rows = [
        [name, f"{peak:.0f}", f"{(peak - found['AdamW']) / weights:.2f}"]
        for name, peak in found.items()
    ]
    print(f"\n## memory: an MLP with {weights:.0f} MB of weights, AdamW\n")
    harness.table(("step", "peak MB", "beyond AdamW, in copies of the weights"), rows)


def trained_together(demo: Path, meeting: Path, rank: int) -> list[list[str]]:
    """Train as one of two processes, and compare weights to the bit; a row of each way."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    rows = []
    for kind in ("per-replica", "synchronised"):
        model, _ = llama(demo)
        wrapped = DistributedDataParallel(model)
        step = sam_step(
            wrapped, lambda ids, m=wrapped: m(input_ids=ids, labels=ids).loss,
            (ids[:4] for ids in token_batches(rank)), ascent=kind,
        )  # fmt: skip
        for _ in range(RANK_STEPS):
            step()
        flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        both = [torch.empty_like(flat) for _ in range(2)]
        dist.all_gather(both, flat)
        rows.append([kind, str(int((both[0] != both[1]).sum())), str(flat.numel())])
    dist.destroy_process_group()
    return rows


def bench_ranks(demo: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool,
    ):
        train = partial(trained_together, demo, Path(folder) / "meeting")
        rows, _ = pool.map(train, range(2))
    print(f"\n## ranks: {RANK_STEPS} steps in two gloo processes, 4 x 64 tokens each\n")
    harness.table(("ascent", "weights that differ", "of"), rows)


SECTIONS = {"step": bench_step, "memory": bench_memory, "ranks": bench_ranks}


def main() -> None:
    parser = harness.parser(__doc__, only=SECTIONS)
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with harness.empty_cache():
        for chosen in given.only:
            SECTIONS[chosen](given.demo)


if __name__ == "__main__":
    main()
