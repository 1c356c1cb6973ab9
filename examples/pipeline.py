"""A fine-tuning pipeline: train two runs, average each and both, gate, compare, push.

Usage: python examples/pipeline.py BASE TRAIN.txt HELD_OUT.txt OUT REPO [--also MODEL]
           [--also-on NAME=FILE ...] [--require not-worse:NAME]

The repository is made on the Hub (HF_ENDPOINT says which). Exit code 3: a gate did not hold, and
nothing was pushed. All that happens here is public: `import mergekit_geo as geo`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainingArguments

import mergekit_geo as geo

GATE = 3
WRITTEN = geo.OutputConfig(overwrite=True)  # a rerun replaces its own outputs, and nothing else


class Log:
    """What geo tells of itself goes to stderr; geo prints nothing."""

    def phase(self, title: str, total: int) -> None:
        """Work of so many steps begins."""
        print(f"{title} ({total})", file=sys.stderr)

    def advance(self, count: int) -> None:
        """So many steps are done: of interest to a progress bar."""

    def say(self, text: str) -> None:
        """Something worth knowing."""
        print(text, file=sys.stderr)


def windows(text: Path, tokenizer: Any, length: int) -> list[dict[str, torch.Tensor]]:
    """The training text, cut into rows of equal length."""
    ids = torch.tensor(tokenizer(text.read_text("utf-8"), verbose=False).input_ids)
    return [{"input_ids": row, "labels": row} for row in ids.split(length)[:-1]]


def train(base: str, rows: Any, tokenizer: Any, out: Path, seed: int, args: Any) -> Path:
    """One run with SAM; its last checkpoints become one model."""
    soup = geo.SoupCallback(
        out,
        keep=3,
        every=max(args.steps // 5, 1),
        method="greedy",  # keeps a checkpoint only if the soup gets better on the chosen half
        data=held_out(args),
        output=WRITTEN,
        sharpness="off",
        progress=Log(),
    )
    trainer = geo.SamTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=TrainingArguments(
            str(out.with_name(f"{out.name}-trainer")), max_steps=args.steps, learning_rate=args.lr,
            per_device_train_batch_size=8, lr_scheduler_type="constant_with_warmup",
            warmup_steps=args.steps // 10, seed=seed, save_strategy="no", report_to=[],
            disable_tqdm=True,
        ),
        sam=geo.SamArguments(rho=0.05),
        train_dataset=rows,
        processing_class=tokenizer,  # so that every member is a whole checkpoint
        callbacks=[soup],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    print(soup.result)  # raises, and says how to go on, if the soup failed
    return out


def held_out(args: argparse.Namespace) -> geo.EvalData:
    """What is measured on: one set, or several by name."""
    return geo.EvalData([args.held_out, *args.also_on])


def main(args: argparse.Namespace) -> int:
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    rows = windows(args.train, tokenizer, args.length)

    # 1. Two runs that differ in the order of the data, each a soup of its own checkpoints.
    runs = [train(args.base, rows, tokenizer, args.out / f"run-{s}", s, args) for s in range(2)]
    parents = [*map(str, runs), *args.also]

    # 2. A barrier between two parents says that their average is on no common ground.
    between = geo.barrier(parents, data=held_out(args), progress=Log())
    print(between)
    if between.exceeds(args.fail_above):
        print(f"a barrier is above {args.fail_above}: no soup, no push", file=sys.stderr)
        return GATE

    # 3. The soup, measured beside its parents. Their checkpoints were chosen on half of the
    # held-out documents, which flatters them, and not the soup.
    merged = args.out / "model"
    result = geo.soup(parents, merged, output=WRITTEN, data=held_out(args), progress=Log())
    print(result)
    if not result.holds(args.require):
        print(f"the soup does not hold {args.require}: no push", file=sys.stderr)
        return GATE

    # 4. Weights, tokenizer, card and report; what arrived is compared with the disk.
    print(geo.push(merged, args.repo, progress=Log()))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="a folder or Hub id")
    parser.add_argument("train", type=Path, help="text file")
    parser.add_argument("held_out", help="text file; blank lines separate documents")
    parser.add_argument("out", type=Path, help="folder of all that is made")
    parser.add_argument("repo", help="org/name")
    parser.add_argument("--also", nargs="*", default=[], help="other models to average with")
    parser.add_argument("--also-on", nargs="*", default=[], help="NAME=FILE of further skills")
    parser.add_argument("--require", default="not-worse", help="not-worse[:NAME,...][@score]")
    parser.add_argument("--fail-above", type=float, default=0.05, help="highest barrier, in nats")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--length", type=int, default=64, help="tokens in a row")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main(arguments()))
    except geo.GeoError as error:
        sys.exit(f"pipeline: {error}")
