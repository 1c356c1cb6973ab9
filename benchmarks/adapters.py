"""Time a soup of adapters of one base beside merging each first, as whole processes.

Usage:
    python benchmarks/adapters.py                    # 0.3 B parameters, rank 16, 3 rounds
    python benchmarks/adapters.py --size 1.1 --work /dev/shm

Makes a Llama-shaped bf16 base and three adapters of all its linear layers, reads them into the page
cache, then runs every work once a round. "Each first" is `geo-merge soup` of one adapter at a time,
and then of the three results; what peft would do first has to hold the whole model in memory.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import harness
from benchmarks.harness import Cost
from benchmarks.llamas import SIZES, Size, make_model

ADAPTERS = ("a", "b", "c")
SMALL = 0.02
"""Of the adapters' elements."""


def main() -> None:
    options = harness.parser(__doc__, repeats=3)
    options.add_argument("--size", default="0.3", choices=SIZES)
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--work", type=Path, help="folder to make a folder in")
    asked = options.parse_args()
    size = SIZES[asked.size]
    with tempfile.TemporaryDirectory(dir=asked.work) as made:
        work = Path(made)
        harness.in_child(make, work, size, asked.rank)
        works = {
            "`geo-merge soup a b c`": partial(direct, work),
            "each first, then `geo-merge soup`": partial(each_first, work),
        }
        samples = harness.alternate(works, asked.repeats)
    print(f"{size.count:,} parameters, rank {asked.rank}\n")
    head = ["work", "wall s", "CPU s", "peak RSS MB", "written GB"]
    harness.table(head, [[name, *cells(found)] for name, found in samples.items()])


def cells(samples: list[tuple[Cost, int]]) -> list[str]:
    """Medians of what a work cost, and of the bytes that it wrote."""
    row = Cost.median(cost for cost, _ in samples)
    written = median(written for _, written in samples)
    return [f"{row.wall:.1f}", f"{row.cpu:.1f}", f"{row.rss:.0f}", f"{written / 1e9:.2f}"]


def make(work: Path, size: Size, rank: int) -> None:
    """A base, and adapters of its linear layers."""
    import torch
    from safetensors.torch import save_file

    make_model(work / "base", size, 0)
    draw = torch.Generator().manual_seed(0)
    for name in ADAPTERS:
        state = {}
        for tensor, shape in size.shapes().items():
            if "_proj" in tensor:
                module = f"base_model.model.{tensor.removesuffix('.weight')}"
                state[f"{module}.lora_A.weight"] = torch.randn(rank, shape[1], generator=draw)
                state[f"{module}.lora_B.weight"] = torch.randn(shape[0], rank, generator=draw)
        (work / name).mkdir()
        save_file(
            {n: t * SMALL for n, t in state.items()}, work / name / "adapter_model.safetensors"
        )
        settings = {
            "peft_type": "LORA", "r": rank, "lora_alpha": rank,
            "base_model_name_or_path": str(work / "base"),
        }  # fmt: skip
        (work / name / "adapter_config.json").write_text(json.dumps(settings))


def direct(work: Path) -> tuple[Cost, int]:
    """All adapters at once."""
    cost = soup(work / "out", [work / name for name in ADAPTERS])
    return cost, removed(work / "out")


def each_first(work: Path) -> tuple[Cost, int]:
    """A whole model of each, and their soup."""
    wholes = [work / f"{name}-whole" for name in ADAPTERS]
    costs = [soup(o, [work / n]) for o, n in zip(wholes, ADAPTERS, strict=True)]
    costs.append(soup(work / "out", wholes))
    return sum(costs, Cost()), sum(map(removed, [*wholes, work / "out"]))


def soup(out: Path, models: list[Path]) -> Cost:
    command = [sys.executable, "-m", "mergekit_geo", "soup", *models, "-o", out]
    return harness.measure([*command, "--no-eval", "--no-fsync", "--quiet"])


def removed(folder: Path) -> int:
    """Bytes of the weights in a folder, which is removed."""
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    shutil.rmtree(folder)
    return written


if __name__ == "__main__":
    main()
