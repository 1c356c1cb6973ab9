"""Time a soup of adapters of one base beside merging each first, as whole processes.

Usage:
    python scripts/bench_adapters.py                    # 0.3 B parameters, rank 16, 3 rounds
    python scripts/bench_adapters.py --size 1.1 --work /dev/shm

Makes a Llama-shaped bf16 base and three adapters of all its linear layers, reads them into the page
cache, then runs every work once a round. "Each first" is `geo-merge soup` of one adapter at a time,
and then of the three results; what peft would do first has to hold the whole model in memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import bench_merge

ADAPTERS = ("a", "b", "c")
SMALL = 0.02
"""Of the adapters' elements."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--size", default="0.3", choices=bench_merge.SIZES)
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--work", type=Path, help="folder to make a folder in")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as made:
        work = Path(made)
        size = bench_merge.SIZES[asked.size]
        bench_merge.in_child(make, work, size, asked.rank)
        works = {
            "`geo-merge soup a b c`": partial(direct, work),
            "each first, then `geo-merge soup`": partial(each_first, work),
        }
        samples = {name: [] for name in works}
        for _ in range(asked.repeats):
            for name, run in works.items():
                samples[name].append(run())
        print(f"{size.count:,} parameters, rank {asked.rank}\n")
        print("| work | wall s | CPU s | peak RSS MB | written GB |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, costs in samples.items():
            row = bench_merge.Measurement.median([cost for cost, _ in costs])
            written = median(written for _, written in costs)
            print(
                f"| {name} | {row.wall:.1f} | {row.cpu:.1f} | {row.rss:.0f} | {written / 1e9:.2f} |"
            )


def make(work: Path, size: bench_merge.Size, rank: int) -> None:
    """A base, and adapters of its linear layers."""
    import torch
    from safetensors.torch import save_file

    bench_merge.make_model(work / "base", size, 0)
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


def direct(work: Path) -> tuple[bench_merge.Measurement, int]:
    """All adapters at once."""
    cost = soup(work / "out", [work / name for name in ADAPTERS])
    return cost, removed(work / "out")


def each_first(work: Path) -> tuple[bench_merge.Measurement, int]:
    """A whole model of each, and their soup."""
    wholes = [work / f"{name}-whole" for name in ADAPTERS]
    costs = [soup(o, [work / n]) for o, n in zip(wholes, ADAPTERS, strict=True)]
    costs.append(soup(work / "out", wholes))
    return sum(costs[1:], costs[0]), sum(map(removed, [*wholes, work / "out"]))


def soup(out: Path, models: list[Path]) -> bench_merge.Measurement:
    command = [sys.executable, "-m", "mergekit_geo", "soup", *models, "-o", out]
    return bench_merge.measure([*command, "--no-eval", "--no-fsync", "--quiet"])


def removed(folder: Path) -> int:
    """Bytes of the weights in a folder, which is removed."""
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    shutil.rmtree(folder)
    return written


if __name__ == "__main__":
    main()
