"""`geo.evaluate`: losses of models side by side, each measured as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.reference import open_checkpoints, several
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.example_rows import COLUMNS, rows_of
from mergekit_geo.evaluation.groups import groups_of
from mergekit_geo.evaluation.losses import data_entry, difference, loss_entry
from mergekit_geo.evaluation.side_by_side import SetLosses, measure_groups
from mergekit_geo.outputs.kind import EVALUATION
from mergekit_geo.outputs.row_file import check_row_file, write_rows
from mergekit_geo.records.evaluation import EvaluationMeasurements, EvaluationSet
from mergekit_geo.specs.measures import EvalSpec
from mergekit_geo.specs.spec import repeated

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.outputs.output import Output

PLACES = (None, None, None)


@command(EvalSpec)
def evaluate(asked: EvalSpec) -> Work:
    """Measure the loss of models on every evaluation set, each model as it is.

    Models may differ in architecture and tokenizer: where they read the data differently, whole
    documents are measured, language models per byte of text. Each is held against the best one on
    each set, on the same examples. What any command has measured of a model on this data is not
    measured again.

    Raises:
        ArgumentError: No models, or one named twice.
        DataError: Nothing to measure on, models whose tasks differ, or a loss that is not a number.
        GeoError: With the reason and the remedy.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.evaluate(["a", "b"], data={"code": "code.jsonl", "chat": "chat.jsonl"})
        for name, one in found.measurements.sets.items():
            print(name, one.best, [entry.loss for entry in one.losses])
        ```
    """
    if asked.per_example is not None:
        check_row_file(Path(asked.per_example), overwrite=asked.overwrite)
        _refuse_inside(Path(asked.per_example), asked.target)
    return Work(asked, lambda output: _evaluate(asked, output), EVALUATION)


def _evaluate(asked: EvalSpec, output: Output) -> Findings:
    models = open_checkpoints(several(asked.models, "evaluate"))
    _refuse_twice(models)
    output.refuse_inputs(models)
    groups = groups_of(models, asked)
    measured = measure_groups(groups)
    names = [model.name for model in models]
    _write_examples(asked, names, measured.sets)
    sets = {one.study.name: _set_entry(names, one) for one in measured.sets}
    first = next(iter(sets.values()))
    return Findings(
        EvaluationMeasurements(
            losses=first.losses,
            best=first.best,
            differences=first.differences,
            sets=sets if len(sets) > 1 else {},
        ),
        model_entries(models),
        measured.place or PLACES,
        data=first.data,
        warnings=measured.warnings,
        again=repeated(asked),
    )


def _set_entry(names: Sequence[str], found: SetLosses) -> EvaluationSet:
    """What is reported of one set."""
    losses = found.losses if found.paired is None else found.paired
    entries = [
        loss_entry(name, "parent", own, found.study.sample)
        for name, own in zip(names, losses, strict=True)
    ]
    compared: dict[str, Any] = {}
    if found.paired is not None:
        best = min(range(len(names)), key=lambda i: entries[i].loss)
        others = [i for i in range(len(names)) if i != best]
        compared["best"] = names[best]
        compared["differences"] = [difference(names[i], losses[i], losses[best]) for i in others]
    data = data_entry(found.study, found.losses[0])
    return EvaluationSet(data=data, weight=found.study.weight, losses=entries, **compared)


def _write_examples(asked: EvalSpec, names: Sequence[str], sets: Sequence[SetLosses]) -> None:
    """Write the loss of every example, where that was asked for."""
    if asked.per_example is None:
        return
    path, private = Path(asked.per_example), asked.private_examples
    check_row_file(path, overwrite=asked.overwrite)  # some time has passed
    write_rows(path, (row for one in sets for row in rows_of(one, names, private=private)), COLUMNS)
    asked.told.say(f"losses of every example are in {path}")


def _refuse_inside(path: Path, out: Path | None) -> None:
    if out is not None and path.resolve().is_relative_to(out.resolve()):
        raise ArgumentError(
            "the file lies in the folder of the report, which appears at the end as a whole",
            where=str(path),
            remedy="name a file beside it",
        )


def _refuse_twice(models: Sequence[Checkpoint]) -> None:
    """Models are told apart by their names, and none stands beside itself."""
    known: dict[object, str] = {}
    for model in models:
        for key in filter(None, (model.name, _place(model))):
            if known.setdefault(key, model.name) is not model.name:
                raise ArgumentError(
                    f"{known[key]} and {model.name} are one model"
                    if known[key] != model.name
                    else f"{model.name} is named twice",
                    remedy="name each model once",
                )


def _place(model: Checkpoint) -> object:
    """Where a model lies, unless it is in memory or made of two parts."""
    if model.folder is None or model.adapted is not None or model.inside:
        return None
    return model.folder.resolve()
