"""Compare merges with mergekit's, element by element, over random settings.

Usage:
    bash scripts/tour.sh                                # trains demo/{base,a,b,c}
    python benchmarks/parity.py OTHER/bin/python        # an interpreter with mergekit
    python benchmarks/parity.py OTHER/bin/python --settings 20 --methods ties dare_ties

Every method is run on the demo models, stored as float32 and as bfloat16, with random weights,
densities, gradients, filters and flags, by `geo.run` and by mergekit from the same recipe with
`dtype: float64` and `out_dtype: bfloat16`. Printed is the share of elements that are within one
unit in the last place of bfloat16. Three things are taken from chance on mergekit's side: random
masks are those of mergekit_geo, quartiles of Arcee Fusion are those of all elements (it draws a
million), and of equal magnitudes the first comes first (its sort leaves that open; `--unstable`
leaves it so). With `--dtype bfloat16` it does its arithmetic in bfloat16,
so that task vectors are rounded before they are compared: what that alone changes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import ROOT

MODELS = ("base", "a", "b", "c")
Recipe = dict[str, Any]


# Recipes


class Settings:
    """Random settings of recipes.

    Args:
        seed: Of everything.
        folder: Holds the models.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = random.Random(seed), folder

    def model(self, name: str, **parameters: object) -> Recipe:
        """One of the models, with parameters of its own."""
        return {"model": str(self.folder / name), "parameters": parameters}

    def value(self, low: float, high: float) -> object:
        """A number, a gradient, or filters."""
        number = lambda: round(self.random.uniform(low, high), 3)  # noqa: E731
        kind = self.random.choice(["number", "number", "gradient", "filters"])
        if kind == "gradient":
            return [number() for _ in range(self.random.randint(2, 5))]
        if kind == "filters":
            filters = [{"filter": part, "value": number()} for part in ("self_attn", "mlp.up")]
            return [*filters, {"value": number()}]
        return number()

    def flag(self) -> bool:
        """One or the other."""
        return self.random.random() < 0.5

    def recipe(self, method: str, dtype: str) -> Recipe:
        """One of a method."""
        said: Recipe = METHODS[method](self)
        return {"merge_method": method, "dtype": dtype, "out_dtype": "bfloat16", **said}

    def weighted(self, names: str, **each: tuple[float, float]) -> list[Recipe]:
        """Models with a weight and other parameters, each within its limits."""
        limits = {"weight": (0.1, 1.0), **each}
        return [
            self.model(name, **{key: self.value(*ends) for key, ends in limits.items()})
            for name in names
        ]

    def base(self) -> Recipe:
        """The key."""
        return {"base_model": str(self.folder / "base")}

    def masked(self, **each: tuple[float, float]) -> Recipe:
        """Of a method that keeps elements."""
        shared = {"normalize": self.flag(), "rescale": self.flag(), "lambda": self.number(0.5, 1.5)}
        return {**self.base(), "models": self.weighted("abc", **each), "parameters": shared}

    def number(self, low: float, high: float) -> float:
        """One in between."""
        return round(self.random.uniform(low, high), 3)


def slerp(of: Settings) -> Recipe:
    models = [of.model("a"), of.model("b")]
    return {"base_model": models[0]["model"], "models": models, "parameters": {"t": of.value(0, 1)}}


def based(of: Settings, names: str, **shared: object) -> Recipe:
    """With a base or without."""
    base = of.base() if of.flag() else {}
    return {**base, "models": of.weighted(names), "parameters": shared}


METHODS: dict[str, Callable[[Settings], Recipe]] = {
    "linear": lambda of: {
        "models": of.weighted("abc"), "parameters": {"normalize": of.flag()},
    },
    "slerp": slerp,
    "karcher": lambda of: {
        "models": [of.model(name) for name in "abc"],
        "parameters": {"tol": 1e-9, "max_iter": 100},  # 1e-5 and 10 by default
    },
    "nuslerp": lambda of: based(
        of, "ab", nuslerp_flatten=of.flag(), nuslerp_row_wise=of.flag(),
    ),
    "multislerp": lambda of: based(of, "abc", normalize_weights=of.flag()),
    "passthrough": lambda of: {"models": [of.model("a", scale=of.number(0.5, 1.5))]},
    "task_arithmetic": lambda of: {
        **of.base(), "models": of.weighted("abc"),
        "parameters": {"normalize": of.flag(), "lambda": of.number(0.5, 1.5)},
    },
    "model_stock": lambda of: {
        **of.base(), "models": [of.model(name) for name in "abc"],
        "parameters": {"filter_wise": of.flag()},
    },
    "nearswap": lambda of: {
        **of.base(), "models": [of.model("a")], "parameters": {"t": of.value(0.0, 0.01)},
    },
    "arcee_fusion": lambda of: {**of.base(), "models": [of.model(of.random.choice("abc"))]},
    "ram": lambda of: {
        **of.base(), "models": [of.model(name) for name in "abc"],
        "parameters": {"epsilon": of.number(0.0, 0.01)},
    },
    "ramplus_tl": lambda of: {
        **of.base(), "models": [of.model(name) for name in "abc"],
        "parameters": {
            "epsilon": of.number(0.0, 0.02), "r": of.number(0, 1), "alpha": of.number(0, 1),
        },
    },
    "ties": lambda of: of.masked(density=(0.05, 1.0)),
    "breadcrumbs": lambda of: of.masked(density=(0.05, 0.9), gamma=(0.0, 0.1)),
    "breadcrumbs_ties": lambda of: of.masked(density=(0.05, 0.9), gamma=(0.0, 0.1)),
    "sce": lambda of: {
        **of.base(), "models": [of.model(name) for name in "abc"],
        "parameters": {"select_topk": of.number(0.05, 1.0)},
    },
    "dare_linear": lambda of: of.masked(density=(0.05, 1.0)),
    "dare_ties": lambda of: of.masked(density=(0.05, 1.0)),
    "della_linear": lambda of: of.masked(density=(0.3, 0.7), epsilon=(0.0, 0.2)),
    "della": lambda of: of.masked(density=(0.3, 0.7), epsilon=(0.0, 0.2)),
}  # fmt: skip
"""By name: random settings."""


# mergekit's side


def merge_as_peer(jobs: list[list[str]], *, stable: bool) -> None:
    """Run recipes with mergekit; to be called in an interpreter that has it."""
    import torch
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.merge_methods import arcee_fusion
    from mergekit.options import MergeOptions

    inject_masks(torch)
    arcee_fusion._QUANTILE_SAMPLE_SIZE = 1 << 40  # quartiles of all elements, not of a sample
    if stable:
        torch.argsort = partial(torch.argsort, stable=True)
        torch.sort = partial(torch.sort, stable=True)
        torch.topk = partial(topk, torch)
    for recipe, out in jobs:
        said = MergeConfiguration.model_validate(json.loads(Path(recipe).read_text()))
        options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
        run_merge(said, out, options)


def topk(torch: Any, values: Any, k: int, **_: object) -> Any:
    """The k largest, of equal ones the first."""
    found = torch.sort(values, descending=True)
    return found.values[:k], found.indices[:k]


def inject_masks(torch: Any) -> None:
    """Let mergekit's coin tosses fall as those of mergekit_geo, for seed 0."""
    from mergekit.merge_methods import generalized_task_arithmetic as theirs

    from mergekit_geo.merging.masks import seed_of
    from mergekit_geo.merging.plain_masks import numbers

    tensor, model = "", -1
    merge_group = theirs.GeneralizedTaskArithmeticMerge.merge_group
    sparsify = theirs.sparsify

    def known(self: object, group: Any, /, **parameters: object) -> object:
        nonlocal tensor, model
        tensor, model = group.metadata.name, -1
        return merge_group(self, group, **parameters)

    def counted(*arguments: object, **named: object) -> object:
        nonlocal model
        model += 1
        return sparsify(*arguments, **named)

    def bernoulli(chances: Any) -> Any:
        count = chances.numel()
        drawn = numbers(seed_of(f"0 {model} {tensor}"), 0, count)
        chance = chances.double().flatten().numpy()
        return torch.from_numpy(drawn / 2**32 < chance).to(chances.dtype).reshape(chances.shape)

    theirs.GeneralizedTaskArithmeticMerge.merge_group = known
    theirs.sparsify = counted
    torch.bernoulli = bernoulli


# Ours, and the comparison


def units_apart(ours: Path, theirs: Path) -> Iterator[np.ndarray[Any, Any]]:
    """Distance of each element in units in the last place of bfloat16, tensor by tensor."""
    from mergekit_geo.checkpoints.reference import open_checkpoint

    one, other = open_checkpoint(ours), open_checkpoint(theirs)
    assert one.tensors.keys() == other.tensors.keys()
    for name, info in one.tensors.items():
        assert (info.dtype, other.tensors[name].dtype) == ("BF16", "BF16"), name
        yield np.abs(np.subtract(*(ordered(c, name, info.count) for c in (one, other))))


def ordered(checkpoint: Any, name: str, count: int) -> np.ndarray[Any, Any]:
    """The bits of bfloat16 as whole numbers in the order of the values."""
    stored = np.empty(2 * count, np.uint8)
    checkpoint.read(name, 0, count, stored)
    bits = stored.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def store_as(dtype: str, source: Path, folder: Path) -> Path:
    """The models in one dtype."""
    import mergekit_geo as geo

    for name in MODELS:
        output = geo.OutputConfig(dtype=dtype, fsync=False)
        geo.soup([source / name], folder / dtype / name, data=None, output=output, sharpness="off")
    return folder / dtype


def write_jobs(
    methods: list[str], options: argparse.Namespace, work: Path
) -> dict[str, list[Path]]:
    """Folders by method and stored dtype, each with its recipe."""
    jobs: dict[str, list[Path]] = {}
    for stored in ("float32", "bfloat16"):
        models = store_as(stored, options.models, work)
        for method in methods:
            for seed in range(options.settings):
                job = work / f"{method}-{stored}-{seed}"
                job.mkdir()
                recipe = Settings(seed, models).recipe(method, options.dtype)
                (job / "recipe.yml").write_text(json.dumps(recipe))
                jobs.setdefault(method, []).append(job)
    return jobs


def run_peer(peer: Path, jobs: list[Path], work: Path, *flags: str) -> None:
    todo = work / "jobs.json"
    todo.write_text(json.dumps([[str(j / "recipe.yml"), str(j / "theirs")] for j in jobs]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([peer, __file__, "--as-peer", todo, *flags], check=True, env=environment)


def compare(method: str, jobs: list[Path]) -> list[str]:
    """A row: elements, share within one unit, the worst setting's share."""
    import mergekit_geo as geo

    near, total, worst = 0, 0, 1.0
    for job in jobs:
        geo.run(
            job / "recipe.yml", job / "ours", data=None, sharpness="off",
            output=geo.OutputConfig(fsync=False),
        )  # fmt: skip
        units = np.concatenate([*units_apart(job / "ours", job / "theirs")])
        close = int((units <= 1).sum())
        near, total, worst = near + close, total + units.size, min(worst, close / units.size)
    return [method, str(len(jobs)), f"{total:,}", f"{near / total:.6%}", f"{worst:.6%}"]


def parse() -> argparse.Namespace:
    parser = harness.parser(__doc__)
    parser.add_argument("peer", type=Path, nargs="?", help="an interpreter that has mergekit")
    parser.add_argument("--settings", type=int, default=20, help="random settings a method (20)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--models", type=Path, default=ROOT / "demo", help="base, a, b and c")
    parser.add_argument("--dtype", default="float64", help="of mergekit's arithmetic")
    parser.add_argument("--unstable", action="store_true", help="leave mergekit's sort as it is")
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.as_peer:
        merge_as_peer(json.loads(options.as_peer.read_text()), stable=not options.unstable)
        return
    with tempfile.TemporaryDirectory() as folder:
        jobs = write_jobs(options.methods, options, Path(folder))
        flags = ["--unstable"] if options.unstable else []
        every = [job for found in jobs.values() for job in found]
        run_peer(options.peer, every, Path(folder), *flags)
        head = ["method", "merges", "elements", "within one unit", "the worst merge"]
        harness.table(head, (compare(method, found) for method, found in jobs.items()))


if __name__ == "__main__":
    main()
