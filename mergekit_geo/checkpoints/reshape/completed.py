"""Models completed by parts that only others of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import configs_of
from mergekit_geo.checkpoints.parts import Part, missing_parts, parts_with_names
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.pieces import Piece, pieced, with_copied
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.checkpoints.settings import SILENT
from mergekit_geo.errors import IncompatibleError
from mergekit_geo.files.sound_json import brief

SHOWN = 10
"""Most settings that a message names."""


def completed(checkpoints: Sequence[Checkpoint]) -> Reshaped:
    """Models with the parts that only others of them have, each read from the first that has it.

    A part that a model has some tensors of, but not all, is left as it is.

    Args:
        checkpoints: Of one family.
    """
    found = [parts_with_names(one) for one in checkpoints]
    lacking = missing_parts(checkpoints)
    if not lacking:
        return Reshaped(tuple(checkpoints))
    holders = {part: next(i for i, own in enumerate(found) if part in own) for part in lacking}
    _refuse_files_of_others(checkpoints, holders)
    copied = [name for part, i in holders.items() for name in found[i][part]]
    config, told = _config_of_all(checkpoints, found, holders)
    frame = Frame(checkpoints[0], config)
    views = []
    for one, own in zip(checkpoints, found, strict=True):
        pieces = {name: Piece(one, name) for name in one.tensors}
        for part in (part for part in holders if part not in own):
            source = holders[part]
            pieces |= {n: Piece(checkpoints[source], n) for n in found[source][part]}
        whole = len(pieces) == len(one.tensors) and one.config == config
        views.append(with_copied(one, copied) if whole else pieced(one, pieces, frame, copied))
    notes = [
        f"{part}: {len(found[i][part])} tensors that {_names(checkpoints, found, part)} are copied "
        f"from {checkpoints[i].name}"
        for part, i in holders.items()
    ]
    return Reshaped(tuple(views), (*notes, *told))


def _refuse_files_of_others(checkpoints: Sequence[Checkpoint], holders: Mapping[Part, int]) -> None:
    """Refuse a pipeline that lacks a component: the files beside the weights are the first's."""
    for part, i in holders.items() if configs_of(checkpoints[0].config) else ():
        if i:
            raise IncompatibleError(
                [f"{part} is in {checkpoints[i].name} and not in {checkpoints[0].name}"],
                remedy=f"name {checkpoints[i].name} first: the output has the first one's files",
            )


def _config_of_all(
    checkpoints: Sequence[Checkpoint],
    found: Sequence[Mapping[Part, object]],
    holders: Mapping[Part, int],
) -> tuple[Config, list[str]]:
    """The configuration of the first model that has every part, and what it says otherwise."""
    first = checkpoints[0].config
    full = next((i for i, own in enumerate(found) if all(part in own for part in holders)), None)
    if full is None:
        held = [checkpoints[i] for i in holders.values()]
        source = " and ".join(one.name for one in held)
        config = {
            key: value for one in (*held, checkpoints[0]) for key, value in one.config.items()
        }
    else:
        source, config = checkpoints[full].name, checkpoints[full].config
    unlike = [key for key in config if key not in SILENT and config[key] != first.get(key, ...)]
    if not unlike and config.get("architectures") == first.get("architectures"):
        return first, []
    said = ", ".join(
        f"{key} {brief(config[key])}" for key in ["architectures", *unlike][:SHOWN] if key in config
    )
    return config, [f"config.json is that of {source}, which has these parts: {said}"]


def _names(
    checkpoints: Sequence[Checkpoint], found: Sequence[Mapping[Part, object]], part: Part
) -> str:
    """Who lacks a part, for a sentence."""
    lacking = [one.name for one, own in zip(checkpoints, found, strict=True) if part not in own]
    return f"{' and '.join(lacking)} {'lacks' if len(lacking) == 1 else 'lack'}"
