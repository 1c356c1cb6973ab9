"""A model that others are a part of, and how they take the place of that part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.naming import may_be_buffer, schema_of
from mergekit_geo.checkpoints.parts import (
    EMBEDDINGS,
    EXPERTS_NAME,
    HEAD,
    MTP,
    Part,
    counted,
    keys_of,
    parts_of,
)
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.own_head import match_heads
from mergekit_geo.checkpoints.reshape.part_settings import unlike_sizes
from mergekit_geo.checkpoints.reshape.pieces import Piece, pieced, with_copied

SHOWN = 10
"""Most tensors that a message names."""

ROWS = "unlike rows: --tokenizer-source puts them in the order of one vocabulary"


@dataclass(frozen=True)
class Whole:
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
    ) -> Whole:
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
        match_heads(mine, theirs, other)
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
        cause = ROWS if by_token else unlike_sizes(self.part, self.model, other)
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
