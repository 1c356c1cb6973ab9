"""A place in weight space, as a blend of the models and of what lies beside them."""

from __future__ import annotations

import torch

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.evaluation.point import Point
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream

NAMES = ("a", "b", "c")
MODELS = [
    of_state({"w": torch.tensor([x, 1.0])}, name) for x, name in zip((2, 4, 8), NAMES, strict=True)
]


def weights_at(point: Point) -> list[float]:
    blend = point.blend(MODELS)
    sink = MemorySink(blend)
    stream(blend, sink)
    return sink.state["w"].tolist()


def test_a_model_is_its_own_weights_and_no_other_model_is_read() -> None:
    point = Point.model(1, "b")
    assert weights_at(point) == [4.0, 1.0]
    assert [anchor.name for anchor in point.blend(MODELS).anchors] == ["b"]


def test_a_mean_counts_a_model_as_often_as_it_is_named() -> None:
    assert weights_at(Point.mean([0, 2], NAMES)) == [5.0, 1.0]
    assert weights_at(Point.mean([0, 2, 2, 2], NAMES)) == [6.5, 1.0]


def test_what_is_one_place_has_one_key_and_a_dtype_is_another_place() -> None:
    assert Point.mean([2, 0], NAMES).key == Point.mean([0, 2], NAMES, "uniform soup").key
    assert Point.mean([0, 2], NAMES).key != Point.mean([0, 2, 2], NAMES).key
    rounded = Point.mean([0, 2], NAMES, dtype="BF16")
    assert rounded.key != Point.mean([0, 2], NAMES).key
    assert {info.dtype for info in rounded.blend(MODELS).outputs().values()} == {"BF16"}


def test_a_place_over_all_models_is_the_same_place() -> None:
    alone = Point.model(2, "c")
    assert weights_at(alone.over_all(3)) == weights_at(alone)
    assert alone.over_all(3).rule.weights == (0.0, 0.0, 1.0)
    mean = Point.mean([0, 1], NAMES)
    assert mean.over_all(3) is mean


def test_extra_anchors_come_after_the_models() -> None:
    bend = of_state({"w": torch.tensor([100.0, 1.0])}, "bend")
    point = Point(Linear((0.5, 0.25, 0.25)), "bent", "bent", models=(0, 1), extra=(bend,))
    assert weights_at(point) == [0.5 * 2 + 0.25 * 4 + 25, 1.0]
