"""The files beside the weights: configuration, tokenizer, chat template, code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from mergekit_geo.checkpoints.components import PIPELINE, read_folders
from mergekit_geo.checkpoints.index import INDEXES
from mergekit_geo.checkpoints.module_folders import (
    EXPORTS,
    MODULES,
    PICKLES,
    SAFE,
    SHARDS,
    backbone_of,
    read_modules,
)
from mergekit_geo.checkpoints.own_files import is_own, own

TOKENIZER = (
    "tokenizer*", "tekken.json", "vocab*", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/*", "normalizer.json", "bpe.codes", "*.model", "*.spm", "*.tiktoken",
)  # fmt: skip
"""The tokenizer, and how it writes conversations, as glob patterns."""

SENTENCES = (
    MODULES, "sentence_*_config.json", "config_sentence_transformers.json", "router_config.json",
    "wordembedding_config.json", "whitespacetokenizer_config.json", "phrasetokenizer_config.json",
)  # fmt: skip
"""Files of sentence-transformers beside a model, as glob patterns."""

LICENSES = (
    "LICENSE*", "LICENCE*", "License*", "license*", "COPYING*", "NOTICE*", "Notice*",
    "USE_POLICY*",
)  # fmt: skip
"""Terms of use, as glob patterns."""

PATTERNS = (
    *TOKENIZER, *SENTENCES, PIPELINE, "config.json", "generation_config.json",
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "*.py",
    *LICENSES,
)  # fmt: skip
"""Files that are copied from the donor, except those of modules, as glob patterns."""

MODULE_FILE = re.compile(r"\d+_\w+/[^/]+\.(json|txt|model)")
"""A file of a module, by the names that sentence-transformers gives their folders."""


def side_files_of(folder: Path) -> list[Path]:
    """The companions of a checkpoint's folder, as paths relative to it, sorted.

    Links that lead out of the folder are none.
    """
    return own(folder, _beside(folder))


def foreign_links(folder: Path) -> list[Path]:
    """Side files that are links out of the folder, and so are not copied."""
    return [file for file in _beside(folder) if not is_own(folder, file)]


def _beside(folder: Path) -> list[Path]:
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    beside = {path for module in read_folders(folder) for path in module.side_files}
    return sorted({path.relative_to(folder) for path in found} | beside)


def wanted_on_hub(names: Collection[str]) -> list[str]:
    """Patterns of what is downloaded before the weights, of a repository with these files."""
    modules = [name for name in names if MODULE_FILE.fullmatch(name)] if MODULES in names else []
    return [*PATTERNS, *INDEXES, *modules]


def not_here(folder: Path, names: Collection[str]) -> list[str]:
    """Files of modules that have not been downloaded yet: what is not weights comes first.

    Weights of the model itself are none of them.

    Args:
        folder: What has been downloaded.
        names: All files of the repository.
    """
    beside = [path for module in read_folders(folder, names) for path in module.side_files]
    if absent := [path.as_posix() for path in beside if not (folder / path).is_file()]:
        return absent
    backbone, modules = backbone_of(folder, names), read_modules(folder, names)
    inside = [(module.path == backbone, path) for module in modules for path in module.files]
    wanted = [path for own, path in inside if path.name.endswith(SHARDS if own else (SAFE, SHARDS))]
    return [path.as_posix() for path in wanted if not (folder / path).is_file()]


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder's tokenizer, as paths relative to it, sorted."""
    found = {path for pattern in TOKENIZER for path in folder.glob(pattern) if path.is_file()}
    return own(folder, sorted(path.relative_to(folder) for path in found))


def module_files(folder: Path) -> list[Path]:
    """All that sentence-transformers has put beside a model, its modules' weights included.

    Nothing where there is no `modules.json`, pickles never.
    """
    if not (folder / MODULES).is_file():
        return []
    beside = {path for pattern in SENTENCES for path in folder.glob(pattern) if path.is_file()}
    inside = {path for module in read_modules(folder) for path in module.files}
    found = {path.relative_to(folder) for path in beside} | inside
    unread = (*PICKLES, *EXPORTS)
    return own(folder, sorted(path for path in found if not path.name.endswith(unread)))


def copy_files(source: Path, files: Iterable[Path], out: Path) -> None:
    """Copy files of a folder into another, byte for byte.

    Args:
        source: The folder that they are in.
        files: Relative to it.
        out: The other one.
    """
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, out / file)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Put the tokenizer of `source` in the place of the one in `out`."""
    for old in tokenizer_files(out):
        (out / old).unlink()
    copy_files(source, tokenizer_files(source), out)
