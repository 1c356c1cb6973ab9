"""Which tensors an adapter changes, and how, by the names that peft gives its own.

peft names an adapter's tensors after the modules of the loaded model; a checkpoint may store them
under older names. Both are compared by their loaded names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from mergekit_geo.checkpoints.adapter.files import Adapter
from mergekit_geo.checkpoints.adapter.settings import merging_remedy
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.naming import Schema, schema_of
from mergekit_geo.checkpoints.wrappers import COMPONENT
from mergekit_geo.errors import FormatError, UnsupportedError

PREFIX = "base_model.model."

PARTS = (
    (".lora_A.weight", ".weight", "a"),
    (".lora_B.weight", ".weight", "b"),
    (".lora_embedding_A", ".weight", "a"),
    (".lora_embedding_B", ".weight", "b"),
    (".lora_B.bias", ".bias", "added"),
    (".lora_magnitude_vector", ".weight", "magnitude"),
    (".lora_magnitude_vector.weight", ".weight", "magnitude"),
    (".base_layer.weight", ".weight", "replaced"),
    (".base_layer.bias", ".bias", "replaced"),
)
"""Ends of peft's names, what takes their place in the base's name, and their part in a change."""

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "shared")
"""Last parts of the names of input embeddings."""

SAVED = re.compile(r"\.modules_to_save(\.default)?(?=\.)")
ADAPTER = re.compile(r"(\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))\.default(?=\.|$)")
"""The adapter's name in peft's modules, which states that trainers save themselves still have."""

ORIGINAL = ".original_module."
"""Part of names that peft adds for a resized embedding: duplicates, and the original."""

ChangeParts = dict[str, str]
"""From a part of a change (`a`, `b`, `added`, `magnitude`, `replaced`) to the adapter's tensor."""


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor; the parts are names of the adapter's tensors, or empty.

    Attributes:
        module: Whose tensor it is, as peft names it.
        a: The matrix that inputs meet first: (r, in), and a kernel's sizes.
        b: The one that follows: (out, r).
        added: What is added, times the scale, to a bias.
        magnitude: DoRA's norms.
        replaced: What stands in place of the base's values.
        transposed: Whether the tensor is stored (in, out), as embeddings are.
        scale: Of the product, and of what is added.
    """

    module: str
    a: str = ""
    b: str = ""
    added: str = ""
    magnitude: str = ""
    replaced: str = ""
    transposed: bool = False
    scale: float = 1.0

    @property
    def is_embedding(self) -> bool:
        """Whether it changes an embedding's rows."""
        return self.module.rpartition(".")[2] in EMBEDDINGS

    @property
    def is_sum(self) -> bool:
        """Whether it adds to values, rather than only replacing them."""
        return bool(self.a or self.added)


@dataclass
class AdapterBase:
    """A base model, and what its architecture calls its tensors; shared by its adapters.

    Attributes:
        checkpoint: The model.
        ask: Whether transformers is asked for the architecture.
    """

    checkpoint: Checkpoint
    ask: bool = True

    @cached_property
    def schema(self) -> Schema:
        """What the architecture calls its tensors; empty where nothing is known of it."""
        return schema_of(self.checkpoint.config) if self.ask else Schema()

    def find(self, name: str) -> str | None:
        """The stored name of a tensor of the loaded model; None where there is no such tensor."""
        if name in self.checkpoint.tensors:
            return name
        return self._stored.get(self.schema.canonical(name))

    @cached_property
    def _stored(self) -> dict[str, str]:
        return {self.schema.canonical(stored): stored for stored in self.checkpoint.tensors}


def changes_of(base: AdapterBase, adapter: Adapter) -> dict[str, Change]:
    """What an adapter does, by the loaded name of the tensor that it is done to.

    Raises:
        UnsupportedError: It does something that is not understood.
        FormatError: Its tensors contradict themselves.
    """
    return {target: _change(target, p, base, adapter) for target, p in _parts(adapter).items()}


def _parts(adapter: Adapter) -> dict[str, ChangeParts]:
    """The parts of each change, by the loaded name of the tensor that is changed."""
    found: dict[str, ChangeParts] = {}
    for key in adapter.tensors:
        if ORIGINAL in key:
            continue
        target, part = _part(key, adapter)
        parts = found.setdefault(target, {})
        if part not in parts or not SAVED.search(key):
            parts[part] = key
    if not found:
        raise FormatError("an adapter without tensors", where=adapter.name)
    return found


def _part(key: str, adapter: Adapter) -> tuple[str, str]:
    """Target tensor of an adapter's tensor, and its part in the change."""
    plain = ADAPTER.sub(r"\1", SAVED.sub("", COMPONENT.sub("", key)))
    if not plain.startswith(PREFIX):
        raise FormatError(
            f"tensor {key!r}: expected names that begin with {PREFIX}",
            where=adapter.name,
            remedy="save it again with peft's save_pretrained",
        )
    name = plain.removeprefix(PREFIX)
    for end, place, part in PARTS:
        if name.endswith(end):
            return name.removesuffix(end) + place, part
    if "lora_" in name or "token_adapter" in name or "base_layer" in name:
        raise UnsupportedError(
            f"tensor {key!r} is not understood here",
            where=adapter.name,
            remedy=merging_remedy(adapter.settings.base or "BASE", adapter.name),
        )
    return name, "replaced"


def _change(target: str, parts: ChangeParts, base: AdapterBase, adapter: Adapter) -> Change:
    """The change of one tensor, with scale and layout."""
    settings, schema = adapter.settings, base.schema
    module, a = target.rpartition(".")[0], parts.get("a", "")
    wanted = {"a", "b", "magnitude"} if settings.dora else {"a", "b"}
    present = parts.keys() & {"a", "b", "magnitude"}
    if present and present != wanted:
        held = ", ".join(parts[part] for part in sorted(present))
        raise FormatError(
            f"{target}: expected A and B{' and magnitudes' if settings.dora else ''}, found {held}",
            where=adapter.name,
        )
    known = target in schema.transposed if schema.expected else settings.transposed
    return Change(
        module,
        a,
        parts.get("b", ""),
        parts.get("added", ""),
        parts.get("magnitude", ""),
        parts.get("replaced", ""),
        transposed=bool(a) and (".lora_embedding_A" in a or known),
        scale=settings.scale_of(module) if a or "added" in parts else 1.0,
    )
