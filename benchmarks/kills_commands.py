"""Every command that writes, with tiny models, for `benchmarks/kills.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mergekit_geo as geo

CACHE = "cache"
"""Beside an output: the user's cache, and a Trainer's own folder."""
TOKEN, REPO = "hf_kills", "me/out"
"""Who pushes, and where to."""

Write = Callable[[Path, bool], object]
"""Writes to a folder; replaces what is there or not."""


def loss(module: Any, batch: Tensor) -> Tensor:
    """Next-token loss of every row of tokens."""
    scores_bsv = module(input_ids=batch).logits[:, :-1]
    each_bs = torch.nn.functional.cross_entropy(
        scores_bsv.transpose(1, 2), batch[:, 1:], reduction="none"
    )
    return each_bs.mean(1)


def rows(seed: int) -> list[Tensor]:
    """Batches of tokens."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(32, (6, 8), generator=draw) for _ in range(8)]


DATA = geo.FunctionObjective(loss, rows(0))
TRAIN = geo.FunctionObjective(loss, rows(1))


@dataclass(frozen=True)
class Commands:
    """Every command that writes, each a method of the output's folder and whether it is replaced.

    Attributes:
        folder: Holds models a and b, a path between them, and outputs to be pushed.
    """

    folder: Path

    @property
    def models(self) -> list[Path]:
        """Two of one origin's shapes."""
        return [self.folder / "a", self.folder / "b"]

    @classmethod
    def made_in(cls, folder: Path) -> Commands:
        """Make tiny Llamas that were never trained, and what is written of them."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
        )  # fmt: skip
        made = cls(folder)
        for seed, model in enumerate(made.models):
            torch.manual_seed(seed)
            LlamaForCausalLM(config).save_pretrained(model)
        made.path(folder / "curve", False)
        made.slerp(folder / "merged", False)
        shards = geo.OutputConfig(max_shard_size="2KB")
        geo.soup(made.models, folder / "older", data=None, output=shards)
        return made

    def soup(self, out: Path, overwrite: bool) -> object:
        """Average, and measure."""
        return geo.soup(self.models, out, data=DATA, sharpness="off", output=_replacing(overwrite))

    def slerp(self, out: Path, overwrite: bool) -> object:
        """Merge alone."""
        return geo.slerp(self.models, out, data=None, output=_replacing(overwrite))

    def merge(self, out: Path, overwrite: bool) -> object:
        """Merge by a method of the table."""
        return geo.merge(
            self.models, out, method="ties", base=self.models[0], data=None,
            output=_replacing(overwrite),
        )  # fmt: skip

    def run(self, out: Path, overwrite: bool) -> object:
        """Merge by a recipe."""
        models = [{"model": str(model)} for model in self.models]
        recipe = {"merge_method": "linear", "models": models}
        return geo.run(recipe, out, data=None, output=_replacing(overwrite))

    def stages(self, out: Path, overwrite: bool) -> object:
        """Merge by two recipes, of which one is made on the way."""
        one, two = ({"model": str(model)} for model in self.models)
        recipes = [
            {"name": "first", "merge_method": "linear", "models": [one, two]},
            {"merge_method": "linear", "models": [{"model": "first"}, two]},
        ]
        return geo.run(recipes, out, data=None, output=_replacing(overwrite))

    def barrier(self, out: Path, overwrite: bool) -> object:
        """Loss on a line."""
        return geo.barrier(self.models, out, points=3, data=DATA, overwrite=overwrite)

    def sharpness(self, out: Path, overwrite: bool) -> object:
        """Curvature."""
        return geo.sharpness(self.models[:1], out, data=DATA, overwrite=overwrite)

    def landscape(self, out: Path, overwrite: bool) -> object:
        """Loss on a plane."""
        view = geo.LandscapeConfig(grid=2)
        return geo.landscape(self.models, out, view=view, data=DATA, overwrite=overwrite)

    def path(self, out: Path, overwrite: bool) -> object:
        """Fit a curve."""
        fitting = geo.CurveFitConfig(steps=4, batch_size=2)
        return geo.fit_path(
            self.models, out, train_data=TRAIN, fitting=fitting, data=DATA, overwrite=overwrite
        )

    def point(self, out: Path, overwrite: bool) -> object:
        """Write a point of a path, and measure."""
        return geo.point(
            self.folder / "curve", out, t=0.4, data=DATA, sharpness="off",
            output=_replacing(overwrite),
        )  # fmt: skip

    def finetune(self, out: Path, overwrite: bool, members: int | None = None) -> object:
        """Train for a few steps, with states, or go on."""
        return geo.finetune(
            self.models[0], out, train_data=TRAIN, data=None, sharpness="off", members=members,
            training=geo.TrainingConfig(steps=4, batch_size=1, save_every=2), resume=True,
            output=_replacing(overwrite),
        )  # fmt: skip

    def escape(self, out: Path, overwrite: bool) -> object:
        """Out of what is taken for a saddle, with states, or go on."""
        escaping = geo.EscapeConfig(
            steps=4, batch_size=1, save_every=2, lanczos_steps=4, gradient_threshold=1e3
        )
        return geo.escape(
            self.models[0], out, train_data=TRAIN, data=None, sharpness="off", escaping=escaping,
            output=_replacing(overwrite),
        )  # fmt: skip

    def callback(self, out: Path, overwrite: bool) -> object:
        """Train by transformers' Trainer, keep checkpoints, average them; anew each time."""
        from transformers import LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

        arguments = TrainingArguments(
            str(out.with_name(CACHE) / "trainer"), max_steps=3, per_device_train_batch_size=2,
            save_strategy="no", use_cpu=True, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            LlamaForCausalLM.from_pretrained(self.models[0]), arguments,
            train_dataset=[{"input_ids": row, "labels": row} for row in rows(1)[0]],
            callbacks=[
                geo.SoupCallback(
                    out, keep=2, every=1, data=None, sharpness="off", output=_replacing(True)
                )
            ],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        return trainer.train()

    def members(self, out: Path, overwrite: bool) -> object:
        """Train two."""
        return self.finetune(out, overwrite, members=2)

    def push(self, out: Path, overwrite: bool) -> object:
        """Push to a repository, which holds an older model or is not there."""
        return geo.push(self.folder / "merged", REPO, token=TOKEN)


def _replacing(overwrite: bool) -> geo.OutputConfig:
    return geo.OutputConfig(overwrite=overwrite)


NAMES = tuple(
    name for name, kind in vars(Commands).items() if inspect.isfunction(kind) and name[0] != "_"
)
