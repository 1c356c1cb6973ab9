"""One tokenizer of several: the base's, with the added tokens of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_geo.checkpoints.reshape.tokenizer_file import TokenizerFile
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
        return {token: row for token, row in self.file.tokens.items() if row < self.rows}


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


def union(held: Sequence[Held]) -> tuple[dict[str, Any], list[str]]:
    """What `tokenizer.json` says with the tokens of all, and warnings on unlike settings.

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


def with_tokens(base: Held, new: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `tokenizer.json` of the base says, without tokens that no row is for, with new ones.

    Args:
        base: The tokenizer.
        new: Settings of tokens; those that it has already are left alone.
    """
    raw = stripped(base)
    tokens, added = base.tokens, list(raw.get("added_tokens") or [])
    following = max(tokens.values(), default=-1) + 1
    for one in new:
        if one["content"] not in tokens:
            tokens[one["content"]] = following
            added.append({**PLAIN, **one, "id": following})
            following += 1
    return {**raw, "added_tokens": added}


def stripped(held: Held) -> dict[str, Any]:
    """What `tokenizer.json` says without the tokens that no row is for.

    Raises:
        UnsupportedError: Ordinary tokens of another kind of tokenizer than BPE are among these.
    """
    raw = dict(held.file.raw)
    gone = {token for token, row in held.file.tokens.items() if row >= held.rows}
    if not gone:
        return raw
    raw["added_tokens"] = [one for one in raw["added_tokens"] if one["content"] not in gone]
    if ordinary := gone & held.file.ordinary.keys():
        model = raw["model"]
        if not isinstance(model.get("merges"), list):
            raise UnsupportedError(
                f"{len(ordinary)} ordinary tokens have ids beyond its {held.rows} rows",
                where=held.name,
            )
        raw["model"] = {
            **model,
            "vocab": {t: i for t, i in model["vocab"].items() if t not in gone},
            "merges": [m for m in model["merges"] if not gone & _products(m)],
        }
    return raw


def _products(merge: Any) -> set[str]:
    """The tokens that a merge is of, and the one that it makes."""
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    return {*parts, "".join(parts)}
