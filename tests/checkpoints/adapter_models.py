"""Tiny models and real peft adapters of them, with products that are not zero."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.load import quiet_transformers


def llama(**settings: Any) -> PreTrainedModel:
    """Two layers with biases, and of square, tall and wide weights."""
    shape = {
        "vocab_size": 32, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": True,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**shape, **settings}))


def gpt2(**settings: Any) -> PreTrainedModel:
    """Weights stored (in, out), square ones among them; the head is tied."""
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=32, **settings))


def vit() -> PreTrainedModel:
    """Images through a convolution; stored under older names than the loaded ones."""
    shape = {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3,
        "intermediate_size": 12, "image_size": 8, "patch_size": 4,
    }  # fmt: skip
    return ViTForImageClassification(ViTConfig(**shape))


KINDS = {"llama": llama, "gpt2": gpt2, "vit": vit}


def make_base(
    folder: Path, kind: str = "llama", dtype: torch.dtype = torch.float32, **settings: Any
) -> Path:
    """A base model in a folder, the same for the same arguments."""
    torch.manual_seed(0)
    model = KINDS[kind](**settings).to(dtype)
    with quiet_transformers():
        model.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int = 1, **settings: Any) -> Path:
    """An adapter of a base: everything in it that is trained is drawn at random."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft tells of tied weights and of Conv1D
        model = get_peft_model(loaded(base), LoraConfig(**{"r": 2, "lora_alpha": 3, **settings}))
        draw = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = 0.3 if "lora_A" in name or "lora_B" in name or "embedding" in name else 0.1
                parameter.data += scale * torch.randn(parameter.shape, generator=draw)
        model.save_pretrained(folder)
    return folder


def loaded(base: Path) -> PreTrainedModel:
    """A base as transformers loads it, in the dtype it is stored in."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(base)
    architecture = getattr(transformers, config.architectures[0])
    with quiet_transformers():
        model: PreTrainedModel = architecture.from_pretrained(base)
    return model


def merged_by_peft(base: Path, adapter: Path, wide: bool = False) -> PreTrainedModel:
    """peft's own merge; from a base that is widened to float32 first if asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = loaded(base).float() if wide else loaded(base)
        merged: PreTrainedModel = PeftModel.from_pretrained(model, adapter).merge_and_unload(
            safe_merge=True
        )
    return merged.eval()


def merged_here(model: Path | str, dtype: str | None = None) -> dict[str, Tensor]:
    """What merging one model writes."""
    blend = Blend((open_checkpoint(model).fetch(),), Linear((1.0,)), dtype)
    sink = MemorySink(blend)
    stream(blend, sink)
    return sink.state


def units(values: Tensor, size: Tensor) -> Tensor:
    """The unit in the last place, in the dtype of `values`, at the magnitudes of `size`."""
    exponent = torch.frexp(size.double().abs().clamp(min=1e-30)).exponent - 1
    return torch.exp2(exponent.double()) * torch.finfo(values.dtype).eps


def rewrite(path: Path, **values: object) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
