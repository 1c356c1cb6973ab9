"""All merge methods of the table side by side, on specialists of text and of pictures.

Two models that were tuned from one base, each for one half of what is measured, are merged by every
method at the settings below. A row tells the paired difference of the output's loss to the better
parent of each set, with its 95 % interval over documents, and the mean of both. Methods that choose
on the data (`*`) are reported on the half that did not choose; the others on all of it.

- demo: `demo/prose` and `demo/code` over `demo/base` (scripts/quickstart.sh makes them), on the
  held-out text of builtin:python-docs and builtin:python-source;
- digits: transformers over the pixels of scikit-learn's digits, of which one was tuned to 0 to 4
  and the other to 5 to 9, on held-out pictures of either; the score is the accuracy.

Usage: python -m benchmarks.methods [--only demo digits] [--examples 200] [--docs PAGE]
       With --docs the tables replace those of the page.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import mergekit_geo as geo
from benchmarks.harness import ROOT, parser, positive, say, work_offline
from mergekit_geo.errors import GeoError
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.merge import MergeMeasurements

EXAMPLES = 200
HALF = 0.5
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "task_arithmetic": {"lambda_": HALF}, "ties": {"density": HALF},
    "dare_linear": {"density": HALF, "lambda_": HALF}, "dare_ties": {"density": HALF},
    "della_linear": {"density": HALF, "lambda_": HALF}, "della": {"density": HALF},
    "breadcrumbs": {"density": 0.9, "lambda_": HALF}, "breadcrumbs_ties": {"density": 0.9},
    "sce": {"select_topk": HALF}, "knots": {"density": HALF},
    "fisher": {"fisher_examples": 128}, "uncertainty": {"fisher_examples": 128},
    "regmean": {"gram_examples": 128}, "regmean_plus": {"gram_examples": 128},
    "adamerging": {"steps": 100, "learning_rate": 0.01},
}  # fmt: skip
"""What is not the default: at a density of 1, methods of masks mask nothing."""

SWEPT = {"sweep": 11}
APART = (
    "WiSE-FT stands between the base and one specialist, and is held against the better of these:"
)
HEAD = ("method", "settings", "Δ {} ↓", "Δ {} ↓", "mean of both ↓", "score {} ↑", "score {} ↑")


@dataclass(frozen=True)
class Family:
    """A base and two specialists, and what they are merged and measured on.

    Attributes:
        folder: Of the models.
        base: Its name.
        models: Names of the specialists.
        data: Held-out data by set: the first is the first specialist's.
        train: Training data by model.
        examples: Most examples of a set.
    """

    folder: Path
    base: str
    models: tuple[str, str]
    data: Mapping[str, str]
    train: Mapping[str, str]
    examples: int

    @property
    def how(self) -> dict[str, Any]:
        """Settings of every merge."""
        sets = {n: geo.EvalData(one, max_examples=self.examples) for n, one in self.data.items()}
        compute = geo.Compute(device="cpu", budget=0)
        return {"data": sets, "sharpness": "off", "compute": compute}

    def at(self, *names: str) -> list[Path]:
        """Folders of models."""
        return [self.folder / name for name in names]

    def train_data(self, names: Sequence[str]) -> dict[str, Any]:
        """Training data of these models."""
        found = {}
        for name in names:
            data = geo.EvalData(max_examples=self.examples).training(self.train[name])
            found[name] = replace(data, max_examples=self.examples)
        return found


@dataclass(frozen=True)
class Row:
    """What came of a method.

    Attributes:
        name: Of the method.
        said: Its settings.
        found: What was measured; None where it was refused.
        why: Why it was.
        chosen: Whether it was chosen on half of the data.
        apart: Whether it is held against other parents than the rest.
    """

    name: str
    said: str
    found: MergeMeasurements | None = None
    why: str = ""
    chosen: bool = False
    apart: bool = False

    @property
    def order(self) -> float:
        """Rows by what they lose on average."""
        across = self.found and self.found.across
        return across.mean.number if across else float("inf")

    def cells(self, names: Sequence[str]) -> list[str]:
        """Of the table."""
        if self.found is None:
            return [self.name, self.said, f"refused: {self.why}", *[""] * 4]
        sets = [self.found.sets[name] for name in names]
        deltas = [_told(best_difference(one.losses, one.differences)) for one in sets]
        scores = [one.losses[-1].metric for one in sets]
        across = self.found.across
        return [
            f"{self.name}{' *' * self.chosen}", self.said, *deltas,
            _told(across.mean) if across else "",
            *("" if score is None else f"{score:.3f}" for score in scores),
        ]  # fmt: skip


def best_difference(losses: Sequence[Any], differences: Sequence[Any]) -> Estimate:
    """The output's loss minus that of the better parent."""
    parents = [one for one in losses if one.role == "parent"]
    best = min(parents, key=lambda one: one.loss).model
    found = next(one for one in differences if one.model == best)
    return Estimate(value=found.value, low=found.low, high=found.high)


def _told(found: Estimate) -> str:
    """With half of its interval, which is symmetric."""
    if found.value is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} ± {(found.high - found.low) / 2:.3f}"


# What is merged


def rows_of(family: Family) -> Iterator[Row]:
    """A row for each method of the table, in its order."""
    for method in METHODS.values():
        if method.name == "passthrough":
            continue
        for name, call, said, chosen in calls(family, method):
            began = time.perf_counter()
            try:
                result = call()
            except GeoError as error:
                yield Row(name, said, why=error.message.partition(":")[0])
                continue
            found = result.report.result
            assert isinstance(found, MergeMeasurements)
            say(f"{family.base}: {name}", began)
            yield Row(name, said, found, chosen=chosen, apart=method.name == "wise-ft")


def calls(family: Family, method: Method) -> Iterator[tuple[str, Any, str, bool]]:
    """Name, call, settings and whether data chooses, of every row of a method."""
    first, second = family.models
    if method.by_loss:
        yield method.name, lambda: soup(family, method.name), _soup_said(method.name), True
        return
    if method.name == "wise-ft":
        for tuned in family.models:
            name = f"wise-ft, base to {tuned}"
            yield name, lambda tuned=tuned: sweep(family, tuned), "sweep 11", True
        return
    given = dict(SETTINGS.get(method.name, {}))
    said = ", ".join(f"{name.rstrip('_')} {value:g}" for name, value in given.items())
    if method.most == 1 and method.base is BaseUse.REQUIRED:
        yield (
            method.name, lambda: merge(family, method, [second], first, given),
            f"base {first}" + (f", {said}" if said else ""), False,
        )  # fmt: skip
        return
    base = family.base if method.base is BaseUse.REQUIRED else None
    yield method.name, lambda: merge(family, method, [first, second], base, given), said, False


def merge(
    family: Family,
    method: Method,
    models: Sequence[str],
    base: str | None,
    given: Mapping[str, Any],
) -> geo.Result:
    """A merge by a method of the table."""
    names = [*models, *([base] if base and method.name == "uncertainty" else [])]
    train = {"train_data": family.train_data(names)} if method.needs else {}
    place = family.at(base)[0] if base else None
    return geo.merge(
        family.at(*models), method=method.name, base=place, **family.how, **train, **given
    )


def sweep(family: Family, tuned: str) -> geo.Result:
    """WiSE-FT from the base to a specialist."""
    return geo.merge(family.at(family.base, tuned), method="wise-ft", **SWEPT, **family.how)


def soup(family: Family, method: str) -> geo.Result:
    """A soup that loss chooses."""
    along = method == "along"
    choosing = (
        geo.SelectionConfig(along="linear") if along else geo.SelectionConfig(method, steps=20)
    )
    return geo.soup(family.at(*family.models), choosing=choosing, **family.how)


def _soup_said(method: str) -> str:
    return {"learned": "steps 20", "along": "linear"}.get(method, "")


# Families


def demo(folder: Path, examples: int) -> Family:
    """Specialists of documentation and of source code."""
    return Family(
        ROOT / "demo", "base", ("prose", "code"),
        {"prose": "builtin:python-docs", "code": "builtin:python-source"},
        {"prose": "builtin:python-docs", "code": "builtin:python-source",
         "base": "builtin:python-docs"},
        examples,
    )  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """Handwritten digits, (n, 1, 8, 8) from 0 to 1, and which they are."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def load(cls) -> Pictures:
        """All of them, in an order of their own."""
        found = load_digits()
        order = np.random.default_rng(0).permutation(len(found.target))
        images = (found.images[order, None] / 16).astype(np.float32)
        return cls(torch.from_numpy(images), torch.from_numpy(found.target[order]))

    def part(self, rows: slice, classes: Sequence[int]) -> Pictures:
        """Some rows, of some classes."""
        images, labels = self.images[rows], self.labels[rows]
        kept = torch.isin(labels, torch.tensor(list(classes)))
        return Pictures(images[kept], labels[kept])

    def write(self, path: Path) -> str:
        """As rows of JSON."""
        rows = zip(self.images.numpy().round(4).tolist(), self.labels.tolist(), strict=True)
        lines = (json.dumps({"pixel_values": image, "label": label}) for image, label in rows)
        path.write_text("\n".join(lines) + "\n")
        return str(path)


TRAINED = 1200
LOW, HIGH = range(5), range(5, 10)
EPOCHS = {"base": 6, "low": 6, "high": 6}


def digits(folder: Path, examples: int) -> Family:
    """Specialists of 0 to 4 and of 5 to 9, tuned from one classifier of all ten."""
    pictures, train = Pictures.load(), slice(TRAINED)
    own = {name: pictures.part(train, classes) for name, classes in
           (("base", range(10)), ("low", LOW), ("high", HIGH))}  # fmt: skip
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        image_size=8, patch_size=4, num_channels=1, num_labels=10,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder / "new")
    for name, start in (("base", "new"), ("low", "base"), ("high", "base")):
        model = ViTForImageClassification.from_pretrained(folder / start)
        fit(model, own[name], EPOCHS[name], 1e-3)
        model.save_pretrained(folder / name)
    held = {name: pictures.part(slice(TRAINED, None), classes).write(folder / f"{name}.jsonl")
            for name, classes in (("low-digits", LOW), ("high-digits", HIGH))}  # fmt: skip
    sources = {name: one.write(folder / f"train-{name}.jsonl") for name, one in own.items()}
    return Family(folder, "base", ("low", "high"), held, sources, examples)


def fit(model: nn.Module, data: Pictures, epochs: int, rate: float) -> None:
    """AdamW, in an order of its own."""
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data.labels), generator=draw).split(32):
            loss = nn.functional.cross_entropy(model(data.images[rows]).logits, data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


FAMILIES = {"demo": demo, "digits": digits}


# Tables


@dataclass
class Table:
    """Rows of a family, the best first."""

    family: Family
    rows: list[Row] = field(default_factory=list)

    @property
    def markdown(self) -> str:
        """The table, and the parents below it."""
        names = list(self.family.data)
        head = [cell.format(name) for cell, name in zip(HEAD, _twice(names), strict=True)]
        lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
        above = "\n".join(lines)
        tables = []
        for apart in (False, True):
            rows = sorted((r for r in self.rows if r.apart is apart), key=lambda row: row.order)
            tables.append("\n".join([above, *(f"| {' | '.join(r.cells(names))} |" for r in rows)]))
        return f"{tables[0]}\n\n{self._parents()}\n\n{APART}\n\n{tables[1]}"

    def _parents(self) -> str:
        """Losses of the parents themselves, which rows without a choice are held against."""
        found = next(row.found for row in self.rows if row.found and not (row.chosen or row.apart))
        told = []
        for name, one in found.sets.items():
            parents = [entry for entry in one.losses if entry.role == "parent"]
            losses = ", ".join(f"{Path(p.model).name} {p.loss:.4f}" for p in parents)
            told.append(f"{name} ({one.data.examples} examples of {one.data.documents} documents)"
                        f": {losses}")  # fmt: skip
        return f"Losses of the parents in nats: {'; '.join(told)}."


def _twice(names: Sequence[str]) -> list[str]:
    first, second = names
    return ["", "", first, second, "", first, second]


def put(page: Path, name: str, text: str) -> None:
    """Replace a table of a page."""
    begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    said = page.read_text("utf-8")
    assert begin in said, f"{page} has no {begin}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", said), "utf-8")


def main() -> None:
    """Print the tables."""
    options = parser(__doc__, only=FAMILIES)
    options.add_argument("--examples", type=positive, default=EXAMPLES, help=f"({EXAMPLES})")
    options.add_argument("--docs", type=Path, help="page whose tables are replaced")
    asked = options.parse_args()
    work_offline()
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            table = Table(FAMILIES[name](Path(folder), asked.examples))
            table.rows = list(rows_of(table.family))
        print(f"## {name}\n\n{table.markdown}\n", flush=True)
        if asked.docs:
            put(asked.docs, name, table.markdown)


if __name__ == "__main__":
    main()
