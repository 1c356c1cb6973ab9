"""What is gone through twice is read once, where there is room for it."""

from dataclasses import replace

import pytest
import torch

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.masked import Masked
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sparsifiers import TopK
from mergekit_geo.geometry.sphere import Slerp
from mergekit_geo.merging import stream as streaming
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.reader import Reader
from mergekit_geo.merging.stream import stream

SHAPES = {"a": (301, 7), "b": (1,), "c": (0, 3), "d": (40, 40)}
COUNT = sum(torch.Size(shape).numel() for shape in SHAPES.values())


class Counted:
    """Knows how many elements were read of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.read_so_far = 0
        self._read = checkpoint.read
        self.checkpoint = replace(checkpoint, read=self.read)

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        self.read_so_far += stop - start
        self._read(name, start, stop, out)


def models(dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32)) -> list[Counted]:
    draw = torch.Generator().manual_seed(0)
    states = [{n: torch.randn(s, generator=draw).to(d) for n, s in SHAPES.items()} for d in dtypes]
    return [Counted(of_state(state, f"m{i}")) for i, state in enumerate(states)]


TIES = Masked("ties", (1.0,), (TopK(0.3),), elect=True)


@pytest.mark.parametrize(("rule", "passes"), [(Linear((0.5, 0.5)), 1), (Slerp(0.3), 2), (TIES, 3)])
def test_it_is_read_once_and_the_same_comes_of_it(
    rule: Rule, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for room in (0, 1 << 20):
        monkeypatch.setattr(streaming, "HELD_BYTES", room)
        anchors = models()
        blend = Blend(tuple(anchor.checkpoint for anchor in anchors), rule)
        sink = MemorySink(blend)
        stream(blend, sink, workers=2)
        times = 1 if room else passes
        assert [anchor.read_so_far for anchor in anchors] == [times * COUNT] * 2
        found[room] = sink.state
    assert all(found[0][name].equal(found[1 << 20][name]) for name in SHAPES)


def test_a_pass_that_stops_in_between_is_no_reading() -> None:
    anchors = models()
    reader = Reader(Blend(tuple(anchor.checkpoint for anchor in anchors), Slerp(0.3)), 1 << 20)
    next(reader.read("a", 100))
    for _, (first, _) in reader.read("a", 100):
        assert first.count in {100, 301 * 7 % 100}
    assert anchors[0].read_so_far == 100 + 301 * 7
    before = [s.data.copy() for _, pair in reader.read("d", 1600) for s in pair]
    again = [s.data for _, pair in reader.read("d", 1600) for s in pair]
    assert all((x == y).all() for x, y in zip(before, again, strict=True))
    assert anchors[0].read_so_far == 100 + 301 * 7 + 1600


def test_what_is_too_large_is_not_held() -> None:
    anchors = models()
    reader = Reader(Blend(tuple(anchor.checkpoint for anchor in anchors), Slerp(0.3)), 1600 * 6)
    for name, times in (("d", 1), ("a", 2)):
        before = anchors[0].read_so_far
        for _ in range(2):
            assert sum(pair[0].count for _, pair in reader.read(name, 99)) == blended(name)
        assert anchors[0].read_so_far - before == times * blended(name)


def blended(name: str) -> int:
    return torch.Size(SHAPES[name]).numel()
