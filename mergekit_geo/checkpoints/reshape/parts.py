"""A model seen as a part of another, and models completed by parts that only others have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import configs_of
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.naming import may_be_buffer
from mergekit_geo.checkpoints.parts import (
    EMBEDDINGS,
    HEAD,
    TIED,
    Part,
    counted,
    keys_of,
    may_tie,
    missing_parts,
    names_of_parts,
    nearest_parts,
    part_named,
    parts_of,
    parts_with_names,
    tensors_in,
)
from mergekit_geo.checkpoints.reading import Bytes, Read
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.checkpoints.reshape.view import view
from mergekit_geo.checkpoints.settings import SILENT
from mergekit_geo.checkpoints.vocabulary import compare_vocabularies
from mergekit_geo.errors import ArgumentError, IncompatibleError
from mergekit_geo.files.sound_json import brief

SHOWN = 10
"""Most settings or tensors that a message names."""

SAME = (
    "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rope_theta", "sliding_window", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip
"""Settings of a language model that change what its weights mean."""

ROWS = "unlike rows: --tokenizer-source puts them in the order of one vocabulary"

WIDTHS = ("hidden_size", "d_model", "n_embd")


@dataclass(frozen=True)
class Piece:
    """A tensor of a view.

    Attributes:
        source: What it is read from.
        stored: Its name there.
        rest: What is read after the end of that, where it has fewer rows; under the view's name.
    """

    source: Checkpoint
    stored: str
    rest: Checkpoint | None = None


def pieced(
    checkpoint: Checkpoint, pieces: Mapping[str, Piece], frame: Frame, copied: Collection[str]
) -> Checkpoint:
    """A view of a checkpoint, some of whose tensors are read from others.

    Args:
        checkpoint: Where it comes from.
        pieces: Of each tensor of the view, by its name.
        frame: Configuration and side files.
        copied: Names of tensors that a merge copies.
    """
    own = {name: one.stored for name, one in pieces.items() if one.source is checkpoint}
    others = [one for piece in pieces.values() for one in (piece.source, piece.rest) if one]
    sources = tuple(one for one in dict.fromkeys(others) if one is not checkpoint)
    said = ["parts", sorted(own.items()), [one.fingerprint() for one in sources]]
    found = view(
        checkpoint,
        {name: _info(name, piece) for name, piece in pieces.items()},
        partial(_reader, checkpoint, pieces),
        frame,
        said,
    )
    return replace(
        found,
        is_local=all(one.is_local for one in (checkpoint, *sources)),
        stored=own,
        ties={},
        copied=frozenset(copied),
        fetched=lambda _: _fetched(checkpoint, pieces, frame, copied),
    )


def _fetched(
    checkpoint: Checkpoint, pieces: Mapping[str, Piece], frame: Frame, copied: Collection[str]
) -> Checkpoint:
    """The view over what has been downloaded."""
    every = {one for piece in pieces.values() for one in (piece.source, piece.rest) if one}
    there = {one: one.fetch() for one in {checkpoint, *every}}
    found = {
        name: Piece(there[piece.source], piece.stored, piece.rest and there[piece.rest])
        for name, piece in pieces.items()
    }
    return pieced(there[checkpoint], found, frame, copied)


def _info(name: str, piece: Piece) -> TensorInfo:
    info = piece.source.tensors[piece.stored]
    return info if piece.rest is None else replace(info, shape=piece.rest.tensors[name].shape)


def _reader(checkpoint: Checkpoint, pieces: Mapping[str, Piece], fetched: Checkpoint) -> Read:
    def read(name: str, start: int, stop: int, out: Bytes) -> None:
        piece = pieces[name]
        source = fetched if piece.source is checkpoint else piece.source
        info = source.tensors[piece.stored]
        end = min(stop, info.count)
        if start < end:
            source.read(piece.stored, start, end, out)
        if piece.rest is not None and stop > info.count:
            begin = max(start, info.count)
            piece.rest.read(name, begin, stop, out[(begin - start) * ITEM_BYTES[info.dtype] :])

    return read


def with_copied(checkpoint: Checkpoint, copied: Collection[str]) -> Checkpoint:
    """A checkpoint of whose tensors a merge copies some."""
    return replace(
        checkpoint,
        copied=frozenset(copied),
        fetched=lambda _: with_copied(checkpoint.fetch(), copied),
    )


def grafted(checkpoints: Sequence[Checkpoint], part: str) -> Reshaped:
    """Models seen as the first that has more than a part of it; all but the part is that model's.

    Args:
        checkpoints: Whole models, and models that are such a part alone, in any order.
        part: Such as `text`.

    Raises:
        ArgumentError: A model has no such part.
        IncompatibleError: A model does not fit into that part of the first.
    """
    slots = {one: _slots(part, one) for one in checkpoints}
    donor = next((one for one, own in slots.items() if len(own) < len(one.tensors)), None)
    if donor is None:
        return Reshaped(tuple(checkpoints))
    whole = _Whole(donor, part_named(part), slots[donor])
    others = [one for one in slots if one is not donor]
    found = {one: whole.holding(one, slots[one]) for one in others}
    conflicts, warnings = compare_vocabularies([donor, *others])
    if problems := [*(line for _, lines in found.values() for line in lines), *conflicts]:
        raise IncompatibleError(
            problems, remedy=f"merge fine-tunes of the {whole.part} model that {donor.name} has"
        )
    views = [found[one][0] if one in found else with_copied(one, whole.copied) for one in slots]
    settings = [line for one in others for line in _unlike_settings(donor, one)]
    return Reshaped(tuple(views), tuple(whole.told(checkpoints[0])), (*warnings, *settings))


def seated(checkpoints: Sequence[Checkpoint], parts: Sequence[str]) -> Reshaped:
    """Models seen as the first of several modules, where they are one of these modules alone.

    Args:
        checkpoints: Whole models, and models that are a module alone, in any order.
        parts: The module that each gives; empty for more than one.

    Raises:
        ArgumentError: A model has no such part.
        IncompatibleError: A model does not fit into that part of the first.
    """
    donor = next((one for one in checkpoints if len(_modules(one)) > 1), None)
    if donor is None:
        return Reshaped(tuple(checkpoints))
    views, problems, notes = [], [], []
    for one, part in zip(checkpoints, parts, strict=True):
        if not part or len(_modules(one)) > 1:
            views.append(one)
            continue
        whole = _Whole(donor, part_named(part), _slots(part, donor), marks=False)
        found, unfit = whole.holding(one, _slots(part, one))
        views.append(found)
        problems += unfit
        notes.append(f"{one.name} is taken as {whole.part} of {donor.name}")
    if problems:
        raise IncompatibleError(problems, remedy=f"merge fine-tunes of the parts of {donor.name}")
    return Reshaped(tuple(views), tuple(notes))


def _modules(checkpoint: Checkpoint) -> set[str]:
    return {part.module for part in parts_of(checkpoint.tensors, checkpoint.config).values()}


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


@dataclass(frozen=True)
class _Whole:
    """A model that others are seen as a part of.

    Attributes:
        model: The model.
        part: Which part.
        taken: Names of its tensors there.
        marks: Whether a merge of the views copies all other tensors.
    """

    model: Checkpoint
    part: str
    taken: Sequence[str]
    marks: bool = True

    @cached_property
    def copied(self) -> list[str]:
        """Names of its other tensors."""
        taken = set(self.taken)
        return [name for name in self.model.tensors if name not in taken]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The part of each of its tensors."""
        return parts_of(self.model.tensors, self.model.config)

    @cached_property
    def frame(self) -> Frame:
        """Configuration and side files of the checkpoint."""
        return Frame(self.model, self.model.config)

    def holding(self, other: Checkpoint, own: Sequence[str]) -> tuple[Checkpoint, list[str]]:
        """Another model in the place of the part, and what is in the way."""
        if self.marks and self._is_like(other):
            return with_copied(other, self.copied), []
        mine, theirs = _sound_keys(self.taken), _sound_keys(own)
        _match_heads(mine, theirs, other)
        problems = _unmatched(mine, theirs, self.model, other)
        pieces = {name: Piece(self.model, name) for name in self.model.tensors}
        for key in mine.keys() & theirs.keys():
            piece = self._piece(mine[key], other, theirs[key])
            if isinstance(piece, str):
                problems.append(piece)
            else:
                pieces[mine[key]] = piece
        return self._view(other, pieces), sorted(problems)

    def _is_like(self, other: Checkpoint) -> bool:
        """Whether it can stay as it is: its other tensors are as they are here."""
        mine, theirs = self.model.tensors, other.tensors
        same = mine.keys() == theirs.keys()
        return same and all(mine[name].shape == theirs[name].shape for name in self.copied)

    def _view(self, other: Checkpoint, pieces: Mapping[str, Piece]) -> Checkpoint:
        found = pieced(other, pieces, self.frame, self.copied if self.marks else ())
        return replace(
            found, within=self.model, fetched=lambda _: replace(found.fetch(), within=self.model)
        )

    def _piece(self, name: str, other: Checkpoint, stored: str) -> Piece | str:
        """A tensor of the other model in the place of one of this, or why it does not fit.

        Where this has more rows of an embedding, for tokens that were added, it keeps these.
        """
        mine, theirs = self.model.tensors[name], other.tensors[stored]
        if mine.is_float == theirs.is_float and mine.shape == theirs.shape:
            return Piece(other, stored)
        by_token = (
            self.parts[name].kind in {EMBEDDINGS, HEAD} and mine.shape[1:] == theirs.shape[1:]
        )
        if by_token and mine.dtype == theirs.dtype and theirs.shape < mine.shape:
            return Piece(other, stored, self.model)
        cause = ROWS if by_token else _cause(self.model, other)
        return (
            f"{name} is {mine.dtype} {list(mine.shape)} in {self.model.name} and {theirs.dtype} "
            f"{list(theirs.shape)} in {other.name}: {cause}"
        )

    def told(self, first: Checkpoint) -> list[str]:
        """What is merged and what is copied."""
        lines = [
            f"{len(self.taken)} tensors of {self.part} are merged, "
            f"{counted(self.copied, self.parts)} are copied from {self.model.name}"
        ]
        if first.tensors.keys() != self.model.tensors.keys():
            lines.append(
                f"{first.name} has {self.part} alone: architecture, configuration and tokenizer of "
                f"the output are those of {self.model.name}"
            )
        return lines


def _unmatched(
    mine: Mapping[str, str], theirs: Mapping[str, str], whole: Checkpoint, other: Checkpoint
) -> list[str]:
    """What only one of two models has of a part."""
    lines = []
    for one, holder, another, lacking in (
        (mine, whole, theirs, other), (theirs, other, mine, whole),
    ):  # fmt: skip
        if names := [name for key, name in one.items() if key not in another]:
            shown = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
            lines.append(
                f"{len(names)} tensors of that part are in {holder.name} and not in "
                f"{lacking.name}: {shown}"
            )
    return lines


def _sound_keys(names: Sequence[str]) -> dict[str, str]:
    return keys_of(name for name in names if not may_be_buffer(name))


def _match_heads(mine: dict[str, str], theirs: dict[str, str], other: Checkpoint) -> None:
    """Output layers that are tied in one model only: the embedding stands for one not stored."""
    if not may_tie(other):
        return
    kinds = parts_of(other.tensors, other.config)
    for key in [key for key in theirs if key not in mine and key.endswith(TIED)]:
        del theirs[key]
    for key in [key for key in mine if key not in theirs and key.endswith(TIED)]:
        found = [name for name in theirs.values() if kinds[name].kind == EMBEDDINGS]
        theirs |= {key: found[0]} if found else {}


def _cause(whole: Checkpoint, other: Checkpoint) -> str:
    widths = [_width(one.config) for one in (whole, other)]
    if None in widths or widths[0] == widths[1]:
        return "models of different sizes"
    return f"models of widths {widths[0]} and {widths[1]}"


def _width(config: Config) -> object:
    inner = _language(config)
    return next((inner[key] for key in WIDTHS if key in inner), None)


def _language(config: Config) -> Config:
    """Settings of the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _unlike_settings(donor: Checkpoint, other: Checkpoint) -> list[str]:
    """Warnings on settings that change what the weights of a language model mean."""
    mine, theirs = (_with_rope(_language(one.config)) for one in (donor, other))
    return [
        f"config.json: {key} is {brief(mine[key])} in {donor.name} and {brief(theirs[key])} in "
        f"{other.name}; the output has that of {donor.name}"
        for key in SAME
        if key in mine and key in theirs and mine[key] != theirs[key]
    ]


def _with_rope(config: Config) -> Config:
    inner = config.get("rope_parameters")
    return {**inner, **config} if isinstance(inner, dict) else config


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
        config = {
            key: value for i in holders.values() for key, value in checkpoints[i].config.items()
        }
        source, config = (
            " and ".join(checkpoints[i].name for i in holders.values()),
            {**config, **first},
        )
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
