"""Finding tasks of lm-evaluation-harness by name, and making them with their data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval.tasks
from lm_eval.api.registry import metric_registry
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from mergekit_geo.checkpoints.hub_client import reason
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.printable import nearest_of
from mergekit_geo.tasks.harness.metrics import Metric
from mergekit_geo.tasks.harness.quiet import quiet, seeded

if TYPE_CHECKING:
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute

    Index = Mapping[str, Entry]

UNSAFE = "runs code: what models write, or a metric's from the Hub"


def load_tasks(data: EvalData, compute: Compute) -> list[tuple[ConfigurableTask, Metric]]:
    """Tasks by name, each with its score; of a group or a tag all that are in it.

    Args:
        data: Names them, and has their folder and the number of examples in a context.
        compute: Whether tasks that run code are trusted.

    Raises:
        ArgumentError: No such folder or task, or one that is refused.
        DataError: A task's file is unsound, or its data cannot be had.
    """
    asked = [(name, ()) if _is_file(name) else _parted(name) for name in data.benchmarks]
    names = [name for name, _ in asked]
    if data.include_path is not None and not Path(data.include_path).expanduser().is_dir():
        raise ArgumentError(
            "no such folder", where=data.include_path, remedy="--include-path names one of YAMLs"
        )
    with quiet(), seeded():
        manager = _manager(names, data.include_path)
        for name in names:
            _refuse(name, _entry(name, manager.task_index), manager.task_index, compute)
        found = [(task, words) for name, words in asked for task in _made(name, manager)]
    for task, _ in found:
        _check(task)
        _set_shots(task, data.num_fewshot)
    return [(task, Metric.of(task, words)) for task, words in found]


def _parted(name: str) -> tuple[str, tuple[str, ...]]:
    """A task's name, and what is asked for of its metrics.

    Example:
        >>> _parted("hellaswag@acc"), _parted("piqa")
        (('hellaswag', ('acc',)), ('piqa', ()))
    """
    task, *words = name.split("@")
    return task, tuple(words)


def _manager(names: Sequence[str], include_path: str | None) -> TaskManager:
    """The index of tasks: of the user's folder, where all are there; lm-eval's takes seconds."""
    if include_path is not None:
        path = str(Path(include_path).expanduser())
        own = TaskManager(include_path=path, include_defaults=False)
        if all(_is_whole(name, own.task_index) for name in names):
            return own
        return TaskManager(include_path=path)
    if all(_is_file(name) for name in names):
        return TaskManager(include_defaults=False)
    files = [_own_file(name) for name in names]
    if None not in files:
        near = TaskManager(
            include_path=[str(file.parent) for file in files if file], include_defaults=False
        )
        if all(_is_whole(name, near.task_index) for name in names):
            return near
    return _all_tasks()


def _own_file(name: str) -> Path | None:
    """lm-eval's own file of a task or a group: found by its text in a tenth of the index's time."""
    line = re.compile(rb"^(task|group):\s*[\"']?%b[\"']?\s*$" % re.escape(name.encode()), re.M)
    files = sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"))
    return next((file for file in files if line.search(file.read_bytes())), None)


def _is_whole(name: str, index: Index) -> bool:
    """Whether a task, and all that a group holds, are in an index."""
    if name not in index:
        return False
    entry = index[name]
    inner = (entry.cfg or {}).get("task") if entry.kind is Kind.GROUP else None
    return all(isinstance(one, str) and _is_whole(one, index) for one in inner or ())


@lru_cache(maxsize=1)
def _all_tasks() -> TaskManager:
    return TaskManager()


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and Path(name).expanduser().is_file()


def _entry(name: str, index: Index) -> Entry:
    if name in index:
        return index[name]
    if _is_file(name):
        path = Path(name).expanduser()
        config = load_yaml(path, resolve_func=False)
        if (found := TaskIndex.entry_from_path(path)) is not None:
            found.cfg = config
            return found
    near = nearest_of(name, index) or nearest_of(name, (known.split("_")[0] for known in index))
    raise ArgumentError(
        f"lm-evaluation-harness has no task {name!r}",
        remedy=f"{near}`lm-eval ls tasks` lists them; --include-path names a folder of your own",
    )


def _refuse(name: str, entry: Entry, index: Index, compute: Compute) -> None:
    """Refuse what runs code that nobody trusts, before any of it is imported."""
    if not compute.trust_remote_code and any(map(_is_unsafe, _configs(entry, index))):
        raise ArgumentError(
            f"the task {UNSAFE}", where=f"lm-eval:{name}", remedy="--trust-remote-code runs it"
        )


def _is_unsafe(config: Mapping[str, Any]) -> bool:
    metrics = [one for one in config.get("metric_list") or () if isinstance(one, Mapping)]
    foreign = any(
        one.get("hf_evaluate") is True
        or (config.get("process_results") is None and _is_foreign(one.get("metric")))
        for one in metrics
    )
    return foreign or config.get("unsafe_code", False) is not False


def _is_foreign(metric: object) -> bool:
    """Whether lm-eval would look for a metric on the Hub; a path is a function of a task file."""
    return isinstance(metric, str) and metric not in metric_registry and "/" not in metric


def _configs(entry: Entry, index: Index, depth: int = 9) -> Iterator[Mapping[str, Any]]:
    """What the files of a task, or of all tasks in a group or a tag, say."""
    inner: list[Any] = sorted(entry.tags) if entry.kind is Kind.TAG else []
    if entry.cfg is not None:
        yield entry.cfg
        if entry.kind is Kind.GROUP:
            inner += entry.cfg.get("task") or []
    for child in inner if depth else ():
        if isinstance(child, Mapping):
            yield child
        name = child.get("group") or child.get("task") if isinstance(child, Mapping) else child
        if isinstance(name, str) and name in index:
            yield from _configs(index[name], index, depth - 1)


def _made(name: str, manager: TaskManager) -> list[Any]:
    """The tasks of a name, their data loaded."""
    try:
        return list(manager.load([name])["tasks"].values())
    except Exception as error:  # of datasets, of YAML, of functions in a task's file
        raise _failure(name, error) from error


def _failure(name: str, error: Exception) -> DataError:
    where, told = f"lm-eval:{name}", f"{type(error).__name__}: {reason(error)}"
    module = type(error).__module__.partition(".")[0]
    if module in ("datasets", "huggingface_hub") or isinstance(error, OSError):
        return DataError(
            f"the data of the task cannot be had: {told}",
            where=where,
            remedy="it is downloaded from the Hub once, or, in a task file of your own, "
            "dataset_path: json and dataset_kwargs: {data_files: FILE}, from the working folder",
        )
    return DataError(f"the task cannot be made: {told}", where=where, remedy="lm-eval validate")


def _check(task: Any) -> None:
    """Refuse kinds of tasks whose answers have no likelihood."""
    where = f"lm-eval:{getattr(task, 'task_name', '')}"
    if not isinstance(task, ConfigurableTask):
        raise ArgumentError("a task that is a class of its own cannot be measured", where=where)
    if getattr(task, "MULTIMODAL", False):
        raise ArgumentError("the task has pictures or sound; only text is measured", where=where)


def _set_shots(task: ConfigurableTask, asked: int | None) -> None:
    """The number of examples in a context, as `lm_eval.simple_evaluate` sets it."""
    own = task.get_config("num_fewshot")
    if asked is not None and own != 0:
        task.set_config(key="num_fewshot", value=asked)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
