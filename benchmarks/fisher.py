"""Time Fishers beside gradients of single examples, and merges by them beside a soup.

Usage:
    python tests/demo/train.py demo base prose           # once: the Llama whose Fisher is timed
  X
    python benchmarks/fisher.py --only merge --size 0.3  # a section

gradients  The Fisher of the demo's `prose`, beside the gradient of each example, one at a time: the
           same windows of 64 tokens, in one process with one thread, forward and back by turns.
merge      `write_blend` of two bf16 Llamas by their float32 Fishers, beside their soup. Seconds are
           divided by the bytes that are read: two bytes an element of a model, four of a Fisher.

Of every work the fastest of the repeats counts, by wall and by CPU time. Asked for: at most 1.3 of
a gradient, and at most 1.3 of a soup's time per byte.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Cost, met
from benchmarks.llamas import BLOCK, SIZES, Size, models_of, read

if TYPE_CHECKING:
    import argparse

MOST = 1.3
MODELS, EXAMPLES, TOKENS = 2, 48, 64
SHARD_BYTES = 5 * 10**9
SECTIONS = ("gradients", "merge")


def gradients(model: Path, repeats: int) -> dict[str, list[Cost]]:
    """Costs of the works over the same examples; in a process of its own."""
    import torch

    from mergekit_geo.checkpoints.folder import read_config
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.curvature.fisher import SquaredGradients
    from mergekit_geo.evaluation.sample import prepare
    from mergekit_geo.modules.load import load_model

    torch.set_num_threads(1)
    data = EvalData("builtin:python-docs", split="train", seq_len=TOKENS)
    sample = prepare(data, model, read_config(model), Compute())
    module = load_model(model, Compute(dtype="float32"))
    parameters = list(module.parameters())

    def squares(*, empirical: bool) -> object:
        found = SquaredGradients.of(
            module, sample.objective, empirical=empirical, most=EXAMPLES, seed=0
        )
        return found.add(0, found.count)

    def plain() -> None:
        import numpy as np

        chosen = SquaredGradients.of(
            module, sample.objective, empirical=True, most=EXAMPLES, seed=0
        ).examples
        assert chosen is not None
        for example in chosen:
            loss, weight = sample.objective.batch(np.array([example.row]), module)
            torch.autograd.grad((loss * weight).sum(), parameters)

    works: dict[str, Callable[[], Any]] = {
        "gradients": plain,
        "empirical": partial(squares, empirical=True),
        "sampled": partial(squares, empirical=False),
    }
    timed = {name: partial(harness.timed, work) for name, work in works.items()}
    return harness.alternate(timed, repeats, warm_up=True)


def compare_gradients(asked: argparse.Namespace) -> None:
    """Print the section."""
    costs = harness.in_child(gradients, asked.model, asked.repeats)
    base = costs.pop("gradients")
    rows = [["one gradient an example", *_cells(base), "", ""]]
    for name, own in costs.items():
        rows.append([f"Fisher, labels {name}", *_cells(own), *_against(own, base, 1.0)])
    print(f"\n{EXAMPLES} examples of {TOKENS} tokens, {asked.model}\n")
    harness.table(["work", "wall s", "CPU s", "x", "at most 1.3"], rows)


def write_fisher(path: Path, size: Size, seed: int) -> None:
    """A float32 file of the model's names, numbers over several orders of magnitude."""
    import numpy as np

    header: dict[str, Any] = {}
    end = 0
    for name, shape in size.shapes().items():
        begin, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    numbers = (10 ** np.random.default_rng(seed).uniform(-12, -5, BLOCK)).astype(np.float32)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for shape in size.shapes().values():
            for begin in range(0, prod(shape), BLOCK):
                file.write(numbers[: min(BLOCK, prod(shape) - begin)].data)


def merged(models: Sequence[Path], fishers: Sequence[Path], out: Path) -> Cost:
    """`write_blend` of a soup, or by Fishers where there are some; in a process of its own."""
    from mergekit_geo.checkpoints.compatibility import preflight
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.checkpoints.tensor_file import open_tensors
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.merging.by_data import ByData
    from mergekit_geo.merging.disk import write_blend
    from mergekit_geo.merging.methods import rule_of
    from mergekit_geo.outputs.kind import MERGED
    from mergekit_geo.outputs.output import Output

    rule = rule_of("fisher" if fishers else "linear", len(models))
    if isinstance(rule, ByData):
        rule = rule.given([open_tensors(one, one.stem) for one in fishers], [""] * len(fishers))
    blend = Blend(preflight([open_checkpoint(str(model)) for model in models]).fetch(), rule)
    output = Output(out, MERGED, fsync=False)
    output.begin("benchmark")
    os.sync()
    cost = harness.timed(lambda: write_blend(blend, output, SHARD_BYTES))
    output.discard()
    return cost


def compare_merges(asked: argparse.Namespace) -> None:
    """Print the section."""
    size = SIZES[asked.size]
    with harness.work_folder(asked.work, keep=asked.keep) as work:
        with models_of(size, MODELS, work, keep=asked.keep) as models:
            fishers = [work / f"fisher-{size.count}-{i}.safetensors" for i in range(MODELS)]
            for i, path in enumerate(fishers):
                if not path.exists():
                    harness.in_child(write_fisher, path, size, i)
                read(path)
            works = {
                "soup": partial(harness.in_child, merged, models, (), work / "out"),
                "fisher": partial(harness.in_child, merged, models, fishers, work / "out"),
            }
            costs = harness.alternate(works, asked.repeats, tell=True)
            for path in [] if asked.keep else fishers:
                path.unlink()
        shutil.rmtree(work / "out", ignore_errors=True)
    soup, own = costs["soup"], costs["fisher"]
    rows = [
        ["soup", *_cells(soup), "", ""],
        ["fisher", *_cells(own), *_against(own, soup, 3.0)],
    ]
    print(f"\n{MODELS} models of {size.count:,} parameters\n")
    harness.table(["work", "wall s", "CPU s", "x a byte", "at most 1.3"], rows)


def _cells(costs: Sequence[Cost]) -> list[str]:
    return [f"{min(cost.wall for cost in costs):.2f}", f"{min(cost.cpu for cost in costs):.2f}"]


def _against(own: Sequence[Cost], base: Sequence[Cost], work: float) -> list[str]:
    """Wall and CPU time as multiples of another's, which does 1 / work of it."""
    found = [
        min(getattr(cost, name) for cost in own) / min(getattr(cost, name) for cost in base) / work
        for name in ("wall", "cpu")
    ]
    return [f"{found[0]:.2f} wall, {found[1]:.2f} CPU", met(max(found) <= MOST)]


def main() -> None:
    """Run the sections asked for."""
    options = harness.parser(__doc__, only=SECTIONS, repeats=3, keeps=True)
    options.add_argument("--model", type=Path, default=harness.ROOT / "demo" / "prose")
    options.add_argument("--size", choices=SIZES, default="1.1")
    asked = options.parse_args()
    harness.work_offline()
    print(harness.versions())
    if "gradients" in asked.only:
        compare_gradients(asked)
    if "merge" in asked.only:
        compare_merges(asked)


if __name__ == "__main__":
    sys.exit(main())
