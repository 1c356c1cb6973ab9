"""Merges by regression means: from the call to the tensors of the output."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.activations.spool import Spool
from mergekit_geo.errors import ArgumentError, DataError, UnsupportedError
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.progress import Silent
from mergekit_geo.records.merge import MergeMeasurements

SENTENCES = [f"The {word} of number {i} is told in full, and so is what follows." for i in range(8)
             for word in ("story", "law", "river")]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Data of a and of b."""
    folder, found = tmp_path_factory.mktemp("texts"), {}
    for name, part in (("a", SENTENCES[::2]), ("b", SENTENCES[1::2])):
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"text": text}) for text in part))
        found[name] = str(path)
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def weights_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def measured(result: geo.Result) -> MergeMeasurements:
    assert isinstance(result.measurements, MergeMeasurements)
    return result.measurements


def inputs_of(folder: Path, source: str, layer: str) -> Tensor:
    """What goes into a layer, over all texts, in float64."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, seen = AutoModelForCausalLM.from_pretrained(folder), []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.get_submodule(layer).register_forward_pre_hook(lambda _, x: seen.append(x[0][0].double()))
    for line in Path(source).read_text().splitlines():
        ids = tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            model(torch.tensor([ids]))
    return torch.cat(seen)


def test_a_layer_is_the_regression_on_both_models_inputs(
    small: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """The paper's formula, over activations that are kept whole; all else is the mean."""
    models = [str(small / "a"), str(small / "b")]
    said: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    done = geo.merge(
        models, tmp_path / "out", method="regmean", train_data=data, data=None, progress=Told()
    )
    merged, layer = weights_in(tmp_path / "out"), "model.layers.0.mlp.down_proj"
    parts = []
    for name in ("a", "b"):
        rows = inputs_of(small / name, data[name], layer)
        gram = rows.T @ rows / len(rows)
        shrunk = 0.9 * gram + 0.1 * torch.diag(gram.diag())
        parts.append((shrunk, weights_in(small / name)[f"{layer}.weight"].double().T))
    expected = torch.inverse(sum(g for g, _ in parts)) @ sum(g @ w for g, w in parts)
    torch.testing.assert_close(merged[f"{layer}.weight"].double(), expected.T, rtol=1e-4, atol=1e-6)
    a, b = (weights_in(small / name) for name in ("a", "b"))
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        torch.testing.assert_close(merged[name], (a[name] + b[name]) / 2)
    assert measured(done).coefficients.branches == {"linear": 4, "regmean": 7}
    assert (measured(done).coefficients.error or 0) < 1e-12
    entries = measured(done).statistics
    assert [(e.kind, e.documents, e.labels, e.reused) for e in entries] == [
        ("Gram matrices", 12, "", False)
    ] * 2
    assert any("beside the forward pass" in line for line in said)

    again = geo.merge(models, None, method="regmean", train_data=data, data=None, ridge=1e9)
    assert all(entry.reused for entry in measured(again).statistics)
    assert again.state is not None
    torch.testing.assert_close(
        again.state[f"{layer}.weight"], (a[f"{layer}.weight"] + b[f"{layer}.weight"]) / 2
    )


@pytest.mark.parametrize("method", ["regmean", "regmean_plus"])
def test_equal_models_give_that_model(
    method: str, small: Path, data: dict[str, str], tmp_path: Path
) -> None:
    geo.merge(
        [str(small / "a")] * 2, tmp_path / "out", method=method, train_data=data["a"], data=None
    )
    expected = weights_in(small / "a")
    for name, tensor in weights_in(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_killed_merge_goes_on_to_the_same_bytes(
    small: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [str(small / "a"), str(small / "b")]
    settings: dict[str, Any] = {"train_data": data, "data": None}
    geo.merge(models, tmp_path / "whole", method="regmean_plus", **settings)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    write, count = Spool.write, 0

    def fails(self: Spool, *given: Any) -> None:
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "write", fails)
        with pytest.raises(KeyboardInterrupt):
            geo.merge(models, tmp_path / "out", method="regmean_plus", **settings)
    geo.merge(models, tmp_path / "out", method="regmean_plus", **settings)
    file = "model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def squared(model: torch.nn.Module, batch: Tensor) -> Tensor:
    return model(batch).flatten(1).square().mean(1)


def test_modules_in_memory_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)) for _ in range(2)]
    source = FunctionObjective(squared, [torch.randn(5, 3) for _ in range(2)])
    for method in ("regmean", "regmean_plus"):
        done = geo.merge(models, method=method, train_data=source, data=None)
        assert measured(done).coefficients.branches == {"linear": 2, method: 2}
        del done
    gc.collect()
    assert not list((tmp_path / "cache").glob("*/grams-*/*"))


def norms(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


@pytest.mark.parametrize("method", ["regmean", "regmean_plus"])
def test_what_cannot_be_merged_so(method: str, small: Path, data: dict[str, str]) -> None:
    models = [str(small / "a"), str(small / "b")]
    settings: dict[str, Any] = {"method": method, "data": None}
    with pytest.raises(ArgumentError, match=f"{method} needs training data of each model"):
        geo.merge(models, **settings)
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        geo.merge(models, train_data="missing.jsonl", **settings)
    for given, match in (
        ({"alpha": 1.5}, r"alpha of a regression mean must lie in \[0, 1\], found 1.5"),
        ({"ridge": -1}, r"ridge must lie in \[0, inf\)"),
        ({"gram_examples": 2.5}, "gram_examples must be a whole number, found 2.5"),
        ({"weights": [1, -1]}, "negative"),
        ({"weights": [0, 0]}, "the weights sum to zero"),
    ):
        with pytest.raises(ArgumentError, match=match):
            geo.merge(models, train_data=data, **settings, **given)
    source = FunctionObjective(squared, [torch.ones(2, 1, 4, 4)])
    with pytest.raises(UnsupportedError, match="the architecture has no linear layers"):
        geo.merge([norms(0), norms(1)], train_data=source, **settings)
