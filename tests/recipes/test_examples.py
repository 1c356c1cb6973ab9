"""Every recipe of recipes/ on models of the demo's kind, and what comes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mergekit_geo as geo
from mergekit_geo.recipes.reading import read_documents
from mergekit_geo.recipes.schema import Recipe
from tests.checkpoints.hub_process import command_line, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Token
from tests.conftest import ROOT

SEARCHED = ROOT / "recipes" / "search.yml"
EXAMPLES = [path for path in sorted((ROOT / "recipes").glob("*.yml")) if path != SEARCHED]
FEW = geo.EvalData(max_examples=150, seq_len=16)
Q = "model.layers.1.self_attn.q_proj.weight"


def slerp(x: Tensor, y: Tensor, t: float) -> Tensor:
    theta = torch.acos((x * y).sum() / x.norm() / y.norm())
    return (torch.sin((1 - t) * theta) * x + torch.sin(t * theta) * y) / torch.sin(theta)


def stock(base: Tensor, *models: Tensor) -> Tensor:
    """Jang 2024, for three models."""
    x, y, z = (model - base for model in models)
    cosine = sum((p * q).sum() / p.norm() / q.norm() for p, q in ((x, y), (x, z), (y, z))) / 3
    return base + 3 * cosine / (1 + 2 * cosine) * (x + y + z) / 3


def ties(base: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Yadav 2023, for a third of the way from 0.8 to 0.5 to 0.3 and the weights of attention."""
    density_of_b = 0.8 + (0.5 - 0.8) * 2 / 3
    kept = [trimmed(a - base, 0.5), trimmed(b - base, density_of_b)]
    weights = [0.5, 0.3]
    sign = torch.where(weights[0] * kept[0] + weights[1] * kept[1] >= 0, 1.0, -1.0)
    agrees = [(v.sign() == sign) * w for v, w in zip(kept, weights, strict=True)]
    total = sum(v * w for v, w in zip(kept, agrees, strict=True))
    return base + total / sum(agrees).clamp(min=1e-9)  # type: ignore[union-attr]


def trimmed(vector: Tensor, density: float) -> Tensor:
    least = vector.abs().flatten().sort(descending=True).values[int(density * vector.numel()) - 1]
    return vector * (vector.abs() >= least)


EXPECTED: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "soup": lambda base, a, b, c: (a + b + c) / 3,
    "weighted": lambda base, a, b, c: 0.6 * a + 0.4 * b,
    "slerp": lambda base, a, b, c: slerp(a, b, 1.3 / 3),  # between 0.5 at 1/4 and 0.3 at 1/2
    "stack": lambda base, a, b, c: a,
    "union": lambda base, a, b, c: (base + a + b) / 3,
    "stages": lambda base, a, b, c: slerp(base, (a + b) / 2, 0.8),
    "task_arithmetic": lambda base, a, b, c: base + 0.9 * (0.6 * (a - base) + 0.3 * (b - base)),
    "model_stock": stock,
    "ties": ties,
    # weights of 2/3 and 1/3 at a third of the way
    "nuslerp": lambda base, a, b, c: base + slerp(a - base, b - base, 1 / 3),
}
"""What layer 1 of 4 is, at a third of the way."""


def test_there_are_sixteen() -> None:
    assert len(EXAMPLES) == 16


def recipes_in(path: Path) -> list[Recipe]:
    return [document.recipe for document in read_documents(path)]


SHORT = [path for path in EXAMPLES if path.stem != "sam_then_path"]  # that one is run below


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.stem)
@pytest.mark.slow
def test_an_example_runs(
    path: Path, deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(deep)
    data = FEW if recipes_in(path)[-1].objective else None
    out = tmp_path / "out"
    found = geo.run(path, out, data=data, output=geo.OutputConfig(fsync=False))
    assert found.report.command == "run"
    assert recipes_in(out / "recipe.yml") == recipes_in(path)
    assert (found.measurements.selection is not None) == (data is not None)
    if path.stem in EXPECTED:
        tensors = [load_file(deep / n / "model.safetensors")[Q] for n in ("base", *"abc")]
        expected = EXPECTED[path.stem](*(tensor.double() for tensor in tensors))
        merged = load_file(out / "model.safetensors")[Q]
        halved = {"slerp", "nuslerp", "stack", "union"}
        assert merged.dtype == (torch.bfloat16 if path.stem in halved else torch.float32)
        unit = torch.finfo(merged.dtype).eps
        torch.testing.assert_close(merged.double(), expected, rtol=2 * unit, atol=1e-6)


@pytest.mark.slow
def test_sam_members_along_a_path_are_pushed(small: Path, text: Path, tmp_path: Path) -> None:
    """As in the example, with its push, to a Hub on the loopback."""
    (tmp_path / "store").mkdir()
    (tmp_path / "base").symlink_to(small / "base")
    said = (ROOT / "recipes" / "sam_then_path.yml").read_text()
    for before, after in (
        ("# push_to: org/flat", "push_to: org/flat"),
        ("steps: 20", "steps: 1"),
        ("train_data: builtin:python-docs", f"train_data: {text}"),
    ):
        assert before in said
        said = said.replace(before, after)
    (tmp_path / "r.yml").write_text(said)
    few = ("--max-examples=150", "--seq-len=16", "--no-fsync")
    with serve_hub(tmp_path / "store") as hub:
        hub.tokens = {"hf_owner_0f9a": Token()}
        cli = command_line(hub, tmp_path)
        done = succeeded(cli("run", "r.yml", "-o", "out", *few, HF_TOKEN="hf_owner_0f9a"))
        there = hub.files("org/flat")
        assert f"pushed to {hub.endpoint}/org/flat" in done.stdout
    assert {"model.safetensors", "recipe.yml", "merge.json"} <= there.keys()
    assert sorted(path.name for path in (tmp_path / "out.members").iterdir()) == [
        "flat-0",
        "flat-1",
    ]
    report = geo.read_report(tmp_path / "out")
    assert [entry["steps"] for entry in report.settings["members"]] == [1, 1]


@pytest.mark.slow
def test_the_example_of_a_search_runs(
    deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(deep)
    found = geo.search(SEARCHED, tmp_path / "out", data=FEW, trials=3)
    made = found.measurements.search
    assert [one.name for one in made.dimensions] == [
        "weight of a (mlp)", "weight of a (others)", "density of a", "weight of b (mlp)",
        "weight of b (others)",
    ]  # fmt: skip
    assert made.aim.startswith("maximum over prose, code")
    assert len(made.trials) == 3
