"""Merges of whole matrices by the commands: resumed, refused, by layer, in a live module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.errors import DataError
from mergekit_geo.merging import whole
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.modules.open import open_live
from mergekit_geo.progress import Silent
from tests.checkpoints.adapter_models import make_adapter, make_base, merged_by_peft

FAST = geo.OutputConfig(fsync=False)
MLP = "model.layers.0.mlp.up_proj.weight"


def merged(folder: Path, method: str = "tsv", **parameters: Any) -> dict[str, Tensor]:
    models = [folder / name for name in "ab"]
    found = geo.merge(models, method=method, base=folder / "base", data=None, **parameters)
    assert found.state is not None
    return dict(found.state)


class Stopping(Silent):
    """Ends a merge after some of its elements."""

    def __init__(self, after: int) -> None:
        self.left, self.told = after, list[str]()

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize("method", ["tsv", "knots"])
def test_a_merge_that_was_stopped_goes_on_to_the_same_bytes(
    deep: Path, tmp_path: Path, method: str
) -> None:
    models, options = [deep / "a", deep / "b"], {"method": method, "base": deep / "base"}
    how: dict[str, Any] = {**options, "output": FAST, "data": None}
    geo.merge(models, tmp_path / "whole", **how)
    stopping = Stopping(after=15_000)
    with pytest.raises(KeyboardInterrupt):
        geo.merge(models, tmp_path / "out", progress=stopping, **how)
    assert not (tmp_path / "out").exists()
    assert any("is merged whole, in 0." in text for text in stopping.told)
    report = geo.merge(models, tmp_path / "out", **how).report
    assert "tensors were written already" in report.settings["alignment"][0]
    file = "model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert report.result.coefficients.error is not None


def test_matrices_too_large_for_the_memory_are_refused_before_any_work(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "free_memory", lambda device: 10_000)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"16 x 32 is merged whole, which takes .* of memory, and"):
        geo.merge([small / "a", small / "b"], out, method="iso_c", base=small / "base", data=None)
    assert list(tmp_path.iterdir()) == []
    models = [{"model": str(small / name)} for name in "ab"]
    recipe = {"merge_method": "iso_c", "base_model": str(small / "base"), "models": models}
    with pytest.raises(DataError, match="is merged whole"):
        geo.run(recipe, dry_run=True)
    geo.merge([small / "a", small / "b"], method="ties", base=small / "base", data=None)
    monkeypatch.undo()
    assert geo.run(recipe, dry_run=True).measurements.memory > 10_000


def test_layers_of_a_recipe_have_numbers_of_their_own(deep: Path) -> None:
    """A filter and a gradient, as of any other method."""
    scale = [{"filter": "mlp", "value": [0.25, 1.0]}, {"value": 0.5}]
    models = [{"model": str(deep / name)} for name in "ab"]
    recipe = {
        "merge_method": "iso_c",
        "base_model": str(deep / "base"),
        "models": models,
        "parameters": {"lambda": scale},
    }
    found = geo.run(recipe, data=None).state
    assert found is not None
    first, last, others = (merged(deep, "iso_c", lambda_=value) for value in (0.25, 1.0, 0.5))
    for name, tensor in found.items():
        expected = (
            others
            if "mlp" not in name
            else first
            if "layers.0." in name
            else last
            if "layers.3." in name
            else None
        )
        if expected is not None:
            assert torch.equal(tensor, expected[name]), name


def test_a_live_module_holds_what_would_be_written(small: Path) -> None:
    anchors = tuple(open_checkpoints([small / name for name in ("base", "a", "b")]))
    blend = Blend(anchors, rule_of("tsv", 3, 0))
    live, sink = open_live(blend, geo.Compute(device="cpu"), anchors), MemorySink(blend)
    assert isinstance(live, InPlace)
    stream(blend, sink)
    for _ in range(2):
        live.put(blend)
        assert torch.equal(live.parameters()[MLP], sink.state[MLP])


def test_adapters_are_merged_as_the_models_that_they_make(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    for name, seed in (("a", 1), ("b", 2)):
        make_adapter(base, tmp_path / f"{name}-adapter", seed, target_modules="all-linear")
        merged_by_peft(base, tmp_path / f"{name}-adapter").save_pretrained(tmp_path / name)
    own = [tmp_path / f"{name}-adapter" for name in "ab"]
    found = geo.merge(own, method="knots", base=base, density=0.5, data=None).state
    assert found is not None
    expected = merged(tmp_path, "knots", density=0.5)
    near = [(found[name] - one).abs().max() for name, one in expected.items()]
    assert float(torch.stack(near).median()) < 1e-6
    assert not torch.equal(found[MLP], load_file(base / "model.safetensors")[MLP])


@pytest.mark.slow
def test_a_search_tries_their_numbers(small: Path, tmp_path: Path) -> None:
    found = geo.search(
        [small / "a", small / "b"], tmp_path / "out", base=small / "base", methods=["tsv"],
        trials=2, data=geo.EvalData("builtin:python-docs", max_examples=200, seq_len=16),
        sharpness="off", learned=False, compute=geo.Compute(device="cpu", budget=0), output=FAST,
    )  # fmt: skip
    branches = found.measurements.coefficients.branches
    assert branches["tsv"] == 7
