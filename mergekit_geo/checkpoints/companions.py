"""The files beside the weights: configuration, tokenizer, chat template, code.

They go from the donor to an output byte for byte; resaving them through transformers would
change them, and raises on some generation configurations.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config

TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/*", "normalizer.json",
    "bpe.codes", "*.model", "*.spm", "*.tiktoken",
)  # fmt: skip
"""The tokenizer, and how it writes conversations, as glob patterns."""

PATTERNS = (
    *TOKENIZER, "config.json", "generation_config.json", "processor_config.json",
    "preprocessor_config.json", "video_preprocessor_config.json", "*.py",
)  # fmt: skip
"""What is copied from the donor."""

DTYPE_KEYS = ("dtype", "torch_dtype")


def companion_files(folder: Path) -> list[Path]:
    """The companions of a checkpoint's folder, as paths relative to it, sorted."""
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder) for path in found)


def copy_companions(donor: Path, out: Path, dtype: str | None = None) -> None:
    """Copy the donor's companions into `out`, byte for byte.

    Args:
        donor: Folder of the checkpoint they come from.
        out: Folder they go to.
        dtype: The weights' dtype in torch's spelling, such as `bfloat16`, where it is not the
            donor's: the one thing that is changed, in `config.json`.
    """
    for relative in companion_files(donor):
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(donor / relative, out / relative)
    if dtype is not None and (out / "config.json").is_file():
        config = json.loads((out / "config.json").read_text("utf-8"))
        write_config(out, config, dtype)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Put the tokenizer of `source` in the place of the one in `out`."""
    for old in _tokenizer_files(out):
        (out / old).unlink()
    for relative in _tokenizer_files(source):
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, out / relative)


def _tokenizer_files(folder: Path) -> list[Path]:
    found = {path for pattern in TOKENIZER for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder) for path in found)


def write_config(out: Path, config: Config, dtype: str | None = None) -> None:
    """Write `config.json`, stating `dtype` if it is given."""
    if dtype is not None:
        stated = [key for key in DTYPE_KEYS if key in config] or [DTYPE_KEYS[0]]
        config = {**config, **dict.fromkeys(stated, dtype)}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / "config.json").write_text(text, "utf-8")
