"""Adapters wherever a model is accepted: merged, measured, fitted between, and recorded."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import mergekit_geo as geo
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.checkpoints.reading import Bytes, FileReader
from mergekit_geo.checkpoints.reference import open_checkpoint, open_checkpoints
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.errors import IncompatibleError, NonFiniteError, OutputError
from mergekit_geo.merging import native
from mergekit_geo.merging.reader import CHUNK
from mergekit_geo.modules.held import hold
from mergekit_geo.records.path import PathRecord
from mergekit_geo.records.report import Report
from tests.checkpoints.adapter_models import (
    make_adapter,
    make_base,
    merged_by_peft,
    rewrite,
    units,
)

FAST = geo.OutputConfig(fsync=False)
HELD_OUT = geo.EvalData(max_examples=80, seq_len=32)
NAMES = ("x", "y", "z")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def adapters(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three adapters of the family's base, each also merged by peft: x and x-merged, ..."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        settings = {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 1}
        make_adapter(family / "base", folder / name, seed, **settings)
        merged_by_peft(family / "base", folder / name).save_pretrained(folder / f"{name}-merged")
        shutil.copy(family / "base" / "tokenizer.json", folder / f"{name}-merged")
        shutil.copy(family / "base" / "tokenizer_config.json", folder / f"{name}-merged")
    return folder


@pytest.fixture(scope="module")
def merged(adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> geo.Result:
    out = tmp_path_factory.mktemp("merged") / "soup"
    return geo.soup(
        [adapters / name for name in NAMES], out, output=FAST, data=HELD_OUT, sharpness="off"
    )


def assert_within_a_unit(found: Tensor, expected: Tensor, size: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert ((found.double() - expected.double()).abs() <= units(found, size)).all()


def largest(states: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.stack([state[name].double().abs() for state in states]).amax(0)


@pytest.mark.slow
def test_a_soup_of_adapters_is_that_of_the_merged_models(
    merged: geo.Result, adapters: Path
) -> None:
    folders = [adapters / f"{name}-merged" for name in NAMES]
    expected = geo.soup(folders, data=None).state
    states = [load_file(folder / "model.safetensors") for folder in folders]
    assert merged.out is not None
    found = load_file(merged.out / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in found.items():  # peft's float32 product errs by units of its largest term
        assert_within_a_unit(tensor, expected[name], largest(states, name).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_in_every_dtype_and_along_the_arc(dtype: torch.dtype, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=dtype)
    models = [
        make_adapter(base, tmp_path / f"adapter {i}", i, target_modules="all-linear")
        for i in range(3)
    ]
    for i, model in enumerate(models):
        geo.soup([model], tmp_path / f"merged {i}", output=FAST, data=None)
    folders = [tmp_path / f"merged {i}" for i in range(3)]
    states = [load_file(folder / "model.safetensors") for folder in folders]
    soup, arc = geo.soup(models, data=None).state, geo.slerp(models[:2], data=None).state
    expected = geo.soup(folders, data=None).state
    for name, tensor in soup.items():
        assert_within_a_unit(tensor, expected[name], largest(states, name))
    expected = geo.slerp(folders[:2], data=None).state
    for name, tensor in arc.items():  # its coefficients sum to 2 ** 0.5 at a right angle
        assert_within_a_unit(tensor, expected[name], 2**0.5 * largest(states, name))


def test_the_output_is_a_plain_checkpoint_of_the_base_s_kind(
    merged: geo.Result, family: Path
) -> None:
    assert merged.out is not None
    _, info = AutoModelForCausalLM.from_pretrained(merged.out, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for file in ("config.json", "tokenizer.json"):
        assert (merged.out / file).read_bytes() == (family / "base" / file).read_bytes()
    assert not list(merged.out.glob("adapter*"))


def test_parents_are_measured_as_their_merged_models(merged: geo.Result, adapters: Path) -> None:
    plain = geo.soup(
        [adapters / f"{name}-merged" for name in NAMES], data=HELD_OUT, sharpness="off"
    )
    found = [entry.loss for entry in merged.measurements.losses]
    assert found == pytest.approx([entry.loss for entry in plain.measurements.losses], abs=1e-5)
    assert len(set(found)) == 4
    norms = {layer.layer: layer.norms for layer in plain.measurements.geometry.layers}
    for layer in merged.measurements.geometry.layers:
        assert layer.norms == pytest.approx(norms[layer.layer], rel=1e-6)
    assert merged.measurements.barriers


def test_base_and_adapter_are_in_the_report(
    merged: geo.Result, family: Path, adapters: Path
) -> None:
    assert merged.out is not None
    report = Report.model_validate_json((merged.out / "report.json").read_text())
    for entry, name in zip(report.models, NAMES, strict=True):
        assert entry.name == str(adapters / name)
        assert entry.base is not None
        assert entry.adapter is not None
        assert (entry.base.name, entry.base.revision) == (str(family / "base"), None)
        assert entry.adapter.name == str(adapters / name)


def test_the_card_names_the_base(merged: geo.Result, family: Path, adapters: Path) -> None:
    assert merged.out is not None
    card = (merged.out / "README.md").read_text()
    assert f"{adapters / 'x'} (an adapter of {family / 'base'})" in card


def test_a_broken_adapter_is_named(adapters: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(adapters / "x", tmp_path / "broken"))
    state = load_file(broken / "adapter_model.safetensors")
    next(iter(state.values()))[0, 0] = torch.nan
    save_file(state, broken / "adapter_model.safetensors")
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in \S+broken \(\d+\)"):
        geo.soup([adapters / "y", broken], data=None)


def test_a_barrier_between_adapters_is_that_between_the_merged_models(adapters: Path) -> None:
    found = geo.barrier([adapters / "x", adapters / "y"], points=3, data=HELD_OUT).measurements
    plain = geo.barrier(
        [adapters / "x-merged", adapters / "y-merged"], points=3, data=HELD_OUT
    ).measurements
    assert found.pairs[0].loss == pytest.approx(plain.pairs[0].loss, abs=1e-5)
    assert found.pairs[0].barrier.value == pytest.approx(plain.pairs[0].barrier.value, abs=1e-5)


@pytest.mark.slow
def test_sharpness_of_an_adapter_is_that_of_the_merged_model(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules="all-linear")
    merged_by_peft(base, adapter).save_pretrained(tmp_path / "merged")
    ids = torch.randint(32, (16, 8), generator=torch.Generator().manual_seed(0))
    data = geo.FunctionObjective(token_losses, list(ids.split(4)))
    models = [f"{base}+{adapter}", tmp_path / "merged", base]
    found, plain, other = geo.sharpness(models, data=data).measurements.sharpness
    assert found.slope.loss == pytest.approx(plain.slope.loss, rel=1e-5)
    assert found.slope.gradient_norm == pytest.approx(plain.slope.gradient_norm, rel=1e-4)
    assert other.slope.parameter_norm < 0.7 * found.slope.parameter_norm


def token_losses(model: nn.Module, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


def test_what_is_kept_of_a_model_is_forgotten_when_its_adapter_changes(
    family: Path, adapters: Path, tmp_path: Path
) -> None:
    changing = Path(shutil.copytree(adapters / "x", tmp_path / "changing"))

    def digest() -> str:
        return checkpoint_digest(open_checkpoint(f"{family / 'base'}+{changing}"))

    found = [digest(), checkpoint_digest(open_checkpoint(family / "base"))]
    assert digest() == found[0]
    rewrite(changing / "adapter_config.json", lora_alpha=2)
    found.append(digest())
    shutil.copy(adapters / "y" / "adapter_model.safetensors", changing)
    found.append(digest())
    assert len(set(found)) == 4


@pytest.mark.slow
def test_a_path_between_adapters_knows_its_ends(
    family: Path, adapters: Path, tmp_path: Path
) -> None:
    ends = [Path(shutil.copytree(adapters / name, tmp_path / name)) for name in "xy"]
    train = geo.EvalData("builtin:python-docs", split="train", seq_len=32, max_examples=100)
    fitting = geo.CurveFitConfig(steps=4, batch_size=8)
    way = tmp_path / "way"
    geo.fit_path(ends, way, train_data=train, fitting=fitting, data=HELD_OUT)
    record = PathRecord.model_validate_json((way / "path.json").read_bytes())
    assert [end.reference for end in record.ends] == [f"{family / 'base'}+{end}" for end in ends]
    start = geo.point(way, t=0.0, data=None).state
    expected = geo.soup([ends[0]], data=None).state
    assert all(tensor.equal(expected[name]) for name, tensor in start.items())
    shutil.copy(adapters / "z" / "adapter_model.safetensors", ends[1])
    with pytest.raises(IncompatibleError, match=r"y is not what the path was fitted to"):
        geo.point(way, t=0.0, data=None)


def test_an_output_inside_an_adapter_is_refused(adapters: Path) -> None:
    with pytest.raises(OutputError, match=r"the output would touch the input \S+x "):
        geo.soup([adapters / "x", adapters / "y"], adapters / "x" / "out", data=None)


def test_of_adapters_in_memory_only_the_base_is_held_and_once(family: Path, adapters: Path) -> None:
    anchors = preflight(open_checkpoints([family / "base", adapters / "x", adapters / "y"]))
    plain, *held = hold(anchors.fetch(), "on")
    assert plain.in_memory
    first, second = (original(anchor).adapted for anchor in held)
    assert first is not None
    assert second is not None
    assert first.base.in_memory
    assert first.base is second.base
    for anchor, before in zip(held, anchors.anchors[1:], strict=True):
        assert anchor.fingerprint() == before.fingerprint()
        for name, info in anchor.tensors.items():
            rows = np.empty((2, info.nbytes), np.uint8)
            anchor.read(name, 0, info.count, rows[0])
            before.read(name, 0, info.count, rows[1])
            assert np.array_equal(*rows), name


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.slow
def test_merging_two_adapters_holds_a_few_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: None
) -> None:
    """A base of 34 million elements and matrices of a few thousand."""
    rows, columns, count = 1024, 2048, 16
    base = tmp_path / "base"
    base.mkdir()
    weight = torch.randn(rows, columns)
    names = [f"model.layers.{i}.w.weight" for i in range(count)]
    save_file({name: weight + i for i, name in enumerate(names)}, base / "model.safetensors")
    del weight
    (base / "config.json").write_text('{"architectures": ["OwnModel"]}')
    models = [big_adapter(base, tmp_path / name, names, rows, columns) for name in "ab"]
    asked: list[int] = []
    read = FileReader.read

    def watched(self: FileReader, name: str, start: int, stop: int, out: Bytes) -> None:
        if "lora" not in name:
            asked.append(stop - start)
        read(self, name, start, stop, out)

    monkeypatch.setattr(FileReader, "read", watched)
    monkeypatch.setattr(native, "core_count", lambda: 2)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    result = geo.soup(models, tmp_path / "out", output=FAST, data=None)
    _, peak = tracemalloc.get_traced_memory()
    assert max(asked) <= CHUNK
    assert sum(asked) == 2 * count * rows * columns
    assert peak - before < 24e6 < rows * columns * count * 4 / 5  # two workers' buffers
    assert result.out is not None
    assert {file.parent.name for file in tmp_path.rglob("*.safetensors")} == {
        "base",
        "a",
        "b",
        "out",
    }


def big_adapter(base: Path, folder: Path, names: list[str], rows: int, columns: int) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    draw = torch.Generator().manual_seed(len(str(folder)))
    state = {}
    for name in names:
        module = f"base_model.model.{name.removesuffix('.weight')}"
        state[f"{module}.lora_A.weight"] = torch.randn(2, columns, generator=draw)
        state[f"{module}.lora_B.weight"] = torch.randn(rows, 2, generator=draw)
    save_file(state, folder / "adapter_model.safetensors")
    return folder
