"""Where the layers of an output are from, as ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergekit_geo.records.merge import LayerSources
from mergekit_geo.views.block import Table


def stack_table(layers: Sequence[LayerSources]) -> Table:
    """A row for each range of layers that follow one another in the output and in every model.

    Example:
        >>> found = [LayerSources(layer=f"h.{i}", sources=[("a", i + 4)]) for i in range(3)]
        >>> stack_table(found).rows
        [['h.0 to 2', 'a 4 to 6']]
    """
    return Table(["layers", "taken from"], [_row(run) for run in _runs(layers)])


def _runs(layers: Sequence[LayerSources]) -> Iterator[list[LayerSources]]:
    run: list[LayerSources] = []
    for layer in layers:
        if run and not _follows(run[-1], layer):
            yield run
            run = []
        run.append(layer)
    if run:
        yield run


def _follows(before: LayerSources, layer: LayerSources) -> bool:
    stack, _, number = before.layer.rpartition(".")
    next_sources = [(name, place + 1) for name, place in before.sources]
    return layer.layer == f"{stack}.{int(number) + 1}" and layer.sources == next_sources


def _row(run: Sequence[LayerSources]) -> list[str]:
    first, last = run[0], run[-1]
    pairs = zip(first.sources, last.sources, strict=True)
    taken = [f"{name} {_span(start, stop)}" for (name, start), (_, stop) in pairs]
    stack, _, number = first.layer.rpartition(".")
    return [f"{stack}.{_span(number, last.layer.rpartition('.')[2])}", ", ".join(taken)]


def _span(start: object, stop: object) -> str:
    return f"{start}" if start == stop else f"{start} to {stop}"
