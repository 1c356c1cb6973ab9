"""Adapters in files that are not peft's: factors of products, which are no weights of a model."""

from __future__ import annotations

import re
from collections.abc import Collection

from mergekit_geo.errors import UnsupportedError

FACTOR = re.compile(r"lora_(?:A|B|up|down|mid|embedding_A|embedding_B)\b|\.lora\.|hada_w|lokr_w")
"""Names of factors as peft, diffusers, kohya and LyCORIS write them."""

BESIDE = re.compile(r"\.alpha$|dora_scale$|lora_magnitude_vector")
PEFT = "base_model.model."


def refuse_factors(tensors: Collection[str], name: str) -> None:
    """Refuse what is an adapter, or a model with one apart: products are averaged, not factors.

    Args:
        tensors: Names.
        name: What the user calls it.

    Raises:
        UnsupportedError: With the way out.

    Example:
        >>> refuse_factors(["layers.0.q_a_proj.weight", "layers.0.lora_A.weight"], "a")
    """
    factors = [tensor for tensor in tensors if FACTOR.search(tensor)]
    if not factors:
        return
    if all(FACTOR.search(tensor) or BESIDE.search(tensor) for tensor in tensors):
        raise UnsupportedError(
            f"it holds the factors of an adapter ({factors[0]}), and no model: the mean of factors "
            "is not the mean of what they add",
            where=name,
            remedy="adapters of peft are read with their adapter_config.json; merge others into "
            "their base first (fuse_lora and save_pretrained of diffusers), and name the results",
        )
    if all(tensor.startswith(PEFT) for tensor in tensors):
        raise UnsupportedError(
            f"it holds a model and an adapter apart ({factors[0]}), as the state of a PeftModel is",
            where=name,
            remedy="load it with peft, then merge_and_unload() and save_pretrained()",
        )
