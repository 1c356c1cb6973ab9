"""The matrix: every architecture is merged, loads without a missing key, and equals the formula."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor

import mergekit_geo as geo
from tests.architectures import ARCHITECTURES, VOCABULARY, Architecture
from tests.checkpoints.reshape.vocabularies import tokenizer

pytestmark = pytest.mark.slow
Tensors = dict[str, Tensor]

STEP, T, DENSITY = 0.05, 0.3, 0.5
TEXTS = [f"the {i} green boats drift past {i + 3} old harbours" for i in range(12)]
TOKENIZER = tokenizer(
    size=VOCABULARY - 3,
    pad_token="<pad>",
    unk_token="<unk>",
    mask_token="<mask>",
    model_max_length=64,
)
METHODS = ("soup", "slerp", "ties")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Files to measure on, by what is in them; the images are scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("data")
    found = load_digits()
    pictures = np.kron(found.images[:12], np.ones((2, 2)))[..., None].repeat(3, axis=-1) / 16
    rows = {
        "text": [{"text": text} for text in TEXTS],
        "pairs": [{"source": text, "target": text.upper()} for text in TEXTS],
        "images": [{"image": one.tolist(), "label": i % 4} for i, one in enumerate(pictures)],
    }
    for kind, lines in rows.items():
        (folder / f"{kind}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {kind: folder / f"{kind}.jsonl" for kind in rows}


def draw(model: Any, seed: int) -> None:
    """Move every tensor, gains and biases too: at their initial values faults pass."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_((STEP * noise).to(tensor.dtype))


def save_family(one: Architecture, folder: Path) -> None:
    """A base and two that lie near it, with a tokenizer where text is measured."""
    torch.manual_seed(0)
    model = one.build()
    for seed, name in enumerate(("base", "a", "b")):
        draw(model, seed)
        model.save_pretrained(folder / name)
        if one.data in {"text", "pairs"}:
            TOKENIZER.save_pretrained(folder / name)
        if one.data == "images":
            transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(
                folder / name
            )


def stored(folder: Path) -> Tensors:
    """Tensors as they are stored."""
    return load_file(folder / "model.safetensors")


def mean(base: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (a + b) / 2


def arc(base: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Shoemake 1985 on the whole tensor, a straight line where there is no angle."""
    norms = a.norm() * b.norm()
    if a.numel() == 1 or not norms:
        return (1 - T) * a + T * b
    angle = torch.arccos((a.flatten() @ b.flatten() / norms).clamp(-1, 1))
    if angle.sin() < 1e-9:
        return (1 - T) * a + T * b
    return (((1 - T) * angle).sin() * a + (T * angle).sin() * b) / angle.sin()


def ties(base: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Yadav 2023: the larger half of each task vector, the signs that win, the mean of those."""
    kept = []
    for vector in ((one - base).flatten() for one in (a, b)):
        count = max(1, int(DENSITY * vector.numel()))
        order = torch.argsort(vector.abs(), descending=True, stable=True)[:count]
        kept.append(torch.zeros_like(vector).index_put((order,), vector[order]))
    vectors = torch.stack(kept)
    elected = torch.where(vectors.sum(0) >= 0, 1.0, -1.0)
    agree = vectors.sign() == elected
    chosen = torch.where(agree, vectors, 0.0)
    counts = (agree & (vectors != 0)).sum(0).clamp(min=1)
    return base + (chosen.sum(0) / counts).view_as(base)


REFERENCES = {"soup": mean, "slerp": arc, "ties": ties}


def merged(method: str, folder: Path, data: Path | None) -> geo.Result:
    """A merge in a folder; of the methods after the first the tensors alone are made and stored."""
    a, b, out = str(folder / "a"), str(folder / "b"), folder / method
    common: Any = {"data": data and geo.EvalData(str(data)), "sharpness": "off"}
    if method == "soup":
        return geo.soup([a, b], out, **common)
    if method == "slerp":
        result = geo.slerp([a, b], t=T, **common)
    else:
        base = str(folder / "base")
        result = geo.merge([a, b], method="ties", base=base, density=DENSITY, **common)
    assert result.state is not None
    shutil.copytree(folder / "soup", out, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(result.state, out / "model.safetensors", {"format": "pt"})
    return result


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name: str, tmp_path: Path, data: Mapping[str, Path]) -> None:
    one = ARCHITECTURES[name]
    if not hasattr(transformers, one.model):
        pytest.skip(f"transformers {transformers.__version__} has no {one.model}")
    save_family(one, tmp_path)
    parents = [stored(tmp_path / model) for model in ("base", "a", "b")]
    for method in METHODS:
        result = merged(method, tmp_path, data.get(one.data) if method == "soup" else None)
        assert_equal(method, stored(tmp_path / method), parents)
        assert_loads(one, tmp_path / method)
        if one.data and method == "soup":
            losses = [entry.loss for entry in result.measurements.losses]
            assert len(losses) == 3, result
            assert all(math.isfinite(loss) for loss in losses)


def assert_equal(method: str, found: Tensors, parents: list[Tensors]) -> None:
    """Every tensor is that of the formula in float64, rounded once."""
    assert found.keys() == parents[1].keys()
    for name, tensor in found.items():
        three = [state[name] for state in parents]
        if not tensor.is_floating_point():
            assert torch.equal(tensor, three[1]), name
            continue
        wanted = REFERENCES[method](*(one.double() for one in three))
        close = torch.finfo(tensor.dtype).eps * wanted.abs().max().item()
        assert tensor.dtype == three[1].dtype
        assert (tensor.double() - wanted).abs().max() <= close, (name, method)


def assert_loads(one: Architecture, folder: Path) -> None:
    """As the class of its family, whole."""
    kind = getattr(transformers, one.model)
    _, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
