"""Parts of models, against the modules that transformers builds them of."""

import pytest
import torch
import transformers

from mergekit_geo.checkpoints.parts import keys_of, nearest_parts, parts_of
from tests.part_models import config_of

HEAD = "ForConditionalGeneration"
MULTIMODAL = {
    "text": ("model.language_model.", "lm_head.", "text_model."),
    "vision": ("model.vision_tower.", "model.visual.", "vision_model."),
    "projector": ("model.multi_modal_projector.", "model.visual.merger.", "visual_projection",
                  "text_projection", "logit_scale"),
}  # fmt: skip
TWOFOLD = {
    "encoder": ("encoder.", "model.encoder."),
    "decoder": ("decoder.", "model.decoder.", "lm_head.", "proj_out."),
    "shared": ("shared.",),
}


def longest(name: str, prefixes: dict[str, tuple[str, ...]]) -> str:
    """The module whose prefix reaches furthest into a name."""
    return max(
        (len(prefix), module)
        for module, own in prefixes.items()
        for prefix in own
        if name.startswith(prefix)
    )[1]


@pytest.mark.parametrize(
    ("kind", "head", "prefixes"),
    [("Llava", HEAD, MULTIMODAL), ("Qwen2_5_VL", HEAD, MULTIMODAL), ("Gemma3", HEAD, MULTIMODAL),
     ("CLIP", "Model", MULTIMODAL), ("T5", HEAD, TWOFOLD), ("T5", "EncoderModel", TWOFOLD),
     ("Whisper", HEAD, TWOFOLD)],
)  # fmt: skip
def test_modules(kind: str, head: str, prefixes: dict[str, tuple[str, ...]]) -> None:
    config = config_of(kind)
    with torch.device("meta"):
        names = list(getattr(transformers, f"{kind}{head}")(config).state_dict())
    expected = {name: longest(name, prefixes) for name in names}
    assert {name: part.module for name, part in parts_of(names, config.to_dict()).items()} == (
        expected
    )


def test_stored_names_are_of_the_same_parts_in_old_layouts() -> None:
    old = ["language_model.model.layers.0.w", "language_model.lm_head.weight", "visual.blocks.0.w"]
    new = ["model.language_model.layers.0.w", "lm_head.weight", "model.visual.blocks.0.w"]
    alone = ["model.layers.0.w", "lm_head.weight", "blocks.0.w"]
    assert [str(part) for part in parts_of(old, {}).values()] == [
        "text/layers", "text/head", "vision",
    ]  # fmt: skip
    assert [*parts_of(old, {}).values()] == [*parts_of(new, {}).values()]
    assert [*keys_of(old)] == [*keys_of(new)] == [*keys_of(alone)]


def test_what_is_beside_a_text_model_is_not_of_it() -> None:
    """Names of Video-LLaVA, Ovis 2, LightOnOCR, Kosmos 2, Fuyu, Janus, Granite Speech, Qwen3.5."""
    told = {
        "model.language_model.layers.0.mlp.visual_gate.weight": "text/layers",
        "model.video_tower.encoder.layers.0.w": "vision", "image_tower.post_layernorm.w": "vision",
        "model.visual_embeddings_table.weight": "vision", "llm.lm_head.weight": "text/head",
        "model.vision_projection.patch_merger.weight": "projector",
        "image_to_text_projection.latent_query": "projector",
        "model.vision_embed_tokens.weight": "vision",
        "model.visual.merger.0.weight": "projector", "model.visual.blocks.0.proj.w": "vision",
        "model.generation_head.proj_out.weight": "other", "model.encoder.layers.0.w": "other",
        "mtp.layers.0.mlp.up_proj.weight": "text/multi_token_prediction",
        "lm_head.weight": "text/head", "score.weight": "text/head",
    }  # fmt: skip
    assert {name: str(part) for name, part in parts_of(told, {}).items()} == told


def test_two_towers_do_not_share_keys() -> None:
    names = ["model.image_tower.w", "model.video_tower.w", "model.video_tower.v"]
    assert [*keys_of(names)] == ["model.image_tower.w", "model.video_tower.w", "v"]


def test_kinds_in_a_mixture_of_experts() -> None:
    moe = {
        "model.layers.0.mlp.gate.weight": "router",
        "model.layers.0.mlp.gate.e_score_correction_bias": "router",
        "model.layers.0.mlp.gate_proj.weight": "layers",
        "model.layers.1.mlp.experts.3.gate_proj.weight": "experts",
        "model.layers.1.mlp.experts.gate_up_proj": "experts",
        "model.layers.1.mlp.shared_experts.up_proj.weight": "shared_experts",
        "model.layers.1.mlp.shared_expert_gate.weight": "shared_experts",
        "model.layers.2.eh_proj.weight": "multi_token_prediction",
        "model.layers.2.mlp.gate.weight": "multi_token_prediction",
        "mtp.fc.weight": "multi_token_prediction",
        "model.norm.weight": "norm",
        "model.embed_tokens.weight": "embeddings",
    }
    assert {name: part.kind for name, part in parts_of(moe, {}).items()} == moe
    assert {part.module for part in parts_of(moe, {}).values()} == {"text"}


def test_a_model_without_experts_has_no_router() -> None:
    (part,) = parts_of(["layers.0.cross_attn.gate.weight"], {}).values()
    assert part.kind == "layers"


def test_the_nearest_names_of_a_part_that_is_not_there() -> None:
    assert nearest_parts("vison_tower", ["text", "vision"]) == "vision"
    assert nearest_parts("txt", ["text", "vision"]) == "text"
    assert nearest_parts("xyz", ["text", "vision"]) == ""
