"""The parts of each model of a merge, and what becomes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.parts import parts_of
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.records.model import PartEntry

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.comparison import Preflight

MERGED, COPIED, LEFT_OUT, REFUSED = "merged", "copied", "left_out", "refused"


def part_entries(checkpoints: Sequence[Checkpoint], found: Preflight) -> list[PartEntry]:
    """The parts of all models, and what a merge of them does to each.

    Args:
        checkpoints: The models, as they were compared.
        found: What comparing them found.
    """
    return [
        entry
        for position, checkpoint in enumerate(checkpoints)
        for entry in _entries(
            original(checkpoint), _fates(position, checkpoint, found), _refused(checkpoint, found)
        )
    ]


def _refused(checkpoint: Checkpoint, found: Preflight) -> Mapping[str, str]:
    """Why tensors of a model cannot be merged, by stored name: all, where no single one is told."""
    if found.problems and not found.unfit:
        return dict.fromkeys(original(checkpoint).tensors, found.problems[0])
    return found.unfit.get(checkpoint, {})


def _entries(
    checkpoint: Checkpoint, fates: Mapping[str, str], unfit: Mapping[str, str]
) -> list[PartEntry]:
    names: dict[tuple[str, str], list[str]] = {}
    for name, part in parts_of(checkpoint.tensors, checkpoint.config).items():
        names.setdefault(part, []).append(name)
    return [
        PartEntry(
            model=checkpoint.name,
            module=module,
            kind=kind,
            tensors=len(own),
            parameters=sum(checkpoint.tensors[name].count for name in own),
            why=next((unfit[name] for name in own if name in unfit), ""),
            **_counts([fates[name] for name in own if fates]),
        )
        for (module, kind), own in names.items()
    ]


def _counts(fates: Sequence[str]) -> dict[str, int]:
    return {fate: fates.count(fate) for fate in dict.fromkeys(fates)}


def _fates(position: int, checkpoint: Checkpoint, found: Preflight) -> dict[str, str]:
    """What becomes of each tensor of a model, by its stored name; empty of a model alone."""
    own = original(checkpoint).tensors
    if found.problems:
        refused = _refused(checkpoint, found)
        return {name: REFUSED if name in refused else MERGED for name in own}
    if len(found.anchors) == 1:
        return {}
    blend = Blend(tuple(found.anchors), Linear((1.0,) * len(found.anchors)))
    fates = dict.fromkeys(own, LEFT_OUT)
    for name in found.anchors[position].tensors:
        if (stored := _stored(found.anchors[position], name)) in fates:
            is_merged = blend.role(name) is not Role.DONATED
            fates[stored] = MERGED if is_merged else _of_copied(found.anchors, name, position)
    return fates


def _of_copied(anchors: Sequence[Checkpoint], name: str, position: int) -> str:
    """What becomes of a model's tensor, where the output has that of the first that has it."""
    first = next(i for i, anchor in enumerate(anchors) if _stored(anchor, name) is not None)
    return COPIED if position == first else LEFT_OUT


def _stored(checkpoint: Checkpoint, name: str) -> str | None:
    """The name of a view's tensor where it is stored; None if it is another checkpoint's."""
    found: str | None = name
    while checkpoint.of is not None and checkpoint.stored is not None and found is not None:
        found, checkpoint = checkpoint.stored.get(found), checkpoint.of
    return found
