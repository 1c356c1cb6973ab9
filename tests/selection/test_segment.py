"""Paths from a merge to a further model: where their points are, and what they are known by."""

from __future__ import annotations

import pytest

from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.connectivity.paths import path
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.selection.segment import Segment, point_without_losses

NAMES = ("a", "b", "c")
LINEAR = path("linear")


def test_between_two_models_a_point_has_the_path_s_weights() -> None:
    segment = Segment.between(LINEAR, NAMES[:2])
    assert segment.at(0.25).rule.weights == (0.75, 0.25)
    assert segment.ends == ("a", "b")


def test_a_member_that_joins_thins_out_those_before_it() -> None:
    first = Segment(Point.model(2, "c"), (2,), 0, LINEAR, NAMES)
    assert first.at(0.5).rule.weights == (0.5, 0.0, 0.5)
    second = Segment(first.at(0.5), first.joined, 1, LINEAR, NAMES)
    assert second.at(0.4).rule.weights == pytest.approx((0.3, 0.4, 0.3))
    assert second.ends == ("c + a", "b")
    assert second.joined == (2, 0, 1)


def test_at_its_ends_stands_what_was_measured_there_before() -> None:
    segment = Segment(Point.mean([0, 1], NAMES), (0, 1), 2, LINEAR, NAMES)
    assert segment.measured_at(0.0).key == Point.mean([0, 1], NAMES).key
    assert segment.measured_at(1.0).key == Point.model(2, "c").key
    assert segment.measured_at(0.5).key == segment.at(0.5).key


def test_points_between_two_models_are_known_by_the_key_that_barriers_use() -> None:
    segment = Segment(Point.model(0, "a"), (0,), 2, LINEAR, NAMES)
    assert segment.measured_at(0.3) == LINEAR.point((0, 2), NAMES, 0.3)


def test_the_mean_of_a_straight_line_is_its_middle_and_an_arc_has_none() -> None:
    straight = Segment.between(LINEAR, NAMES[:2])
    assert straight.mean(9).rule.weights == pytest.approx((0.5, 0.5))
    with pytest.raises(ArgumentError, match="the mean of points along slerp is no one rule"):
        Segment.between(path("slerp"), NAMES[:2]).mean(9)


def test_the_midpoint_needs_no_losses() -> None:
    found = point_without_losses(
        SelectionConfig(along="linear", pick="midpoint"), Segment.between(LINEAR, NAMES[:2])
    )
    assert (found.t, found.place) == (0.5, "t = 0.5000")
