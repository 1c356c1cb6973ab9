"""Basins of models by the barriers between them, over several sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mergekit_geo.connectivity.basins import Basins, basins
from mergekit_geo.connectivity.pairs import grid_at_once, matrix_of, measure_pairs, threshold_of
from mergekit_geo.connectivity.paths import path
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.tasks.losses import Floats

POINTS = 5
"""Points of each line between two models, ends included."""


def basins_over(aim: Aim, singles: Sequence[float]) -> Basins:
    """Which models are connected, by the barriers on the lines between them.

    A barrier counts in thresholds, 2 % of the models' mean loss on its set.

    Args:
        aim: How sets become one number, and where losses are measured.
        singles: What each model counts.
    """
    line = path("linear")
    grid_at_once(aim.evaluator, (line,), POINTS)
    matrices: list[Floats] = []
    for one in aim.evaluator.every:
        pairs = measure_pairs(one, (line,), points=POINTS, most=POINTS)
        rows = one.split.selection
        losses = [one.at_model(i).take(rows).mean for i in range(len(one.anchors))]
        matrices.append(np.array(matrix_of(len(losses), pairs)) / threshold_of(losses))
    combined = [
        [aim.combined([matrix[i, j] for matrix in matrices]) for j in range(len(singles))]
        for i in range(len(singles))
    ]
    return basins(np.array(combined), singles, 1.0)
