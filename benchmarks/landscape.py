"""Time a landscape beside as many plain evaluations of one of its models.

Usage:
    python benchmarks/landscape.py demo/a demo/b demo/independent     # 21 x 21, 60 examples

Each round times `geo.landscape` as a user calls it (reading, planning, every point, keeping it,
drawing), in an empty cache, between two halves of grid x grid plain evaluations: the same examples
through one module that stays where it is. Everything happens in one process on the CPU, after one
evaluation that does not count. The ratio is to be at most 1.1, in wall time and in the processor's
time: on a machine that others use, too, only the second is the same every time.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Cost

MOST = 1.1


def plain(folder: Path, data: object, count: int) -> Cost:
    """Cost of so many evaluations of a loaded model."""
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.sample import prepare
    from mergekit_geo.modules.load import load_model

    assert isinstance(data, EvalData)
    compute = Compute(device="cpu")
    sample = prepare(data, folder, open_checkpoint(folder).config, compute)
    model = load_model(folder, compute)
    sample.objective.measure(model)
    return harness.timed(partial(sample.objective.measure, model), count)


def drawn(models: list[Path], data: object, grid: int) -> Cost:
    """Cost of a whole landscape with its pictures."""
    import mergekit_geo as geo

    assert isinstance(data, geo.EvalData)
    compute, view = geo.Compute(device="cpu", budget=0), geo.LandscapeConfig(grid=grid)
    with harness.empty_cache() as folder:
        out = folder / "out"
        return harness.timed(
            lambda: geo.landscape(models, out, data=data, view=view, compute=compute)
        )


def main() -> None:
    parser = harness.parser(__doc__, repeats=1)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--grid", type=int, default=21)
    parser.add_argument("--examples", type=int, default=60)
    options = parser.parse_args()
    harness.work_offline()
    import mergekit_geo as geo

    data, count = geo.EvalData(max_examples=options.examples), options.grid**2
    rounds: list[tuple[Cost, Cost]] = []
    for _ in range(options.repeats):
        before = plain(options.models[0], data, count // 2)
        whole = drawn(options.models, data, options.grid)
        bare = before + plain(options.models[0], data, count - count // 2)
        rounds.append((whole, bare))
        print(
            f"{count} plain evaluations: {bare.wall:.1f} s wall, {bare.cpu:.1f} s CPU; landscape: "
            f"{whole.wall:.1f} s, {whole.cpu:.1f} s",
            flush=True,
        )
    own, other = zip(*rounds, strict=True)
    wall = harness.ratio((cost.wall for cost in own), (cost.wall for cost in other))
    processor = harness.ratio((cost.cpu for cost in own), (cost.cpu for cost in other))
    print(f"median ratio {wall:.3f} of wall, {processor:.3f} of CPU time; at most {MOST}: ", end="")
    print(harness.met(max(wall, processor) <= MOST))


if __name__ == "__main__":
    main()
