"""What earlier merges of the same anchors found changes no bit of a merge, only what it costs."""

import json
import threading
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import NonFiniteError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.mask_kernel import MaskKernel
from mergekit_geo.merging.masks import Drawn, DrawnByRank
from mergekit_geo.merging.memo import SMALL, Memo
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.ranks import Ranks
from mergekit_geo.merging.stream import stream
from mergekit_geo.merging.tensor_record import TensorRecord
from tests.merging.test_masked import State, family

SUMMED = ("ties", "dare_ties", "dare_linear", "della", "breadcrumbs", "breadcrumbs_ties")
OTHERS = ("sce", "ram", "task_arithmetic", "model_stock", "karcher", "linear")


@pytest.fixture
def anchors() -> tuple[Checkpoint, ...]:
    """A base and two fine-tunes, in halves."""
    return tuple(of_state(state, f"m{i}") for i, state in enumerate(family("BF16", 3)))


def merged(blend: Blend, memo: Memo | None = None) -> tuple[State, dict[str, TensorRecord]]:
    sink = MemorySink(blend)
    return sink.state, stream(blend, sink, memo=memo, allow_nonfinite=True)


def rules(methods: tuple[str, ...], count: int = 3) -> Iterator[Rule]:
    """Rules of trials: weights are new each time, some densities were there before."""
    drawn = np.random.default_rng(0)
    for method, density, other, rescale in product(methods, (0.3, 0.6, 1.0), (0.2, 0.3), (0, 1)):
        weights = drawn.uniform(-1, 1, count - 1).tolist()
        if method in SUMMED:
            given = {"weights": weights, "density": [density, other], "rescale": bool(rescale)}
            yield rule_of(method, count, 0, **given)
        elif method == "sce":
            yield rule_of(method, count, 0, select_topk=density)
        elif method == "task_arithmetic":
            yield rule_of(method, count, 0, weights=weights)
        elif method == "linear":
            yield rule_of(method, count, weights=[other, density, 0.1])
        else:
            yield rule_of(method, count, None if method == "karcher" else 0)


def assert_same(found: tuple[State, dict[str, TensorRecord]], rule: Rule, blend: Blend) -> None:
    """The same bits and records as a merge that knows nothing."""
    fresh, records = merged(blend)
    for name, tensor in fresh.items():
        assert found[0][name].equal(tensor), (rule, name)
        ours, theirs = found[1][name], records[name]
        assert (ours.branch, ours.coefficients, ours.nonfinite, ours.kept) == (
            theirs.branch, theirs.coefficients, theirs.nonfinite, theirs.kept,
        )  # fmt: skip


@pytest.mark.parametrize("most", [1 << 20, 4000, 0], ids=["roomy", "narrow", "none"])
@pytest.mark.slow
def test_merges_in_a_row_are_those_that_are_made_alone(
    anchors: tuple[Checkpoint, ...], most: int, kernel: MaskKernel
) -> None:
    memo = Memo(anchors, most)
    for rule in [*rules(SUMMED + OTHERS)][:: 2 if most == 1 << 20 else 5]:
        blend = Blend(anchors, rule)
        assert_same(merged(blend, memo), rule, blend)
        assert memo.used <= most


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_memo_tells_anchors_and_output_dtypes_apart(dtype: str) -> None:
    models = [of_state(state, f"m{i}") for i, state in enumerate(family(dtype, 4))]
    memo = Memo(models[:3])
    orders = [(0, 1, 2), (0, 2, 1), (0, 1, 3), (1, 0, 2)]
    for rule, order, out in product([*rules(("ties",))][::4], orders, (None, "BF16")):
        blend = Blend(tuple(models[i] for i in order), rule, out)
        assert_same(merged(blend, memo), rule, blend)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "sce", "della"])
def test_of_new_densities_nothing_is_looked_for_either(
    anchors: tuple[Checkpoint, ...], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the elements is known."""
    key = "select_topk" if method == "sce" else "density"
    densities = (0.4, 0.7, 0.55, 0.2)
    blends = [Blend(anchors, rule_of(method, 3, 0, **{key: density})) for density in densities]
    fresh = [merged(blend)[0] for blend in blends]
    memo = Memo(anchors)
    merged(blends[0], memo)
    monkeypatch.setattr(Ranks, "look", None)
    monkeypatch.setattr(DrawnByRank, "ordered", None)
    for blend, alone in zip(blends, fresh, strict=True):
        found, _ = merged(blend, memo)
        assert all(found[name].equal(tensor) for name, tensor in alone.items())


def test_masks_of_equal_densities_are_made_once(
    anchors: tuple[Checkpoint, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for masker in (Ranks, Drawn):
        fill = masker.fill
        monkeypatch.setattr(masker, "fill", lambda *a, fill=fill: (made.append(1), fill(*a)))
    memo = Memo(anchors)
    for method in ("ties", "dare_ties"):
        for weights in ([0.5, 0.25], [0.3, 0.9], [-1.0, 2.0]):
            merged(Blend(anchors, rule_of(method, 3, 0, weights=weights, density=0.4)), memo)
        assert len(made) == 2 * len(anchors[0].tensors)
        made.clear()


def test_anchors_are_read_once_where_all_is_known(anchors: tuple[Checkpoint, ...]) -> None:
    read: list[str] = []
    base, *others = anchors
    assert base.state is not None
    counted = of_state({**base.state}, "base")
    inner = counted.read
    object.__setattr__(counted, "read", lambda name, *a: (read.append(name), inner(name, *a)))
    memo = Memo((counted, *others))
    for method in ("dare_linear", "karcher", "task_arithmetic"):
        base_at = None if method == "karcher" else 0
        given = {"density": 0.5, "rescale": True} if method == "dare_linear" else {}
        rule = rule_of(method, 3, base_at, **given)
        merged(Blend((counted, *others), rule), memo)
        read.clear()
        merged(Blend((counted, *others), rule), memo)
        assert sorted(read) == sorted(counted.tensors)


def test_what_is_not_finite_stays_so(kernel: MaskKernel) -> None:
    states = family("F16", 3)
    states[1]["bias"][3] = float("nan")
    models = tuple(of_state(state, f"m{i}") for i, state in enumerate(states))
    memo = Memo(models)
    blend = Blend(models, rule_of("ties", 3, 0, weights=0.5, density=0.5))
    for _ in range(3):
        found, records = merged(blend, memo)
        assert records["bias"].nonfinite == (0, 1, 0)
        assert found["w" if "w" in found else "layers.0.w"].isfinite().all()
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m1 \(1\)"):
        stream(blend, MemorySink(blend), memo=memo)


def test_a_merge_that_fails_leaves_nothing_half_done(anchors: tuple[Checkpoint, ...]) -> None:
    class Full:
        def write(self, *_: object) -> None:
            raise OSError("no space left")

    memo, rule = Memo(anchors), rule_of("ties", 3, 0, weights=0.5, density=0.5)
    blend = Blend(anchors, rule)
    with pytest.raises(OSError, match="no space"):
        stream(blend, Full(), memo=memo)
    assert_same(merged(blend, memo), rule, blend)


def test_the_oldest_makes_room_and_what_is_in_use_does_not() -> None:
    memo = Memo(most=3 * SMALL)
    for key in "abc":
        memo.begin()
        memo.keep((key,), key)
    memo.begin()
    memo.begin()
    memo.keep(("d",), "d")
    assert [memo.get((key,)) for key in "abcd"] == [None, "b", "c", "d"]
    memo.keep(("e",), "e")
    assert memo.get(("e",)) is None
    assert memo.used == 3 * SMALL


def test_threads_share_a_memo() -> None:
    memo = Memo(most=50 * SMALL)

    def work(first: int) -> None:
        for i in range(first, 4000, 4):
            memo.begin()
            memo.keep((i % 97,), i)
            memo.get((i % 89,))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memo.used == sum(memo.get((i,)) is not None for i in range(97)) * SMALL <= memo.most
    assert json.dumps(memo.used)


def test_other_anchors_are_not_remembered(anchors: tuple[Checkpoint, ...]) -> None:
    """Such as bends of a path that is being fitted, whose weights change."""
    memo = Memo(anchors[:2])
    merged(Blend(anchors, Linear((0.2, 0.3, 0.5))), memo)
    assert memo.used == 0
