"""Commands that train a model, and that give one away."""

from __future__ import annotations

from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mergekit_geo.config.escape import EscapeConfig
from mergekit_geo.config.option import argument, group, option
from mergekit_geo.config.training import PANEL, SamArguments, TrainingConfig
from mergekit_geo.specs.spec import Spec, Writing, out

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.data import Data


@dataclass(frozen=True)
class FinetuneSpec(Writing):
    """A model trained further."""

    command: ClassVar[str] = "finetune"
    work: ClassVar[str] = "mergekit_geo.commands.finetune:finetune"
    again: ClassVar[str] = "the same command with --resume continues"
    in_processes: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge finetune a --train-data train.jsonl --data held-out.jsonl -o out",
        "geo-merge finetune a --train-data train.jsonl --members 3 --epochs 2 -o members",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "model",
        "out",
        "train_data",
        "data",
        "epochs",
        "lr",
        "rho",
        "members",
    )

    model: Model = argument("Model folder, or Hub id (org/name or org/name@revision).", "MODEL")
    out: str | Path = option(
        MISSING, "Output folder.", "--out", short="-o", metavar="DIR", recorded=False
    )
    _: KW_ONLY
    train_data: Data = option(
        None, "Data to train on, read as the evaluation data is.", required=True
    )
    sam: SamArguments = group(SamArguments, inline=True)
    training: TrainingConfig = group(TrainingConfig, inline=True)
    members: int | None = option(
        None,
        "Train this many models for a soup, with seeds counted up from --seed.",
        least=2,
        recorded=False,
        unset="one model",
    )
    resume: bool = option(False, "Continue an interrupted run.", panel=PANEL, recorded=False)
    seed: int = option(
        0, "Seed of the order of examples, dropout and adapters.", "--seed", shared=True, least=0
    )


@dataclass(frozen=True)
class EscapeSpec(Writing):
    """A way out of a saddle."""

    command: ClassVar[str] = "escape"
    work: ClassVar[str] = "mergekit_geo.commands.escape:escape"
    in_processes: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "geo-merge escape a --train-data train.jsonl --data held-out.jsonl -o out",
        "geo-merge escape a --train-data train.jsonl --then sgd --steps 500 -o out",
    )
    essential: ClassVar[tuple[str, ...]] = (
        "model",
        "out",
        "train_data",
        "data",
        "then",
        "lanczos_steps",
        "examples",
    )

    model: Model = argument("Model folder, or Hub id (org/name or org/name@revision).", "MODEL")
    out: str | Path | None = out("Output folder.")
    _: KW_ONLY
    train_data: Data = option(
        None, "Data whose loss is to fall, read as the evaluation data is.", required=True
    )
    escaping: EscapeConfig = group(EscapeConfig, inline=True)
    seed: int = option(
        0, "Seed of the Lanczos start, of perturbations and of the order of batches.", "--seed",
        shared=True, least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class PushSpec(Spec):
    """An output on the Hub."""

    command: ClassVar[str] = "push"
    work: ClassVar[str] = "mergekit_geo.commands.push:push"
    examples: ClassVar[tuple[str, ...]] = ("geo-merge push out org/name --private",)

    folder: str | Path = argument("Output folder of a merge or of finetune.", "DIR")
    repo: str = argument("Hub repository: org/name, or name for one of your own.", "REPO")
    _: KW_ONLY
    private: bool = option(False, "Make the repository private.")
    revision: str | None = option(None, "Branch, created if missing, or refs/pr/N.", unset="main")
    create_pr: bool = option(False, "Open a pull request instead of committing.")
    token: str | None = option(
        None, "Token for the Hub; that of `hf auth login` if None.", "", recorded=False
    )
