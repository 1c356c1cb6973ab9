"""The files beside the weights: configuration, tokenizer, chat template, code.

They go from the donor to an output byte for byte; resaving them through transformers would
change them, and raises on some generation configurations.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.configuration import (
    config_text,
    without_other_files,
    without_ties,
)
from mergekit_geo.checkpoints.index import CLASS, INDEXES
from mergekit_geo.checkpoints.module_folders import MODULES, PICKLES, read_modules
from mergekit_geo.checkpoints.own_files import is_own, own

TOKENIZER = (
    "tokenizer*", "tekken.json", "vocab*", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/*", "normalizer.json", "bpe.codes", "*.model", "*.spm", "*.tiktoken",
)  # fmt: skip
"""The tokenizer, and how it writes conversations, as glob patterns."""

SENTENCES = (MODULES, "sentence_*_config.json", "config_sentence_transformers.json")
"""What makes a model one of sentence-transformers, beside the folders of its modules."""

PATTERNS = (
    *TOKENIZER, *SENTENCES, "config.json", "generation_config.json", "processor_config.json",
    "preprocessor_config.json", "video_preprocessor_config.json", "*.py",
    "LICENSE*", "LICENCE*", "License*", "license*", "COPYING*", "NOTICE*", "Notice*",
    "USE_POLICY*",
)  # fmt: skip
"""What is copied from the donor, beside the files of its modules."""

MODULE_FILE = re.compile(r"\d+_\w+/.+\.(json|txt|model|safetensors)")
"""A file of a module, by the names that sentence-transformers gives their folders."""

DTYPE_KEYS = ("dtype", "torch_dtype")


def companion_files(folder: Path) -> list[Path]:
    """The companions of a checkpoint's folder, as paths relative to it, sorted.

    Links that lead out of the folder are none.
    """
    return own(folder, _beside(folder))


def foreign_links(folder: Path) -> list[Path]:
    """What would be companions, and are links that lead out of the folder."""
    return [file for file in _beside(folder) if not is_own(folder, file)]


def _beside(folder: Path) -> list[Path]:
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    beside = {path for module in read_modules(folder) for path in module.companions}
    return sorted({path.relative_to(folder) for path in found} | beside)


def wanted_on_hub(names: Collection[str]) -> list[str]:
    """Patterns of what is downloaded before the weights, of a repository with these files."""
    modules = [name for name in names if MODULE_FILE.fullmatch(name)] if MODULES in names else []
    return [*PATTERNS, *INDEXES, *modules]


def not_here(folder: Path, names: Collection[str]) -> list[str]:
    """Files of modules that only `modules.json` tells, and that have not been downloaded yet."""
    folders = tuple(f"{module.path}/" for module in read_modules(folder) if module.is_apart)
    found = (name for name in names if folders and name.startswith(folders))
    return [name for name in found if not (name.endswith(PICKLES) or (folder / name).is_file())]


def copy_companions(
    donor: Path, out: Path, dtype: str | None = None, *, untied: bool = False
) -> None:
    """Copy the donor's companions into `out`, byte for byte.

    Args:
        donor: Folder of the checkpoint they come from.
        out: Folder they go to.
        dtype: The weights' dtype in torch's spelling, such as `bfloat16`, where it is not the
            donor's. It is changed in `config.json`, and keys that name files which the output
            lacks are left out there: nothing else is.
        untied: Whether `config.json` is to say that the head is not the embedding.
    """
    for relative in companion_files(donor):
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(donor / relative, out / relative)
    if (out / "config.json").is_file():
        _adapt_config(out, dtype, untied=untied)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Put the tokenizer of `source` in the place of the one in `out`."""
    for old in tokenizer_files(out):
        (out / old).unlink()
    for relative in tokenizer_files(source):
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, out / relative)


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
    return own(folder, sorted(path for path in found if not path.name.endswith(PICKLES)))


def write_config(out: Path, config: Config, dtype: str | None = None) -> None:
    """Write `config.json`, stating `dtype` if it is given."""
    text = config_text(_of_dtype(config, dtype))
    (out / "config.json").write_text(text, "utf-8")


def _adapt_config(out: Path, dtype: str | None, *, untied: bool) -> None:
    """Change what has to be changed; what has not stays as it is spelled."""
    path = out / "config.json"
    text = path.read_text("utf-8")
    stored = json.loads(text)
    config = _of_dtype(json.loads(text, object_hook=without_other_files), dtype)
    config = without_ties(config) if untied else config
    if config != stored:
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _of_dtype(config: Config, dtype: str | None) -> Config:
    if dtype is None or CLASS in config:  # of a diffusers component, which states none
        return config
    stated = [key for key in DTYPE_KEYS if key in config] or [DTYPE_KEYS[0]]
    return {**config, **dict.fromkeys(stated, dtype)}
