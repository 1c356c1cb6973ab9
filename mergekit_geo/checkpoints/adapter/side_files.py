"""The tokenizer, chat template and modules that an adapter was trained with, for its base's.

Trainers save the tokenizer beside the adapter: with a chat template, or with tokens in rows of the
embedding that were spare; sentence-transformers saves its modules there. Where they are not the
base's, the files beside the weights of the two are put together in a folder of their own, which is
gone when nothing needs it any more.
"""

from __future__ import annotations

import json
import shutil
import weakref
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

from mergekit_geo.checkpoints.side_files import module_files, side_files_of, tokenizer_files
from mergekit_geo.checkpoints.vocabulary import (
    Vocabulary,
    conflict,
    has_tokenizer,
    moved,
    read_vocabulary,
    same_bytes,
)

TEMPLATE = "chat_template.jinja"
SETTINGS = "tokenizer_config.json"


class AdapterSideFiles:
    """The files beside the weights of a base with an adapter.

    Args:
        base: Folder of the base.
        adapter: Folder of the adapter, which need not hold a tokenizer.
        name: What the user calls the adapter.
        rows: Of the embedding; None where that is not known.
        own_rows: Whether the adapter brings the whole embedding.
    """

    def __init__(
        self, base: Path, adapter: Path, name: str, rows: int | None, *, own_rows: bool
    ) -> None:
        self.base, self.adapter, self.name = base, adapter, name
        self.rows, self.own_rows = rows, own_rows

    @cached_property
    def differing(self) -> list[Path]:
        """The adapter's tokenizer files that are not the base's."""
        files = tokenizer_files(self.adapter)
        return [file for file in files if not same_bytes(self.base / file, self.adapter / file)]

    @cached_property
    def modules(self) -> list[Path]:
        """The adapter's files of sentence-transformers, where they are not its base's."""
        files = module_files(self.adapter)
        same = all(same_bytes(self.base / file, self.adapter / file) for file in files)
        return [] if same else files

    @property
    def problem(self) -> str:
        """Why the two do not fit together; empty if they do."""
        mine, theirs = self._vocabularies
        found = moved(mine, theirs) if mine and theirs and not self.own_rows else None
        return f"{found} (in its base and in {self.name})" if found else ""

    @property
    def warning(self) -> str:
        """What the user should know of the tokenizer; empty if nothing."""
        mine, theirs = self._vocabularies
        if self._is_beyond:
            return (
                f"the tokenizer of {self.name} has ids beyond the {self.rows} rows of the "
                "embedding, which nothing can be looked up by: its base's is used"
                f"{f', with the chat template of {self.name}' if self._template else ''}"
            )
        if mine and theirs and (found := conflict(mine, theirs)):
            return f"{found} (in its base and in {self.name}); that of {self.name} is used"
        return ""

    @property
    def notes(self) -> list[str]:
        """Remarks on tokenizer and modules that are the adapter's, not the base's."""
        taken = [] if self._is_beyond else self.differing
        found = (("tokenizer is", taken), ("modules are", self.modules))
        return [
            f"the {what} that of {self.name}, not of its base ({', '.join(map(str, files))})"
            for what, files in found
            if files
        ]

    @property
    def brings(self) -> bool:
        """Whether any side file differs from the base's."""
        tokenizer = self.differing and not (self._is_beyond and self._template is None)
        return bool(tokenizer or self.modules)

    @cached_property
    def folder(self) -> Path:
        """Configuration, tokenizer and the rest: the base's, or one of their own."""
        if not self.brings:
            return self.base
        made = Path(mkdtemp(prefix="geo-merge-adapter-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        whole = has_tokenizer(self.adapter) and not self._is_beyond
        replaced = {*(tokenizer_files(self.base) if whole else [])}
        replaced |= {*(module_files(self.base) if self.modules else [])}
        files = {*side_files_of(self.base), *module_files(self.base)} - replaced
        _copy(self.base, sorted(files), made)
        _copy(self.adapter, self.modules, made)
        if not self._is_beyond:
            _copy(self.adapter, tokenizer_files(self.adapter), made)
        elif self._template is not None:
            (made / TEMPLATE).write_text(self._template, "utf-8")
        return made

    @cached_property
    def _vocabularies(self) -> tuple[Vocabulary | None, Vocabulary | None]:
        """The base's and the adapter's, where they may differ."""
        if not self.differing or not has_tokenizer(self.adapter):
            return None, None
        return read_vocabulary(self.base), read_vocabulary(self.adapter)

    @property
    def _is_beyond(self) -> bool:
        """Whether the adapter's tokenizer has ids that no row is for."""
        theirs = self._vocabularies[1]
        return bool(theirs and self.rows is not None and max(theirs.values()) >= self.rows)

    @cached_property
    def _template(self) -> str | None:
        """The adapter's chat template, in whichever file it is."""
        files = tokenizer_files(self.adapter)
        if Path(TEMPLATE) in files:
            return (self.adapter / TEMPLATE).read_text("utf-8")
        if Path(SETTINGS) not in files:
            return None
        try:
            stated = json.loads((self.adapter / SETTINGS).read_text("utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            return None
        return stated if isinstance(stated, str) else None


def _copy(source: Path, files: list[Path], target: Path) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / file, target / file)
