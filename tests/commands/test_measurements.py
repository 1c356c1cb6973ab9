"""What a merge's records come to in its report."""

from __future__ import annotations

import numpy as np
import pytest

from mergekit_geo.commands.measurements import _alone, _kept
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.tensor_record import TensorRecord


def record(*coefficients: float, kept: tuple[int, ...] = (), count: int = 4) -> TensorRecord:
    gram = Gram(np.zeros((len(coefficients),) * 2), count)
    return TensorRecord("linear", coefficients, gram=gram, kept=kept)


def test_a_merge_of_one_model_is_that_model() -> None:
    assert _alone([record(0.0, 1.0), record(0.0, 1.0)]) == 1
    assert _alone([record(0.0, 1.0), record(1.0, 0.0)]) is None
    assert _alone([record(0.5, 0.5)]) is None
    assert _alone([record(0.0, 1.0, kept=(1,))]) is None, "masks change it"


def test_the_share_that_was_kept_is_by_elements() -> None:
    records = {"a": record(0, 1, kept=(2,), count=4), "b": record(0, 1, kept=(6,), count=12)}
    assert _kept(records) == [None, pytest.approx(8 / 16)]
    assert _kept({"a": record(0, 1)}) == []
