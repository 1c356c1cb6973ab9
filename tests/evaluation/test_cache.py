"""What is kept is taken up only if it is sound and nothing has changed that it depends on."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mergekit_geo as geo
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.curvature.suite import subject
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.plan import plan_losses
from mergekit_geo.specs.training import FinetuneSpec
from mergekit_geo.training.tuning import make_tuning

ROWS = [f"{i} green boats drift past {i + 3} old harbours\n\n" for i in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(family: Path, tmp_path: Path) -> Path:
    """The tokenizer of the family with a model of one narrow layer."""
    from transformers import AutoConfig, LlamaForCausalLM

    shutil.copytree(family / "a", tmp_path / "model")
    config = AutoConfig.from_pretrained(family / "a")
    config.update({"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    (tmp_path / "data.txt").write_text("".join(ROWS))
    return tmp_path / "model"


def key_of(folder: Path, compute: Compute = Compute(), **options: Any) -> str:
    """Of the losses of a model, as JSON."""
    data = geo.EvalData(str(folder.parent / "data.txt"), **options)
    found = open_checkpoint(folder)
    plan = plan_losses([found], data, compute)
    return json.dumps(cache_key([found], plan.sample, data, compute))


def append(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "{}") + "\n")

    return change


def change_weights_unseen(folder: Path) -> None:
    """Same size, same header, same time of change."""
    path = folder / "model.safetensors"
    before, tensors = path.stat(), load_file(path)
    save_file({n: t + 1 for n, t in tensors.items()}, path, {"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def change_data(folder: Path) -> None:
    path = folder.parent / "data.txt"
    path.write_text(path.read_text().replace("39 green", "39 grey"))


FILES: dict[str, Callable[[Path], None]] = {
    **{
        name: append(name)
        for name in (
            "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
            "additional_chat_templates/other.jinja", "generation_config.json", "vocab.bpe",
            "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
            "tokenizer.model", "modeling_own.py", "layers/own.py",
        )
    },
    "weights": change_weights_unseen,
    "data": change_data,
}  # fmt: skip


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_a_file_that_changes_is_another_key(model: Path, change: Callable[[Path], None]) -> None:
    before = key_of(model)
    assert key_of(model) == before
    change(model)
    assert key_of(model) != before


def test_what_nothing_loads_is_the_same_key(model: Path) -> None:
    before = key_of(model)
    for name in ("README.md", "report.json", "optimizer.pt", ".gitattributes", "figures/loss.png"):
        append(name)(model)
    assert key_of(model) == before


OPTIONS = [
    {"seq_len": 16}, {"batch_size": 3}, {"seed": 1}, {"max_examples": 20},
    {"compute": Compute(dtype="bfloat16")}, {"compute": Compute(device="cpu:0")},
    {"compute": Compute(trust_remote_code=True)},
]  # fmt: skip


def test_options_and_machine_are_part_of_the_key(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key_of(model), *(key_of(model, **options) for options in OPTIONS)]
    for name in ("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            keys.append(key_of(model))
    with monkeypatch.context() as patch:
        patch.setattr("mergekit_geo.evaluation.cache_key.versions", lambda: {"torch": "0"})
        keys.append(key_of(model))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        keys.append(key_of(model))
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(set(keys)) == len(keys)
    assert key_of(model, Compute(budget=3, anchors_in_memory="off")) == keys[0]


def test_a_picture_that_changes_is_another_digest(tmp_path: Path) -> None:
    from PIL import Image

    from mergekit_geo.data.rows import Rows
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.tasks.image_classification import ImageClassification

    task = ImageClassification({"id2label": {0: "a", 1: "b"}}, geo.EvalData())
    rows = Rows([{"image": "x.png", "label": 1}], ["x"], str(tmp_path / "rows.jsonl"))

    def digest(shade: int) -> str:
        Image.new("L", (4, 4), shade).save(tmp_path / "x.png")
        return TaskObjective(task, task.examples(rows), ["key"], 1).digest

    assert digest(3) != digest(4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_sharpness_and_training_depend_on_the_same_files(model: Path, name: str) -> None:
    def keys() -> tuple[str, str]:
        found = open_checkpoint(model)
        data = geo.EvalData(str(model.parent / "data.txt"))
        asked = FinetuneSpec(model, "out", train_data=data, data=None, sharpness="off")
        tuning = json.dumps(make_tuning(asked).fingerprint())
        return subject(found, "model", Compute()).digest, tuning

    before = keys()
    assert keys() == before
    append(name)(model)
    assert all(new != old for new, old in zip(keys(), before, strict=True))


@pytest.mark.slow
def test_another_tokenizer_or_template_is_measured_anew(family: Path, tmp_path: Path) -> None:
    """End to end, as a user would meet it: with the cache of before, and with none."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    template = "{% for m in messages %}{{ m['role'] + MARK + m['content'] }}{% endfor %}"
    models = [tmp_path / name for name in "ab"]
    for folder in models:
        shutil.copytree(family / folder.name, folder)
    rows = tmp_path / "rows.jsonl"
    talks = [[{"role": "user", "content": f"how many? {text}"}] for text in ROWS]
    rows.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    data = geo.EvalData(str(rows), loss_on="all")

    def losses(cache: str) -> list[float]:
        os.environ["XDG_CACHE_HOME"] = str(tmp_path / cache)
        found = geo.barrier(models, points=3, data=data).measurements
        return [entry.loss for entry in found.losses]

    seen = []
    for mark, change in ((": ", None), (" = ", None), (" = ", normalizers.Replace("m", "n"))):
        for folder in models:
            tokenizer = AutoTokenizer.from_pretrained(family / folder.name)
            tokenizer.chat_template = template.replace("MARK", repr(mark))
            tokenizer.backend_tokenizer.normalizer = change
            tokenizer.save_pretrained(folder)
        seen.append(losses("cache"))
        assert seen[-1] == losses(f"fresh {len(seen)}")
    assert len(set(map(tuple, seen))) == 3
    assert losses("cache") == seen[-1]


@pytest.mark.slow
def test_torn_measurements_are_made_anew(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "mergekit_geo"
    first = measured(model)
    assert measured(model) == first
    assert all(warnings == [] for warnings, _ in first)
    torn = [path for path in cache.rglob("*") if path.is_file()]
    for path, content in zip(torn, [b"", b"-5", b"\xff" * 99, *[b""] * 99], strict=False):
        path.write_bytes(content)
    assert len(torn) > 10
    told = [f"the cache {cache} is damaged in part: measured anew"]
    again = measured(model)
    assert [warnings for warnings, _ in again] == [told] * len(first)
    assert measured(model) == [([], numbers) for _, numbers in again]


def measured(model: Path) -> list[tuple[list[str], object]]:
    """Warnings and numbers, of everything that keeps any."""
    few = geo.EvalData(str(model.parent / "data.txt"), max_examples=28, seq_len=16)
    view = geo.LandscapeConfig(grid=3, hessian=True)
    curved = geo.sharpness(model, data=few)
    found = [
        geo.landscape(model, view=view, data=few).report,
        geo.barrier([model, model], points=3, data=few).report,
    ]
    return [
        (curved.report.warnings, curved.measurements.sharpness[0].extremes),
        *((report.warnings, report.result) for report in found),
    ]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_one_warning(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    told = (
        "the cache /proc/cache/mergekit_geo cannot be used (No such file or directory): "
        "nothing is kept for a later run"
    )
    assert [warnings for warnings, _ in measured(model)] == [[told]] * 3
