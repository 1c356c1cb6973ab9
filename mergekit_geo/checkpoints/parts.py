"""Parts of a model, told from its tensors' names: text, vision, experts, router, head.

Names differ between families, and between versions of transformers (`language_model.model.` and
`model.language_model.`); the words in them hardly do.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import configs_of, split_name
from mergekit_geo.checkpoints.configuration import TIE
from mergekit_geo.checkpoints.naming import may_be_buffer

TEXT, VISION, AUDIO, SPEECH, PROJECTOR = "text", "vision", "audio", "speech", "projector"
ENCODER, DECODER, SHARED = "encoder", "decoder", "shared"

WORDS = {
    TEXT: r"language_model|text_model|llm",
    PROJECTOR: (
        r"(\w+_)?(projector|connector|aligner|merger|qformer)(_list)?|resampler(_model)?"
        r"|(\w+_)?(vision|visual|image|img|audio|speech|text|language)_(\w+_)?proj(ection)?"
        r"|mlp1|embed_(vision|audio)|query_tokens|image_newline|logit_(scale|bias)"
    ),
    VISION: (
        r"visual|vpm|vqmodel|(\w+_)?(vision|visual|image|img|video)_"
        r"(tower|model|encoder|backbone|tokenizer|embed\w*|neck|adapter|alpha)"
    ),
    AUDIO: r"apm|(audio|speech)_(tower|model|encoder|embed)",
    SPEECH: r"talker|token2wav|code2wav|vocoder|t2u_model|tts",
}  # fmt: skip
"""Words in names, by the modules of a multimodal model that they stand for."""

EMBEDDINGS, LAYERS, NORM, HEAD, OTHER = "embeddings", "layers", "norm", "head", "other"
WHOLE = frozenset({VISION, AUDIO, SPEECH, PROJECTOR, SHARED, OTHER})
"""Modules that are not looked into beside others."""

ROUTER, EXPERTS, SHARED_EXPERTS = "router", "experts", "shared_experts"
MTP = "multi_token_prediction"

MTP_NAME = re.compile(r"(^|\.)(mtp|mtp_layers|nextn)\.")
MTP_LAYER = re.compile(r"^(.*\.\d+\.)eh_proj\.")
SHARED_NAME = re.compile(r"(^|\.)(shared_experts?|shared_expert_gate|shared_mlp)\.")
ROUTER_NAME = re.compile(r"(^|\.)(router|expert_bias|e_score_correction_bias)(\.|$)")
GATE_NAME = re.compile(r"(^|\.)gate\.")
EXPERTS_NAME = re.compile(r"(^|\.)experts\.|block_sparse_moe\.(input|output)_linear\.")
HEAD_NAME = re.compile(
    r"(^|\.)(lm_head|head|embed_out|proj_out|score|classifier|pre_classifier|cls|pooler|qa_outputs"
    r"|output_projection|vocab_projector|vocab_transform|final_logits_bias)(\.|$)|^decoder\.(weight|bias)$"
)
EMBEDDINGS_NAME = re.compile(r"(^|\.)(embed\w*|\w+_embeddings?|embeddings|wte|wpe|shared)(\.|$)")
TIED = ("lm_head.weight", "embed_out.weight", "proj_out.weight")
"""Ends of the names of output layers that may be tied to the embeddings."""

NUMBERED = re.compile(r"\.\d+\.|^\d+\.")
OF_TEXT = re.compile(
    r"(lm_head|score|classifier|qa_outputs|shared|embed(_tokens\w*)?|decoder|layers|norm|mtp\w*|nextn)"
    r"(\.|$)"
)
"""Beginnings of names of a text model; what has another is beside one that is told by its name."""

ENCODER_DECODER = re.compile(r"^(?:model\.)?(encoder|decoder)\.")

ALIASES = {
    "text_decoder": TEXT, "language_model": TEXT, "vision_tower": VISION, "vision_model": VISION,
    "audio_tower": AUDIO, "multi_modal_projector": PROJECTOR, "mtp": MTP,
}  # fmt: skip
"""What parts are called in mergekit and transformers."""


class Part(NamedTuple):
    """Where in a model a tensor is.

    Attributes:
        module: `text`, `vision`, `audio`, `speech` or `projector`; of encoder-decoders `encoder`,
            `decoder` or `shared`; of a pipeline the component.
        kind: What it is there, such as `experts`; empty in modules that are not looked into.
    """

    module: str
    kind: str = ""

    def __str__(self) -> str:
        """Both, such as `text/experts`."""
        return f"{self.module}/{self.kind}" if self.kind else self.module


def parts_of(tensors: Iterable[str], config: Config) -> dict[str, Part]:
    """The part that each tensor belongs to, by name.

    Args:
        tensors: Names of all tensors of a model.
        config: Its configuration: tells modules that names alone do not.

    Example:
        >>> names = ["visual.patch_embed.proj.weight", "model.layers.0.mlp.gate.weight",
        ...          "model.layers.0.mlp.experts.0.up_proj.weight", "lm_head.weight"]
        >>> [str(part) for part in parts_of(names, {}).values()]
        ['vision', 'text/router', 'text/experts', 'text/head']
    """
    if configs_of(config):
        return {name: Part(split_name(name)[0]) for name in tensors}
    modules = _modules(list(tensors), config)
    has_experts = any(EXPERTS_NAME.search(name) for name in modules)
    further = tuple({found[1] for name in modules if (found := MTP_LAYER.match(name))})
    closed = WHOLE if len(set(modules.values())) > 1 else ()
    return {
        name: Part(module, "" if module in closed else _kind(name, further, moe=has_experts))
        for name, module in modules.items()
    }


def _modules(names: Sequence[str], config: Config) -> dict[str, str]:
    """The module of each tensor."""
    found = {name: [m for w in _outside(name) if (m := _module_of(w))] for name in names}
    usual = _usual_module(config)
    twofold = not any(found.values()) and _is_encoder_decoder(names, config)
    beside = any(TEXT in words for words in found.values())
    return {
        name: PROJECTOR if PROJECTOR in words else words[0] if words
        else _module_of_two(name) if twofold
        else OTHER if beside and not OF_TEXT.match(_key(name)) else usual
        for name, words in found.items()
    }  # fmt: skip


def _outside(name: str) -> list[str]:
    """Words of a name before the number of a layer."""
    return re.split(r"\.\d+\.", name, maxsplit=1)[0].split(".")


@cache
def _module_of(word: str) -> str:
    """The module that a word stands for; empty for none."""
    return next((module for module, words in WORDS.items() if re.fullmatch(words, word)), "")


def _module_of_two(name: str) -> str:
    """Encoder or decoder, to which the head belongs, or what they share."""
    found = ENCODER_DECODER.match(name)
    shared = name.removeprefix("model.").startswith("shared.")
    return found[1] if found else SHARED if shared else DECODER


def _kind(name: str, further: tuple[str, ...], *, moe: bool) -> str:
    if MTP_NAME.search(name) or (further and name.startswith(further)):
        return MTP
    return (_kind_in_experts(name) if moe else "") or _usual_kind(name)


def _kind_in_experts(name: str) -> str:
    """What a tensor is in a mixture of experts; empty if it is as in any model."""
    if SHARED_NAME.search(name):
        return SHARED_EXPERTS
    if ROUTER_NAME.search(name) or GATE_NAME.search(name):
        return ROUTER
    return EXPERTS if EXPERTS_NAME.search(name) else ""


def _usual_kind(name: str) -> str:
    if NUMBERED.search(name):
        return LAYERS
    if HEAD_NAME.search(name):
        return HEAD
    if EMBEDDINGS_NAME.search(name):
        return EMBEDDINGS
    return NORM if "norm" in name or "ln_" in name else OTHER


def _usual_module(config: Config) -> str:
    """The module of what no word in its name tells."""
    inner = config.get("text_config")
    if {"num_mel_bins", "mask_time_prob"} & config.keys():
        return AUDIO
    if "vocab_size" in config or isinstance(inner, dict):
        return TEXT
    return VISION if {"image_size", "patch_size", "num_channels"} & config.keys() else TEXT


def _is_encoder_decoder(names: Iterable[str], config: Config) -> bool:
    if config.get("is_encoder_decoder") or {"decoder_layers", "num_decoder_layers"} & config.keys():
        return True
    return {found[1] for n in names if (found := ENCODER_DECODER.match(n))} == {ENCODER, DECODER}


def predictors(tensors: Iterable[str]) -> frozenset[str]:
    """Tensors of multi-token prediction: they are numbered as layers are, and are none.

    Example:
        >>> names = ["layers.0.w", "layers.1.w", "layers.1.eh_proj.weight", "mtp.layers.0.w"]
        >>> sorted(predictors(names))
        ['layers.1.eh_proj.weight', 'layers.1.w', 'mtp.layers.0.w']
    """
    return frozenset(name for name, part in parts_of(tensors, {}).items() if part.kind == MTP)


def part_named(name: str) -> str:
    """The part that a name stands for, in mergekit's words or ours.

    Example:
        >>> part_named("text_decoder"), part_named("experts")
        ('text', 'experts')
    """
    return ALIASES.get(name, name)


def tensors_in(name: str, checkpoint: Checkpoint) -> list[str]:
    """Names of a checkpoint's tensors in a part; empty if it has none of that name.

    Args:
        name: Of a module or a kind, or both, as `str` gives it.
        checkpoint: The model.
    """
    own = part_named(name)
    found = parts_of(checkpoint.tensors, checkpoint.config)
    return [tensor for tensor, part in found.items() if own in {*part, str(part)}]


def modules_in(checkpoint: Checkpoint) -> set[str]:
    """The modules that have tensors of a checkpoint."""
    return {part.module for part in parts_of(checkpoint.tensors, checkpoint.config).values()}


def names_of_parts(parts: Iterable[Part]) -> list[str]:
    """All names by which parts can be chosen: modules first."""
    found = list(parts)
    return list(dict.fromkeys([*(p.module for p in found), *(p.kind for p in found if p.kind)]))


def nearest_parts(name: str, known: Iterable[str]) -> str:
    """The known names that are most like one that is not, for a message; empty if none is."""
    said = {**ALIASES, **{one: one for one in known}}
    near = difflib.get_close_matches(name, said, n=3, cutoff=0.5)
    among = dict.fromkeys(said[one] for one in near if said[one] in set(known))
    return ", ".join(among)


def keys_of(tensors: Iterable[str]) -> dict[str, str]:
    """Names within their module to the tensors' names: alike in a model and in its part alone.

    Where several are called the same there, as in two towers, each goes by its whole name.

    Example:
        >>> keys_of(["model.language_model.layers.0.w", "lm_head.weight"])
        {'layers.0.w': 'model.language_model.layers.0.w', 'lm_head.weight': 'lm_head.weight'}
    """
    keys = {name: _key(name) for name in tensors}
    counts = Counter(keys.values())
    return {key if counts[key] == 1 else name: name for name, key in keys.items()}


def _key(name: str) -> str:
    return ".".join(word for word in name.split(".") if not _is_container(word))


def _is_container(word: str) -> bool:
    """Whether a word tells which module a tensor is in, and not which tensor of it."""
    return word in {"model", "transformer", "thinker"} or _module_of(word) in {TEXT, VISION, AUDIO}


def counted(names: Iterable[str], parts: Mapping[str, Part]) -> str:
    """How many tensors of which parts, for a message.

    Example:
        >>> parts = {"a": Part("vision"), "b": Part("vision"), "c": Part("projector")}
        >>> counted(["a", "b", "c"], parts)
        '2 of vision, 1 of projector'
    """
    found: dict[str, int] = {}
    for name in names:
        part = str(parts[name])
        found[part] = found.get(part, 0) + 1
    return ", ".join(f"{count} of {part}" for part, count in found.items())


def missing_parts(checkpoints: Sequence[Checkpoint]) -> list[Part]:
    """Parts that some of the models have, and others have nothing of.

    An output layer that is tied to the embeddings is none, nor are buffers that models recompute.
    """
    found = [parts_with_names(one) for one in checkpoints]
    every = dict.fromkeys(part for own in found for part in own)
    return [part for part in every if any(part not in own for own in found)]


def parts_with_names(checkpoint: Checkpoint) -> dict[Part, list[str]]:
    """Names by part, without output layers that may be tied."""
    found: dict[Part, list[str]] = {}
    for name, part in parts_of(checkpoint.tensors, checkpoint.config).items():
        if not may_be_buffer(name) and not (name.endswith(TIED) and may_tie(checkpoint)):
            found.setdefault(part, []).append(name)
    return found


def may_tie(checkpoint: Checkpoint) -> bool:
    """Whether its output layer may be its embeddings: unless it says that it is not."""
    return checkpoint.config.get(TIE) is not False
