"""Views of models whose embeddings have the rows of one tokenizer, each at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.checkpoints.reshape.row_rules import Vocabularies, row_maps
from mergekit_geo.checkpoints.reshape.rows import RowMap
from mergekit_geo.checkpoints.reshape.tables import (
    refuse_moved,
    require_tables,
    rows_of,
    tables_of,
)
from mergekit_geo.checkpoints.reshape.token_ids import Move
from mergekit_geo.checkpoints.reshape.tokenizer_file import (
    TokenizerFile,
    read_tokenizer,
    write_tokenizer,
)
from mergekit_geo.checkpoints.reshape.union import (
    Held,
    refuse_foreign,
    stripped,
    union,
    with_tokens,
)
from mergekit_geo.checkpoints.reshape.views import views
from mergekit_geo.checkpoints.shapes import misshapen
from mergekit_geo.checkpoints.vocabulary import tokenizer_folder
from mergekit_geo.config.reshape import BASE, UNION, ReshapeConfig
from mergekit_geo.errors import (
    ArgumentError,
    CheckpointError,
    IncompatibleError,
)
from mergekit_geo.files.local_path import local_path

ENDLESS = 1 << 62
"""More rows than any model has."""


def open_vocabularies(
    checkpoints: Sequence[Checkpoint], config: ReshapeConfig, *, has_base: bool
) -> Vocabularies | None:
    """The tokenizers of models; None where no model has one.

    Raises:
        IncompatibleError: A model's configuration and embedding disagree.
        FormatError: The first tokenizer that there is cannot be read.
    """
    if problems := [line for one in checkpoints for line in misshapen(one)]:
        raise IncompatibleError(problems)
    warnings: list[str] = []
    files = _files(checkpoints, warnings)
    if (first := next((file for file in files if file), None)) is None:
        return None
    named = checkpoints[files.index(first)].name
    held = [_held(one, file or first) for one, file in zip(checkpoints, files, strict=True)]
    bare = [one.name for one, file in zip(checkpoints, files, strict=True) if file is None]
    warnings += [
        f"{name} has no tokenizer: its rows are taken as those of {named}" for name in bare
    ]
    return Vocabularies(checkpoints, config, has_base, held, bare, warnings, [])


def _held(checkpoint: Checkpoint, file: TokenizerFile) -> Held:
    rows = rows_of(checkpoint)
    return Held(checkpoint.name, file, file.count if rows is None else rows)


def refuse_by_token(checkpoints: Sequence[Checkpoint], config: ReshapeConfig) -> None:
    """Refuse what needs a tokenizer where no model has one.

    Raises:
        ArgumentError: No such model, or rows that nothing says the tokens of.
    """
    names, source = [one.name for one in checkpoints], config.tokenizer_source
    if source not in (None, BASE, UNION, *names):
        raise _no_model(str(source), names)
    multiple = config.pad_to_multiple_of or 1
    sizes = [rows_of(checkpoint) for checkpoint in checkpoints]
    unpadded = multiple > 1 and any(size is None or size % multiple for size in sizes)
    if config.tokens or unpadded:
        raise ArgumentError(
            "no model has a tokenizer, and which row is which token's has to be known",
            remedy="put the tokenizer's files into the first model's folder",
        )


def _no_model(source: str, names: Sequence[str]) -> ArgumentError:
    return ArgumentError(
        f"{source} is none of the models, and no folder",
        where="tokenizer_source",
        remedy=f"expected base, union, or one of {', '.join(names)}",
    )


def _files(checkpoints: Sequence[Checkpoint], warnings: list[str]) -> list[TokenizerFile | None]:
    """Each model's tokenizer; equal ones are one, and those that fail are told."""
    found: list[TokenizerFile | None] = []
    for checkpoint in checkpoints:
        same = (one for one in found if one and _is_same(one.folder, checkpoint.folder))
        try:
            known = [one for one in found if one]
            found.append(next(same, None) or read_tokenizer(checkpoint.folder, known))
        except CheckpointError as error:
            if not any(found):
                raise
            warnings.append(f"the tokenizer of {checkpoint.name} cannot be read: {error}")
            found.append(None)
    return found


def _is_same(first: Path, other: Path | None) -> bool:
    files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    if other is None or not (first / files[0]).is_file():
        return False
    return (
        all(_bytes(first / file) == _bytes(other / file) for file in files)
        and not (other / "added_tokens.json").is_file()
    )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@dataclass(frozen=True)
class Output:
    """The output's tokenizer.

    Attributes:
        file: Its tokens.
        folder: Where its files are; None where they are to be written.
    """

    file: TokenizerFile
    folder: Path | None


def output_of(found: Vocabularies) -> Output:
    """The output's tokenizer, as it is asked for.

    Raises:
        ArgumentError: No such model.
        IncompatibleError: A union of tokenizers that cut text differently.
    """
    source, held = found.config.tokenizer_source or BASE, found.held
    if source == UNION:
        file, warnings = union(held)
        found.warnings += warnings
        base = held[0]
    else:
        base = _named(found, source)
        refuse_foreign(base, held)
        file = stripped(base)
    if found.config.tokens:
        known = {t: one for each in reversed(held) for t, one in each.file.added.items()}
        new = [known.get(token, {"content": token}) for token in found.config.tokens]
        file = with_tokens(Held(base.name, file, ENDLESS), new)
    return Output(file, base.file.folder if file is base.file else None)


def _named(found: Vocabularies, source: str) -> Held:
    """The model, of these or another, whose tokenizer the output has."""
    if source == BASE:
        return found.held[0]
    if source in found.bare:
        having = [name for name in found.names if name not in found.bare]
        raise ArgumentError(
            f"{source} has no tokenizer",
            where="tokenizer_source",
            remedy=f"name one that has: {', '.join(having)}",
        )
    if source in found.names:
        return found.held[found.names.index(source)]
    folder = local_path(source)
    if not folder.is_dir() and "/" not in source:
        raise _no_model(source, found.names)
    place = folder if folder.is_dir() else open_checkpoint(source).folder
    file = read_tokenizer(place)
    if file is None:
        raise ArgumentError(f"{source} has no tokenizer", where="tokenizer_source")
    return Held(source, file, file.count)


def by_token(found: Vocabularies) -> list[Checkpoint]:
    """Views of the models with the rows of one tokenizer; the models where all is so already."""
    output, donor = output_of(found), found.checkpoints[0]
    maps = row_maps(found, output.file)
    stay = all(m.is_identity(held.rows) for m, held in zip(maps, found.held, strict=True))
    unread = [c for c in found.checkpoints if c.name in found.bare and tokenizer_folder(c)]
    if stay and not unread and output.folder is not None and output.folder == donor.folder:
        found.notes.append("the models have one vocabulary: their rows stay as they are")
        return list(found.checkpoints)
    tables = tables_of(found.checkpoints)
    require_tables(found.checkpoints, tables)
    for checkpoint, own, one in zip(found.checkpoints, tables, maps, strict=True):
        refuse_moved(checkpoint, own, one.rows)
    _tell(found, output, maps)
    with TemporaryDirectory(prefix="geo-merge-tokenizer-") as place:
        folder = output.folder
        if folder is None:
            folder = Path(place)
            write_tokenizer(output.file, folder)
        moves = [_mover(held, output, len(maps[0].rows)) for held in found.held]
        tokenizer = None if folder == donor.folder else folder
        return views(found.checkpoints, maps, tables, moves, tokenizer, found.warnings)


def _tell(found: Vocabularies, output: Output, maps: Sequence[RowMap]) -> None:
    rows, tokens = len(maps[0].rows), maps[0].tokens
    before = sorted({held.rows for held in found.held})
    found.notes.append(
        f"the output's tokenizer has {len(output.file.tokens):,} tokens, and embeddings and heads "
        f"{rows:,} rows (the models: {', '.join(f'{n:,}' for n in before)})"
    )
    if rows > tokens:
        found.notes.append(f"{rows - tokens} rows are padding")
    elif (spare := found.held[0].rows - found.held[0].file.count) > 0 and rows < found.held[0].rows:
        found.notes.append(
            f"{spare} padding rows of {found.names[0]} are left out; --keep-padding keeps them"
        )


def _mover(held: Held, output: Output, rows: int) -> Move:
    """Where the token of an id is now; an id without a token stays, if it is among the rows."""

    def move(index: int) -> int | None:
        token = next((token for token, row in held.tokens.items() if row == index), None)
        if token is not None:
            return output.file.tokens.get(token)
        return index if index < rows else None

    return move
