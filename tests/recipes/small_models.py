"""The small models that the recipes of the corpus name: every tensor of theirs is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    Cohere2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    LlavaConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from mergekit_geo.data.text import builtin_documents
from mergekit_geo.modules.load import quiet_transformers
from tests.demo.train import train_tokenizer

WORDS = 400
SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 32, "tie_word_embeddings": False,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}"
)
HEADERS = (
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
)
CHATS = {
    "chat-chatml": (["<|im_start|>", "<|im_end|>"], CHATML),
    "chat-llama3": (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], HEADERS),
    "chat-tools": (["<tool_call>", "</tool_call>", "<|im_end|>", "<|im_start|>"], CHATML),
    "chat-languages": ([f"<{tag}>" for tag in ("en", "de", "fr", "ja", "ko", "pt", "zh")], None),
}
"""Fine-tunes with added tokens, and their chat templates."""

ADAPTERS = ("lora-w", "lora-x", "lora-y", "lora-z")


def furnish(folder: Path) -> None:
    """Write all of them."""
    tokenizer = _tokenizer(0)
    llama = llama_config()
    base = drawn(llama, 0)
    _save(folder / "llama-base", llama, base, tokenizer)
    for seed, name in enumerate("abcde", 1):
        _save(folder / f"llama-{name}", llama, near(base, seed), tokenizer)
    for seed, name in enumerate(CHATS, 11):
        _save_chat(folder / name, base, seed)
    for layers, name in ((4, "llama-short"), (2, "llama-tiny")):
        config = llama_config(num_hidden_layers=layers)
        _save(folder / name, config, drawn(config, layers), tokenizer)
    wide = llama_config(hidden_size=32)
    _save(folder / "llama-wide", wide, drawn(wide, 21), tokenizer)
    padded = llama_config(vocab_size=448)
    _save(folder / "llama-padded", padded, longer(near(base, 22), 448, 22), tokenizer)
    _save(folder / "other-words", llama, near(base, 23), _tokenizer(40))
    for name, config in _others().items():
        first = drawn(config, sum(name.encode()))
        for seed, letter in enumerate(("a", "b", "base")):
            _save(folder / f"{name}-{letter}", config, near(first, seed), tokenizer)
    for seed, name in enumerate(ADAPTERS):
        _save_adapter(folder, name, llama, seed)


def llama_config(**changes: Any) -> LlamaConfig:
    """Eight layers; the output layer is a tensor of its own."""
    return LlamaConfig(**{**SIZES, "vocab_size": WORDS, "num_hidden_layers": 8, **changes})


def _others() -> dict[str, PreTrainedConfig]:
    text = llama_config(num_hidden_layers=4)
    vision = CLIPVisionConfig(
        image_size=8, patch_size=4, num_hidden_layers=2, num_attention_heads=2, hidden_size=16,
        intermediate_size=32,
    )  # fmt: skip
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return {
        "gpt2": GPT2Config(
            vocab_size=WORDS, n_embd=16, n_head=2, n_layer=3, n_positions=32, bos_token_id=0,
            eos_token_id=0,
        ),
        "mistral-moe": MixtralConfig(
            **SIZES, vocab_size=WORDS, num_hidden_layers=4, num_local_experts=2
        ),
        "cohere": Cohere2Config(
            vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=8, **heads,
            max_position_embeddings=32, sliding_window=8, pad_token_id=0, bos_token_id=0,
            eos_token_id=0,
        ),
        "granite": GraniteConfig(**SIZES, vocab_size=WORDS, num_hidden_layers=2),
        "vision-text": LlavaConfig(
            text_config=text, vision_config=vision, image_seq_length=4, image_token_index=1
        ),
        "t5": T5Config(
            vocab_size=WORDS, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_decoder_layers=2,
            num_heads=2, decoder_start_token_id=0,
        ),
    }  # fmt: skip


def class_of(config: PreTrainedConfig) -> Any:
    """The class that transformers has for a model's main use."""
    mappings = (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    )  # fmt: skip
    return next(found[type(config)] for found in mappings if type(config) in found)


def drawn(config: PreTrainedConfig, seed: int) -> dict[str, Tensor]:
    """A state whose every tensor is drawn, gains and biases too."""
    draw = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = class_of(config)(config).state_dict()
    return {
        name: torch.randn(tensor.shape, generator=draw) * 0.2 + ("norm" in name)
        for name, tensor in shapes.items()
        if tensor.is_floating_point()
    }


def near(state: Mapping[str, Tensor], seed: int, size: float = 0.02) -> dict[str, Tensor]:
    """A fine-tune: a small step from a state."""
    draw = torch.Generator().manual_seed(1000 + seed)
    return {n: t + size * torch.randn(t.shape, generator=draw) for n, t in state.items()}


def longer(state: dict[str, Tensor], rows: int, seed: int) -> dict[str, Tensor]:
    """With further rows of embedding and output layer."""
    draw = torch.Generator().manual_seed(seed)
    more = {
        name: torch.cat([state[name], torch.randn(rows - WORDS, 16, generator=draw) * 0.2])
        for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    return {**state, **more}


def _tokenizer(start: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on some of the built-in text, read backwards for another one."""
    texts = [document.text[:4000] for document in builtin_documents("train")[start : start + 20]]
    if start:
        texts = [text[::-1].swapcase() for text in texts]
    return train_tokenizer(texts, vocabulary=WORDS)


def _save_chat(folder: Path, base: Mapping[str, Tensor], seed: int) -> None:
    added, template = CHATS[folder.name]
    tokenizer = _tokenizer(0)
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.chat_template = template
    rows = WORDS + len(added)
    config = llama_config(vocab_size=rows)
    _save(folder, config, longer(near(base, seed), rows, seed), tokenizer)


def _save(
    folder: Path,
    config: PreTrainedConfig,
    state: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = class_of(config)(config)
    model.load_state_dict(state, strict=False)
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_adapter(folder: Path, name: str, config: LlamaConfig, seed: int) -> None:
    """An adapter of llama-base that changes something."""
    with quiet_transformers():
        model = class_of(config).from_pretrained(folder / "llama-base")
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
        torch.manual_seed(seed)
        for parameter_name, parameter in wrapped.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.02)
        wrapped.save_pretrained(folder / name)
    said = folder / name / "adapter_config.json"
    config_now = json.loads(said.read_text()) | {"base_model_name_or_path": "llama-base"}
    said.write_text(json.dumps(config_now))
