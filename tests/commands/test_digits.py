"""Merges and barriers of image classifiers that were trained on handwritten digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.records.barrier import BarrierEntry
from tests.conftest import made_once

pytestmark = pytest.mark.slow

FAST = geo.OutputConfig(fsync=False)
TRAINED, TOLD, CLASSES = 1200, 400, 10
BATCH = 100
"""Of the re-estimation: twelve batches of the training part."""


@dataclass(frozen=True)
class Digits:
    """Files of images and labels, and models trained on the first, in a folder.

    Attributes:
        folder: With `train.parquet`, `held.jsonl`, and a folder for every model.
        images: (n, 8, 8) from 0 to 1, of both files in turn.
        labels: (n,).
    """

    folder: Path
    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def held(self) -> geo.EvalData:
        return geo.EvalData(str(self.folder / "held.jsonl"))

    @property
    def train(self) -> geo.EvalData:
        return geo.EvalData(str(self.folder / "train.parquet"), batch_size=BATCH)

    def models(self, *names: str) -> list[Path]:
        return [self.folder / name for name in names]

    def pixels(self, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.images[part, None]), torch.from_numpy(self.labels[part])


def vit() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        image_size=8, patch_size=4, num_channels=1, num_labels=CLASSES,
    )  # fmt: skip
    return ViTForImageClassification(config)


def resnet() -> ResNetForImageClassification:
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1],
        num_labels=CLASSES, layer_type="basic",
    )  # fmt: skip
    return ResNetForImageClassification(config)


def train(model: PreTrainedModel, digits: Digits, epochs: int, rate: float, seed: int) -> None:
    """AdamW on the training part, in an order of the seed's."""
    images, labels = digits.pixels(slice(TRAINED))
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(TRAINED, generator=draw).split(32):
            loss = nn.functional.cross_entropy(model(images[rows]).logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def make_family(
    make: Callable[[], PreTrainedModel], digits: Digits, kind: str, epochs: int, rate: float
) -> None:
    """A base, two fine-tunes of it, and a model of another origin."""
    for name, seed in (("base", 0), ("stranger", 7)):
        torch.manual_seed(seed)
        model = make()
        train(model, digits, epochs, rate, seed)
        model.save_pretrained(digits.folder / f"{kind}-{name}")
    for name, seed in (("a", 1), ("b", 2)):
        model = type(model).from_pretrained(digits.folder / f"{kind}-base")
        train(model, digits, 2, rate / 2, seed)
        model.save_pretrained(digits.folder / f"{kind}-{name}")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))[: TRAINED + TOLD]
    images = (found.images[order] / 16).astype(np.float32)
    labels = found.target[order]
    rows = [
        {"image": image.tolist(), "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]

    def make(folder: Path) -> None:
        pq.write_table(pa.Table.from_pylist(rows[:TRAINED]), folder / "train.parquet")
        lines = "".join(json.dumps(row) + "\n" for row in rows[TRAINED:])
        (folder / "held.jsonl").write_text(lines)
        make_family(vit, Digits(folder, images, labels), "vit", epochs=10, rate=4e-3)
        make_family(resnet, Digits(folder, images, labels), "resnet", epochs=3, rate=3e-3)

    return Digits(made_once(tmp_path_factory, "digits", make), images, labels)


@pytest.fixture(scope="module")
def soups(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, geo.Result]:
    """Of each family, and of the ResNets with statistics of the training data, too."""
    folder = tmp_path_factory.mktemp("soups")

    def soup(kind: str, out: str, train_data: geo.EvalData | None = None) -> geo.Result:
        models = digits.models(f"{kind}-a", f"{kind}-b")
        return geo.soup(
            models,
            folder / out,
            output=FAST,
            data=digits.held,
            train_data=train_data,
            sharpness="off",
        )

    return {
        "vit": soup("vit", "vit"),
        "plain": soup("resnet", "plain"),
        "refreshed": soup("resnet", "refreshed", digits.train),
    }


def state_of(found: geo.Result | Path) -> dict[str, torch.Tensor]:
    folder = found if isinstance(found, Path) else found.out
    assert folder is not None
    return load_file(folder / "model.safetensors")


@torch.no_grad()
def answers_of(folder: Path, digits: Digits) -> tuple[float, NDArray[np.int64]]:
    """Mean loss and answers on the held-out part, by transformers itself, all at once."""
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    images, labels = digits.pixels(slice(TRAINED, None))
    logits = model(pixel_values=images).logits
    return float(nn.functional.cross_entropy(logits, labels)), logits.argmax(dim=1).numpy()


# --- soups


@pytest.mark.parametrize("kind", ["vit", "refreshed"])
def test_soup_of_fine_tunes_knows_digits(soups: dict[str, geo.Result], kind: str) -> None:
    found = soups[kind]
    data, output = found.report.data, found.measurements.losses[-1]
    assert data is not None
    assert (data.task, data.unit, data.metric) == ("image-classification", "example", "accuracy")
    assert data.documents == data.examples == data.tokens == TOLD
    assert data.half == ""
    assert output.role == "output"
    assert output.perplexity is None
    assert output.metric is not None
    assert output.metric > 0.8
    assert output.macro_f1 == pytest.approx(output.metric, abs=0.05)
    assert output.low is not None
    assert output.high is not None
    assert output.low < output.loss < output.high
    assert [item.what for item in found.report.not_measured] == ["sharpness"]


@pytest.mark.parametrize("kind", ["vit", "plain", "refreshed"])
def test_losses_are_those_of_transformers(
    soups: dict[str, geo.Result], digits: Digits, kind: str
) -> None:
    out = soups[kind].out
    assert out is not None
    parent = digits.folder / ("vit-a" if kind == "vit" else "resnet-a")
    losses = soups[kind].measurements.losses
    labels = digits.labels[TRAINED:]
    for entry, folder in ((losses[0], parent), (losses[-1], out)):
        loss, answers = answers_of(folder, digits)
        assert entry.loss == pytest.approx(loss, abs=1e-4)
        assert entry.metric == pytest.approx((answers == labels).mean())
        assert entry.macro_f1 == pytest.approx(f1_score(labels, answers, average="macro"))


def test_a_vit_is_told_nothing_of_statistics(soups: dict[str, geo.Result]) -> None:
    assert soups["vit"].report.warnings == []
    assert soups["vit"].report.settings["alignment"] == []


# --- BatchNorm


def test_without_training_data_the_average_of_statistics_is_kept_with_a_warning(
    soups: dict[str, geo.Result], digits: Digits
) -> None:
    warnings = " ".join(soups["plain"].report.warnings)
    assert "the model has BatchNorm" in warnings
    assert "give --train-data" in warnings
    parents = [state_of(model) for model in digits.models("resnet-a", "resnet-b")]
    for name, tensor in state_of(soups["plain"]).items():
        if name.endswith(("running_mean", "running_var")):
            mean = (parents[0][name] + parents[1][name]) / 2
            torch.testing.assert_close(tensor, mean, rtol=1e-6, atol=1e-7)


@torch.no_grad()
def estimated(folder: Path, batches: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Batch mean and unbiased variance of what goes into each BatchNorm, averaged over batches."""
    model = ResNetForImageClassification.from_pretrained(folder).eval()
    layers = {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    seen: dict[str, list[torch.Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor]], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            values = inputs[0].double().transpose(0, 1).flatten(1)
            seen.setdefault(f"{name}.running_mean", []).append(values.mean(dim=1))
            seen.setdefault(f"{name}.running_var", []).append(values.var(dim=1))

        return hook

    for name, layer in layers.items():
        layer.train()
        layer.register_forward_pre_hook(note(name))
    for batch in batches:
        model(batch)
    return {name: torch.stack(values).mean(dim=0).float() for name, values in seen.items()}


def test_statistics_are_those_of_the_training_data(
    soups: dict[str, geo.Result], digits: Digits
) -> None:
    plain, refreshed = state_of(soups["plain"]), state_of(soups["refreshed"])
    assert soups["plain"].out is not None
    images, _ = digits.pixels(slice(TRAINED))
    expected = estimated(soups["plain"].out, iter(images.split(BATCH)))
    assert len(expected) == sum("running" in name for name in plain) > 0
    for name, tensor in expected.items():
        torch.testing.assert_close(refreshed[name], tensor, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(refreshed[name], plain[name], rtol=1e-3, atol=1e-4)
    for name in plain.keys() - expected.keys():
        assert torch.equal(refreshed[name], plain[name])
    notes = soups["refreshed"].report.settings["alignment"]
    assert "BatchNorm statistics were estimated anew on 12 batches" in notes
    assert not any("BatchNorm" in text for text in soups["refreshed"].report.warnings)
    settings = soups["refreshed"].report.settings["train_data"]
    assert settings["source"] == digits.train.source


def test_counters_are_the_donors(soups: dict[str, geo.Result], digits: Digits) -> None:
    donor = state_of(digits.folder / "resnet-a")
    counters = [name for name in donor if name.endswith("num_batches_tracked")]
    assert counters
    for kind in ("plain", "refreshed"):
        merged = state_of(soups[kind])
        assert all(torch.equal(merged[name], donor[name]) for name in counters)


def test_statistics_anew_do_no_harm(soups: dict[str, geo.Result]) -> None:
    plain, refreshed = (soups[kind].measurements.losses[-1] for kind in ("plain", "refreshed"))
    assert plain.low is not None
    assert plain.high is not None
    assert refreshed.loss <= plain.loss + (plain.high - plain.low) / 2


def test_statistics_of_a_soup_in_memory(soups: dict[str, geo.Result], digits: Digits) -> None:
    models = digits.models("resnet-a", "resnet-b")
    plain = geo.soup(models, data=None)
    assert any("the model has BatchNorm" in text for text in plain.report.warnings)
    found = geo.soup(models, data=digits.held, train_data=digits.train, sharpness="off")
    assert found.state is not None
    for name, tensor in state_of(soups["refreshed"]).items():
        torch.testing.assert_close(found.state[name], tensor, rtol=1e-4, atol=1e-5)
    entries = [result.measurements.losses[-1].loss for result in (found, soups["refreshed"])]
    assert entries[0] == pytest.approx(entries[1], abs=1e-5)


def test_resnet_loads_whole(soups: dict[str, geo.Result]) -> None:
    _, info = AutoModelForImageClassification.from_pretrained(
        soups["refreshed"].out, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


# --- barriers


def pair_of(digits: Digits, first: str, second: str, **options: Any) -> BarrierEntry:
    models = digits.models(first, second)
    (pair,) = geo.barrier(models, points=5, data=digits.held, **options).measurements.pairs
    return pair


def height(pair: BarrierEntry) -> float:
    assert pair.barrier.value is not None
    return pair.barrier.value


def test_no_barrier_parts_fine_tunes_and_one_parts_a_stranger(digits: Digits) -> None:
    near, far = pair_of(digits, "vit-a", "vit-b"), pair_of(digits, "vit-a", "vit-stranger")
    assert not (near.significant and height(near) > 0.5)
    assert far.significant
    assert height(far) > max(0.5, height(near))
    assert far.error_barrier is not None
    assert far.error_barrier.value is not None
    assert far.error_barrier.value > 0.1
    assert far.metric is not None
    assert far.metric[0] > 0.8 > min(score for score in far.metric if score is not None)


def test_barrier_of_resnets_warns_where_no_training_data_is_given(digits: Digits) -> None:
    models = digits.models("resnet-a", "resnet-stranger")
    plain = geo.barrier(models, points=5, data=digits.held)
    (warning,) = (text for text in plain.report.warnings if "BatchNorm" in text)
    assert "give --train-data to estimate them anew at every point" in warning
    refreshed = geo.barrier(models, points=5, data=digits.held, train_data=digits.train)
    assert not any("BatchNorm" in text for text in refreshed.report.warnings)
    before, after = (found.measurements.pairs[0] for found in (plain, refreshed))
    middle = [pair.loss[pair.t.index(0.5)] for pair in (before, after)]
    assert middle[0] != middle[1]
    assert after.barrier != before.barrier


def test_other_training_data_of_the_same_name_is_other_work(digits: Digits, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    lines = (digits.folder / "held.jsonl").read_text().splitlines(keepends=True)
    found = []
    for part in (lines[:100], lines[100:200]):
        data.write_text("".join(part))
        train_data = geo.EvalData(str(data))
        found.append(pair_of(digits, "resnet-a", "resnet-b", train_data=train_data))
    assert found[0].loss != found[1].loss


@pytest.mark.pictures
def test_barrier_of_resnets_on_the_command_line(digits: Digits, tmp_path: Path) -> None:
    words = ["barrier", *digits.models("resnet-a", "resnet-b"), "--points", 3, "--json"]
    words += ["--data", digits.held.source, "--train-data", digits.train.source]
    done = CliRunner().invoke(app, [*map(str, words), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["task"] == "image-classification"
    assert report["settings"]["train_data"]["source"] == digits.train.source
    assert report["warnings"] == []
    (pair,) = report["result"]["pairs"]
    assert not (pair["significant"] and pair["barrier"]["value"] > 0.5)
    assert (tmp_path / "out" / "figures" / "barrier.png").is_file()


def landscape_of(digits: Digits, *names: str, **options: Any) -> geo.Result:
    view = geo.LandscapeConfig(grid=3, margin=0, radius=0.3)
    return geo.landscape(digits.models(*names), data=digits.held, view=view, **options)


def test_landscape_of_resnets_has_statistics_of_the_training_data(digits: Digits) -> None:
    plain = landscape_of(digits, "resnet-a", "resnet-b", "resnet-stranger")
    refreshed = landscape_of(
        digits, "resnet-a", "resnet-b", "resnet-stranger", train_data=digits.train
    )
    (warning,) = (text for text in plain.report.warnings if "BatchNorm" in text)
    assert "give --train-data to estimate them anew at every point" in warning
    assert not any("BatchNorm" in text for text in refreshed.report.warnings)
    before, after = (found.measurements.surfaces[0] for found in (plain, refreshed))
    assert before.x == after.x
    assert before.loss[1][1] != after.loss[1][1]
    loss, _ = answers_of(digits.folder / "resnet-a", digits)
    assert before.marks[0].loss == pytest.approx(loss, abs=1e-4)


def test_buffers_of_a_resnet_stay_along_random_directions(digits: Digits) -> None:
    found = landscape_of(digits, "resnet-a").measurements
    (surface,) = found.surfaces
    model = ResNetForImageClassification.from_pretrained(digits.folder / "resnet-a").eval()
    assert surface.loss[1][1] == surface.marks[0].loss
    norms = [
        layer.weight.detach().flatten(1).norm().item()
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    assert surface.axes[0].length == pytest.approx(np.linalg.norm(norms), rel=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_fine_tuning_with_sam(digits: Digits, tmp_path: Path, kind: str) -> None:
    """Running statistics move once a step, though SAM runs every batch twice."""
    (base,) = digits.models(f"{kind}-base")
    found = geo.finetune(
        base,
        tmp_path / "out",
        train_data=digits.train,
        training=geo.TrainingConfig(epochs=2, batch_size=BATCH, learning_rate=1e-3),
        output=FAST,
        data=digits.held,
        sharpness="off",
    )
    before, after = found.measurements.losses
    assert found.report.warnings == []
    assert after.loss < before.loss
    assert after.loss == pytest.approx(answers_of(tmp_path / "out", digits)[0], rel=1e-5)
    was, now = state_of(base), state_of(tmp_path / "out")
    counters = [name for name in now if name.endswith("num_batches_tracked")]
    assert [int(now[name] - was[name]) for name in counters] == [24] * len(counters)
    assert bool(counters) == (kind == "resnet")


def test_sharpness_of_a_vit_is_that_of_its_hessian(digits: Digits, tmp_path: Path) -> None:
    """Twelve images, too few for two halves, so that all are measured."""
    lines = (digits.folder / "held.jsonl").read_text().splitlines()[:12]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    data = geo.EvalData(str(tmp_path / "few.jsonl"))
    (entry,) = geo.sharpness(digits.folder / "vit-a", data=data).measurements.sharpness
    model = AutoModelForImageClassification.from_pretrained(
        digits.folder / "vit-a", attn_implementation="eager"
    )
    images, labels = digits.pixels(slice(TRAINED, TRAINED + 12))
    names = [name for name, _ in model.named_parameters()]

    def loss_of(*parameters: torch.Tensor) -> torch.Tensor:
        own = dict(zip(names, parameters, strict=True))
        found = torch.func.functional_call(model, own, kwargs={"pixel_values": images})
        return nn.functional.cross_entropy(found.logits, labels)

    vectors = tuple(torch.randn(p.shape) for p in model.parameters())
    for _ in range(60):  # power iteration, shifted so that the largest is also largest in size
        norm = torch.sqrt(sum((v**2).sum() for v in vectors))
        vectors = tuple(v / norm for v in vectors)
        _, products = torch.autograd.functional.hvp(loss_of, tuple(model.parameters()), vectors)
        value = sum((v * h).sum() for v, h in zip(vectors, products, strict=True)).item()
        vectors = tuple(h + 0.2 * value * v for v, h in zip(vectors, products, strict=True))
    assert entry.extremes.largest.value == pytest.approx(value, rel=3e-3)
    assert entry.slope.tokens == entry.slope.examples == 12
