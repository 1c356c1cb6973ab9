"""Models that are one part of a model, or have it, seen as the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.configuration import TIE, without_ties
from mergekit_geo.checkpoints.naming import may_be_buffer, schema_of
from mergekit_geo.checkpoints.parts import (
    AUDIO,
    EMBEDDINGS,
    EXPERTS_NAME,
    HEAD,
    MTP,
    TEXT,
    TIED,
    VISION,
    Part,
    counted,
    keys_of,
    may_tie,
    names_of_parts,
    nearest_parts,
    part_named,
    parts_of,
    tensors_in,
)
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.pieces import Piece, pieced, with_copied
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.checkpoints.vocabulary import compare_vocabularies
from mergekit_geo.errors import ArgumentError, IncompatibleError
from mergekit_geo.files.sound_json import brief

SHOWN = 10
"""Most tensors that a message names."""

SAME = (
    "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rope_theta", "sliding_window", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip
"""Settings of a part that change what its weights mean."""

ROWS = "unlike rows: --tokenizer-source puts them in the order of one vocabulary"

WIDTHS = ("hidden_size", "d_model", "n_embd")


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
    model, untied = _with_own_head(donor, others)
    whole = _Whole(model, part_named(part), _slots(part, model))
    whole = whole.without([slots[one] for one in others], others, allow_missing=allow_missing)
    found = {one: whole.holding(one, slots[one]) for one in others}
    conflicts, warnings = compare_vocabularies([donor, *others])
    if problems := [*(line for _, lines in found.values() for line in lines), *conflicts]:
        raise IncompatibleError(
            problems, remedy=f"merge fine-tunes of the {whole.part} model that {donor.name} has"
        )
    views = [found[one][0] if one in found else with_copied(model, whole.copied) for one in slots]
    alone = [one for one in others if not whole.is_like(one)]  # the others are compared as a whole
    settings = [line for one in alone for line in _unlike_settings(whole.part, donor, one)]
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
    donor = next((one for one in checkpoints if len(_modules(one)) > 1), None)
    given = {
        one: part
        for one, part in zip(checkpoints, parts, strict=True)
        if part and len(_modules(one)) == 1
    }
    if donor is None or not given:
        return Reshaped(tuple(checkpoints))
    model, untied = _with_own_head(donor, list(given))
    views: dict[Checkpoint, Checkpoint] = {donor: model}
    problems, notes = [], []
    for one, part in given.items():
        whole = _Whole(model, part_named(part), _slots(part, model), marks=False)
        own = _slots(part, one)
        views[one], unfit = whole.without([own], [one], allow_missing=allow_missing).holding(
            one, own
        )
        problems += unfit
        notes.append(f"{one.name} is taken as {whole.part} of {donor.name}")
    if problems:
        raise IncompatibleError(problems, remedy=f"merge fine-tunes of the parts of {donor.name}")
    return Reshaped(tuple(views.get(one, one) for one in checkpoints), tuple(notes), untied)


def _with_own_head(
    whole: Checkpoint, others: Sequence[Checkpoint]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """A model that ties its output layer, with one of its own where another has that.

    The tensor is its embeddings. The model as it is, if it has one or if nothing tells its name.
    """
    other = next((one for one in others if _has_own_head(one)), None)
    if other is None or _heads(whole):
        return whole, ()
    schema = schema_of(whole.config)
    head, source = next(((t, s) for t, s in schema.ties.items() if t.endswith(TIED)), ("", ""))
    stored = next((name for name in whole.tensors if schema.canonical(name) == source), None)
    if stored is None:
        return whole, ()
    pieces = {name: Piece(whole, name) for name in whole.tensors} | {head: Piece(whole, stored)}
    found = pieced(whole, pieces, Frame(whole, without_ties(whole.config)), ())
    return found, (
        f"{head} is tied to {stored} in {whole.name} and not in {other.name}: in the output it is "
        f"a tensor of its own, and {TIE} is false",
    )


def _has_own_head(checkpoint: Checkpoint) -> bool:
    """Whether a model stores an output layer that is not its embeddings."""
    stated = checkpoint.config.get(TIE)
    if stated is not None or not _heads(checkpoint):
        return not stated and bool(_heads(checkpoint))
    schema = schema_of(checkpoint.config)
    return bool(schema.expected) and not any(name.endswith(TIED) for name in schema.ties)


def _heads(checkpoint: Checkpoint) -> list[str]:
    """Names of stored output layers that could be tied to embeddings."""
    parts = parts_of(checkpoint.tensors, checkpoint.config)
    return [name for name, part in parts.items() if part.kind == HEAD and name.endswith(TIED)]


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
        kept: Names of tensors in the part that stay as they are, since models have none for them.
    """

    model: Checkpoint
    part: str
    taken: Sequence[str]
    marks: bool = True
    kept: frozenset[str] = frozenset()

    @cached_property
    def copied(self) -> list[str]:
        """Names of its other tensors."""
        merged = {*self.taken} - self.kept
        return [name for name in self.model.tensors if name not in merged]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The part of each of its tensors."""
        return parts_of(self.model.tensors, self.model.config)

    @cached_property
    def frame(self) -> Frame:
        """Configuration and side files of the checkpoint."""
        return Frame(self.model, self.model.config)

    def without(
        self, slots: Sequence[Sequence[str]], others: Sequence[Checkpoint], *, allow_missing: bool
    ) -> _Whole:
        """The same, where it keeps what some of the others have nothing of.

        Args:
            slots: Names of each model's tensors in the part.
            others: The models.
            allow_missing: Whether it does so, but for layers that transformers does without.
        """
        kept: set[str] = set()
        for one, own in zip(others, slots, strict=True):
            mine, theirs = self._keys(one, own)
            for part, names in self._lacking(mine, theirs, one).items():
                is_idle = part.kind == MTP and all(map(self._is_ignored, names))
                kept.update(names if allow_missing or is_idle else ())
        return replace(self, kept=frozenset(kept))

    def _lacking(
        self, mine: Mapping[str, str], theirs: Mapping[str, str], other: Checkpoint
    ) -> dict[Part, list[str]]:
        """Names of this model's tensors of kinds that another has nothing of."""
        found: dict[Part, list[str]] = {}
        for name in mine.values():
            found.setdefault(self.parts[name], []).append(name)
        kinds = {part.kind for part in parts_of(theirs.values(), other.config).values()}
        shared = {self.parts[name] for key, name in mine.items() if key in theirs}
        return {
            part: names
            for part, names in found.items()
            if part not in shared and part.kind not in kinds
        }

    def _is_ignored(self, name: str) -> bool:
        return schema_of(self.model.config).is_ignored(name)

    def _keys(self, other: Checkpoint, own: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Names in the part by what they are called within it, of this model and of another."""
        mine, theirs = _sound_keys(self.taken), _sound_keys(own)
        _match_heads(mine, theirs, other)
        return mine, theirs

    def holding(self, other: Checkpoint, own: Sequence[str]) -> tuple[Checkpoint, list[str]]:
        """Another model in the place of the part, and what is in the way."""
        if self.marks and self.is_like(other):
            return with_copied(other, self.copied), []
        mine, theirs = self._keys(other, own)
        for key in [key for key, name in mine.items() if name in self.kept]:
            del mine[key]
            theirs.pop(key, None)
        problems = self._unmatched(mine, theirs, other)
        pieces = {name: Piece(self.model, name) for name in self.model.tensors}
        for key in mine.keys() & theirs.keys():
            piece = self._piece(mine[key], other, theirs[key])
            if isinstance(piece, str):
                problems.append(piece)
            else:
                pieces[mine[key]] = piece
        return self._view(other, pieces), sorted(problems)

    def _unmatched(
        self, mine: Mapping[str, str], theirs: Mapping[str, str], other: Checkpoint
    ) -> list[str]:
        """What only one of two models has of the part."""
        lacking = self._lacking(mine, theirs, other)
        lines = [
            f"{part} ({_counted(names)}, {names[0]}) is in {self.model.name} and not in "
            f"{other.name}: --allow-missing-parts copies it"
            for part, names in lacking.items()
        ]
        alone = [n for key, n in mine.items() if key not in theirs and self.parts[n] not in lacking]
        further = [name for key, name in theirs.items() if key not in mine]
        if all(any(EXPERTS_NAME.search(name) for name in names) for names in (alone, further)):
            lines.append(
                f"experts are stored otherwise in {other.name} than in {self.model.name}: load "
                f"both with transformers, give the weights of {other.name} to that part, and save "
                "it as a whole model"
            )
        both = (self.model, other)
        for names, (holder, another) in ((alone, both), (further, both[::-1])):
            if names:
                shown = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
                lines.append(
                    f"{_counted(names)} of that part {'is' if len(names) == 1 else 'are'} in "
                    f"{holder.name} and not in {another.name}: {shown}"
                )
        return lines

    def is_like(self, other: Checkpoint) -> bool:
        """Whether it can stay as it is: its other tensors are as they are here."""
        mine, theirs = self.model.tensors, other.tensors
        same = mine.keys() == theirs.keys()
        return same and all(mine[name].shape == theirs[name].shape for name in self.copied)

    def _view(self, other: Checkpoint, pieces: Mapping[str, Piece]) -> Checkpoint:
        found = pieced(other, pieces, self.frame, self.copied if self.marks else self.kept)
        return replace(
            found, within=self.model, fetched=lambda _: replace(found.fetch(), within=self.model)
        )

    def _piece(self, name: str, other: Checkpoint, stored: str) -> Piece | str:
        """A tensor of the other model in the place of one of this, or why it does not fit.

        Where this has more rows of an embedding, for tokens that were added, it keeps these.
        """
        mine, theirs = self.model.tensors[name], other.tensors[stored]
        written = mine.written or mine.dtype
        if mine.is_float == theirs.is_float and mine.shape == theirs.shape:
            return Piece(other, stored, written=written if mine.is_float else "")
        by_token = (
            self.parts[name].kind in {EMBEDDINGS, HEAD} and mine.shape[1:] == theirs.shape[1:]
        )
        if by_token and mine.is_float and theirs.is_float and theirs.shape < mine.shape:
            return Piece(other, stored, self.model, written)
        cause = ROWS if by_token else _cause(self.part, self.model, other)
        return (
            f"{name} is {mine.dtype} {list(mine.shape)} in {self.model.name} and {theirs.dtype} "
            f"{list(theirs.shape)} in {other.name}: {cause}"
        )

    def told(self, first: Checkpoint) -> list[str]:
        """What is merged and what is copied."""
        lines = [
            f"{len(self.taken) - len(self.kept)} tensors of {self.part} are merged, "
            f"{counted(self.copied, self.parts)} are copied from {self.model.name}"
        ]
        if first.tensors.keys() != self.model.tensors.keys():
            lines.append(
                f"{first.name} has {self.part} alone: architecture, configuration and tokenizer of "
                f"the output are those of {self.model.name}"
            )
        return lines


def _counted(names: Sequence[str]) -> str:
    return "1 tensor" if len(names) == 1 else f"{len(names)} tensors"


def _sound_keys(names: Sequence[str]) -> dict[str, str]:
    return keys_of(name for name in names if not may_be_buffer(name))


def _match_heads(mine: dict[str, str], theirs: dict[str, str], other: Checkpoint) -> None:
    """Output layers that are tied in one model only: the embedding stands for one not stored."""
    if not _has_own_head(other):
        for key in [key for key in theirs if key not in mine and key.endswith(TIED)]:
            del theirs[key]
    if not may_tie(other):
        return
    kinds = parts_of(other.tensors, other.config)
    for key in [key for key in mine if key not in theirs and key.endswith(TIED)]:
        found = [name for name in theirs.values() if kinds[name].kind == EMBEDDINGS]
        if found:  # positions have embeddings too, and fewer rows
            theirs[key] = max(found, key=lambda name: other.tensors[name].shape)


def _cause(part: str, whole: Checkpoint, other: Checkpoint) -> str:
    widths = [_width(_settings(part, one)) for one in (whole, other)]
    if None in widths or widths[0] == widths[1]:
        return "models of different sizes"
    return f"models of widths {widths[0]} and {widths[1]}"


def _width(config: Config) -> object:
    return next((config[key] for key in WIDTHS if key in config), None)


def _settings(part: str, checkpoint: Checkpoint) -> Config:
    """Settings of a part: of a tower its own, of any other those of the language model."""
    is_tower = part in {VISION, AUDIO}
    inner = checkpoint.config.get(f"{part if is_tower else TEXT}_config")
    if isinstance(inner, dict):
        return inner
    return {} if is_tower and len(_modules(checkpoint)) > 1 else checkpoint.config


def _unlike_settings(part: str, donor: Checkpoint, other: Checkpoint) -> list[str]:
    """Warnings on settings that change what the weights of a part mean."""
    mine, theirs = (_with_rope(_settings(part, one)) for one in (donor, other))
    return [
        f"config.json: {key} is {brief(mine[key])} in {donor.name} and {brief(theirs[key])} in "
        f"{other.name}; the output has that of {donor.name}"
        for key in SAME
        if key in mine and key in theirs and mine[key] != theirs[key]
    ]


def _with_rope(config: Config) -> Config:
    inner = config.get("rope_parameters")
    return {**inner, **config} if isinstance(inner, dict) else config
