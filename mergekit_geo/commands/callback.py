"""`geo.SoupCallback`: one run of transformers' Trainer, and the soup of its checkpoints."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from transformers import TrainerCallback

from mergekit_geo.commands._push import prepare_push
from mergekit_geo.commands.soup import check_aim, soup
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import EvalData, sets_of, source_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.data.load import load_rows
from mergekit_geo.errors import ArgumentError, GeoError, PushError
from mergekit_geo.modules.saving import check_saving, save_module
from mergekit_geo.outputs.place import check_output
from mergekit_geo.printable import printable
from mergekit_geo.processes import broadcast, is_main_process, main_process_first, main_process_only
from mergekit_geo.progress import Heartbeat, Progress
from mergekit_geo.specs.merges import SoupSpec
from mergekit_geo.specs.spec import command_line
from mergekit_geo.training.member_store import MemberStore, StoredMember
from mergekit_geo.training.retention import Retention, Scores

if TYPE_CHECKING:
    from mergekit_geo.commands.result import Result
    from mergekit_geo.config.data import Data


class SoupOptions(TypedDict, total=False):
    """How the soup is written and measured, as in `geo.soup`."""

    output: OutputConfig
    data: Data
    train_data: Data
    compute: Compute
    sharpness: str
    aiming: AimConfig
    progress: Progress | None


class SoupCallback(TrainerCallback):
    """Keeps the last or the best checkpoints of a training, and averages them at its end.

    Weights alone are kept, each member as a checkpoint's folder of its own that appears whole or
    not at all. A training that is resumed goes on with the members that are there. The soup is
    `geo.soup` of them, with its report, made while the trained model is still in memory; if it
    fails, model and members are as they were, and a warning names the command that goes on.

    Under several processes the first one writes and merges, and the others wait. Weights may be
    sharded by FSDP2; FSDP 1, tensor parallelism and ZeRO 3 are refused.

    Args:
        out: Folder of the soup.
        keep: How many members, two or more.
        which: The `last` ones; or the `best` of the Trainer's evaluations, by its
            `metric_for_best_model` (the evaluation loss by default) and `greater_is_better`.
        every: When a member may be taken, where the last are kept: at every `save` of the Trainer
            (by default), every `epoch`, or every so many steps. The best are taken at evaluations.
        method: `uniform`, `greedy` or `learned`, or all of how the point is chosen.
        members: Folder of the members; `OUT-members` if None.
        output: How the soup is written; with `overwrite`, members of an earlier run are thrown
            away by one that does not go on with it.
        data: What loss is measured on, as in `geo.soup`; choosing by loss wants it named.
        train_data: As in `geo.soup`.
        compute: How models are run.
        sharpness: Of members and soup: `off`, `quick` or `full`.
        aiming: What is minimised over several sets of `data`, and which may not get worse.
        progress: Told what is going on; if None, the logger `mergekit_geo` is, which writes to
            stderr where logging is not set up.

    Raises:
        ArgumentError: An invalid setting.

    Example:
        >>> callback = SoupCallback("soup", keep=3, which="best", data=EvalData("held-out.jsonl"))
        >>> callback.members, callback.result
        ((), None)
    """

    def __init__(
        self,
        out: str | Path,
        *,
        keep: int = 5,
        which: str = "last",
        every: int | str | None = None,
        method: str | SelectionConfig = "uniform",
        members: str | Path | None = None,
        **measured: Unpack[SoupOptions],
    ) -> None:
        self.out = Path(out)
        self.keeping = Retention(keep, which, every)
        choosing = SelectionConfig(method=method) if isinstance(method, str) else method
        asked = SoupSpec((), self.out, choosing=choosing, **measured)
        self.progress = asked.progress or logged()
        self.asked = replace(asked, progress=self.progress)
        self.folder = Path(members) if members is not None else _beside(self.out)
        self._kept = MemberStore(self.folder, keep, which, fsync=asked.output.fsync)
        self._result: Result | None = None
        self._problem: GeoError | None = None
        self._scores = Scores("")
        self._is_training = False
        self._check()

    @property
    def members(self) -> tuple[StoredMember, ...]:
        """The members that are kept, by step."""
        return tuple(self._kept.all())

    @property
    def result(self) -> Result | None:
        """The soup; None while training goes on, and where fewer than two members were kept.

        Raises:
            GeoError: The soup failed: why, where the members are, and what goes on.
        """
        if self._problem is not None:
            raise self._problem
        return self._result

    @property
    def command(self) -> str:
        """The command that makes the soup of the members that are kept."""
        names, asked = [str(member.folder) for member in self.members], self.asked
        data = None if asked.data is None else source_of(asked.data).spoken or EvalData()
        output, compute = replace(asked.output, device="cpu"), replace(asked.compute, device=None)
        return command_line(replace(asked, models=names, output=output, compute=compute, data=data))

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Refuse now what would fail at the end, and continue with members that exist already.

        Raises:
            GeoError: With the reason and the remedy.
        """
        self._kept = self.keeping.members(self.folder, args, fsync=self.asked.output.fsync)
        self._scores = Scores(self._kept.metric or "")
        self._result = self._problem = None
        check_saving(model)
        self._check_tokenizer(others.get("processing_class"))
        main_process_first(lambda: self._begin(state))
        self._is_training = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop the training with an error if the last evaluation gave no usable metric.

        Raises:
            ArgumentError: The last evaluation gave no metric that the best could be known by.
        """
        self._scores.require()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save a member if one is due at this step."""
        if self.keeping.is_step(state.global_step):
            self._take(state, others)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save a member if one is due at the end of an epoch."""
        if self.keeping.when == "epoch":
            self._take(state, others)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save a member if one is due at each of the Trainer's saves."""
        if self.keeping.when == "save":
            self._take(state, others)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **others: Any
    ) -> None:
        """Save a member if it is among the best so far."""
        if self.keeping.when != "evaluation" or not self._is_training or not state.global_step:
            return
        score = self._scores.of(state.global_step, metrics or {})
        if score is not None:
            self._take(state, others, score)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Average the members that were kept, and measure the soup."""
        self._is_training = False
        count = broadcast(len(self.members))
        if count < PAIR:
            self._warn(_too_few(self._kept, count))
            return
        self.progress.say(f"averaging {count} members in {self.folder}")
        try:
            self._result, self._problem = main_process_only(self._soup)
        finally:
            if isinstance(self.progress, Heartbeat):
                self.progress.close()
        if self._problem is not None:
            self._warn(str(self._problem))

    def _check(self) -> None:
        """Refuse, before training, what would be refused after it."""
        choosing = self.asked.choosing
        if choosing.method == "weighted":
            raise ArgumentError(
                "a weighted soup needs a weight for each member, and the members are not known yet",
                remedy="uniform, greedy or learned",
            )
        check_aim(self.asked.aiming, self.asked.choosing, self.keeping.keep)
        source = source_of(self.asked.data)
        unnamed = source.is_nothing or source.is_default
        if choosing.by_loss(self.keeping.keep) and unnamed:
            raise ArgumentError(
                f"members chosen by loss ({choosing.method}) need held-out data to choose on",
                remedy="data=geo.EvalData(FILE), held out from training",
            )

    def _check_tokenizer(self, tokenizer: Any) -> None:
        """Require a tokenizer or processor: members are measured with the one saved beside them."""
        choosing = self.asked.choosing
        by_loss = choosing.by_loss(self.keeping.keep)
        is_read = any(one.data.as_settings for one in sets_of(self.asked.data))
        if tokenizer is None and by_loss and is_read:
            raise ArgumentError(
                f"members chosen by loss ({choosing.method}) need what turns data into tokens",
                remedy="Trainer(..., processing_class=tokenizer)",
            )

    def _begin(self, state: Any) -> None:
        check_output(self.out, [self.folder], overwrite=self.asked.output.overwrite)
        prepare_push(self.asked.output, self.out)
        held_out = [one.data.as_settings for one in sets_of(self.asked.data)]
        read = [one for one in held_out if one is not None and not one.benchmarks]
        for settings in (*read, source_of(self.asked.train_data).as_settings):
            if settings is not None and not settings.is_default:
                load_rows(settings)
        overwrite = self.asked.output.overwrite
        self._kept.begin(state.global_step, state.max_steps, overwrite=overwrite)

    def _take(self, state: Any, given: dict[str, Any], score: float | None = None) -> None:
        """Save a member if it is to be kept; all processes take part in writing it."""
        step, model, tokenizer = state.global_step, given["model"], given.get("processing_class")
        if not broadcast(self._kept.wants(step, score) if is_main_process() else False):
            return
        found = self._kept.add(step, score, lambda folder: save_module(model, folder, tokenizer))
        by = "" if score is None else f", {found.metric} {score:.6g}"
        self.progress.say(f"kept step {step}{by}: {found.folder}")

    def _soup(self) -> tuple[Result | None, GeoError | None]:
        try:
            return self._merged(), None
        except PushError as error:  # the soup is whole, and the error says how it is pushed
            return None, error
        except Exception as error:  # whatever it is, the trained model is not lost for it
            problem = GeoError(
                f"the soup of the {len(self.members)} members here failed: {error}",
                where=str(self.folder),
                remedy=f"after correcting that: {self.command}",
            )
            problem.__cause__ = error
            return None, problem

    def _merged(self) -> Result:
        members = [member.folder for member in self.members]
        return soup.of(replace(self.asked, models=members))  # type: ignore[attr-defined, no-any-return]

    def _warn(self, text: str) -> None:
        if is_main_process():
            warnings.warn(printable(f"SoupCallback: {text}"), stacklevel=2)


def logged() -> Heartbeat:
    """Progress as lines in the first process's log, at least once a minute."""
    logger = logging.getLogger("mergekit_geo")
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)
    return Heartbeat(lambda text: logger.info("%s", text) if is_main_process() else None)


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}-members")


def _too_few(kept: MemberStore, count: int) -> str:
    """The message for too few members to average."""
    if count:
        return (
            f"one member was kept, {kept.all()[0].folder}, and a soup of one is that model: none "
            "was made. Take members more often"
        )
    return f"no member was kept in {kept.folder}, so there is no soup. Take members more often"
