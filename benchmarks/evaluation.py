"""Time the evaluation of loss beside a loop written by hand, lm-evaluation-harness, and itself.

Usage:
    python benchmarks/evaluation.py                      # demo/base and a wide vocabulary
    python benchmarks/evaluation.py --only hand sets
    python benchmarks/evaluation.py --device cuda

- `hand`: the same module on the same batches, which are made beforehand, through
  `cross_entropy(logits.float())`. It has no share of right answers, which ours has.
- `lm-eval`: `HFLM.loglikelihood_rolling` around the same module, on the same texts, in windows of
  the same length, with tokenisation on both sides: by its own batch size, which is 1, and by ours.
- `sets`: three sets measured by one evaluator at points between two models, beside one move and
  three measurements with nothing around them, and beside three evaluators of a set each.

Subjects: `demo`, the model of the quickstart (1,024 tokens); `wide`, a random Llama with a
vocabulary of 32,000 and windows of 256; `answers`, the same on pairs of a prompt and a completion,
of which the completion counts. Rounds alternate; each ratio is of the fastest rounds, in wall and
in the processor's time. Everything runs in one process.
"""

from __future__ import annotations

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import harness
from benchmarks.harness import Cost

SECTIONS = ("hand", "lm-eval", "sets")
ASKED = {"hand": 1.0, "lm-eval": 1.5, "lm-eval, our batches": 1.0, "sets": 0.95}
"""Least ratio of speeds, ours over the other's; where the output layer is nearly all of the work,
which is the same on both sides, at least as fast as lm-eval."""

VOCABULARY, WINDOW = 32_000, 256


@dataclass(frozen=True)
class Subject:
    """A model, and what it is measured on.

    Attributes:
        name: For the table.
        folder: With its tokenizer.
        module: The loaded model.
        sample: The examples.
        texts: The documents as they are; empty where only some of their tokens count.
    """

    name: str
    folder: Path
    module: Any
    sample: Any
    texts: tuple[str, ...] = ()

    @property
    def objective(self) -> Any:
        """The examples with their task."""
        return self.sample.objective


def subject(name: str, folder: Path, data: Any, device: str, most: int = 99) -> Subject:
    """A model loaded, with some of the texts that its examples are from."""
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.data.load import load_rows
    from mergekit_geo.evaluation.sample import prepare
    from mergekit_geo.modules.load import load_model

    compute = Compute(device=device)
    sample = prepare(data, folder, open_checkpoint(folder).config, compute)
    kept = {example.document for example in sample.objective.kept}
    cells = [row for i, row in enumerate(load_rows(data).cells) if i in kept]
    texts = tuple(row["text"] for row in cells[:most] if set(row) == {"text"})
    return Subject(name, folder, load_model(folder, compute), sample, texts)


def subjects(demo: Path, work: Path, device: str) -> Iterator[Subject]:
    """All three."""
    import mergekit_geo as geo

    yield subject("demo", demo, geo.EvalData(), device)
    folder = wide(demo, work / "wide")
    yield subject("wide", folder, geo.EvalData(max_examples=24), device, most=3)
    pairs = work / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, answers())))
    yield subject("answers", folder, geo.EvalData(str(pairs), max_examples=48), device)


def wide(demo: Path, folder: Path) -> Path:
    """A random model with many tokens, of which the demo's tokenizer makes the first."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=WINDOW, eos_token_id=0, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in demo.glob("token*"):
        shutil.copy(file, folder)
    return folder


def answers() -> Iterator[dict[str, str]]:
    """Passages of the built-in text, of which the last quarter answers the rest."""
    from mergekit_geo.data.text import builtin_documents

    for document in builtin_documents("test"):
        for start in range(0, len(document.text) - 400, 400):
            passage = document.text[start : start + 400]
            yield {"prompt": passage[:300], "completion": passage[300:]}


# The others


def by_hand(one: Subject, batches: list[dict[str, Any]]) -> float:
    """Sum of the losses, as everyone writes it."""
    import torch
    from torch.nn.functional import cross_entropy

    total = 0.0
    with torch.no_grad():
        for batch in batches:
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            logits = one.module(**inputs, use_cache=False).logits[:, :-1].float()
            labels = batch["labels"][:, 1:]
            total += float(
                cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            )  # -100 is left out
    return total


def by_harness(one: Subject, batch_size: int) -> Callable[[], float]:
    """Sum of the losses by lm-eval, which tokenises the texts each time."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    model = HFLM(
        pretrained=one.module,
        tokenizer=AutoTokenizer.from_pretrained(one.folder),
        batch_size=batch_size,
        max_length=one.objective.task.seq_len,
        device=str(one.module.device),
    )
    asked = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
        for text in one.texts
    ]
    return lambda: -sum(model.loglikelihood_rolling(asked, disable_tqdm=True))


# Ours


def ours(one: Subject) -> float:
    """Sum of the losses of the examples."""
    losses = one.objective.measure(one.module)
    return float(losses.loss @ losses.weight)


def ours_from_texts(one: Subject) -> float:
    """The same of examples made anew of all texts."""
    from dataclasses import replace

    from mergekit_geo.data.rows import Row, Rows

    names = [str(i) for i in range(len(one.texts))]
    cells = [Row({"text": t}, n, "x") for n, t in zip(names, one.texts, strict=True)]
    examples = one.objective.task.examples(Rows(cells, names, "x"))
    losses = replace(one.objective, kept=examples).measure(one.module)
    return float(losses.loss @ losses.weight)


# The comparisons


def rows(options: Namespace, work: Path) -> Iterator[list[str]]:
    """Every comparison asked for."""
    for one in subjects(options.demo, work, options.device):
        batches = [one.objective.task.batch([one.objective.kept[i] for i in rows])
                   for rows in one.objective.batch_rows()]  # fmt: skip
        device = one.module.device
        batches = [{name: t.to(device) for name, t in batch.items()} for batch in batches]
        if "hand" in options.only:
            works = {"ours": partial(ours, one), "other": partial(by_hand, one, batches)}
            yield compared("hand", one.name, works, options.repeats)
        if "lm-eval" in options.only and one.texts:
            size = one.objective.batch_size
            for name, batch_size in (("lm-eval", 1), ("lm-eval, our batches", size)):
                works = {
                    "ours": partial(ours_from_texts, one),
                    "other": by_harness(one, batch_size),
                }
                yield compared(name, one.name, works, options.repeats)
        if "sets" in options.only and one.name == "demo":
            yield from of_sets([options.demo, options.demo.parent / "a"], options)


def of_sets(models: list[Path], options: Namespace) -> Iterator[list[str]]:
    """Three sets at points between two models, beside losses alone, and three evaluators."""
    import mergekit_geo as geo
    from mergekit_geo.evaluation.point import Point
    from mergekit_geo.geometry.linear import Linear

    data = {name: geo.EvalData(seed=seed, max_examples=200) for seed, name in enumerate("abc")}
    places = count(1)

    def point() -> Point:
        """One at which nothing was measured yet."""
        t = 1 / (1 + next(places))
        return Point(Linear((1 - t, t)), f"{t}", f"{t}")

    with harness.empty_cache():
        whole = evaluator(models, data, options.device)
        single = [evaluator(models, one, options.device) for one in data.values()]

    def alone() -> None:
        whole.go_to(point())
        for one in whole.every:
            one.objective.measure(whole.live.model)

    def in_turn() -> None:
        place = point()
        for one in single:
            one.at(place)

    ours = partial(lambda: whole.at_all(point()))
    for name, other in (("one move, three losses", alone), ("three evaluators", in_turn)):
        yield compared("sets", name, {"ours": ours, "other": other}, options.repeats)


def evaluator(models: list[Path], data: Any, device: str) -> Any:
    """An evaluator of two models on one set or several."""
    from mergekit_geo.checkpoints.compatibility import preflight
    from mergekit_geo.checkpoints.reference import open_checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.progress import Silent

    opened = [open_checkpoint(model) for model in models]
    asked = SimpleNamespace(
        data=data, train_data=None, compute=Compute(device=device, budget=0), told=Silent()
    )
    return PointEvaluator.open(Study.of(opened, preflight(opened), asked), evaluations=9)


def compared(
    what: str, name: str, works: dict[str, Callable[[], object]], repeats: int
) -> list[str]:
    """A row of the table: fastest seconds of each, and the ratios of speeds."""
    timed = {key: partial(harness.timed, work) for key, work in works.items()}
    found = harness.alternate(timed, repeats, warm_up=True)
    own, other = (fastest(found[key]) for key in ("ours", "other"))
    wall, cpu = other.wall / own.wall, other.cpu / own.cpu
    least = 1.0 if name == "wide" else ASKED[what]
    return [
        what, name, f"{own.wall:.2f}", f"{other.wall:.2f}", f"{wall:.2f}", f"{cpu:.2f}",
        f"{least:.2f}", harness.met(cpu >= least),
    ]  # fmt: skip


def fastest(costs: list[Cost]) -> Cost:
    """The least of each number."""
    return Cost(min(one.wall for one in costs), min(one.cpu for one in costs))


def main() -> None:
    parser = harness.parser(__doc__, only=SECTIONS, repeats=3, keeps=True)
    parser.add_argument("--demo", type=Path, default=harness.ROOT / "demo" / "base")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    harness.work_offline(threads=1)
    os.environ["TQDM_DISABLE"] = "1"
    print(harness.versions())
    head = ["beside", "subject", "ours, s", "other, s", "x wall", "x CPU", "asked", ""]
    with harness.work_folder(options.work, keep=options.keep) as work:
        harness.table(head, rows(options, work))


if __name__ == "__main__":
    main()
