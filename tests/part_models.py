"""Tiny models of several parts, every tensor drawn at random, and models that are a part alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

TEXT = {
    "vocab_size": 24, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 8, "patch_size": 4,
}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 10000.0}


def _llava(**text: Any) -> Any:
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, projection_dim=8),
        text_config=transformers.LlamaConfig(**text), image_token_index=23,
    )  # fmt: skip


def _gemma3(**text: Any) -> Any:
    return transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**VISION),
        text_config=transformers.Gemma3TextConfig(**text), mm_tokens_per_image=4,
        image_token_index=23, boi_token_index=21, eoi_token_index=22,
    )  # fmt: skip


def _qwen2_5_vl(**text: Any) -> Any:
    vision = {
        "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2,
        "out_hidden_size": text["hidden_size"], "patch_size": 4,
    }  # fmt: skip
    return transformers.Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": ROPE}, vision_config=vision, image_token_id=23,
        video_token_id=22, vision_start_token_id=21, vision_end_token_id=20,
    )  # fmt: skip


def _t5(**_: Any) -> Any:
    return transformers.T5Config(
        vocab_size=24, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2,
        tie_word_embeddings=False,
    )  # fmt: skip


def _whisper(**_: Any) -> Any:
    return transformers.WhisperConfig(
        vocab_size=24, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, num_mel_bins=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip


def _clip(**_: Any) -> Any:
    tower = {key: VISION[key] for key in TEXT.keys() & VISION.keys()}
    return transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 24, "eos_token_id": 2, "bos_token_id": 1},
        vision_config=VISION, projection_dim=8,
    )  # fmt: skip


MADE = {
    "Llava": _llava, "Gemma3": _gemma3, "Qwen2_5_VL": _qwen2_5_vl, "T5": _t5, "Whisper": _whisper,
    "CLIP": _clip,
}  # fmt: skip


def config_of(kind: str, **text: Any) -> Any:
    """Configuration of a model, by the beginning of transformers' class names."""
    return MADE.get(kind, getattr(transformers, f"{kind}Config"))(**{**TEXT, **text})


def tiny(kind: str, head: str = "ForConditionalGeneration", seed: int = 0, **text: Any) -> Any:
    """A model, its gains and biases drawn at random, too."""
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind.removesuffix('Text')}{head}")(config_of(kind, **text))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return model.eval()


def saved(folder: Path, kind: str, head: str = "ForConditionalGeneration", **how: Any) -> Path:
    """The same in a folder."""
    tiny(kind, head, **how).save_pretrained(folder)
    return folder


def reloaded(folder: Path, kind: str, head: str = "ForConditionalGeneration") -> dict[str, Tensor]:
    """Tensors of a folder as transformers loads them, none missing and none left over."""
    made = getattr(transformers, f"{kind.removesuffix('Text')}{head}")
    model, info = made.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    found = {key: names for key, names in info.items() if names}
    assert not found, found
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}
