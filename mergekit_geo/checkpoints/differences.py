"""Tensors that keep checkpoints from being merged: missing, of other shapes, or of other kinds."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.configuration import vocabulary_size
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.layers import layer_number
from mergekit_geo.checkpoints.matching import Names
from mergekit_geo.checkpoints.naming import Schema, is_counter, may_be_buffer, schema_of
from mergekit_geo.checkpoints.parts import MTP, Part, missing_parts, parts_of, parts_with_names

MANY = 2
PAIR = ("LABEL_0", "LABEL_1")
"""Labels that a configuration need not state."""


def compare_tensors(
    checkpoints: Sequence[Checkpoint], names: list[Names], found: Preflight, *, by_layers: bool
) -> None:
    """Refuse tensors that cannot be merged with the donor's.

    Args:
        checkpoints: The models, the donor first.
        names: Canonical to stored names of each.
        found: Told what is wrong.
        by_layers: Whether single layers are taken of them, so that they need not have the same.
    """
    donor, mine = checkpoints[0], names[0]
    for checkpoint, own in zip(checkpoints[1:], names[1:], strict=True):
        both = ((donor, mine), (checkpoint, own))
        if cause := _prefixed(*both) or _fused(*both):
            found.problems.append(cause)
            continue
        shared = [n for n in mine.keys() | own.keys() if not is_counter(n)]
        if by_layers:
            shared = [n for n in shared if (n in mine and n in own) or not layer_number(n)]
        names_here = sorted(n for n in shared if n not in found.aside)
        for (holder, its), (lacking, others) in (both, both[::-1]):
            alone = [its[name] for name in names_here if name in its and name not in others]
            _refuse_missing(alone, holder, lacking, found)
        for name in (name for name in names_here if name in mine and name in own):
            infos = donor.tensors[mine[name]], checkpoint.tensors[own[name]]
            if problem := _difference(name, infos, donor, checkpoint):
                found.refuse(problem, [(one, names[name]) for one, names in both])


def _refuse_missing(
    alone: Sequence[str], holder: Checkpoint, lacking: Checkpoint, found: Preflight
) -> None:
    """Refuse tensors that one of two models lacks: a part as a whole, or one by one."""
    if not alone:
        return
    theirs = set(parts_with_names(lacking))
    parts = parts_of(holder.tensors, holder.config)
    whole: dict[Part, list[str]] = {}
    for stored in alone:
        if parts[stored] in theirs or may_be_buffer(stored):
            problem = f"{stored} is in {holder.name} and not in {lacking.name}"
            found.refuse(problem, [(holder, stored)])
        else:
            whole.setdefault(parts[stored], []).append(stored)
    for part, names in whole.items():
        _refuse_part(part, names, holder, lacking, found)


def _refuse_part(
    part: Part, names: Sequence[str], holder: Checkpoint, lacking: Checkpoint, found: Preflight
) -> None:
    tensors = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    found.refuse(
        f"{part} ({tensors}, {names[0]}) is in {holder.name} and not in {lacking.name}: "
        "--allow-missing-parts copies it",
        [(holder, name) for name in names],
    )


def refuse_lost_predictors(checkpoints: Sequence[Checkpoint], found: Preflight) -> None:
    """Refuse layers for multi-token prediction that some models lack.

    What transformers ignores by declaration is left aside: it has no part in what the models are.
    """
    if all(c.tensors.keys() == checkpoints[0].tensors.keys() for c in checkpoints):
        return
    for part in (part for part in missing_parts(checkpoints) if part.kind == MTP):
        having = [(one, parts_with_names(one).get(part)) for one in checkpoints]
        holder, names = next((one, names) for one, names in having if names)
        lacking = next(one for one, names in having if not names)
        if not all(map(schema_of(holder.config).is_ignored, names)):
            _refuse_part(part, names, holder, lacking, found)


def _prefixed(donor: tuple[Checkpoint, Names], other: tuple[Checkpoint, Names]) -> str:
    """A hint if one model's names are the other's with a prefix; empty if they are not."""
    for (plain, names), (holder, own) in ((donor, other), (other, donor)):
        missing, extra = names.keys() - own.keys(), own.keys() - names.keys()
        first = min(missing, default="")
        prefix = next((n.removesuffix(first) for n in extra if first and n.endswith(first)), "")
        if prefix and len(missing) >= MANY and all(prefix + name in extra for name in missing):
            return (
                f"{len(missing)} tensors are called in {holder.name} as in {plain.name}, with "
                f"{prefix!r} before ({prefix}{first}), which transformers does not load so: load "
                f"{holder.name} with what saved it, and save the inner model"
            )
    return ""


def _fused(donor: tuple[Checkpoint, Names], other: tuple[Checkpoint, Names]) -> str:
    """A hint if one model stores its experts one by one, and the other all in one tensor."""
    for (apart, names), (fused, own) in ((donor, other), (other, donor)):
        single, whole = sorted(names.keys() - own.keys()), sorted(own.keys() - names.keys())
        schema = schema_of(apart.config) if single and whole else Schema()
        parts = [names[name] for name in single if schema.is_converted(name)]
        if parts and set(whole) & schema.expected.keys():
            return (
                f"{len(parts)} tensors of {apart.name} ({parts[0]}) are stored together in "
                f"{fused.name} ({own[whole[0]]}): load {apart.name} with transformers, and save it "
                "with save_pretrained(..., save_original_format=False)"
            )
    return ""


def _difference(
    name: str, infos: tuple[TensorInfo, TensorInfo], donor: Checkpoint, other: Checkpoint
) -> str | None:
    mine, theirs = infos
    if mine.shape != theirs.shape:
        cause = _cause(mine.shape, theirs.shape, donor, other)
        return (
            f"{name} is {list(mine.shape)} in {donor.name} and {list(theirs.shape)} in "
            f"{other.name}: {cause}"
        )
    if mine.is_float != theirs.is_float or (not mine.is_float and mine.dtype != theirs.dtype):
        return f"{name} is {mine.dtype} in {donor.name} and {theirs.dtype} in {other.name}"
    return None


def _cause(
    mine: tuple[int, ...], theirs: tuple[int, ...], donor: Checkpoint, other: Checkpoint
) -> str:
    rows = [shape[0] if shape else 0 for shape in (mine, theirs)]
    sizes = [vocabulary_size(c.config, rows) for c in (donor, other)]
    if mine[1:] == theirs[1:] and sizes[0] != sizes[1] and rows == sizes:
        return (
            "different vocabularies (was one resized for added tokens?): --tokenizer-source union "
            "(tokenizer_source in a recipe) puts rows by token, --truncate-embeddings cuts them to "
            "what all have"
        )
    labels = [len(c.config.get("id2label") or PAIR) for c in (donor, other)]
    if mine[1:] == theirs[1:] and labels[0] != labels[1] and rows == labels:
        return (
            "classifiers of different numbers of labels (--part layers merges their layers alone)"
        )
    widths = [checkpoint.config.get("hidden_size") for checkpoint in (donor, other)]
    if None not in widths and widths[0] != widths[1]:
        return f"models of widths {widths[0]} and {widths[1]}"
    return "models of different sizes"
