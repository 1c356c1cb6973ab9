"""A tokenizer as `tokenizer.json` says it: its tokens, what they are, and how text is cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.side_files import tokenizer_files
from mergekit_geo.checkpoints.vocabulary import has_tokenizer
from mergekit_geo.errors import FormatError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import parse_json, read_json

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
DECODER = "added_tokens_decoder"

NAMED = ("_token", "_tokens")
"""Ends of the settings that name special tokens."""

MODEL = re.compile(rb'"model"\s*:\s*(?=\{)')
MERGES = re.compile(rb'"merges"\s*:\s*\[')

BEFORE = ("normalizer", "pre_tokenizer")
"""What is done to text before it is cut into tokens."""

CUTTING = ("type", "merges", "unk_token", "byte_fallback", "ignore_merges", "dropout")
"""What of a model, besides its tokens, decides how text is cut."""

SLOW = ("vocab", "merges.txt", "added_tokens.json", "tekken.json", "bpe.codes")
SLOW_KINDS = (".model", ".spm", ".tiktoken")
"""Files, by their beginnings and endings, that say the same as `tokenizer.json` in another form."""


class TokenModel:
    """What `tokenizer.json` says under `model`: the ordinary tokens, and how text is cut into them.

    It is kept as text; parsed it takes ten times the memory.

    Args:
        data: JSON in UTF-8.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def parsed(self) -> dict[str, Any]:
        """The whole of it.

        Raises:
            ValueError: It is no sound JSON.
        """
        found: dict[str, Any] = parse_json(self.data.decode("utf-8"))
        return found

    @cached_property
    def ordinary(self) -> dict[str, int]:
        """Ids of the tokens that text is cut into."""
        found = self._without_merges().get("vocab") or {}
        if isinstance(found, dict):
            return found
        return {piece[0]: index for index, piece in enumerate(found)}

    def _without_merges(self) -> dict[str, Any]:
        """All but the merges, which are most of a BPE, and stand at its end."""
        if found := MERGES.search(self.data):
            text = self.data[: found.end()] + self.data[self.data.rindex(b"]") :]
            with suppress(ValueError):
                less: dict[str, Any] = parse_json(text.decode("utf-8"))
                if "vocab" in less:
                    return less
        return self.parsed()

    def unlike(self, other: TokenModel) -> str:
        """How another of the same tokens cuts text differently; empty if it does not."""
        mine, theirs = self.parsed(), other.parsed()
        for key in CUTTING:
            if _stated(mine.get(key)) != _stated(theirs.get(key)):
                return f"their {key} differ" if key == "merges" else f"{key} differs"
        return "" if _scores(mine) == _scores(theirs) else "the scores of tokens differ"


@dataclass(frozen=True, eq=False)
class TokenizerFile:
    """A fast tokenizer.

    Attributes:
        head: What `tokenizer.json` says, but for the model: added tokens, normalizer, ...
        model: The rest.
        folder: Where the tokenizer's files lie.
    """

    head: Mapping[str, Any]
    model: TokenModel
    folder: Path

    @property
    def ordinary(self) -> dict[str, int]:
        """Ids of the tokens that text is cut into."""
        return self.model.ordinary

    @cached_property
    def added(self) -> dict[str, dict[str, Any]]:
        """Settings of the tokens that are looked for first, by token in the order of ids."""
        found = self.head.get("added_tokens") or []
        return {one["content"]: one for one in sorted(found, key=lambda one: int(one["id"]))}

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Ids of all tokens, as the tokenizers library gives them."""
        found = {**self.ordinary, **{token: int(one["id"]) for token, one in self.added.items()}}
        if len(found) == self.count:
            return found
        from tokenizers import Tokenizer  # ids with holes: added tokens are counted on without

        text = b"".join(self.pieces()).decode("utf-8")
        whole: dict[str, int] = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
        return whole

    @cached_property
    def count(self) -> int:
        """Rows that its ids need."""
        ordinary = max(self.ordinary.values(), default=-1)
        return max([ordinary, *(int(one["id"]) for one in self.added.values())]) + 1

    def pieces(self) -> tuple[bytes, bytes, bytes]:
        """A `tokenizer.json`, in parts that follow one another."""
        head = json.dumps(self.head, indent=2, ensure_ascii=False).removesuffix("}").rstrip()
        comma = "," if self.head else ""
        return f'{head}{comma}\n  "model": '.encode(), self.model.data, b"}\n"

    def is_same(self, other: TokenizerFile) -> bool:
        """Whether another says the same."""
        return self.head == other.head and self.model.data == other.model.data

    def only(self, other: TokenizerFile) -> list[str]:
        """Ordinary tokens that another has not at all."""
        return [token for token in self.ordinary if token not in other.tokens]

    def unlike_before(self, other: TokenizerFile) -> list[str]:
        """What does otherwise than another's to text before it is cut."""
        if all(self.head.get(key) == other.head.get(key) for key in BEFORE):
            return []
        mine, theirs = self._before, other._before
        return [key for key in BEFORE if mine[key] != theirs[key]]

    @cached_property
    def _before(self) -> dict[str, Any]:
        """What is done to text before, as the tokenizers library of today writes it."""
        from tokenizers import Tokenizer  # for files of its older releases

        said = {key: self.head.get(key) for key in BEFORE}
        text = json.dumps({**said, "model": {"type": "BPE", "vocab": {}, "merges": []}})
        try:
            found: dict[str, Any] = json.loads(Tokenizer.from_str(text).to_str())
        except Exception:  # the tokenizers library raises bare Exception
            return said
        return found

    def unlike(self, other: TokenizerFile) -> str:
        """How another cuts text differently, apart from added tokens; empty if it does not."""
        if self.model is other.model:
            return ""
        own, theirs = self.only(other), other.only(self)
        if not own and not theirs:
            return self.model.unlike(other.model)
        example = (own or theirs)[0]
        count = len(own) + len(theirs)
        return f"{count:,} ordinary tokens are in one only, such as {example!r}"


def _stated(found: Any) -> Any:
    """A setting in one form: merges are pairs, or texts with a space; older files leave out more.

    Example:
        >>> _stated(["a b"]) == _stated([["a", "b"]]), _stated(False) == _stated(None)
        (True, True)
    """
    if not isinstance(found, list):
        return found or None
    return [tuple(one.split(" ")) if isinstance(one, str) else tuple(one) for one in found]


def _scores(model: Mapping[str, Any]) -> Any:
    found = model.get("vocab")
    return dict(map(tuple, found)) if isinstance(found, list) else None


def read_tokenizer(
    folder: Path | None, known: Sequence[TokenizerFile] = ()
) -> TokenizerFile | None:
    """The tokenizer in a folder; None where there is none.

    Args:
        folder: Of a checkpoint; None for one in memory.
        known: Tokenizers that are read already: a model that is one of theirs is not kept twice.

    Raises:
        FormatError: It is damaged, or in a form that transformers cannot read.
    """
    if folder is None or not has_tokenizer(folder):
        return None
    path = folder / FILE
    if path.is_file():
        found = _parsed(path, folder, known)
        if _says_all(found):
            return found
    return _split(_loaded(folder), folder, known)


def _parsed(path: Path, folder: Path, known: Sequence[TokenizerFile]) -> TokenizerFile:
    """What `tokenizer.json` says.

    Raises:
        FormatError: It is damaged.
    """
    try:
        found = _split(read_bytes(path), folder, known)
        if not found.tokens:
            raise ValueError("it has no tokens")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise FormatError(f"not a sound tokenizer: {error}", where=str(path)) from error
    return found


def _split(data: bytes, folder: Path, known: Sequence[TokenizerFile]) -> TokenizerFile:
    """A tokenizer of its text.

    Raises:
        ValueError: It is none.
    """
    for head, text in _pieces(data):
        same = (one.model for one in known if one.model.data == text)
        model = next(same, None) or TokenModel(text)
        with suppress(ValueError):
            assert model.ordinary is not None  # parsed: the text is sound
            return TokenizerFile(head, model, folder)
    raise ValueError("its model is not sound")


def _pieces(data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What stands before the model, and the model's own text.

    The tokenizers library writes the model last; in any other order the whole has to be parsed.
    """
    if found := MODEL.search(data):
        before = data[: found.start()].rstrip().removesuffix(b",") + b"}"
        with suppress(ValueError):
            head = parse_json(before.decode("utf-8"))
            if "added_tokens" in head:
                yield head, data[found.end() : data.rindex(b"}")]
    whole = parse_json(data.decode("utf-8"))
    model = whole.pop("model")
    yield whole, json.dumps(model, ensure_ascii=False).encode()


def _says_all(found: TokenizerFile) -> bool:
    """Whether the files beside it add no token: transformers adds those that it lacks.

    Raises:
        FormatError: They are damaged.
    """
    try:
        return all(
            token in found.tokens and index in (None, found.tokens[token])
            for token, index in _declared(found.folder)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"the files beside {FILE} do not name tokens soundly: {error}", where=str(found.folder)
        ) from error


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


def _loaded(folder: Path) -> bytes:
    """What transformers makes of any form."""
    from mergekit_geo.checkpoints.loading import load_tokenizer  # loads transformers

    tokenizer: Any = load_tokenizer(folder)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise FormatError("a tokenizer in Python alone, which is not made fast", where=str(folder))
    found: str = tokenizer.backend_tokenizer.to_str()
    return found.encode()


def write_tokenizer(tokenizer: TokenizerFile, out: Path) -> None:
    """Write a fast tokenizer, with the settings and templates in its folder.

    Args:
        tokenizer: Files of its folder in slow forms are left out.
        out: Folder that is filled.
    """
    source = tokenizer.folder
    for file in tokenizer_files(source):
        if not (file.name.startswith(SLOW) or file.name.endswith(SLOW_KINDS)):
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_bytes((source / file).read_bytes())
    with (out / FILE).open("wb") as whole:
        whole.writelines(tokenizer.pieces())
    settings = read_json(out / SETTINGS) if (out / SETTINGS).is_file() else {}
    if DECODER in settings:
        added = {str(one["id"]): _without_id(one) for one in tokenizer.head["added_tokens"]}
        _write(out / SETTINGS, {**settings, DECODER: added})


def _without_id(added: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in added.items() if key != "id"}


def _write(path: Path, said: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
