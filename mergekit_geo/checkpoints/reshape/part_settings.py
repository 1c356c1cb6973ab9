"""Settings of a part of a model that its weights depend on."""

from __future__ import annotations

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.parts import AUDIO, TEXT, VISION, modules_in
from mergekit_geo.files.sound_json import brief

SAME = (
    "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rope_theta", "sliding_window", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip
"""Settings of a part that change what its weights mean."""

WIDTHS = ("hidden_size", "d_model", "n_embd")


def unlike_sizes(part: str, whole: Checkpoint, other: Checkpoint) -> str:
    """Why tensors of a part do not fit: the widths of both models, where they tell them."""
    widths = [_width(_settings(part, one)) for one in (whole, other)]
    if None in widths or widths[0] == widths[1]:
        return "models of different sizes"
    return f"models of widths {widths[0]} and {widths[1]}"


def _width(config: Config) -> object:
    return next((config[key] for key in WIDTHS if key in config), None)


def _settings(part: str, checkpoint: Checkpoint) -> Config:
    """Settings of a part: of a tower its own, of any other those of the language model."""
    is_tower = part in {VISION, AUDIO}
    inner = checkpoint.config.get(f"{part if is_tower else TEXT}_config")
    if isinstance(inner, dict):
        return inner
    return {} if is_tower and len(modules_in(checkpoint)) > 1 else checkpoint.config


def unlike_settings(part: str, donor: Checkpoint, other: Checkpoint) -> list[str]:
    """Warnings on settings that change what the weights of a part mean."""
    mine, theirs = (_with_rope(_settings(part, one)) for one in (donor, other))
    return [
        f"config.json: {key} is {brief(mine[key])} in {donor.name} and {brief(theirs[key])} in "
        f"{other.name}; the output has that of {donor.name}"
        for key in SAME
        if key in mine and key in theirs and mine[key] != theirs[key]
    ]


def _with_rope(config: Config) -> Config:
    inner = config.get("rope_parameters")
    return {**inner, **config} if isinstance(inner, dict) else config
