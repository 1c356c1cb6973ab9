"""One tokenizer of several: the base's, with the added tokens of the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mergekit_geo.checkpoints.reshape.tokenizer_file import TokenizerFile, TokenModel
from mergekit_geo.errors import IncompatibleError, UnsupportedError

PLAIN = {
    "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False,
}  # fmt: skip
"""Settings of a token that is added by its name alone."""


@dataclass(frozen=True)
class Held:
    """A model's tokenizer and the number of its rows.

    Attributes:
        name: What the user calls the model.
        file: The tokenizer.
        rows: Of the embedding.
    """

    name: str
    file: TokenizerFile
    rows: int

    @property
    def tokens(self) -> dict[str, int]:
        """Ids of the tokens that have a row."""
        found = self.file.tokens
        if self.file.count <= self.rows:
            return found
        return {token: row for token, row in found.items() if row < self.rows}


REMEDY = "merge fine-tunes of one base"


def refuse_unlike(held: Sequence[Held]) -> None:
    """Refuse a union of tokenizers that differ in more than added tokens.

    Raises:
        IncompatibleError: With the number of unlike tokens, and what to do.
    """
    base, *others = held
    for other in others:
        if other.file is not base.file and (unlike := base.file.unlike(other.file)):
            raise IncompatibleError(
                [f"{base.name} and {other.name} cut text differently: {unlike}; a union has the "
                 "tokenizer of one, and added tokens of the others"],
                remedy=f"where one tokenizer extends the other, tokenizer_source: "
                f"{_larger(base, other).name} puts the rows in its order; else {REMEDY}",
            )  # fmt: skip


def _larger(base: Held, other: Held) -> Held:
    return other if len(other.file.ordinary) > len(base.file.ordinary) else base


def refuse_foreign(output: Held, held: Sequence[Held]) -> None:
    """Refuse a tokenizer and a model's of which neither extends the other: two that cut unlike.

    Raises:
        IncompatibleError: With the number of unlike tokens, and what to do.
    """
    for other in held:
        own, theirs = output.file.only(other.file), other.file.only(output.file)
        if own and theirs:
            raise IncompatibleError(
                [f"{output.name} and {other.name} cut text differently: {len(own) + len(theirs):,} "
                 f"ordinary tokens are in one only, such as {own[0]!r} and {theirs[0]!r}, and rows "
                 "of the one mean nothing to the other"],
                remedy=REMEDY,
            )  # fmt: skip


def union(held: Sequence[Held]) -> tuple[TokenizerFile, list[str]]:
    """The base's tokenizer with the tokens of all, and warnings on unlike settings.

    Tokens without a row are no tokens of a model. The first settings of a token count.

    Raises:
        IncompatibleError: They differ in more than added tokens.
    """
    refuse_unlike(held)
    known = dict(held[0].file.added)
    warnings: list[str] = []
    for other in held[1:]:
        unlike = [t for t, one in _with_rows(other) if t in known and _differ(known[t], one)]
        known = {**dict(_with_rows(other)), **known}
        if odd := held[0].file.unlike_before(other.file):
            warnings.append(
                f"the {' and '.join(odd)} of {other.name}'s tokenizer is another than that of "
                f"{held[0].name}, which is used: text may be cut differently"
            )
        if unlike:
            warnings.append(
                f"{len(unlike)} added tokens have other settings in {other.name} ({unlike[0]!r}): "
                "those of the first model that has them are used"
            )
    new = [known[t] for one in held[1:] for t, _ in _with_rows(one)]
    return with_tokens(held[0], new), warnings


def _with_rows(held: Held) -> Iterator[tuple[str, dict[str, Any]]]:
    for token, one in held.file.added.items():
        if held.file.tokens[token] < held.rows:
            yield token, one


def _differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return any(first.get(key) != second.get(key) for key in PLAIN)


def with_tokens(base: Held, new: Iterable[Mapping[str, Any]]) -> TokenizerFile:
    """The base's tokenizer without tokens that no row is for, with new ones behind its own.

    Args:
        base: The tokenizer; itself where nothing changes.
        new: Settings of tokens; those that it has already are left alone.

    Raises:
        UnsupportedError: As `stripped`.
    """
    file = stripped(base)
    following, fresh = file.count, list[dict[str, Any]]()
    for one in {one["content"]: one for one in new if one["content"] not in file.tokens}.values():
        fresh.append({**PLAIN, **one, "id": following + len(fresh)})
    if not fresh:
        return file
    added = [*(file.head.get("added_tokens") or ()), *fresh]
    return replace(file, head={**file.head, "added_tokens": added})


def stripped(held: Held) -> TokenizerFile:
    """A tokenizer without the tokens that no row is for.

    Raises:
        UnsupportedError: Ordinary tokens of another kind of tokenizer than BPE are among these.
    """
    file = held.file
    gone = {token for token, row in file.tokens.items() if row >= held.rows}
    if not gone:
        return file
    added = [one for one in file.head.get("added_tokens") or () if one["content"] not in gone]
    model = file.model if gone.isdisjoint(file.ordinary) else _without(file.model, gone, held)
    return replace(file, head={**file.head, "added_tokens": added}, model=model)


def _without(model: TokenModel, gone: set[str], held: Held) -> TokenModel:
    """A BPE without some tokens, and the merges that need them."""
    found = model.parsed()
    if not isinstance(found.get("merges"), list):
        raise UnsupportedError(
            f"ordinary tokens have ids beyond its {held.rows} rows, which are left out of a BPE "
            f"alone, and this is {found.get('type')}",
            where=held.name,
        )
    found["vocab"] = {t: i for t, i in found["vocab"].items() if t not in gone}
    found["merges"] = [one for one in found["merges"] if not gone & _products(one)]
    return TokenModel(json.dumps(found, ensure_ascii=False).encode())


def _products(merge: Any) -> set[str]:
    """The tokens that a merge is of, and the one that it makes."""
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    return {*parts, "".join(parts)}
