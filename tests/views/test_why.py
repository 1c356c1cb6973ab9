"""What geometry tells, in words."""

from __future__ import annotations

import numpy as np
import pytest

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.gram import summarize
from mergekit_geo.records.model import Geometry, ModelEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.why import task_vectors


def placed(**layers: list[list[float]]) -> Geometry:
    """A base and two models, whose task vectors are given by layer."""
    grams = {}
    for name, (first, second) in layers.items():
        base = np.ones(len(first))
        vectors = np.stack([base, np.array(first), np.array(second)])  # the base, then differences
        grams[f"layers.{name}.weight"] = Gram(vectors @ vectors.T, len(base))
    found = summarize(grams)
    assert found is not None
    return found


def merged(base: str | None) -> Report:
    models = [ModelEntry(name=n, revision=None, parameters=1) for n in ("demo/base", "a", "b")]
    return Report(command="merge", models=models, settings={"base": base})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"0": [[1.0, 0.0], [0.03, 1.0]]}, "The task vectors are nearly orthogonal (cosine 0.03): "
         "the skills sit in different directions."),
        ({"0": [[1.0, 0.0], [1.0, 0.5]]},
         "The task vectors agree (cosine 0.89): the models learned much the same."),
        ({"0": [[1.0, 0.0], [0.3, 1.0]]}, "The task vectors overlap in part (cosine 0.29)."),
        ({"0": [[1.0, 0.0], [-1.0, 1.0]]}, "The task vectors conflict (cosine -0.71): what one "
         "model learned undoes what another did; they conflict in layers.0 (-0.71)."),
        ({"0": [[3.0, 0.0], [0.0, 3.0]], "1": [[1.0, 0.0], [-0.5, 0.5]]}, "The task vectors are "
         "nearly orthogonal (cosine -0.05): the skills sit in different directions; they conflict "
         "in layers.1 (-0.71)."),
        ({"0": [[0.0, 0.0], [1.0, 1.0]]}, ""),
    ],
)  # fmt: skip
def test_task_vectors_are_told_apart(layers: dict[str, list[list[float]]], words: str) -> None:
    found = placed(**layers)
    assert task_vectors(merged("demo/base"), found) == words
    assert task_vectors(merged(None), found) == task_vectors(merged("c"), found) == ""
    assert task_vectors(merged("demo/base"), None) == ""
