"""`adapter_config.json`: what a LoRA adapter of peft says of itself, and what is refused."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from mergekit_geo.checkpoints.module_patterns import ModulePatterns
from mergekit_geo.errors import FormatError, UnsupportedError
from mergekit_geo.extras import install_command
from mergekit_geo.files.hub_id import HubId
from mergekit_geo.files.sound_json import brief, read_json

ADAPTER_CONFIG = "adapter_config.json"

PROMPTS = (
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT",
    "CPT", "CARTRIDGE",
)  # fmt: skip
"""Kinds of adapters that add inputs, and leave weights alone."""

UNDERSTOOD = frozenset({
    "peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "rank_pattern",
    "alpha_pattern", "use_rslora", "use_dora", "fan_in_fan_out", "ensure_weight_tying",
    "init_lora_weights",
})  # fmt: skip

SILENT = frozenset({
    "task_type", "auto_mapping", "peft_version", "inference_mode", "lora_dropout", "runtime_config",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save",
    "bias", "lora_bias", "megatron_core", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "qalora_group_size", "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr",
})  # fmt: skip
"""Settings of the training, and those whose effect is seen in the tensors."""

LARGEST = 1 << 31
"""Upper bound of ranks: no matrix has as many rows."""

HARMLESS_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that do not modify the base's weights."""


@dataclass(frozen=True)
class LoraSettings:
    """Settings of an adapter that determine the weights.

    Attributes:
        base: Name of the base model; empty where none is stated.
        revision: Of the base; empty for its main branch.
        rank: Of the product.
        alpha: Strength of the product.
        ranks: Of modules that have their own (`rank_pattern`).
        alphas: Strengths likewise (`alpha_pattern`).
        rslora: Whether the product is divided by the root of the rank (Kalajdzievski 2023).
        dora: Whether rows are rescaled to trained magnitudes (Liu 2024).
        transposed: Whether weights are stored (in, out), where the architecture does not say.
        tied: Whether tied weights were kept equal in training.
        saved: Last parts of the names of modules that were trained as a copy.
    """

    base: str = ""
    revision: str = ""
    rank: int = 8
    alpha: float = 8.0
    ranks: ModulePatterns = field(default_factory=ModulePatterns)
    alphas: ModulePatterns = field(default_factory=ModulePatterns)
    rslora: bool = False
    dora: bool = False
    transposed: bool = False
    tied: bool = False
    saved: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The base as a user would name it."""
        return f"{self.base}@{self.revision}" if self.revision else self.base

    def rank_of(self, module: str) -> int:
        """The rank of a module's product.

        Example:
            >>> settings = LoraSettings(rank=8, ranks=ModulePatterns("", {"0.*q_proj": 4}))
            >>> settings.rank_of("layers.0.q_proj"), settings.rank_of("layers.1.q_proj")
            (4, 8)
        """
        return int(self.ranks.get(module, self.rank))

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by.

        Example:
            >>> LoraSettings(rank=4, alpha=8).scale_of("q_proj")
            2.0
            >>> LoraSettings(rank=4, alpha=8, rslora=True).scale_of("q_proj")
            4.0
        """
        rank, alpha = self.rank_of(module), self.alphas.get(module, self.alpha)
        return float(alpha / (math.sqrt(rank) if self.rslora else rank))


def read_settings(path: Path, name: str) -> LoraSettings:
    """Read and check an adapter's configuration.

    Args:
        path: Of the file.
        name: What the user calls the adapter.

    Raises:
        FormatError: It is no sound configuration.
        UnsupportedError: It asks for something that W + scale * B A is not.
    """
    raw = read_json(path, where=name)
    try:
        refuse_others(raw, name)
        return _settings(raw)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"not a sound {ADAPTER_CONFIG}: {error}", where=name) from error


def refuse_others(raw: Mapping[str, Any], name: str) -> None:
    """Refuse settings by which an adapter does more than adding a product.

    Raises:
        UnsupportedError: With the setting's name, and the way out.
    """
    kind, base = raw.get("peft_type"), _name(raw, "base_model_name_or_path") or "BASE"
    if kind in PROMPTS:
        raise UnsupportedError(
            f"a {kind} adapter adds inputs to the model and has no weights to average",
            where=name,
            remedy="only adapters that change weights can be merged",
        )
    if kind != "LORA":
        _refuse(f"this is a {kind} adapter; LORA ones are read here", name, base)
    if raw.get("alora_invocation_tokens"):
        raise UnsupportedError(
            "alora_invocation_tokens: it acts on some tokens only, which no weights can do",
            where=name,
            remedy="it cannot be merged",
        )
    start = raw.get("init_lora_weights")
    if start not in HARMLESS_INITIALISATIONS:
        _refuse(
            f"init_lora_weights is {brief(start)}, which may change the base itself", name, base
        )
    for key in sorted(raw.keys() - UNDERSTOOD - SILENT):
        if raw[key]:
            _refuse(f"the setting {key} is not understood here ({brief(raw[key])})", name, base)


def merging_remedy(base: str, adapter: str) -> str:
    """The command that lets peft merge an adapter, and what it needs.

    Args:
        base: The base model.
        adapter: A folder or a Hub id, as for the base with an optional `@revision`.
    """
    place = HubId.parse(adapter)
    below = place.subfolder if place else ""
    within = f", subfolder='{below}'" if below else ""
    code = (
        "import sys, peft, transformers as t; "
        "k = lambda x: (x.partition('@')[0], {'revision': x.partition('@')[2] or 'main'}); "
        "(b, v), (a, w), o = k(sys.argv[1]), k(sys.argv[2]), sys.argv[3]; "
        "c = t.AutoConfig.from_pretrained(b, **v); "
        "m = getattr(t, c.architectures[0]).from_pretrained(b, **v); "
        f"peft.PeftModel.from_pretrained(m, a, **w{within}).merge_and_unload(safe_merge=True)"
        ".save_pretrained(o); "
        "t.AutoTokenizer.from_pretrained(b, **v).save_pretrained(o)"
    )
    adapter = str(replace(place, subfolder="")) if place and below else adapter
    target = f"{Path(adapter.partition('@')[0]).name}-merged"
    command = install_command("peft")
    install = f"{command}, then " if command else ""
    words = shlex.join([base, adapter, target])
    return f'{install}merge it with peft, and use the result: python -c "{code}" {words}'


def _refuse(message: str, name: str, base: str) -> NoReturn:
    raise UnsupportedError(message, where=name, remedy=merging_remedy(base, name))


def _settings(raw: Mapping[str, Any]) -> LoraSettings:
    return LoraSettings(
        base=_name(raw, "base_model_name_or_path"),
        revision=_name(raw, "revision"),
        rank=_rank("r", raw.get("r", 8)),
        alpha=_strength("lora_alpha", raw.get("lora_alpha", 8)),
        ranks=_patterns(raw, "rank_pattern", _rank),
        alphas=_patterns(raw, "alpha_pattern", _strength),
        rslora=bool(raw.get("use_rslora")),
        dora=bool(raw.get("use_dora")),
        transposed=bool(raw.get("fan_in_fan_out")),
        tied=bool(raw.get("ensure_weight_tying")),
        saved=tuple(str(name).rpartition(".")[2] for name in raw.get("modules_to_save") or ()),
    )


def _name(raw: Mapping[str, Any], key: str) -> str:
    found = raw.get(key) or ""
    if not isinstance(found, str):
        raise TypeError(f"{key} is {brief(found)}; expected a name")
    return found


def _rank(key: str, value: object) -> int:
    if type(value) is not int or not 1 <= value < LARGEST:
        raise ValueError(f"{key} is {brief(value)}; expected a whole number from 1 on")
    return value


def _strength(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{key} is {brief(value)}; expected a number")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{key} is {found}; expected a finite number")
    return found


def _patterns(
    raw: Mapping[str, Any], key: str, checked: Callable[[str, object], float]
) -> ModulePatterns:
    found = raw.get(key) or {}
    if not isinstance(found, dict):
        raise TypeError(f"{key} is {brief(found)}; expected patterns and numbers")
    return ModulePatterns(key, {p: checked(f"{key} of {brief(p)}", v) for p, v in found.items()})
