"""The documents of tasks of lm-evaluation-harness, each with what is asked of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.hub_client import reason
from mergekit_geo.data.load import HUB_NAME
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.tasks.harness.metrics import Metric
from mergekit_geo.tasks.harness.quiet import quiet, seeded

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

    from mergekit_geo.config.data import EvalData


@dataclass(frozen=True)
class Asked:
    """A document, with what is asked of a model.

    Attributes:
        task: Of lm-eval.
        requests: Contexts and answers, a text, or a prompt.
        scored: The metric that is the score.
        made_by: SHA-256 of all that the task's file says.
    """

    task: ConfigurableTask
    requests: Sequence[Instance]
    scored: Metric
    made_by: str

    @property
    def doc(self) -> Mapping[str, Any]:
        """The document."""
        found: Mapping[str, Any] = self.requests[0].doc
        return found

    @property
    def name(self) -> str:
        """What the document is called, such as `arc_easy:12`; lm-eval counts from 0."""
        return f"{self.task.task_name}:{self.requests[0].doc_id}"

    @property
    def metric(self) -> str:
        """The task's metric, after its filter where it has one."""
        return self.scored.title

    def score(self, responses: Sequence[Sequence[Any]]) -> float:
        """The task's metric of the document.

        Args:
            responses: Of each request: a log-likelihood with whether it is the greedy answer, or
                texts, as often as the task asks.

        Raises:
            DataError: The task's own function fails, or gives no such number.
        """
        for request, found in zip(self.requests, responses, strict=True):
            request.resps = list(found)
        try:
            with quiet():
                return self.scored.of_answers(self.task, self.requests)
        except Exception as error:  # of functions in a task's file
            told = f"no {self.metric} of the answers: {type(error).__name__}: {error}"
            raise DataError(told, where=self.name) from error
        finally:
            for request in self.requests:
                request.resps, request.filtered_resps = [], {}


def ask(tasks: Sequence[tuple[ConfigurableTask, Metric]], data: EvalData) -> list[Asked]:
    """All documents of tasks that are measured in one way.

    Args:
        tasks: Their data loaded, and what is the score.
        data: How many documents of each.

    Raises:
        ArgumentError: They are measured in several ways.
        DataError: A task's file does not fit its data.
    """
    found = [one for task, metric in tasks for one in _asked(task, metric, data.limit)]
    ways = {(one.task.OUTPUT_TYPE, one.metric): one.task.task_name for one in found}
    if len(ways) > 1:
        told = ", ".join(f"{name} by {metric or kind}" for (kind, metric), name in ways.items())
        raise ArgumentError(
            f"the tasks are measured in several ways: {told}",
            where=data.origin,
            remedy="name them one by one: --data lm-eval:" + ",".join(ways.values()),
        )
    return found


def _asked(task: ConfigurableTask, metric: Metric, limit: int | None) -> list[Asked]:
    try:
        with quiet(), seeded():
            task.build_all_requests(limit=limit)
    except Exception as error:  # of templates and functions in a task's file
        told = f"{type(error).__name__}: {reason(error)}"
        raise DataError(
            f"the task's file does not fit its data: {told}", where=f"lm-eval:{task.task_name}"
        ) from error
    made_by = fingerprint(task, metric)
    return [
        Asked(task, list(requests), metric, made_by)
        for _, requests in groupby(task.instances, lambda request: request.doc_id)
    ]


def fingerprint(task: ConfigurableTask, metric: Metric) -> str:
    """SHA-256 of what a task's file says, of functions beside it, and of lm-eval's version."""
    said = task.dump_config()
    metadata = said.get("metadata") or {}
    source = Path(metadata.pop("config_source", "inline"))
    beside = sorted(source.parent.glob("*.py")) if source.is_file() else []
    told = json.dumps(said, default=_named, sort_keys=True)
    found = hashlib.sha256(f"{version('lm_eval')} {metric.title} {told}".encode())
    for file in beside:
        found.update(file.read_bytes())
    return found.hexdigest()


def _named(value: object) -> str:
    return str(getattr(value, "__qualname__", None) or repr(value))


def notes_on(asked: Sequence[Asked], data: EvalData) -> list[str]:
    """What a report says of the tasks: their versions, shots, and lm-eval's own version."""
    tasks = list({id(one.task): one.task for one in asked}.values())
    told = [f"{task.task_name}{_version(task)}, {_shots(task)}" for task in tasks]
    first = f", the first {data.limit} documents of each task" if data.limit else ""
    shown = told if len(told) <= MOST_TOLD else [*told[:MOST_TOLD], f"{len(told)} tasks in all"]
    notes = ["; ".join(shown), f"lm-evaluation-harness {version('lm_eval')}{first}"]
    fixed = [task.task_name for task in tasks if task.get_config("num_fewshot") != data.num_fewshot]
    if data.num_fewshot is not None and fixed:
        notes.append(f"{', '.join(fixed[:MOST_TOLD])} has no examples in the context, by its file")
    return [*notes, *unused_settings(data)]


def unused_settings(data: EvalData) -> list[str]:
    """A note on settings of data that tasks of lm-eval have of their own."""
    given = [name for name in THEIR_OWN if getattr(data, name) is not None]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    return [f"{flags.replace('--config', '--data-config')}: not used for lm-eval"] * bool(given)


def _version(task: ConfigurableTask) -> str:
    found = (task.get_config("metadata") or {}).get("version")
    return "" if found is None else f" version {found}"


def repository_of(asked: Sequence[Asked]) -> str | None:
    """The dataset on the Hub that all documents are from; None where there is no such."""
    found = {str(one.task.config.dataset_path) for one in asked}
    known = found.pop() if len(found) == 1 else ""
    return known if HUB_NAME.fullmatch(known) and not Path(known).exists() else None


def _shots(task: ConfigurableTask) -> str:
    return f"{task.get_config('num_fewshot')}-shot"


THEIR_OWN = ("split", "config", "text_column", "label_column", "image_column")
"""Settings of data that a task's file says itself."""

MOST_TOLD = 4
"""Tasks that are named in a note."""
