"""Encoders that are stored without the head of the class that their configuration names.

sentence-transformers loads a Transformer module as an encoder, whatever head `config.json` names
(`MPNetForMaskedLM`, `Qwen3ForCausalLM`), and saves it without one. Loaded by that name, the head
would be missing. A Pooling module takes no part of transformers' own pooler, which may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.module_folders import MODULES, model_folder, read_modules

HEAD = re.compile(r"(?:For(?:MaskedLM|CausalLM|PreTraining)|LMHeadModel)$")
BARE = ("embeddings.", "embed_tokens.", "layers.", "wte.", "word_embedding.")
"""How tensors of an encoder are called that is saved by itself: with a head it has a prefix."""


POOLER = "pooler."


def without_head(config: Config, folder: Path, stored: Iterable[str]) -> Config:
    """The configuration of what is stored: of the encoder, where there is no head.

    Args:
        config: The parsed `config.json`.
        folder: That it lies in.
        stored: Names of the tensors there.
    """
    name = (config.get("architectures") or [""])[0]
    bare = HEAD.search(name) and any(tensor.startswith(BARE) for tensor in stored)
    if not bare or not _is_transformer(folder):
        return config
    return {**config, "architectures": [HEAD.sub("Model", name)]}


def unused_in(folder: Path | None) -> tuple[str, ...]:
    """Beginnings of names of parameters that nothing uses of the model in a folder."""
    return (POOLER,) if folder is not None and _is_transformer(folder) else ()


def _is_transformer(folder: Path) -> bool:
    """Whether a folder is that of the first module of a model of sentence-transformers."""
    root = model_folder(folder)
    modules = read_modules(root) if (root / MODULES).is_file() else ()
    return bool(modules) and modules[0].kind == "Transformer"
