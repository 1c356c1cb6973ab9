"""Soups that loss chooses, and the evidence beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.records.merge import SelectionEntry
from tests.demo import train

FAST = geo.OutputConfig(fsync=False)
BUILTIN = "builtin:python-docs"
NAMED = geo.EvalData(source=BUILTIN, max_examples=150, seq_len=16)
"""Said outright, or nothing may be chosen on it; short windows, so that it is fast."""

FEW = ("--max-examples", 150, "--seq-len", 16, "--sharpness", "off")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one test has measured of the same models, the next need not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("chosen")))
        yield


@pytest.fixture(scope="module")
def models(family: Path) -> list[Path]:
    return [family / name for name in "abc"]


@pytest.fixture(scope="module")
def uniform(models: list[Path]) -> geo.Result:
    return geo.soup(models, data=NAMED, sharpness="off")


@pytest.fixture(scope="module")
def noisy(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model a with noise as large as three times each tensor's spread."""
    folder = tmp_path_factory.mktemp("noisy")
    for path in (family / "a").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    draw = torch.Generator().manual_seed(0)
    state = {
        name: tensor + torch.randn(tensor.shape, generator=draw) * tensor.std() * 3
        for name, tensor in load_file(folder / "model.safetensors").items()
        if tensor.numel() > 1
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def greedy(models: list[Path]) -> geo.Result:
    return choose(models, method="greedy")


def choose(models: list[Path], out: Path | None = None, **how: Any) -> geo.Result:
    return geo.soup(
        models, out, choosing=geo.SelectionConfig(**how), output=FAST, data=NAMED, sharpness="off"
    )


def entry_of(found: geo.Result) -> SelectionEntry:
    assert found.measurements.selection is not None
    return found.measurements.selection


def losses_of(found: geo.Result, role: str) -> list[LossEntry]:
    return [entry for entry in found.measurements.losses if entry.role == role]


def check_halves(found: geo.Result, uniform: geo.Result) -> None:
    """Chosen on one half, reported on the other, with the uniform soup beside."""
    data, everything = found.report.data, uniform.report.data
    assert data is not None
    assert everything is not None
    assert (data.half, everything.half) == ("report", "")
    assert data.documents < everything.documents
    assert data.documents + entry_of(found).documents == everything.documents
    assert data.examples < everything.examples
    (reference,) = losses_of(found, "reference")
    assert reference.model == "uniform soup"
    assert len(losses_of(found, "output")) == 1
    beside = [entry.model for entry in found.measurements.losses[:-1]]
    assert [entry.model for entry in found.measurements.differences] == beside


# --- greedy


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.slow
def test_greedy_is_no_worse_than_the_best_single(
    models: list[Path], uniform: geo.Result, greedy: geo.Result, again: bool
) -> None:
    found = choose(models, method="greedy", with_replacement=True) if again else greedy
    entry = entry_of(found)
    check_halves(found, uniform)
    assert entry.method == "greedy"
    losses: dict[str, float] = {}
    for title, loss in entry.steps:
        losses.setdefault(title, loss)
    best_single, lowest = entry.steps[0], min(losses.values())
    assert best_single[0] in map(str, models)
    assert losses[entry.chosen] == lowest <= best_single[1]
    members = entry.chosen.split(" + ")
    if not again:
        assert len(entry.steps) == 3
        assert len(set(members)) == len(members)
    shares = [members.count(str(model)) / len(members) for model in models]
    assert found.measurements.coefficients.weights == pytest.approx(shares)
    assert sum(shares) == pytest.approx(1)


def test_greedy_merges_what_it_chose(models: list[Path], greedy: geo.Result) -> None:
    assert greedy.state is not None
    weights = greedy.measurements.coefficients.weights
    parents = [load_file(model / "model.safetensors") for model in models]
    for name in parents[0]:
        expected = torch.stack([w * p[name] for w, p in zip(weights, parents, strict=True)]).sum(0)
        torch.testing.assert_close(greedy.state[name], expected, rtol=1e-5, atol=1e-6)


def test_losses_in_the_report_are_of_the_report_half(greedy: geo.Result) -> None:
    """The half that chose is another one: the best single's loss differs between them."""
    name, chosen_on = entry_of(greedy).steps[0]
    (reported,) = (entry for entry in losses_of(greedy, "parent") if entry.model == name)
    assert reported.loss != pytest.approx(chosen_on, abs=1e-6)


# --- learned


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["model", "layer"])
def test_learned_is_no_worse_than_uniform(
    models: list[Path],
    noisy: Path,
    uniform: geo.Result,
    tmp_path: Path,
    granularity: str,
) -> None:
    out, models = tmp_path / "out", [*models[:2], noisy]
    found = choose(models, out, method="learned", granularity=granularity, steps=8)
    entry = entry_of(found)
    check_halves(found, uniform)
    losses = dict(entry.steps)
    after = min(loss for title, loss in entry.steps if title.startswith("learned soup, step "))
    assert after < losses["uniform soup"], "the third is noise: less of it must help"
    assert after == min(losses.values())
    assert entry.started_from == min(
        (title for title in losses if "learned" not in title), key=lambda title: losses[title]
    )
    assert entry.method == f"learned by {granularity}"
    weights = found.measurements.coefficients.weights
    assert sum(weights) == pytest.approx(1)
    assert 0 <= weights[2] < 0.1
    tensors = json.loads((out / "merge.json").read_text())["tensors"]
    merged = load_file(out / "model.safetensors")
    parents = [load_file(model / "model.safetensors") for model in models]
    for name, tensor in merged.items():
        shares = tensors[name]["coefficients"]
        assert sum(shares) == pytest.approx(1)
        assert min(shares) >= 0
        expected = torch.stack([w * p[name] for w, p in zip(shares, parents, strict=True)]).sum(0)
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
    layers = {
        number: {tuple(t["coefficients"]) for name, t in tensors.items() if f"s.{number}." in name}
        for number in range(2)
    }
    assert all(len(found) == 1 for found in layers.values())
    if granularity == "model":
        assert {tuple(t["coefficients"]) for t in tensors.values()} == {tuple(weights)}
    else:
        assert len(set.union(*layers.values())) == 2


def test_learned_starts_in_the_middle_where_that_is_best(family: Path, tmp_path: Path) -> None:
    """Noise that cancels: the middle is better than either."""
    draw, found = torch.Generator().manual_seed(0), []
    state = load_file(family / "a" / "model.safetensors")
    noise = {n: 0.5 * t.std() * torch.randn(t.shape, generator=draw) for n, t in state.items()}
    for sign, name in ((1, "more"), (-1, "less")):
        found.append(shutil.copytree(family / "a", tmp_path / name))
        moved = {n: t + sign * noise[n] if t.dim() > 1 else t for n, t in state.items()}
        save_file(moved, found[-1] / "model.safetensors", metadata={"format": "pt"})
    soup = choose(found, method="learned", steps=1)
    entry = entry_of(soup)
    losses, weights = dict(entry.steps), soup.measurements.coefficients.weights
    assert entry.started_from == "uniform soup"
    assert {"uniform soup", "learned soup, step 1", *map(str, found)} >= losses.keys()
    if losses["learned soup, step 1"] < losses["uniform soup"]:
        assert weights == pytest.approx([0.5, 0.5], abs=0.06)
    else:
        assert entry.chosen == "the uniform soup: learning did not help"
        assert weights == [0.5, 0.5]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that can be learned in a hundred steps."""
    text = tmp_path_factory.mktemp("counting") / "text.txt"
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = (" ".join(words[(i + j) % 10] for j in range(9)) + f" of {i}" for i in range(40))
    text.write_text("\n\n".join(lines))
    return text


@pytest.fixture(scope="module")
def parted(counting: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models that were worsened a little, and a better one behind a barrier.

    It computes what they did, with the channels of its residual stream in another order: as if it
    had been trained by itself.
    """
    root, draw = tmp_path_factory.mktemp("parted"), torch.Generator().manual_seed(0)
    deep = root / "family"  # the barrier is high enough with four layers
    train.make(deep, ("base", "a"), replace(train.BRIEF, width=64, mlp=152))
    good, found = trained(deep / "a", counting.read_text().split("\n\n")), []
    order = torch.randperm(64, generator=draw)
    for name in ("cold", "cool", "hot"):
        found.append(shutil.copytree(deep / "a", root / name))
        if name == "hot":
            state = {n: reordered(n, t, order) for n, t in good.items()}
        else:
            noise = {n: torch.randn(t.shape, generator=draw) for n, t in good.items()}
            state = {n: t + 0.2 * t.std() * noise[n] for n, t in good.items()}
        save_file(state, found[-1] / "model.safetensors", metadata={"format": "pt"})
    return found


def trained(folder: Path, texts: list[str]) -> dict[str, Tensor]:
    tokenizer, model = (
        auto.from_pretrained(folder) for auto in (AutoTokenizer, AutoModelForCausalLM)
    )
    ids = torch.tensor([(tokenizer(text)["input_ids"] * 2)[:16] for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    stored = load_file(folder / "model.safetensors")
    return {name: model.state_dict()[name].clone() for name in stored}


def reordered(name: str, tensor: Tensor, order: Tensor) -> Tensor:
    """A tensor of a Llama whose residual stream has another order of channels."""
    written = name.endswith(("o_proj.weight", "down_proj.weight"))
    return (tensor[order] if written or tensor.dim() == 1 else tensor[:, order]).contiguous()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("granularity", "dtype"), [("model", None), ("tensor", None), ("layer", "bfloat16")]
)
def test_learned_starts_on_the_right_side_of_a_barrier(
    parted: list[Path], counting: Path, tmp_path: Path, granularity: str, dtype: str | None
) -> None:
    """From the uniform soup on, the gradient leads into the basin that more models are in."""
    found = geo.soup(
        parted, tmp_path / "out", data=geo.EvalData(str(counting), seq_len=16), sharpness="off",
        choosing=geo.SelectionConfig(method="learned", granularity=granularity, steps=6),
        output=geo.OutputConfig(fsync=False, dtype=dtype),
    )  # fmt: skip
    entry, hot = entry_of(found), str(parted[2])
    losses, parents = dict(entry.steps), {e.model: e.loss for e in losses_of(found, "parent")}
    (output,) = losses_of(found, "output")
    assert entry.started_from == hot
    assert losses["uniform soup"] > losses[hot] + 0.3
    weights = found.measurements.coefficients.weights
    assert (weights == [0, 0, 1]) == ("nothing helped" in entry.chosen)
    assert weights[2] > 0.9
    # so also on the other half, which had no part in it
    assert output.loss == pytest.approx(parents[hot], abs=0.02)


def test_learned_that_helps_nobody_is_the_best_model(
    parted: list[Path], counting: Path, tmp_path: Path
) -> None:
    found = geo.soup(
        parted, tmp_path / "out", data=geo.EvalData(str(counting), seq_len=16), sharpness="off",
        choosing=geo.SelectionConfig(method="learned", steps=1), output=FAST,
    )  # fmt: skip
    hot = str(parted[2])
    assert entry_of(found).chosen == f"{hot}: nothing helped it"
    assert found.measurements.unmerged == hot
    assert f"Nothing helped {hot}: the output is {hot}, unmerged." in str(found)
    whole, best = (load_file(f / "model.safetensors") for f in (tmp_path / "out", parted[2]))
    assert all(torch.equal(whole[name], tensor) for name, tensor in best.items())


def test_learned_needs_gradients_of_a_task() -> None:
    objective = wells()
    with pytest.raises(DataError, match="a learned soup needs gradients of a task") as caught:
        geo.soup(
            [Point(-1.0), Point(1.0)],
            data=objective,
            choosing=geo.SelectionConfig(method="learned"),
        )
    assert caught.value.remedy == "--method greedy needs neither"


# --- along


@pytest.mark.parametrize("along", ["linear", "slerp"])
@pytest.mark.slow
def test_best_of_a_path(models: list[Path], uniform: geo.Result, along: str) -> None:
    found = choose(models[:2], along=along, pick="best")
    barriers = found.measurements.barriers
    labels = [(pair.first, pair.second, pair.along) for pair in barriers]
    assert len(set(labels)) == len(labels) == (1 if along == "linear" else 2)
    assert barriers[-1].taken is not None
    assert found.report.data is not None
    assert {pair.documents for pair in barriers} == {found.report.data.documents}
    entry = entry_of(found)
    check_halves(found, uniform)
    assert entry.method == f"best along {along}"
    tried = {float(title.removeprefix("t = ")): loss for title, loss in entry.steps}
    assert {0.0, 0.5, 1.0} <= tried.keys()
    assert 3 < len(entry.steps) <= 16
    best = float(entry.chosen.removeprefix("t = "))
    assert tried[best] == min(tried.values())
    coefficients = found.measurements.coefficients
    assert coefficients.method == along
    assert coefficients.weights == pytest.approx([1 - best, best], abs=1e-4)


@pytest.mark.parametrize("along", ["linear", "slerp"])
def test_midpoint_of_a_path_is_not_chosen_by_loss(models: list[Path], along: str) -> None:
    found = choose(models[:2], along=along, pick="midpoint")
    assert found.measurements.selection is None
    assert found.measurements.coefficients.weights == [0.5, 0.5]
    assert found.measurements.coefficients.method == along
    assert found.report.data is not None
    assert found.report.data.half == ""
    assert losses_of(found, "reference") == []
    unmeasured = geo.soup(
        models[:2], data=None, choosing=geo.SelectionConfig(along=along, pick="midpoint")
    )
    assert found.state is not None
    assert unmeasured.state is not None
    assert all(torch.equal(found.state[name], t) for name, t in unmeasured.state.items())


def test_best_of_a_path_is_the_default_pick(models: list[Path]) -> None:
    assert geo.SelectionConfig(along="linear").searches(2)
    assert not geo.SelectionConfig(along="linear", pick="midpoint").searches(2)
    assert entry_of(choose(models[:2], along="linear")) == entry_of(
        choose(models[:2], along="linear", pick="best")
    )


# --- basins


class Point(nn.Module):
    """One weight."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([place]))


def two_wells(model: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    """1 + scale (w^2 - 1)^2: wells at -1 and 1, a barrier between them."""
    assert isinstance(model, Point)
    return 1 + scale * (model.w.square() - 1).square()


def wells(count: int = 60) -> geo.FunctionObjective:
    scale = torch.rand(count, generator=torch.Generator().manual_seed(0)) + 1.5
    return geo.FunctionObjective(two_wells, [scale[: count // 2], scale[count // 2 :]])


POINTS = (0.9, -1.0, 1.05, 1.1)
"""The second is alone in its well."""


def test_models_outside_the_basin_are_left_out() -> None:
    models = [Point(place) for place in POINTS]
    found = geo.soup(
        models, data=wells(), choosing=geo.SelectionConfig(basin=True), sharpness="off"
    )
    entry = entry_of(found)
    names = [model.name for model in found.report.models]
    assert entry.method == "largest basin"
    assert entry.chosen == ", ".join(names[i] for i in (0, 2, 3))
    (left_out,) = entry.left_out
    assert left_out == f"{names[1]}: a barrier separates it from {entry.chosen}"
    weights = found.measurements.coefficients.weights
    assert weights == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert found.state is not None
    assert found.state["w"].item() == pytest.approx((0.9 + 1.05 + 1.1) / 3)
    (reference,) = losses_of(found, "reference")
    assert losses_of(found, "output")[0].loss < reference.loss
    assert found.report.data is not None
    assert found.report.data.half == "report"
    assert found.report.data.examples + entry.documents == 60


def test_weights_within_a_basin_keep_their_proportions() -> None:
    models = [Point(place) for place in POINTS]
    found = geo.soup(
        models,
        weights=[2, 5, 1, 1],
        data=wells(),
        choosing=geo.SelectionConfig(basin=True),
        sharpness="off",
    )
    assert found.measurements.coefficients.weights == pytest.approx([0.5, 0, 0.25, 0.25])


def test_weights_that_are_zero_in_the_basin_are_refused() -> None:
    models = [Point(place) for place in POINTS]
    with pytest.raises(ArgumentError, match="the weights of the largest basin sum to zero"):
        geo.soup(
            models,
            weights=[0, 1, 0, 0],
            data=wells(),
            choosing=geo.SelectionConfig(basin=True),
            sharpness="off",
        )


def test_greedy_within_a_basin_tries_no_other() -> None:
    models = [Point(place) for place in (0.8, -1.0, 1.3, 1.25)]
    found = geo.soup(
        models,
        data=wells(),
        choosing=geo.SelectionConfig(method="greedy", basin=True),
        sharpness="off",
    )
    entry = entry_of(found)
    outsider = found.report.models[1].name
    assert [text.partition(":")[0] for text in entry.left_out] == [outsider]
    assert len(entry.steps) == 3
    assert not any(outsider in title.split(" + ") for title, _ in entry.steps)
    assert found.measurements.coefficients.weights[1] == 0
    assert dict(entry.steps)[entry.chosen] == min(loss for _, loss in entry.steps)


def test_fine_tunes_are_in_one_basin(models: list[Path]) -> None:
    found = choose(models, basin=True)
    assert entry_of(found).left_out == []
    assert found.measurements.coefficients.weights == pytest.approx([1 / 3] * 3)


# --- the command line


def invoke(*words: object) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, [*map(str, words), "--json", "--quiet", "--no-fsync"])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.slow
def test_gate_on_an_output_that_is_worse(models: list[Path], noisy: Path, tmp_path: Path) -> None:
    words = ["soup", models[0], noisy, "--weights", "0.5,0.5", *FEW]
    code, report = invoke(*words, "-o", tmp_path / "gated", "--require", "not-worse")
    assert code == 3
    first = report["result"]["differences"][0]
    assert first["significant"]
    assert first["value"] > 0
    assert (tmp_path / "gated" / "report.json").is_file(), "what was asked for is there to look at"
    assert invoke(*words, "-o", tmp_path / "free")[0] == 0


def test_gate_on_an_output_that_is_not_worse(models: list[Path], tmp_path: Path) -> None:
    words = ["soup", *models[::2], "-o", tmp_path / "out", *FEW]
    assert invoke(*words, "--require", "not-worse")[0] == 0


@pytest.mark.slow
def test_choosing_from_the_shell(models: list[Path], noisy: Path, tmp_path: Path) -> None:
    """Greedy leaves the noise out, so that nothing is worse than the best parent."""
    words = ["soup", models[0], noisy, models[1], "-o", tmp_path / "out", "--data", BUILTIN]
    words += [*FEW, "--method", "greedy", "--require", "not-worse"]
    code, report = invoke(*words)
    assert code == 0
    assert report["result"]["coefficients"]["weights"][1] == 0
    assert report["settings"]["method"] == "greedy"
    assert report["result"]["selection"]["method"] == "greedy"
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    recipe = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert recipe["settings"]["method"] == "greedy"


def test_a_greedy_soup_that_kept_one_model_is_told_as_that(
    models: list[Path], noisy: Path, tmp_path: Path
) -> None:
    words = ["soup", noisy, models[0], "-o", tmp_path / "out", "--data", BUILTIN, *FEW]
    done = CliRunner().invoke(
        app, [*map(str, words), "--method", "greedy", "--require", "not-worse", "--no-fsync"]
    )
    assert done.exit_code == 0
    name = str(models[0])
    told = f"Nothing helped {name}: the output is {name}, unmerged."
    texts = [(tmp_path / "out" / file).read_text() for file in ("report.html", "README.md")]
    for text in (done.stdout, *texts):
        assert told in text.replace("\n", " ").replace("\\", "") or told in text.replace("\n", "")
        assert "ifference from the best parent" not in text
    whole, base = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "out", models[0])
    )
    assert all(torch.equal(whole[key], tensor) for key, tensor in base.items())


@pytest.mark.parametrize(
    ("count", "weights", "told"),
    [
        (1, None, "There is nothing to merge: the output is a copy of {0}."),
        (2, [0, 1], "The output is {1}, unmerged: no other model has a part in it."),
        (2, [1, 1], ""),
    ],
)
def test_what_is_one_of_the_models_is_told_as_that(
    models: list[Path], tmp_path: Path, count: int, weights: list[float] | None, told: str
) -> None:
    found = geo.soup(models[:count], tmp_path / "out", weights=weights, data=None, output=FAST)
    words = told.format(*map(str, models))
    assert str(found).endswith(words)
    card = (tmp_path / "out" / "README.md").read_text()
    assert words in card.replace("\\", "")
    assert "1 models" not in card
    assert found.measurements.unmerged == (str(models[count - 1]) if told else None)


# --- refusals


@pytest.mark.parametrize(
    "how", [{"method": "greedy"}, {"method": "learned"}, {"basin": True}, {"along": "slerp"}]
)
def test_nothing_is_chosen_on_text_that_nobody_named(
    models: list[Path], tmp_path: Path, how: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match="would be tuned to the built-in text") as caught:
        geo.soup(models[:2], tmp_path / "out", choosing=geo.SelectionConfig(**how))
    assert caught.value.remedy.startswith("give held-out data with --data, or name the built-in")
    assert caught.value.remedy.endswith(f": --data {BUILTIN}")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_chosen_without_evaluation(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="loss cannot be measured: evaluation was turned off"):
        geo.soup(models, tmp_path / "out", data=None, choosing=geo.SelectionConfig(method="greedy"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_chosen_on_too_few_documents(models: list[Path], tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n\n".join(f"document number {i} of the few there are" for i in range(6)))
    with pytest.raises(DataError, match="expected at least 5 in each"):
        geo.soup(models, data=geo.EvalData(str(few)), choosing=geo.SelectionConfig(method="greedy"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "fisher"}, "method 'fisher': expected one of uniform, weighted, greedy"),
        ({"granularity": "head"}, "granularity 'head': expected one of model, layer, tensor"),
        ({"pick": "best"}, "--pick takes a point of a path"),
        ({"along": "linear", "pick": "worst"}, "pick 'worst': expected one of best, midpoint"),
        ({"along": "linear", "method": "greedy"}, "--along and --method greedy are two ways"),
        ({"along": "slerp", "method": "learned"}, "--along and --method learned are two ways"),
        ({"along": "slerp", "basin": True}, "--basin may leave a model out, and a path needs both"),
    ],
)
def test_settings_that_cannot_be_meant(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        geo.SelectionConfig(**how)


@pytest.mark.parametrize("pick", ["best", "midpoint"])
def test_paths_that_there_are_not(models: list[Path], pick: str) -> None:
    with pytest.raises(ArgumentError, match="a path lies between models, and there is one"):
        choose(models[:1], along="linear", pick=pick)
    with pytest.raises(ArgumentError, match="along 'geodesic': expected one of linear, slerp"):
        choose(models[:2], along="geodesic", pick=pick)


def test_bad_settings_on_the_command_line(models: list[Path], tmp_path: Path) -> None:
    code, report = invoke("soup", *models[:2], "-o", tmp_path / "out", "--pick", "best")
    assert code == 1
    assert report["error"]["type"] == "ArgumentError"
    assert report["error"]["remedy"] == "--along linear or slerp"


# --- barriers between the parents


def test_every_merge_carries_the_barriers_of_its_parents(
    uniform: geo.Result, greedy: geo.Result
) -> None:
    barriers = uniform.measurements.barriers
    named = [(Path(entry.first).name, Path(entry.second).name) for entry in barriers]
    assert named == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(entry.along == "linear" and len(entry.t) == 5 for entry in barriers)
    assert all(entry.barrier.low is not None and entry.verdict for entry in barriers)
    assert "barriers" not in [item.what for item in uniform.report.not_measured]
    chosen = greedy.measurements.barriers
    assert [entry.barrier for entry in chosen] == [entry.barrier for entry in barriers]


def test_without_evaluation_no_barriers(models: list[Path], tmp_path: Path) -> None:
    code, report = invoke("soup", *models, "-o", tmp_path / "out", "--no-eval")
    assert code == 0
    missing = {item["what"]: item for item in report["not_measured"]}
    assert missing["barriers"]["why"] == "evaluation was turned off"
    assert missing["barriers"]["command"] == "geo-merge barrier " + " ".join(map(str, models))
    assert report["result"]["barriers"] == []


def test_weights_that_would_be_ignored_are_refused(family: Path) -> None:
    models = [family / "a", family / "b"]
    with pytest.raises(ArgumentError, match="weights are given, and greedy finds its own"):
        geo.soup(models, weights=[1, 2], choosing=geo.SelectionConfig(method="greedy"))
    with pytest.raises(ArgumentError, match="weights are given, and slerp finds its own"):
        geo.soup(models, weights=[1, 2], choosing=geo.SelectionConfig(along="slerp"))
    with pytest.raises(ArgumentError, match="a weighted soup needs weights"):
        geo.soup(models, choosing=geo.SelectionConfig(method="weighted"))
    with pytest.raises(ArgumentError, match="a soup of one basin is normalised"):
        geo.soup(models, normalize=False, choosing=geo.SelectionConfig(basin=True), sharpness="off")


def test_gate_does_not_hold_where_nothing_was_measured(family: Path, tmp_path: Path) -> None:
    words = ["soup", str(family / "a"), str(family / "b"), "-o", str(tmp_path / "out"), "--no-eval"]
    done = CliRunner().invoke(app, [*words, "--require", "not-worse"])
    assert done.exit_code == 3
    assert "geo-merge soup: --require not-worse: not satisfied" in done.stderr
