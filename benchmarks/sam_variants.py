"""AdamW, SAM and its cheaper variants at equal wall time: losses, λ_max, SAM sharpness, soups.

Usage:
    python tests/demo/train.py demo base                    # once: the Llama
    python benchmarks/sam_variants.py --work FOLDER         # goes on with what is there
    python benchmarks/sam_variants.py --work FOLDER --only SAM   # trains and measures that alone

Every way trains the demo base with five seeds, for as many steps as the same number of forward and
backward passes allows (a step's cost beside AdamW's: `benchmarks/sam.py --only step`), each with a
learning rate that falls to 0. Members have their mean and the range over seeds. The share of SAM's
reduction is (λ_max of AdamW - λ_max) / (λ_max of AdamW - λ_max of SAM), of the means, and behind it
the range over seeds that are left out one at a time: beside SAM in the same time, and beside SAM
for as many steps as AdamW, which takes twice the time. λ_max and SAM sharpness are those of
`geo.sharpness` on 32 held-out examples, losses are on some 400, the same for all models.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import mergekit_geo as geo
from benchmarks import harness

TRAIN, RATE, BATCH = "builtin:python-docs", 2e-3, 8
LONG = "SAM, twice the time"
CURVED = geo.EvalData(max_examples=32)
OUTPUT = geo.OutputConfig(fsync=False, overwrite=True)
ALL = geo.Compute(budget=0)
"""No sample gets smaller where the machine is busy."""


@dataclass(frozen=True)
class Way:
    """How members are trained.

    Attributes:
        sam: The settings.
        passes: Forward and backward passes of a step, on average; half of them where a way is given
            twice the time.
    """

    sam: geo.SamArguments
    passes: float


WAYS = {
    "AdamW": Way(geo.SamArguments(rho=0.0), 1),
    "SAM": Way(geo.SamArguments(rho=0.05), 2),
    "SAM every fifth step": Way(geo.SamArguments(rho=0.05, every=5), 1.2),
    "LookSAM, α = 0.7": Way(geo.SamArguments(rho=0.05, variant="look", every=5), 1.2),
    "LookSAM, α = 0.2": Way(geo.SamArguments(rho=0.05, variant="look", every=5, alpha=0.2), 1.2),
    "momentum-SAM": Way(geo.SamArguments(rho=0.5, variant="momentum"), 1),
    LONG: Way(geo.SamArguments(rho=0.05), 1),
}


def train(base: Path, work: Path, passes: int, name: str, seed: int) -> dict[str, float]:
    """Train and measure a member, unless it is there."""
    folder, way = work / f"{slug(name)}-{seed}", WAYS[name]
    kept = folder.with_suffix(".json")
    if not kept.exists():
        began = time.process_time()
        geo.finetune(
            base, folder, train_data=TRAIN, data=None, sam=way.sam, seed=seed, sharpness="off",
            training=geo.TrainingConfig(
                steps=round(passes / way.passes), batch_size=BATCH, learning_rate=RATE
            ),
            output=OUTPUT,
        )  # fmt: skip
        seconds = time.process_time() - began
        kept.write_text(json.dumps({"seconds": seconds, **measured(folder)}))
    return read(kept)


def average(work: Path, name: str, seeds: int) -> dict[str, float]:
    """Average and measure the members of a way, unless their soup is there."""
    folder = work / f"{slug(name)}-soup"
    kept = folder.with_suffix(".json")
    if not kept.exists():
        members = [work / f"{slug(name)}-{seed}" for seed in range(seeds)]
        geo.soup(members, folder, data=None, sharpness="off", output=OUTPUT)
        kept.write_text(json.dumps(measured(folder)))
    return read(kept)


def start(base: Path, work: Path) -> dict[str, float]:
    """Measure what is trained, unless that was done."""
    kept = work / "base.json"
    if not kept.exists():
        kept.write_text(json.dumps(measured(base)))
    return read(kept)


def measured(folder: Path) -> dict[str, float]:
    """Loss, λ_max and SAM sharpness, on the same examples for all models."""
    (loss,) = geo.evaluate(folder, compute=ALL).measurements.losses
    (found,) = geo.sharpness(folder, level="quick", data=CURVED, compute=ALL).measurements.sharpness
    return {
        "loss": loss.loss,
        "lambda_max": found.extremes.largest.value,
        "sam_sharpness": found.sam_sharpness,
    }


def report(base: Path, work: Path, passes: int, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the table."""
    head = (
        "", "steps", "CPU s", "loss", "λ_max", "of SAM's reduction", "of SAM's in twice the time",
        "SAM sharpness",
    )  # fmt: skip
    first = start(base, work)
    whole = ["base", "", "", f"{first['loss']:.3f}", f"{first['lambda_max']:.1f}", "", "",
             f"{first['sam_sharpness']:.4f}"]  # fmt: skip
    harness.table(head, [whole, *(row for name in WAYS for row in rows(work, passes, name, found))])


def rows(
    work: Path, passes: int, name: str, found: dict[str, list[dict[str, float]]]
) -> list[list[str]]:
    """A row for the members of a way, and one for their soup."""
    own, soup = found[name], average(work, name, len(found[name]))
    steps, seconds = round(passes / WAYS[name].passes), sum(one["seconds"] for one in own)
    return [
        [
            name, str(steps), f"{seconds / len(own):.0f}",
            spread(column(own, "loss"), 3), spread(column(own, "lambda_max"), 1),
            share(found, name, "SAM"), share(found, name, LONG),
            spread(column(own, "sam_sharpness"), 4),
        ],
        [
            f"{name}, soup", "", "", f"{soup['loss']:.3f}",
            f"{soup['lambda_max']:.1f}", "", "", f"{soup['sam_sharpness']:.4f}",
        ],
    ]  # fmt: skip


def share(found: dict[str, list[dict[str, float]]], name: str, beside: str) -> str:
    """Of another way's reduction of λ_max, with the range over seeds that are left out."""
    if name in ("AdamW", beside):
        return ""
    plain, sharp, own = (column(found[one], "lambda_max") for one in ("AdamW", beside, name))
    left = [ratio_of(*(without(one, i) for one in (plain, sharp, own))) for i in range(len(own))]
    return f"{ratio_of(plain, sharp, own):.0%} ({min(left):.0%} to {max(left):.0%})"


def ratio_of(plain: Sequence[float], sharp: Sequence[float], own: Sequence[float]) -> float:
    """How far the mean of λ_max fell, as a share of how far it fell by SAM."""
    return (sum(plain) - sum(own)) / (sum(plain) - sum(sharp))


def without(numbers: Sequence[float], position: int) -> list[float]:
    """All but one."""
    return [*numbers[:position], *numbers[position + 1 :]]


def column(found: Sequence[dict[str, float]], name: str) -> list[float]:
    """A number of all members."""
    return [one[name] for one in found]


def spread(numbers: Sequence[float], digits: int) -> str:
    """Mean and range."""
    mean, *ends = (
        f"{number:.{digits}f}"
        for number in (sum(numbers) / len(numbers), min(numbers), max(numbers))
    )
    return f"{mean} ({' to '.join(ends)})"


def slug(name: str) -> str:
    """A folder's name."""
    return re.sub("[^a-z0-9]+", "-", name.lower())


def read(path: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(path.read_text())
    return found


def begin() -> None:
    """In every process."""
    torch.set_num_threads(1)


def main() -> None:
    parser = harness.parser(__doc__, only=WAYS, keeps=True)
    parser.add_argument("--base", type=Path, default=Path("demo/base"))
    parser.add_argument("--passes", type=harness.positive, default=120)
    parser.add_argument("--seeds", type=harness.positive, default=5)
    parser.add_argument("--jobs", type=harness.positive, default=2, help="processes (2)")
    given = parser.parse_args()
    harness.work_offline(1)
    context: Any = get_context("spawn")
    with (
        harness.empty_cache(),
        harness.work_folder(given.work, keep=given.keep) as work,
        ProcessPoolExecutor(given.jobs, mp_context=context, initializer=begin) as pool,
    ):
        member = partial(train, given.base, work, given.passes)
        seeds = range(given.seeds)
        ways = given.only
        asked = {(name, seed): pool.submit(member, name, seed) for seed in seeds for name in ways}
        found = {name: [asked[name, seed].result() for seed in seeds] for name in ways}
        for soup in [pool.submit(average, work, name, given.seeds) for name in ways]:
            soup.result()
        if set(ways) == set(WAYS):
            report(given.base, work, given.passes, found)


if __name__ == "__main__":
    main()
