"""Tiny models of the architectures that people merge, from transformers' own configurations.

Each is some 32 wide and two to four layers deep, with the heads, experts, states, windows and
projections that its family has. Their weights are drawn by who uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 320
"""Tokens of the text models; a power of two apart from all widths."""

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
"""What most text models call their sizes."""

EXPERTS = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}
LATENT = {
    "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8,
    "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "head_dim": 4,
    "num_key_value_heads": 4,
}  # fmt: skip
MAMBA = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
HEADS = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
PICTURE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """A tiny model of a family.

    Attributes:
        kind: `model_type`.
        model: The class in transformers.
        settings: Of the configuration, beside `SIZES` where it is a text model.
        plain: Whether `SIZES` are left out.
        dtype: Of the weights that are stored, as torch names it.
        data: What its loss is measured on: `text`, `pairs`, `images`; empty for no task of it.
    """

    kind: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    plain: bool = False
    dtype: str = "float32"
    data: str = ""

    def build(self) -> Any:
        """The model, as transformers initialises it."""
        import torch
        import transformers

        settings = {**({} if self.plain else SIZES), **self.settings}
        config = transformers.AutoConfig.for_model(self.kind, **settings)
        model = getattr(transformers, self.model)(config)
        return model.to(getattr(torch, self.dtype)).eval()


def text(kind: str, model: str, **settings: Any) -> Architecture:
    """A causal language model whose sizes are called as most call them."""
    return Architecture(kind, f"{model}ForCausalLM", settings, data="text")


def other(kind: str, model: str, *, data: str = "", **settings: Any) -> Architecture:
    """A model whose configuration says all of its sizes."""
    return Architecture(kind, model, settings, plain=True, data=data)


def pictures(text: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The two configurations of a model for pictures and text."""
    return {"text_config": {**SIZES, **text}, "vision_config": {**PICTURE, **more}}


CLIP = {"projection_dim": 16, "text_config": {**PICTURE, "vocab_size": VOCABULARY,
        "max_position_embeddings": 32}, "vision_config": PICTURE}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}

ARCHITECTURES: dict[str, Architecture] = {
    "Llama": text("llama", "Llama"),
    "Llama, tied": text("llama", "Llama", tie_word_embeddings=True),
    "Mistral": text("mistral", "Mistral"),
    "Mixtral": text("mixtral", "Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "Qwen2": text("qwen2", "Qwen2"),
    "Qwen2-MoE": text("qwen2_moe", "Qwen2Moe", num_experts=4, shared_expert_intermediate_size=24,
                      **EXPERTS),
    "Qwen3": text("qwen3", "Qwen3"),
    "Qwen3-MoE": text("qwen3_moe", "Qwen3Moe", num_experts=4, **EXPERTS),
    "Qwen3-Next": text("qwen3_next", "Qwen3Next", num_experts=4, num_hidden_layers=4,
                       shared_expert_intermediate_size=24, linear_num_value_heads=4,
                       linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
                       **EXPERTS),
    "Qwen3.5": text("qwen3_5_text", "Qwen3_5", num_hidden_layers=4, linear_num_value_heads=4,
                    linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8),
    "Gemma 2": text("gemma2", "Gemma2", sliding_window=32),
    "Gemma 3": text("gemma3_text", "Gemma3", sliding_window=32),
    "Gemma 4": text("gemma4_text", "Gemma4", sliding_window=32, global_head_dim=8,
                    vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=8),
    "Phi-2": text("phi", "Phi"),
    "Phi-3": text("phi3", "Phi3"),
    "GPT-2": other("gpt2", "GPT2LMHeadModel", data="text", vocab_size=VOCABULARY, n_embd=32,
                   n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=1),
    "GPT-NeoX": text("gpt_neox", "GPTNeoX"),
    "GPT-BigCode": other("gpt_bigcode", "GPTBigCodeForCausalLM", data="text", vocab_size=VOCABULARY,
                         n_embd=32, n_layer=2, n_head=4, n_positions=128, n_inner=48),
    "OPT": text("opt", "OPT", ffn_dim=48, word_embed_proj_dim=32),
    "BLOOM": other("bloom", "BloomForCausalLM", data="text", vocab_size=VOCABULARY, hidden_size=32,
                   n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1, pad_token_id=2),
    "Falcon": other("falcon", "FalconForCausalLM", data="text", vocab_size=VOCABULARY,
                    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
                    bos_token_id=0, eos_token_id=1, new_decoder_architecture=True),
    "StableLM": text("stablelm", "StableLm"),
    "StarCoder2": text("starcoder2", "Starcoder2"),
    "Cohere": text("cohere", "Cohere"),
    "Cohere 2": text("cohere2", "Cohere2", sliding_window=32),
    "OLMo 2": text("olmo2", "Olmo2"),
    "OLMo 3": text("olmo3", "Olmo3", sliding_window=32),
    "Granite": text("granite", "Granite"),
    "Granite 4 (hybrid)": text("granitemoehybrid", "GraniteMoeHybrid", num_local_experts=4,
                               num_experts_per_tok=2, shared_intermediate_size=24,
                               layer_types=["mamba", "attention"], **MAMBA, **HEADS),
    "Jamba": text("jamba", "Jamba", num_experts=4, num_experts_per_tok=2, use_mamba_kernels=False,
                  attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
                  expert_layer_offset=1, mamba_dt_rank=4, **MAMBA),
    "Bamba": text("bamba", "Bamba", attn_layer_indices=[1], **MAMBA, **HEADS),
    "Falcon-H1": text("falcon_h1", "FalconH1", mamba_d_ssm=64, **MAMBA, **HEADS),
    "Mamba 2": other("mamba2", "Mamba2ForCausalLM", data="text", vocab_size=VOCABULARY,
                     hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=4, head_dim=16,
                     n_groups=1, chunk_size=8, bos_token_id=0, eos_token_id=1, pad_token_id=2),
    "Nemotron-H": text("nemotron_h", "NemotronH", layers_block_type=["mamba", "attention", "mlp"],
                       num_hidden_layers=3, mamba_num_heads=4, mamba_head_dim=16, n_groups=1,
                       ssm_state_size=8, chunk_size=8),
    "LFM2": text("lfm2", "Lfm2", layer_types=["conv", "full_attention"], conv_L_cache=3,
                 block_multiple_of=8),
    "RecurrentGemma": text("recurrent_gemma", "RecurrentGemma", lru_width=32, num_hidden_layers=3,
                           attention_window_size=32, intermediate_size=96),
    "DeepSeek-V2": text("deepseek_v2", "DeepseekV2", topk_method="greedy", **LATENT, **EXPERTS),
    "DeepSeek-V3": text("deepseek_v3", "DeepseekV3", n_group=2, topk_group=1, **LATENT, **EXPERTS),
    "gpt-oss": Architecture("gpt_oss", "GptOssForCausalLM", {
        "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"]}, dtype="bfloat16", data="text"),
    "GLM-4": text("glm4", "Glm4"),
    "GLM-4-MoE": text("glm4_moe", "Glm4Moe", n_routed_experts=4, n_shared_experts=1, n_group=1,
                      topk_group=1, first_k_dense_replace=1, **EXPERTS),
    "SmolLM 3": text("smollm3", "SmolLM3"),
    "ERNIE 4.5": text("ernie4_5", "Ernie4_5"),
    "EXAONE 4": text("exaone4", "Exaone4", sliding_window=32),
    "T5": other("t5", "T5ForConditionalGeneration", data="pairs", vocab_size=VOCABULARY,
                d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                feed_forward_proj="gated-gelu", decoder_start_token_id=2, pad_token_id=2),
    "BART": other("bart", "BartForConditionalGeneration", data="pairs", vocab_size=VOCABULARY,
                  d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                  decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                  max_position_embeddings=64),
    "Whisper": other("whisper", "WhisperForConditionalGeneration", vocab_size=VOCABULARY,
                     d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                     decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                     num_mel_bins=8, max_source_positions=32, max_target_positions=32,
                     pad_token_id=2, bos_token_id=0, eos_token_id=1, decoder_start_token_id=0),
    "BERT": Architecture("bert", "BertForMaskedLM", data="text"),
    "RoBERTa": Architecture("roberta", "RobertaForMaskedLM", data="text"),
    "ModernBERT": Architecture("modernbert", "ModernBertForMaskedLM", {
        "cls_token_id": 0, "sep_token_id": 1, "local_attention": 32}, data="text"),
    "DeBERTa": Architecture("deberta-v2", "DebertaV2ForMaskedLM", {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, data="text"),
    "ViT": other("vit", "ViTForImageClassification", data="images", num_labels=4, **PICTURE),
    "CLIP": other("clip", "CLIPModel", **CLIP),
    "SigLIP": other("siglip", "SiglipModel", **CLIP),
    "Llava": other("llava", "LlavaForConditionalGeneration", image_token_index=5,
                   **pictures({"model_type": "llama"}, model_type="clip_vision_model")),
    "Qwen2.5-VL": other("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", **pictures(
        {"rope_parameters": ROPE}, depth=2, num_heads=4, out_hidden_size=32, window_size=16,
        fullatt_block_indexes=[1])),
    "Gemma 3 (pictures)": other("gemma3", "Gemma3ForConditionalGeneration",
                                mm_tokens_per_image=4, **pictures({"sliding_window": 32})),
    "Mistral 3 (Pixtral)": other("mistral3", "Mistral3ForConditionalGeneration",
                                 image_token_index=5, spatial_merge_size=1, **pictures(
                                     {"model_type": "mistral"}, model_type="pixtral", head_dim=8)),
    "Pixtral (Llava)": other("llava", "LlavaForConditionalGeneration", image_token_index=5,
                             **pictures({"model_type": "mistral"}, model_type="pixtral",
                                        head_dim=8)),
    "Idefics 3": other("idefics3", "Idefics3ForConditionalGeneration", scale_factor=2,
                       image_token_id=5, **pictures({"model_type": "llama"})),
    "PaliGemma": other("paligemma", "PaliGemmaForConditionalGeneration", projection_dim=32,
                       image_token_index=5, **pictures({"model_type": "gemma"},
                                                       model_type="siglip_vision_model")),
}  # fmt: skip
"""By the name that people give the family."""
