"""Time a union of tokenizers beside a plain merge of models of the same size.

Usage:
    python benchmarks/union.py                               # 3 x 1.1 B parameters, 3 rounds
    python benchmarks/union.py --size 0.02                   # to try it out

Three Llama-shaped bf16 checkpoints are merged by `geo-merge soup`: once with one tokenizer, and
once where two of them have 32 added tokens each that no other has, so that rows are put by token
and 64 rows are made up in each model. Both run once a round, as whole processes; the fastest of
each counts. Linux only.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.harness import Cost
from benchmarks.llamas import END_OF_TEXT, SIZES, Size, make_model, read

if TYPE_CHECKING:
    import argparse

ADDED = 64
LIMITS = {"wall": 1.15, "cpu": 1.15, "rss": 1.2}
"""Most that a union may cost, as a multiple of the plain merge."""

PLAIN = ("--no-eval", "--sharpness", "off", "--quiet", "--no-fsync")


def write_tokenizer(folder: Path, words: int, added: list[str]) -> None:
    """A byte-level BPE of so many ordinary tokens, most of them pairs, and added tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = list(islice(product(alphabet, alphabet), words - len(alphabet)))
    vocabulary = [*alphabet, *map("".join, pairs)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(vocabulary)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT, *added])
    tokenizer.save(str(folder / "tokenizer.json"))


def make(folder: Path, size: Size, seed: int, added: list[str]) -> None:
    """A model with one row for each of its tokens."""
    make_model(folder, replace(size, vocabulary=size.vocabulary + len(added)), seed)
    write_tokenizer(folder, size.vocabulary - 1, added)


@contextmanager
def models_of(size: Size, work: Path) -> Iterator[dict[str, list[Path]]]:
    """Models of one tokenizer, and of three; removed afterwards."""
    new = [f"<|added_{i}|>" for i in range(ADDED)]
    tokens = {"all-0": new, "all-1": new, "all-2": new, "base": [], "left": new[:32],
              "right": new[32:]}  # fmt: skip
    folders = {name: work / name for name in tokens}
    try:
        for seed, (name, added) in enumerate(tokens.items()):
            harness.in_child(make, folders[name], size, seed, added)
            read(folders[name] / "model.safetensors")
        names = [*folders.values()]
        yield {"plain": names[:3], "union": names[3:]}
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def merge(models: list[Path], out: Path, *flags: str) -> Cost:
    """One merge as a process of its own; what it wrote is removed."""
    program = Path(sys.executable).with_name("geo-merge")
    for model in models:
        read(model / "model.safetensors")
    cost = harness.measure([program, "soup", *models, "-o", out, *PLAIN, *flags])
    rows = json.loads((out / "config.json").read_text())["vocab_size"]
    shutil.rmtree(out)
    print(f"{out.name}: {rows} rows, {cost.wall:.2f} s", file=sys.stderr, flush=True)
    return cost


def fastest(costs: list[Cost]) -> Cost:
    """The least of each number."""
    return Cost(*(min(getattr(cost, key) for cost in costs) for key in LIMITS))


def parse() -> argparse.Namespace:
    parser = harness.parser(__doc__, repeats=3, keeps=True)
    parser.add_argument("--size", choices=SIZES, default="1.1", metavar="|".join([*SIZES][1:]))
    return parser.parse_args()


def main() -> None:
    options = parse()
    size = SIZES[options.size]
    harness.work_offline()
    with (
        harness.work_folder(options.work, keep=options.keep) as work,
        tempfile.TemporaryDirectory(prefix="runs-", dir=work) as runs,
        models_of(size, work) as models,
    ):
        out = Path(runs)
        works: dict[str, Callable[[], Cost]] = {
            "plain": partial(merge, models["plain"], out / "plain"),
            "union": partial(merge, models["union"], out / "union", "--tokenizer-source=union"),
        }
        found = harness.alternate(works, options.repeats, warm_up=True)
    plain, union = (fastest(found[name]) for name in works)
    ratios = {key: getattr(union, key) / getattr(plain, key) for key in LIMITS}
    rows = [
        [name, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.rss:.0f}"]
        for name, cost in (("plain", plain), ("union", union))
    ]
    harness.table(["work", "wall s", "CPU s", "peak RSS MB"],
                  [*rows, ["ratio", *(f"{ratio:.3f}" for ratio in ratios.values())]])  # fmt: skip
    print(f"\n3 x {size.count:,} parameters, fastest of {options.repeats}; {harness.versions()}")
    if over := [key for key, ratio in ratios.items() if ratio > LIMITS[key]]:
        sys.exit(f"over the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()
