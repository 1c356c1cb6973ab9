"""Whether checkpoints mean the same tokens by the same rows of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import brief, read_json

Vocabulary = dict[str, int]

WORD_LISTS = ("whitespacetokenizer_config.json", "phrasetokenizer_config.json")
"""Settings of sentence-transformers' WordEmbeddings, which list the words in the order of rows."""

VOCABULARIES = (
    "tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "bpe.codes", *WORD_LISTS,
)  # fmt: skip
"""Files that hold the tokens, as glob patterns."""

BY_TOKEN = "--tokenizer-source base (tokenizer_source in a recipe) puts the rows by token"


def compare_vocabularies(checkpoints: Sequence[Checkpoint]) -> tuple[list[str], list[str]]:
    """Problems and warnings from comparing every tokenizer with the first, which is the output's.

    A token with two ids, or an id with two tokens, is a problem. Tokens that one side lacks, and
    differences in anything else (merges, templates, settings), are warnings.
    """
    problems: list[str] = []
    warnings: list[str] = []
    folders = [(c.name, c.folder) for c in checkpoints if c.folder is not None]
    for name, folder in folders[1:]:
        first_name, first = folders[0]
        if folder == first:  # views of one shape
            continue
        found = _compare(first, folder)
        problems += [f"{p} (in {first_name} and in {name}); {BY_TOKEN}" for p in found[0]]
        warnings += [f"{w} (in {first_name} and in {name})" for w in found[1]]
    return problems, warnings


def tokenizer_folder(checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint's tokenizer lies; None where it has none."""
    folder = checkpoint.folder
    return folder if folder is not None and has_tokenizer(folder) else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a vocabulary."""
    return any(any(folder.glob(pattern)) for pattern in VOCABULARIES)


def unlike_vocabularies(checkpoints: Sequence[Checkpoint]) -> str:
    """How the first vocabulary that is not the first checkpoint's differs; empty if all are equal.

    Raises:
        FormatError: A tokenizer file is damaged.
    """
    folders = [(c.name, f) for c in checkpoints if (f := tokenizer_folder(c)) is not None]
    for name, folder in folders[1:]:
        if said := _unlike(folders[0][1], folder):
            return f"{said} (in {folders[0][0]} and in {name})"
    return ""


def _unlike(first: Path, other: Path) -> str:
    files = [f for f in _tokenizer_files(first, other) if not same_bytes(first / f, other / f)]
    if not files:
        return ""
    mine, theirs = read_vocabulary(first), read_vocabulary(other)
    if mine is None or theirs is None:
        return _unread(mine, theirs)
    if mine == theirs:
        return ""
    own = len(theirs.keys() ^ mine.keys())
    return conflict(mine, theirs) or f"{own} tokens are in one vocabulary only"


def _compare(first: Path, other: Path) -> tuple[list[str], list[str]]:
    differing = [f for f in _tokenizer_files(first, other) if not same_bytes(first / f, other / f)]
    if not differing:
        return [], []
    if has_tokenizer(other) and not has_tokenizer(first):
        return [], ["the first has no tokenizer, and so the output has none; the second has one"]
    mine, theirs = read_vocabulary(first), read_vocabulary(other)
    if mine is None or theirs is None:
        return [], [_unread(mine, theirs)]
    if problem := conflict(mine, theirs):
        return [problem], []
    return [], _gentle_differences(mine, theirs, differing)


def _unread(mine: Vocabulary | None, theirs: Vocabulary | None) -> str:
    one = "the first has no" if mine is None else "the second has no"
    which = "neither has a" if mine is theirs else one
    return f"the tokenizers cannot be compared: {which} vocabulary to read"


def _gentle_differences(mine: Vocabulary, theirs: Vocabulary, differing: list[str]) -> list[str]:
    warnings = [f"{file} differs; the output has that of the first" for file in differing]
    if extra := len(theirs.keys() ^ mine.keys()):
        warnings.append(f"{extra} tokens are in one vocabulary only")
    return warnings


def conflict(mine: Vocabulary, theirs: Vocabulary) -> str | None:
    """A token with two ids, or an id with two tokens; None if there is none."""
    tokens = {index: token for token, index in mine.items()}
    renamed = sorted(t for t, i in theirs.items() if tokens.get(i, t) != t)
    return _told(mine, theirs, renamed)


def moved(mine: Vocabulary, theirs: Vocabulary) -> str | None:
    """A token with two ids; None if there is none."""
    return _told(mine, theirs, [])


def _told(mine: Vocabulary, theirs: Vocabulary, renamed: list[str]) -> str | None:
    moves = sorted(token for token in mine.keys() & theirs.keys() if mine[token] != theirs[token])
    if moves:
        token = moves[0]
        example = f"{token!r} is {mine[token]} and {theirs[token]}"
    elif renamed:
        index = theirs[renamed[0]]
        first = next(token for token, i in mine.items() if i == index)
        example = f"{index} is {first!r} and {renamed[0]!r}"
    else:
        return None
    count = len({*moves, *renamed})
    return f"the tokenizers map tokens to other ids: {example}; {count} tokens are affected"


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Token to id, from whatever form the tokenizer is saved in; None if there is none to read.

    Raises:
        FormatError: A tokenizer file is damaged.
    """
    readers = {"tokenizer.json": _fast, "vocab.json": _plain, "vocab.txt": _lines}
    for file, read in (readers | dict.fromkeys(WORD_LISTS, _listed)).items():
        path = folder / file
        if path.is_file():
            try:
                return read(path)
            except Exception as error:  # the tokenizers library raises bare Exception
                raise FormatError(f"not a sound tokenizer: {error}", where=str(path)) from error
    return _converted(folder) if any(folder.glob("*.model")) else None


def _converted(folder: Path) -> Vocabulary | None:
    """Vocabulary after transformers' conversion of a SentencePiece or other model, or None."""
    from mergekit_geo.checkpoints.loading import load_tokenizer  # loads transformers

    try:
        vocabulary: Vocabulary = load_tokenizer(folder).get_vocab()
    except Exception:  # its converters raise anything, and need packages that may be missing
        return None
    return vocabulary


def _fast(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    vocabulary: Vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    return vocabulary


def _plain(path: Path) -> Vocabulary:
    added = path.with_name("added_tokens.json")
    found = {**read_json(path), **(read_json(added) if added.is_file() else {})}
    if odd := [token for token, index in found.items() if type(index) is not int]:
        raise ValueError(f"the id of {brief(odd[0])} is {brief(found[odd[0]])}")
    return found


def _lines(path: Path) -> Vocabulary:
    return {
        token: index for index, token in enumerate(path.read_text("utf-8").rstrip("\n").split("\n"))
    }


def _listed(path: Path) -> Vocabulary:
    return {str(word): index for index, word in enumerate(read_json(path)["vocab"])}


def _tokenizer_files(*folders: Path) -> list[str]:
    patterns = ("tokenizer*", "vocab*", "merges.txt", "*token*.json", "chat_template*", "*.model")
    found = {path.name for folder in folders for p in patterns for path in folder.glob(p)}
    return sorted(found)


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files are equal, or neither is there."""
    if not (first.is_file() and second.is_file()):
        return first.is_file() == second.is_file()
    return first.read_bytes() == second.read_bytes()
