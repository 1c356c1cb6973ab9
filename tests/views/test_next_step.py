"""What is advised follows what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.gram import summarize
from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.layers import (
    GroupEntry,
    LayerMeasurements,
    LayersEntry,
    ProposalEntry,
)
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.records.model import Geometry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Provenance, Report
from mergekit_geo.records.training import FinetuneMeasurements, TrainingEntry
from mergekit_geo.views.layers import carrier
from mergekit_geo.views.next_step import next_line
from mergekit_geo.views.view import view_of
from tests.views.set_reports import Spread, one_set, report_on

LOST, KEPT, GAINED, OPEN = (0.12, 0.03), (0.0, 0.02), (-0.05, 0.02), (0.0, 0.3)
COMMAND = "geo-merge soup demo/prose demo/code -o out --data=code=a.jsonl --weights=1,1 --seed=3"


def said(report: Report, command: str = COMMAND) -> str:
    """The advice after this command."""
    made = Provenance(versions={}, started="", seconds=1, command=command)
    return next_line(report.model_copy(update={"provenance": made}))


def path(rise: Spread, along: str = "linear") -> BarrierEntry:
    """A path between models of loss 2: 0.04 is 2 % of that."""
    value, half = rise
    assert half is not None
    found = Estimate(value=value, low=value - half, high=value + half, detectable=half / 0.7)
    return BarrierEntry(
        first="demo/prose", second="demo/code", along=along, t=[0, 0.5, 1], loss=[2, 2 + value, 2],
        metric=None, barrier=found, barrier_mean=found, error_barrier=None, t_max=0.5, path_max=3,
        path_mean=2, significant=value > half, verdict="x", threshold=0.04, documents=9,
    )  # fmt: skip


HIGH, NONE, UNKNOWN = path((0.5, 0.1)), path((0.0, 0.01)), path((0.1, 0.2))


def geometry(head: float) -> Geometry:
    """Two models alike in three layers, with heads of this cosine."""
    layers = {f"layers.{i}.weight": np.array([[1.0, 0.0], [1.0, 0.01]]) for i in range(3)}
    layers["classifier.weight"] = np.array([[1.0, 0.0], [head, (1 - head**2) ** 0.5]])
    found = summarize({name: Gram.of(vectors) for name, vectors in layers.items()})
    assert found is not None
    return found


def shared_out(share: float) -> LayerMeasurements:
    """A rise that layer 0 saves this share of, and layer 1 the rest."""

    def group(number: int, part: float) -> GroupEntry:
        found = Estimate(value=part, low=part - 0.05, high=part + 0.05)
        return GroupEntry(
            group=f"layer {number}", division="depth", tensors=1, parameters=1, rise_in=found,
            rise_out=found, share_in=found, share_out=found,
        )  # fmt: skip

    groups = [group(0, share), group(1, 1 - share)]
    rise = Estimate(value=1.0, low=0.9, high=1.1)
    entry = LayersEntry(
        better="demo/prose", other="demo/code", weights=[0.5, 0.5], rise=rise, groups=groups,
        documents=9,
    )  # fmt: skip
    return LayerMeasurements(sets=[entry])


LAYERS = shared_out(0.8)
CHOSEN = SelectionEntry(method="learned", chosen="x", documents=9, steps=[])


@pytest.mark.parametrize(
    ("sets", "more", "line"),
    [
        ({"code": LOST, "chat": KEPT}, {}, "Next: weight demo/prose higher, for code: geo-merge "
         "soup demo/prose demo/code -o out-weighted --weights=0.75,0.25 --data=code=a.jsonl "
         "--seed=3"),
        ({"code": LOST}, {}, "Next: let the losses choose which models take part: geo-merge soup "
         "demo/prose demo/code -o out-greedy --method=greedy --data=code=a.jsonl --seed=3"),
        ({"code": LOST, "chat": OPEN}, {"barriers": [HIGH]}, "Next: look for a way around the "
         "barrier: geo-merge path demo/prose demo/code -o out-path --train-data=TRAIN.jsonl "
         "--data=code=a.jsonl --seed=3"),
        ({"code": LOST}, {"barriers": [HIGH], "geometry": geometry(0.01)}, "Next: merge all but "
         "classifier: a recipe with {filter: classifier, value: 1} for one model and value: 0 for "
         "the others keeps that head (docs/recipes.md)."),
        ({"code": LOST}, {"barriers": [HIGH], "by_layer": LAYERS}, "Next: layer 0 carries most of "
         "the rise: have weights by layer proposed: geo-merge barrier demo/prose demo/code -o "
         "out-layers --by-layer --data=code=a.jsonl --seed=3"),
        ({"code": LOST, "chat": KEPT}, {"selection": CHOSEN},
         "Next: use demo/prose as it is for code, or train one model further."),
        ({"code": KEPT, "chat": OPEN}, {}, "Next: about 3100 documents of chat in place of 27 "
         "would tell a difference of 2 % of the loss."),
        ({"code": (0.1, None)}, {}, "Next: about 54 documents"),
        ({"code": KEPT, "chat": GAINED}, {}, "Next: publish it: geo-merge push out YOUR-NAME/out"),
        ({"code": KEPT}, {"unmerged": "demo/prose"}, ""),
    ],
)  # fmt: skip
def test_after_a_merge(sets: dict[str, Spread], more: dict[str, Any], line: str) -> None:
    found = said(report_on({name: one_set(one) for name, one in sets.items()}, **more))
    assert found.startswith(line) if line else found == ""


def test_two_better_parents_leave_the_weights_to_the_losses() -> None:
    chat = one_set(LOST, models=("demo/code", "demo/prose"))
    assert said(report_on({"code": one_set(LOST), "chat": chat})).startswith(
        "Next: let the losses choose weights that lose least on code and chat: geo-merge soup "
        "demo/prose demo/code -o out-learned --method=learned --aim=worst --data=code=a.jsonl"
    )


def test_a_set_that_may_lose_as_much_to_the_other_parent_is_thought_of() -> None:
    other = one_set((0.3, 0.5), models=("demo/code", "demo/prose"))
    assert "--aim=worst" in said(report_on({"code": one_set(LOST), "prose": other}))


def test_three_parents_are_reduced_to_a_basin() -> None:
    report = report_on({"a": one_set(LOST, models=("a", "b", "c"))}, barriers=[HIGH])
    assert "geo-merge soup a b c -o out-basin --basin" in said(report)


def test_no_command_is_made_up() -> None:
    """Models in memory have no names, and a recipe says more than flags do."""
    report = report_on({"code": one_set(LOST)})
    assert said(report, "") == "Next: let the losses choose which models take part."
    recipe = report.model_copy(update={"command": "run"})
    assert said(recipe, "geo-merge run x.yml -o out") == said(report, "")
    assert next_line(Report(command="check")) == ""


def test_models_that_were_made_to_fit_are_made_to_fit_again() -> None:
    """And no command is told that does not take them so."""
    merge = "geo-merge merge a b -o out --part=text --allow-missing-parts --data=code=a.jsonl"
    assert said(report_on({"code": one_set(LOST)}), merge).endswith(
        "-o out-greedy --method=greedy --part=text --allow-missing-parts --data=code=a.jsonl"
    )
    around = said(report_on({"code": one_set(LOST)}, barriers=[HIGH]), merge)
    assert around == "Next: look for a way around the barrier."


def test_all_documents_are_named_where_a_sample_was_measured() -> None:
    one = one_set((0.01, 0.03))
    data = one.data.model_copy(update={"available": 9000})
    report = report_on({"code": one.model_copy(update={"data": data})})
    assert said(report) == (
        "Next: about 31 documents in place of 27 would tell a difference of 2 % of the loss; there "
        "are as many: add --budget 0, without --max-examples."
    )


@pytest.mark.parametrize(
    ("pairs", "head", "line"),
    [
        ([HIGH], None, "Next: look for a way around the barrier: geo-merge path demo/prose "
         "demo/code -o DIR-path --train-data=TRAIN.jsonl --data=x.jsonl"),
        ([HIGH], 0.01, "Next: merge all but classifier: "),
        ([HIGH], 0.4, "Next: look for a way around"),
        ([HIGH, path((0.0, 0.01), "bezier")], None, "Next: merge along bezier, where nothing is "
         "in the way: geo-merge soup demo/prose demo/code -o DIR-soup --along=bezier"),
        ([NONE], None, "Next: average them: geo-merge soup demo/prose demo/code -o DIR-soup"),
        ([UNKNOWN], None, "Next: about 460 documents in the report half in place of 9 would tell"),
    ],
)  # fmt: skip
def test_after_barriers(pairs: list[BarrierEntry], head: float | None, line: str) -> None:
    found = BarrierMeasurements(
        pairs=pairs, matrix=[], basins=[], threshold=0.04, losses=[],
        geometry=None if head is None else geometry(head),
    )  # fmt: skip
    models = report_on({"a": one_set(KEPT)}).models
    report = Report(command="barrier", output="DIR", models=models, result=found)
    assert said(report, "geo-merge barrier demo/prose demo/code -o DIR --data=x.jsonl").startswith(
        line
    )
    assert view_of(report).next.startswith("Next: ")


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ([("layer 0", [1.0, 0.0])], "Next: merge by the proposed weights: geo-merge soup "
         "demo/prose demo/code -o DIR-soup --layer-weights=DIR --data=x.jsonl"),
        ([], "Next: look for a way around the barrier: "),
    ],
)  # fmt: skip
def test_after_weights_by_layer_were_proposed(
    groups: list[tuple[str, list[float]]], line: str
) -> None:
    proposal = ProposalEntry(
        models=["demo/prose", "demo/code"], weights=[0.5, 0.5], groups=groups, advice="x",
        documents=9, steps=[],
    )  # fmt: skip
    layers = LAYERS.model_copy(update={"proposal": proposal})
    found = BarrierMeasurements(
        pairs=[HIGH], matrix=[], basins=[], threshold=0.04, losses=[], by_layer=layers
    )
    models = report_on({"a": one_set(KEPT)}).models
    report = Report(command="barrier", output="DIR", models=models, result=found)
    made = "geo-merge barrier demo/prose demo/code -o DIR --by-layer --data=x.jsonl"
    assert said(report, made).startswith(line)


def test_no_group_is_named_where_none_carries_most() -> None:
    assert carrier(LAYERS) == "layer 0"
    assert carrier(shared_out(0.52)) == carrier(None) == ""


@pytest.mark.parametrize(
    ("fitted", "line"),
    [(HIGH, "Next: fit for more --steps, or with more --bends: a barrier is left."),
     (NONE, "Next: take its best point: geo-merge point DIR -o DIR-point")],
)  # fmt: skip
def test_after_a_path(fitted: BarrierEntry, line: str) -> None:
    found = PathMeasurements.model_construct(fitted=fitted, sets={})
    assert next_line(Report.model_construct(command="path", output="DIR", result=found)) == line


def test_after_a_training_that_gains_one_skill_and_loses_another() -> None:
    history: Any = {"history": [(1, 2.0)]}
    sets = {"code": one_set((-0.5, 0.1), models=("base",)), "chat": one_set(LOST, models=("base",))}
    found = FinetuneMeasurements(
        training=TrainingEntry.model_construct(**history), losses=sets["code"].losses,
        differences=sets["code"].differences, barriers=[], sharpness=[], sets=sets,
    )  # fmt: skip
    report = report_on(sets).model_copy(update={"result": found, "command": "finetune"})
    command = "geo-merge finetune base -o out --train-data=t.jsonl --data=x.yml --lr=1"
    assert said(report, command) == (
        "Next: average it with the model before, to win back chat: geo-merge soup base out -o "
        "out-average --data=x.yml"
    )
    only = report.model_copy(update={"result": found.model_copy(update={"sets": {}})})
    worse = only.model_copy(
        update={"result": found.model_copy(update={
            "sets": {}, "losses": sets["chat"].losses, "differences": sets["chat"].differences,
        })}
    )  # fmt: skip
    assert said(only, command).startswith("Next: publish it")
    assert said(worse, command).startswith("Next: the model before is better: train for fewer")
