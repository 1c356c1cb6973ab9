"""Merges of every kind of model that transformers has, against float64.

    python benchmarks/architectures.py                  # all of them: half an hour or more
    python benchmarks/architectures.py llama bert       # these

Of each `model_type` the class for its usual task is made small, by rules on the names of its
settings, and drawn at random. A base and two models near it are merged by `soup`, `slerp` and
`ties`; each tensor is compared with the formula in float64, and each output is loaded by
transformers. Of ties at most two elements of a tensor may be of the other side of the threshold,
which float32 and float64 can put differently.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

import mergekit_geo as geo
from benchmarks import harness
from mergekit_geo.merging.blend import BOUNDS, STATISTICS
from mergekit_geo.modules.load import quiet_transformers
from tests.checkpoints.test_architectures import DENSITY, REFERENCES, T, Tensors, draw, stored

WORDS, LARGEST = 320, 30_000_000
"""Tokens of every vocabulary, and most parameters of what is tried."""

TASKS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MASKED_LM",
         "IMAGE_CLASSIFICATION")  # fmt: skip
"""The tables of transformers that are looked into first for a class."""

SIZES = {
    r"codebook_size$": 256, r"vocab_size": WORDS,
    r"max_position_embeddings$|^n_positions$|max_(source|target)_positions": 128,
    r"num_key_value_heads$|num_kv_heads|linear_num_key_heads": 2,
    r"heads?$|linear_num_value_heads": 4, r"num_experts_per_tok|^top_k$": 2,
    r"n(um)?_.*experts$": 4, r"first_k_dense|n_group$|topk_group$": 1,
    r"moe_intermediate|expert_intermediate": 24, r"head_dim$|^d_kv$|head_size$": 16,
    r"qk_rope_head_dim": 8, r"lora_rank": 16, r"intermediate_size|ffn_dim$|^d_ff$|mlp_dim": 96,
    r"hidden_size$|^d_model$|^n_embd$|embed_dim$|embedding_size$|hidden_dim$|_dim$|^dim$": 64,
    r"^image_size$": 32, r"^patch_size$": 8,
}  # fmt: skip
"""What settings are set to at most, by patterns of their names: the first that is found."""

COUNTS = dict(list(SIZES.items())[:8])
"""Those of counts: where the model cannot be made with all, widths are left as they are."""

LAYERS = re.compile(r"(^|_)(layers?|blocks?|depth)$")
NOT_LAYERS = re.compile(r"feat_extract|conv_pos|sampl|position|window|stage|feature|drop|adapter")
TOKEN = re.compile(r"(token_id|token_index|_idx)$")
LEFT_OUT = {"architectures", "id2label", "label2id", "out_features", "out_indices", "stage_names",
            "model_type", "transformers_version"}  # fmt: skip

# Small models


def small(settings: dict[Any, Any], rules: dict[str, int]) -> dict[Any, Any]:
    """Settings of a small model: two layers, or four where these are of several kinds."""
    depths = {n for key, n in settings.items() if _is_depth(key, n) and n > 2}
    lists = [v for v in settings.values() if isinstance(v, list) and len(v) in depths]
    layers = 4 if any(len(set(map(str, each))) > 1 for each in lists) else 2
    return {
        key: _small(str(key), value, rules, layers, depths)
        for key, value in settings.items()
        if key not in LEFT_OUT
    }


def _is_depth(key: object, value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and bool(LAYERS.search(str(key))) and not NOT_LAYERS.search(str(key))


def _small(key: str, value: Any, rules: dict[str, int], layers: int, depths: set[int]) -> Any:
    """One setting of a small model."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not str(k).isdigit() or int(k) < layers}
        return small(kept, rules)
    if isinstance(value, list) and len(value) in depths:
        return _of_both_kinds(value, layers)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if TOKEN.search(key):
        return value if value < WORDS else 10 + (value * 7 + len(key)) % 200
    if _is_depth(key, value):
        return min(value, layers)
    return min(value, next((n for name, n in rules.items() if re.search(name, key)), value))


def _of_both_kinds(kinds: list[Any], layers: int) -> list[Any]:
    """The first layers' kinds; the last is another where all of these are the same."""
    first, other = kinds[:layers], next((kind for kind in kinds if kind != kinds[0]), None)
    return first if other is None or other in first else [*first[:-1], other]


def classes_of(kind: str) -> list[str]:
    """The classes of a `model_type`, those for its usual task first."""
    tables = [f"MODEL_FOR_{task}_MAPPING_NAMES" for task in TASKS]
    tables += sorted(n for n in dir(modeling_auto) if re.match(r"MODEL_.*MAPPING_NAMES$", n))
    found = [getattr(modeling_auto, table, {}).get(kind) or () for table in tables]
    flat = [name for one in found for name in ([one] if isinstance(one, str) else one)]
    return list(dict.fromkeys(flat))


def build(kind: str) -> Any:
    """A small model of a kind, or an error that says why there is none."""
    problem: Exception = ValueError("transformers lists no class for it")
    for name in classes_of(kind)[:3]:
        for rules in (SIZES, COUNTS):
            try:
                return _built(kind, getattr(transformers, name), rules)
            except Exception as error:  # configurations raise anything
                problem = error
    raise problem


def _built(kind: str, model: Any, rules: dict[str, int]) -> Any:
    config = CONFIG_MAPPING[kind](**small(CONFIG_MAPPING[kind]().to_dict(), rules))
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in model(config).state_dict().values())
    if count > LARGEST:
        raise ValueError(f"{count / 1e6:.0f} M parameters")
    return model(config).float().eval()


# What is asked of merges


def merges(folder: Path) -> Iterator[str]:
    """Make every merge of what is in a folder, and name its folder."""
    base, a, b = (str(folder / name) for name in ("base", "a", "b"))
    geo.soup([a, b], folder / "soup", sharpness="off")
    yield "soup"
    geo.slerp([a, b], folder / "slerp", t=T, sharpness="off")
    yield "slerp"
    ties: Any = {"method": "ties", "base": base, "density": DENSITY}
    geo.merge([a, b], folder / "ties", sharpness="off", **ties)
    yield "ties"


def unlike(method: str, found: Tensors, parents: list[Tensors]) -> list[str]:
    """Names of what is not as the formula has it."""
    if found.keys() != parents[1].keys():
        return sorted(found.keys() ^ parents[1].keys())
    return [name for name in found if not _is_equal(name, method, found[name], parents)]


def _is_equal(name: str, method: str, tensor: torch.Tensor, parents: list[Tensors]) -> bool:
    three = [state[name] for state in parents]
    if not tensor.is_floating_point() or not tensor.numel():
        return torch.equal(tensor, three[1])
    wanted = _wanted(name, method, [one.double() for one in three])
    close = torch.finfo(tensor.dtype).eps * wanted.abs().max()
    off = (tensor.double() != wanted) & ~((tensor.double() - wanted).abs() <= close)
    return tensor.dtype == three[1].dtype and int(off.sum()) <= 2 * (method == "ties")


def _wanted(name: str, method: str, three: list[torch.Tensor]) -> torch.Tensor:
    if name.rpartition(".")[2] not in (*STATISTICS, *BOUNDS):
        return REFERENCES[method](*three)
    weight = T if method == "slerp" else 0.5
    return (1 - weight) * three[1] + weight * three[2]


def tried(kind: str, folder: Path) -> tuple[str, str]:
    """What came of a kind of model, and more of it where that is no merge."""
    try:
        model = build(kind)
    except Exception as error:  # whatever transformers raises
        return "not made small", str(error).strip().partition("\n")[0][:200]
    for seed, place in enumerate(("base", "a", "b")):
        draw(model, seed)
        model.save_pretrained(folder / place)
    own, parents = _loaded(model, folder / "a"), [stored(folder / p) for p in ("base", "a", "b")]
    for method in merges(folder):
        if names := unlike(method, stored(folder / method), parents):
            return f"other values by {method}", ", ".join(names[:3])
        if (info := _loaded(model, folder / method)) != own:
            return f"loaded otherwise after {method}", info
    return ("merged, and loaded as badly as before", own) if own else ("merged", "")


def _loaded(model: Any, folder: Path) -> str:
    """What transformers misses in a folder, or why it cannot load it; empty for nothing."""
    try:
        _, info = type(model).from_pretrained(folder, output_loading_info=True)
    except Exception as error:  # its converters raise anything
        return type(error).__name__
    return "; ".join(f"{key}: {len(names)}" for key, names in info.items() if names)


def _counted(kind: str) -> str:
    """What came of a kind of model; stderr hears of all but merges."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found, more = tried(kind, Path(folder))
        except Exception as error:  # a fault, which the table counts by its name
            found, more = type(error).__name__, str(error).partition("\n")[0]
    if found != "merged":
        harness.say(f"{kind}: {found}: {more}", began)
    return found


def main() -> None:
    """Try the kinds that are named, or all."""
    harness.work_offline(1)
    with quiet_transformers():
        counts = Counter(map(_counted, sys.argv[1:] or list(CONFIG_MAPPING)))
    harness.table(("", "kinds"), ((found, str(n)) for found, n in counts.most_common()))


if __name__ == "__main__":
    main()
