"""Models that are one part of a model, or have it, seen as the whole model."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.parts import (
    modules_in,
    names_of_parts,
    nearest_parts,
    part_named,
    parts_of,
    tensors_in,
)
from mergekit_geo.checkpoints.reshape.own_head import with_own_head
from mergekit_geo.checkpoints.reshape.part_settings import unlike_settings
from mergekit_geo.checkpoints.reshape.pieces import with_copied
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.checkpoints.reshape.whole_model import Whole
from mergekit_geo.checkpoints.vocabulary import compare_vocabularies
from mergekit_geo.errors import ArgumentError, IncompatibleError


def grafted(
    checkpoints: Sequence[Checkpoint], part: str, *, allow_missing: bool = False
) -> Reshaped:
    """Models seen as the first that has more than a part of it; all but the part is that model's.

    Args:
        checkpoints: Whole models, and models that are such a part alone, in any order.
        part: Such as `text`.
        allow_missing: Whether what a model has nothing of there, such as layers for multi-token
            prediction, is the whole model's, too.

    Raises:
        ArgumentError: A model has no such part.
        IncompatibleError: A model does not fit into that part of the first.
    """
    slots = {one: _slots(part, one) for one in checkpoints}
    donor = next((one for one, own in slots.items() if len(own) < len(one.tensors)), None)
    if donor is None:
        return Reshaped(tuple(checkpoints))
    others = [one for one in slots if one is not donor]
    model, untied = with_own_head(donor, others)
    whole = Whole(model, part_named(part), _slots(part, model))
    whole = whole.without([slots[one] for one in others], others, allow_missing=allow_missing)
    found = {one: whole.holding(one, slots[one]) for one in others}
    conflicts, warnings = compare_vocabularies([donor, *others])
    if problems := [*(line for _, lines in found.values() for line in lines), *conflicts]:
        raise IncompatibleError(
            problems, remedy=f"merge fine-tunes of the {whole.part} model that {donor.name} has"
        )
    views = [found[one][0] if one in found else with_copied(model, whole.copied) for one in slots]
    alone = [one for one in others if not whole.is_like(one)]  # the others are compared as a whole
    settings = [line for one in alone for line in unlike_settings(whole.part, donor, one)]
    told = whole.told(checkpoints[0])
    return Reshaped(tuple(views), tuple(told), (*untied, *warnings, *settings))


def seated(
    checkpoints: Sequence[Checkpoint], parts: Sequence[str], *, allow_missing: bool = False
) -> Reshaped:
    """Models seen as the first of several modules, where they are one of these modules alone.

    Args:
        checkpoints: Whole models, and models that are a module alone, in any order.
        parts: The module that each gives; empty for more than one.
        allow_missing: As in `grafted`.

    Raises:
        ArgumentError: A model has no such part.
        IncompatibleError: A model does not fit into that part of the first.
    """
    donor = next((one for one in checkpoints if len(modules_in(one)) > 1), None)
    given = {
        one: part
        for one, part in zip(checkpoints, parts, strict=True)
        if part and len(modules_in(one)) == 1
    }
    if donor is None or not given:
        return Reshaped(tuple(checkpoints))
    model, untied = with_own_head(donor, list(given))
    views: dict[Checkpoint, Checkpoint] = {donor: model}
    problems, notes = [], []
    for one, part in given.items():
        whole = Whole(model, part_named(part), _slots(part, model), marks=False)
        own = _slots(part, one)
        views[one], unfit = whole.without([own], [one], allow_missing=allow_missing).holding(
            one, own
        )
        problems += unfit
        notes.append(f"{one.name} is taken as {whole.part} of {donor.name}")
    if problems:
        raise IncompatibleError(problems, remedy=f"merge fine-tunes of the parts of {donor.name}")
    return Reshaped(tuple(views.get(one, one) for one in checkpoints), tuple(notes), untied)


def _slots(part: str, checkpoint: Checkpoint) -> list[str]:
    """Names of a checkpoint's tensors in a part.

    Raises:
        ArgumentError: There are none.
    """
    if found := tensors_in(part, checkpoint):
        return found
    parts = parts_of(checkpoint.tensors, checkpoint.config)
    known = names_of_parts(parts.values())
    near = nearest_parts(part, known)
    hint = f"did you mean {near}? " if near else ""
    raise ArgumentError(
        f"{checkpoint.name} has no part {part!r}",
        where="part",
        remedy=f"{hint}its parts: {', '.join(known)} (`geo-merge check` counts them)",
    )
