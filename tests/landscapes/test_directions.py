"""Directions do not depend on who reads them, how, and in what order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.landscapes.directions import BLOCK
from mergekit_geo.landscapes.directions import direction as direction_at
from mergekit_geo.landscapes.filters import Filters
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.held import held_copy, hold

COUNT = 2 * BLOCK + 1000
"""Elements of the large tensor: more than two blocks."""


def model(dtype: torch.dtype = torch.float32) -> Checkpoint:
    draw = torch.Generator().manual_seed(0)
    state = {
        "long": torch.randn(COUNT // 100, 100, generator=draw).to(dtype),
        "short": torch.randn(6, 4, generator=draw).to(dtype),
        "norm": torch.ones(4, dtype=dtype),
        "count": torch.tensor(3),
    }
    state["short"][2] = 0
    return of_state(state, "m")


FILTERS = {"long": Filters.rows(COUNT // 100, 100), "short": Filters.rows(6, 4)}


def direction(seed: int = 0, dtype: torch.dtype = torch.float32) -> Checkpoint:
    return direction_at(model(dtype), FILTERS, seed, "d")


def read(found: Checkpoint, name: str, start: int, stop: int) -> np.ndarray[tuple[int], np.dtype]:  # type: ignore[type-arg]
    dtype = np.dtype(np.float64 if found.tensors[name].dtype == "F64" else np.float32)
    out = np.empty((stop - start) * dtype.itemsize, np.uint8)
    found.read(name, start, stop, out)
    return out.view(dtype)


def test_any_chunk_is_that_of_the_whole() -> None:
    count = COUNT // 100 * 100
    whole = read(direction(), "long", 0, count)
    for start, stop in [
        (0, 5),
        (3, BLOCK),
        (BLOCK - 2, BLOCK + 2),
        (7, 2 * BLOCK + 1),
        (count - 1, count),
    ]:
        assert np.array_equal(read(direction(), "long", start, stop), whole[start:stop])


def test_threads_and_chunks_draw_the_same() -> None:
    states = []
    for workers in (1, 4):
        blend = Blend((direction(),), Linear((1.0,)))
        sink = MemorySink(blend)
        stream(blend, sink, workers=workers)
        states.append(sink.state)
    assert all(states[0][name].equal(states[1][name]) for name in ("long", "short", "norm"))
    held = held_copy(direction())
    out = np.empty(24 * 4, np.uint8)
    held.read("short", 0, 24, out)
    assert np.array_equal(out.view(np.float32), read(direction(), "short", 0, 24))


def test_seeds_and_names_draw_other_numbers_that_are_normal() -> None:
    first = read(direction(), "long", 0, COUNT // 100 * 100)
    second = read(direction(1), "long", 0, COUNT // 100 * 100)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(first.mean()) < 0.02
    assert first.std() == pytest.approx(1, abs=0.02)  # as the weights' is
    blocks = first[:BLOCK], first[BLOCK : 2 * BLOCK]
    assert abs(np.corrcoef(*blocks)[0, 1]) < 0.02


def test_a_filter_of_nothing_stays_nothing_and_so_does_what_has_none() -> None:
    found = read(direction(), "short", 0, 24).reshape(6, 4)
    assert not found[2].any()
    assert found[[0, 1, 3, 4, 5]].all()
    assert not read(direction(), "norm", 0, 4).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_norms_are_those_of_weights_of_any_dtype(dtype: torch.dtype) -> None:
    found = direction(dtype=dtype)
    assert found.tensors["short"].dtype == ("F64" if dtype == torch.float64 else "F32")
    steps = np.linalg.norm(read(found, "short", 0, 24).reshape(6, 4).astype(np.float64), axis=1)
    weights = model(dtype).state["short"].double().norm(dim=1).numpy()
    np.testing.assert_allclose(steps, weights, rtol=1e-6)


def test_integers_are_left_to_the_model() -> None:
    assert "count" not in direction().tensors
    blend = Blend((model(), direction()), Linear((1.0, 0.5), directions=1))
    sink = MemorySink(blend)
    stream(blend, sink)
    assert sink.state["count"] == 3
    moved = model().state["short"] + 0.5 * torch.tensor(read(direction(), "short", 0, 24)).view(
        6, 4
    )
    torch.testing.assert_close(sink.state["short"], moved)


def test_directions_are_held_in_memory_where_they_fit() -> None:
    (held,), (made,) = hold([direction()], "on"), hold([direction()], "off")
    assert held.in_memory
    assert not made.in_memory
    assert held.fingerprint()[1] == made.fingerprint()[1] == 0  # type: ignore[index]
