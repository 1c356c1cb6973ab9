"""A tokenizer as `tokenizer.json` says it: its tokens, what they are, and how text is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.side_files import tokenizer_files
from mergekit_geo.checkpoints.vocabulary import has_tokenizer
from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import read_json

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
DECODER = "added_tokens_decoder"

NAMED = ("_token", "_tokens")
"""Ends of the settings that name special tokens."""

CUTTING = ("type", "merges", "unk_token", "byte_fallback", "ignore_merges", "dropout")
"""What of a model, besides its tokens, decides how text is cut."""

SLOW = ("vocab", "merges.txt", "added_tokens.json", "tekken.json", "bpe.codes")
SLOW_KINDS = (".model", ".spm", ".tiktoken")
"""Files, by their beginnings and endings, that say the same as `tokenizer.json` in another form."""


@dataclass(frozen=True, eq=False)
class TokenizerFile:
    """A fast tokenizer.

    Attributes:
        raw: The parsed `tokenizer.json`, or what transformers makes of another form.
        folder: Where the tokenizer's files lie.
    """

    raw: Mapping[str, Any]
    folder: Path

    @cached_property
    def ordinary(self) -> dict[str, int]:
        """Ids of the tokens that text is cut into."""
        found = self.raw["model"].get("vocab") or {}
        if isinstance(found, dict):
            return found
        return {piece[0]: index for index, piece in enumerate(found)}

    @cached_property
    def added(self) -> dict[str, dict[str, Any]]:
        """Settings of the tokens that are looked for first, by token in the order of ids."""
        found = self.raw.get("added_tokens") or []
        return {one["content"]: one for one in sorted(found, key=lambda one: int(one["id"]))}

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Ids of all tokens, as the tokenizers library gives them."""
        found = {**self.ordinary, **{token: int(one["id"]) for token, one in self.added.items()}}
        if len(found) == self.count:
            return found
        from tokenizers import Tokenizer  # ids with holes: added tokens are counted on without

        text = json.dumps(self.raw, ensure_ascii=False)
        whole: dict[str, int] = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
        return whole

    @property
    def count(self) -> int:
        """Rows that its ids need."""
        ids = [*self.ordinary.values(), *(int(one["id"]) for one in self.added.values())]
        return max(ids, default=-1) + 1

    def only(self, other: TokenizerFile) -> list[str]:
        """Ordinary tokens that another has not at all."""
        return [token for token in self.ordinary if token not in other.tokens]

    def unlike(self, other: TokenizerFile) -> str:
        """How another cuts text differently, apart from added tokens; empty if it does not."""
        if self.raw["model"] == other.raw["model"]:
            return ""
        own, theirs = self.only(other), other.only(self)
        if own or theirs:
            example = (own or theirs)[0]
            return (
                f"{len(own) + len(theirs):,} ordinary tokens are in one only, such as {example!r}"
            )
        for key in CUTTING:
            mine, others = (_pairs(one.raw["model"].get(key)) for one in (self, other))
            if mine != others:
                return f"their {key} differ" if key == "merges" else f"{key} differs"
        return "" if _scores(self.raw) == _scores(other.raw) else "the scores of tokens differ"


def _pairs(found: Any) -> Any:
    """Merges in one form: they are pairs, or texts with a space."""
    if not isinstance(found, list):
        return found
    return [tuple(one.split(" ")) if isinstance(one, str) else tuple(one) for one in found]


def _scores(raw: Mapping[str, Any]) -> Any:
    found = raw["model"].get("vocab")
    return dict(map(tuple, found)) if isinstance(found, list) else None


def read_tokenizer(folder: Path | None) -> TokenizerFile | None:
    """The tokenizer in a folder; None where there is none.

    Raises:
        FormatError: It is damaged, or in a form that transformers cannot read.
    """
    if folder is None or not has_tokenizer(folder):
        return None
    path = folder / FILE
    found = TokenizerFile(_parsed(path), folder) if path.is_file() else None
    if found is not None and _says_all(found):
        return found
    return TokenizerFile(_loaded(folder), folder)


def _parsed(path: Path) -> dict[str, Any]:
    raw = read_json(path)
    if not isinstance(raw.get("model"), dict):
        raise FormatError("not a sound tokenizer: it has no model", where=str(path))
    return raw


def _says_all(found: TokenizerFile) -> bool:
    """Whether the files beside it add no token: transformers adds those that it lacks."""
    return all(
        token in found.tokens and index in (None, found.tokens[token])
        for token, index in _declared(found.folder)
    )


def _declared(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Tokens that the files beside `tokenizer.json` name, with their ids where they have some."""
    for file in (SETTINGS, "special_tokens_map.json"):
        settings = read_json(folder / file) if (folder / file).is_file() else {}
        for index, one in (settings.get(DECODER) or {}).items():
            yield one["content"], int(index)
        for key, value in settings.items():
            if key.endswith(NAMED):
                several = value if isinstance(value, list) else [value]
                yield from ((t, None) for t in map(_text, several) if t)
    if (folder / "added_tokens.json").is_file():
        yield from read_json(folder / "added_tokens.json").items()


def _text(said: Any) -> str | None:
    """A token that is written as text, or with its settings."""
    found = said.get("content") if isinstance(said, dict) else said
    return found if isinstance(found, str) else None


def _loaded(folder: Path) -> dict[str, Any]:
    """What transformers makes of any form."""
    from mergekit_geo.checkpoints.loading import load_tokenizer  # loads transformers

    tokenizer: Any = load_tokenizer(folder)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise FormatError("a tokenizer in Python alone, which is not made fast", where=str(folder))
    raw: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return raw


def write_tokenizer(raw: Mapping[str, Any], source: Path, out: Path) -> None:
    """Write a fast tokenizer with the settings and templates of another.

    Args:
        raw: What `tokenizer.json` says.
        source: Folder of the other; files of it in slow forms are left out.
        out: Folder that is filled.
    """
    for file in tokenizer_files(source):
        if not (file.name.startswith(SLOW) or file.name.endswith(SLOW_KINDS)):
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_bytes((source / file).read_bytes())
    _write(out / FILE, raw)
    settings = read_json(out / SETTINGS) if (out / SETTINGS).is_file() else {}
    if DECODER in settings:
        added = {str(one["id"]): _without_id(one) for one in raw["added_tokens"]}
        _write(out / SETTINGS, {**settings, DECODER: added})


def _without_id(added: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in added.items() if key != "id"}


def _write(path: Path, said: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
