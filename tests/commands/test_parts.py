"""`check` tells a model's parts, and what a merge does to each."""

from pathlib import Path

import pytest
import torch

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError
from mergekit_geo.views.view import view_of
from tests.conftest import Save
from tests.part_models import saved, tiny


def test_parts_of_one_model(tmp_path: Path) -> None:
    found = geo.check([saved(tmp_path / "vlm", "Llava")]).measurements
    model = tiny("Llava")
    truth = {
        "vision": model.model.vision_tower, "projector": model.model.multi_modal_projector,
        "text/embeddings": model.model.language_model.embed_tokens,
        "text/layers": model.model.language_model.layers, "text/head": model.lm_head,
        "text/norm": model.model.language_model.norm,
    }  # fmt: skip
    told = {part.name: (part.tensors, part.parameters) for part in found.parts}
    sizes = {name: [p.numel() for p in module.parameters()] for name, module in truth.items()}
    assert told == {name: (len(found), sum(found)) for name, found in sizes.items()}
    assert found.compatible
    assert all(part.merged == part.copied == part.refused == 0 for part in found.parts)


def test_of_each_part_is_told_what_a_merge_does(save: Save) -> None:
    state = {"layers.0.w": torch.ones(2), "ids": torch.arange(2), "lm_head.w": torch.ones(2)}
    bare = {"architectures": None}
    a, b = save("a", state, bare), save("b", state, bare)
    found = geo.check([a, b])
    counts = {
        (part.model, part.kind): (part.merged, part.copied, part.left_out)
        for part in found.measurements.parts
    }
    assert counts == {
        (str(a), "layers"): (1, 0, 0), (str(a), "head"): (1, 0, 0), (str(a), "other"): (0, 1, 0),
        (str(b), "layers"): (1, 0, 0), (str(b), "head"): (1, 0, 0), (str(b), "other"): (0, 0, 1),
    }  # fmt: skip
    (table,) = view_of(found.report).blocks[0].blocks
    assert table.head == ["part", "tensors", "parameters", "in a merge"]
    told = f"copied ({a}); left out ({b})"
    assert sorted(table.rows) == [
        ["text/head", "1", "2", "merged"], ["text/layers", "1", "2", "merged"],
        ["text/other", "1", "2", told],
    ]  # fmt: skip


def test_refused_parts_and_why(save: Save) -> None:
    state = {"layers.0.w": torch.ones(2), "lm_head.w": torch.ones(2)}
    bare = {"architectures": None}
    a, b = save("a", state, bare), save("b", {"layers.0.w": torch.ones(3)}, bare)
    found = geo.check([a, b])
    layers, head, other = found.measurements.parts
    assert "layers.0.w is [2]" in layers.why == other.why
    assert head.why.startswith("text/head (1 tensor, lm_head.w) is in")
    assert [part.refused for part in (layers, head, other)] == [1, 1, 1]
    (table,) = view_of(found.report).blocks[0].blocks
    assert ["text/head", "1 (2)", "", "refused"] in table.rows


def test_models_of_unlike_architectures_are_refused_in_all_parts(save: Save) -> None:
    found = geo.check([save("a"), save("b", config={"architectures": ["GPT2LMHeadModel"]})])
    assert all(part.refused == part.tensors for part in found.measurements.parts)
    assert all("different architectures" in part.why for part in found.measurements.parts)


def test_nothing_to_check() -> None:
    with pytest.raises(ArgumentError, match="no models to check"):
        geo.check([])
