"""Time a landscape beside as many plain evaluations of one of its models.

Usage:
    python scripts/bench_landscape.py demo/a demo/b demo/independent     # 21 x 21, 60 examples

Each round times `geo.landscape` as a user calls it (reading, planning, every point, keeping it,
drawing), in an empty cache, between two halves of grid x grid plain evaluations: the same examples
through one module that stays where it is. Everything happens in one process on the CPU, after one
evaluation that does not count. The ratio is to be at most 1.1, in wall time and in the processor's
time: on a machine that others use, too, only the second is the same every time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

MOST = 1.1


def now() -> tuple[float, float]:
    """Wall time, and that of the processor in all threads."""
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> tuple[float, float]:
    """What has gone by."""
    return now()[0] - began[0], now()[1] - began[1]


def plain(folder: Path, data: object, count: int) -> tuple[float, float]:
    """Seconds of so many evaluations of a loaded model."""
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.config.compute import Compute
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.evaluation.evaluation import prepare
    from mergekit_geo.modules.load import load_model

    assert isinstance(data, EvalData)
    compute = Compute(device="cpu")
    sample = prepare(data, folder, open_checkpoint(folder).config, compute)
    model = load_model(folder, compute)
    sample.objective.measure(model)
    began = now()
    for _ in range(count):
        sample.objective.measure(model)
    return since(began)


def drawn(models: list[Path], data: object, grid: int) -> tuple[float, float]:
    """Seconds of a whole landscape with its pictures."""
    import mergekit_geo as geo

    assert isinstance(data, geo.EvalData)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        compute = geo.Compute(device="cpu", budget=0)
        began = now()
        geo.landscape(
            models, Path(folder) / "out", data=data, view=geo.View(grid=grid), compute=compute
        )
        return since(began)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time a landscape beside plain evaluations.")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--grid", type=int, default=21)
    parser.add_argument("--examples", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = parse()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import mergekit_geo as geo

    data, count = geo.EvalData(max_examples=options.examples), options.grid**2
    ratios: list[list[float]] = []
    for _ in range(options.repeats):
        before = plain(options.models[0], data, count // 2)
        whole = drawn(options.models, data, options.grid)
        after = plain(options.models[0], data, count - count // 2)
        bare = [sum(pair) for pair in zip(before, after, strict=True)]
        ratios.append([own / other for own, other in zip(whole, bare, strict=True)])
        print(
            f"{count} plain evaluations: {bare[0]:.1f} s wall, {bare[1]:.1f} s CPU; landscape: "
            f"{whole[0]:.1f} s, {whole[1]:.1f} s",
            flush=True,
        )
    wall, processor = (median(column) for column in zip(*ratios, strict=True))
    print(f"median ratio {wall:.3f} of wall, {processor:.3f} of CPU time; at most {MOST}: ", end="")
    print("met" if max(wall, processor) <= MOST else "missed")


if __name__ == "__main__":
    main()
