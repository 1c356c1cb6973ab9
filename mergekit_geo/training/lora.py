"""Low-rank adapters while a model is trained (Hu 2021), by peft, merged into its weights after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mergekit_geo.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from torch.nn import Module


def with_adapters(model: Module, rank: int) -> Module:
    """Add adapters to a model, and make only them trainable.

    Args:
        model: Whose linear layers but the head get them; it is changed.
        rank: Of each.

    Raises:
        ArgumentError: peft is missing.
        UnsupportedError: The model has no layer that takes an adapter.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ArgumentError(
            "LoRA needs peft, which is not installed", remedy="pip install 'mergekit_geo[peft]'"
        ) from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    try:
        adapted: Module = get_peft_model(model, config)
    except ValueError as error:
        raise UnsupportedError(
            f"no adapter can be put into a {type(model).__name__}: {error}",
            remedy="leave --lora-rank out: all weights are trained",
        ) from error
    return adapted


def merged(model: Any) -> Module:
    """Merge a model's adapters into its weights, and return the plain model."""
    whole: Module = model.merge_and_unload(safe_merge=True)
    return whole
