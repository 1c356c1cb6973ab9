"""geo.landscape on landscapes that are known, and on real checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.cli.app import app
from mergekit_geo.errors import ArgumentError, DataError, OutputExistsError, UnsupportedError
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.modules.load import load_model
from mergekit_geo.records.report import Report
from tests.forks import FORKS

SOME = geo.EvalData(max_examples=60, seq_len=16)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


# --- a quadratic, whose loss is known everywhere


class Weights(nn.Module):
    """Twelve weights in three filters, and a bias that no random direction moves."""

    def __init__(self, seed: int, shift: float = 2.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(shift + torch.randn(3, 4, generator=draw, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(2, generator=draw, dtype=torch.float64))

    def vector(self) -> Tensor:
        return torch.cat([self.w.reshape(-1), self.bias])


CURVATURE = torch.diag(torch.linspace(0.5, 7.0, 14, dtype=torch.float64))
CURVATURE[3, 5] = CURVATURE[5, 3] = 0.4


def quadratic(model: nn.Module, batch: Tensor) -> Tensor:
    """c ½ xᵀAx for every c of the batch."""
    assert isinstance(model, Weights)
    x = model.vector()
    return batch.to(x.dtype) * (x @ CURVATURE.to(x.dtype) @ x) / 2


def loss_at(vector: Any) -> float:
    x = torch.as_tensor(vector, dtype=torch.float64)
    return float(x @ CURVATURE @ x / 2)


SHARES = [torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64), torch.tensor([0.75, 1.25])]
QUADRATIC = geo.FunctionObjective(quadratic, SHARES)  # the mean of c is 1


def draw(*models: nn.Module, **options: Any) -> Any:
    view = geo.LandscapeConfig(**options.pop("view", {"grid": 5}))
    found = geo.landscape(list(models), data=QUADRATIC, view=view, **options)
    return found.measurements


def test_a_plane_through_three_models_has_the_losses_of_the_closed_form() -> None:
    models = [Weights(i, shift=i) for i in range(3)]
    (surface,) = draw(*models).surfaces
    a, b, c = (model.vector().detach().numpy() for model in models)
    first = (b - a) / np.linalg.norm(b - a)
    second = (c - a) - ((c - a) @ first) * first
    second /= np.linalg.norm(second)
    for j, y in enumerate(surface.y):
        for i, x in enumerate(surface.x):
            expected = loss_at(a + x * first + y * second)
            assert surface.loss[j][i] == pytest.approx(expected, rel=1e-10)
    assert [mark.loss for mark in surface.marks] == pytest.approx([loss_at(v) for v in (a, b, c)])
    assert [mark.off_plane for mark in surface.marks] == [0, 0, 0]
    assert surface.kind == "plane"
    assert surface.cosine == pytest.approx(
        (b - a) @ (c - a) / np.linalg.norm(b - a) / np.linalg.norm(c - a)
    )


def test_models_at_corners_of_their_hull_are_points_of_the_grid_to_the_bit() -> None:
    corner = Weights(1)
    right, above = Weights(1), Weights(1)
    with torch.no_grad():
        right.w[0] += torch.tensor([0.3, 0.1, 0.0, 0.2])
        above.w[1] += torch.tensor([0.1, 0.7, 0.3, 0.0])  # square to the other step
    (surface,) = draw(corner, right, above, view={"grid": 9}).surfaces
    for mark in surface.marks:
        row = surface.loss[surface.y.index(mark.y)]
        assert row[surface.x.index(mark.x)] == mark.loss
    assert surface.x.index(0.0) == surface.y.index(0.0) == 2


def drawn(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """A direction as the library draws it."""
    from mergekit_geo.landscapes.directions import Noise
    from mergekit_geo.landscapes.filters import Filters

    noise = Noise(open_checkpoint(Weights(0)), {"w": Filters.rows(3, 4)}, seed, {})
    return np.concatenate([noise._draw("w", 0, 12), np.zeros(2)])


def random_steps(model: Weights, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """A direction as the library draws it, normalised by hand."""
    rows = drawn(seed)[:12].reshape(3, 4)
    norms = model.w.detach().norm(dim=1).numpy() / np.linalg.norm(rows, axis=1)
    return np.concatenate([(rows * norms[:, None]).reshape(-1), np.zeros(2)])


@pytest.mark.parametrize("grid", [4, 5])
def test_around_a_model_two_directions_are_followed_in_filter_norms(grid: int) -> None:
    model = Weights(1)
    (surface,) = draw(model, view={"grid": grid, "radius": 0.5}).surfaces
    first, second = random_steps(model, 0), random_steps(model, 1)
    home = model.vector().detach().numpy()
    assert surface.x == surface.y
    assert surface.x == pytest.approx(np.linspace(-0.5, 0.5, grid))
    for j, y in enumerate(surface.y):
        for i, x in enumerate(surface.x):
            expected = loss_at(home + x * first + y * second)
            assert surface.loss[j][i] == pytest.approx(expected, rel=1e-10)
    if grid % 2:
        assert surface.loss[grid // 2][grid // 2] == surface.marks[0].loss
    assert [axis.unit for axis in surface.axes] == ["filter norms"] * 2
    assert surface.axes[0].length == pytest.approx(np.linalg.norm(first), rel=1e-6)
    weights = model.w.detach().norm().item()  # filters as long as the weights', so all of them too
    assert surface.axes[0].length == pytest.approx(weights, rel=1e-6)


def test_beside_a_line_a_direction_is_followed_as_far() -> None:
    models = [Weights(1), Weights(2, shift=1.0)]
    (surface,) = draw(*models).surfaces
    a, b = (model.vector().detach().numpy() for model in models)
    first = (b - a) / np.linalg.norm(b - a)
    second = random_steps(models[0], 0)
    length = np.linalg.norm(second)
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    for j, y in enumerate(surface.y):
        for i, x in enumerate(surface.x):
            expected = loss_at(a + x * first + y * second)
            assert surface.loss[j][i] == pytest.approx(expected, rel=1e-9)
    assert surface.y[-1] - surface.y[0] == pytest.approx(surface.x[-1] - surface.x[0])
    assert surface.axes[1].filter_norms == pytest.approx(1 / length)
    middle = surface.loss[2]
    assert middle[surface.x.index(0.0)] == surface.marks[0].loss
    assert middle[surface.x.index(surface.marks[1].x)] == surface.marks[1].loss


def test_directions_that_are_not_normalised_are_the_same_at_every_model() -> None:
    models = [Weights(1), Weights(2, shift=9.0)]
    view = {"grid": 3, "each": True, "filter_normalization": "off"}
    units = [drawn(seed) / np.linalg.norm(drawn(seed)) for seed in (0, 1)]
    found = draw(*models, view=view).surfaces
    assert found[0].x == found[1].x  # as far at each: as the filters of the first are long
    assert found[0].x[-1] == pytest.approx(models[0].w.detach().norm().item())
    for surface, model in zip(found, models, strict=True):
        home = model.vector().detach().numpy()
        for j, y in enumerate(surface.y):
            for i, x in enumerate(surface.x):
                expected = loss_at(home + x * units[0] + y * units[1])
                assert surface.loss[j][i] == pytest.approx(expected, rel=1e-6)
        assert [axis.unit for axis in surface.axes] == ["distance"] * 2
        assert [axis.length for axis in surface.axes] == pytest.approx([1, 1])
        assert surface.axes[0].filter_norms is None


def test_beside_a_line_a_direction_may_stay_as_it_is_drawn() -> None:
    models = [Weights(1), Weights(2, shift=1.0)]
    (surface,) = draw(*models, view={"grid": 5, "filter_normalization": "off"}).surfaces
    a, b = (model.vector().detach().numpy() for model in models)
    along = (b - a) / np.linalg.norm(b - a)
    beside = drawn(0)
    beside -= (beside @ along) * along
    expected = loss_at(a + surface.y[-1] * beside / np.linalg.norm(beside))
    assert surface.loss[-1][surface.x.index(0.0)] == pytest.approx(expected, rel=1e-6)
    assert surface.axes[1].filter_norms is None


@pytest.mark.parametrize("seed", [1, 2])
def test_eigenvectors_of_the_hessian_are_followed(seed: int) -> None:
    model = Weights(seed)
    (surface,) = draw(model, view={"grid": 5, "hessian": True}).surfaces
    values, vectors = np.linalg.eigh(CURVATURE.numpy())
    assert [axis.eigenvalue for axis in surface.axes] == pytest.approx(values[[-1, -2]], rel=1e-3)
    assert surface.x[-1] == pytest.approx(np.sqrt(2 / values[-1]), rel=1e-3)
    assert surface.axes[0].length == pytest.approx(1.0, abs=1e-5)
    assert surface.cosine == pytest.approx(0.0, abs=1e-4)
    home = model.vector().detach().numpy()
    signs = [(i, j) for i in (1, -1) for j in (1, -1)]  # an eigenvector has none
    expected = {
        sign: [
            [loss_at(home + sign[0] * x * vectors[:, -1] + sign[1] * y * vectors[:, -2])
             for x in surface.x] for y in surface.y
        ]
        for sign in signs
    }  # fmt: skip
    assert any(np.allclose(surface.loss, found, rtol=2e-3) for found in expected.values())


def test_each_model_has_a_landscape_on_one_scale() -> None:
    models = [Weights(1), Weights(2), Weights(3)]
    found = draw(*models, view={"grid": 3, "each": True})
    assert [surface.kind for surface in found.surfaces] == ["around"] * 3
    losses = [loss for surface in found.surfaces for row in surface.loss for loss in row]
    assert (found.scale.low, found.scale.high) == (min(losses), max(losses))
    alone = draw(models[1], view={"grid": 3})
    assert alone.surfaces[0].loss == found.surfaces[1].loss  # the same numbers are drawn for each


def test_further_models_are_projected_and_told_how_far_off_they_are() -> None:
    models = [Weights(i, shift=i) for i in range(4)]
    a, b, c, d = (model.vector().detach().numpy() for model in models)
    basis = np.array([b - a, c - a]).T
    nearest, *_ = np.linalg.lstsq(basis, d - a, rcond=None)
    off = np.linalg.norm(d - a - basis @ nearest)
    *three, fourth = models
    for found in (draw(*models), draw(*three, mark=[fourth])):
        *spanning, mark = found.surfaces[0].marks
        assert [mark.spans, *(other.spans for other in spanning)] == [False, True, True, True]
        assert mark.off_plane == pytest.approx(off)
        assert np.hypot(mark.x, mark.y) == pytest.approx(np.linalg.norm(basis @ nearest))
        assert mark.loss == pytest.approx(loss_at(d))


def test_a_soup_lies_on_the_plane() -> None:
    models = [Weights(i, shift=i) for i in range(3)]
    soup = geo.soup(models, data=None).state
    assert soup is not None
    mean = Weights(0)
    mean.load_state_dict(soup)
    found = geo.landscape(models, data=QUADRATIC, view=geo.LandscapeConfig(grid=3), mark=[mean])
    mark = found.measurements.surfaces[0].marks[-1]
    assert mark.off_plane == pytest.approx(0, abs=1e-6)
    assert "lies" in str(found)
    assert [entry.role for entry in found.measurements.losses] == ["parent"] * 3 + ["reference"]


def test_a_loss_that_is_not_a_number_leaves_a_gap(tmp_path: Path) -> None:
    def hole(model: nn.Module, batch: Tensor) -> Tensor:
        found = quadratic(model, batch)
        return torch.where(found > 60, torch.inf, found)

    data = geo.FunctionObjective(hole, SHARES)
    out = tmp_path / "out"
    found = geo.landscape(
        Weights(1, shift=0.5), out, data=data, view=geo.LandscapeConfig(grid=3, radius=2)
    )
    (surface,) = found.measurements.surfaces
    gaps = sum(loss is None for row in surface.loss for loss in row)
    assert 0 < gaps < 9
    assert f"not finite at {gaps}" in str(found)
    assert np.isnan(np.load(out / "figures" / "landscape.npz")["loss"]).sum() == gaps
    assert Report.model_validate_json((out / "report.json").read_text()) == found.report


# --- requests that cannot be met


def test_models_that_span_nothing() -> None:
    a, b = Weights(1), Weights(2)
    with pytest.raises(ArgumentError, match=r"model 1 .* and model 2 .* are equal: they span noth"):
        draw(a, a)
    with pytest.raises(ArgumentError, match=r"model 1 .* and model 3 .* are equal: they span noth"):
        draw(a, b, a)
    middle = Weights(1)
    with torch.no_grad():
        for own, first, second in zip(
            middle.parameters(), a.parameters(), b.parameters(), strict=True
        ):
            own.copy_(0.3 * first + 0.7 * second)
    with pytest.raises(ArgumentError, match=r"model 3 \(in memory\) lie on one line, and many"):
        draw(a, b, middle)


def test_bad_requests(tmp_path: Path) -> None:
    a, b = Weights(1), Weights(2)
    with pytest.raises(ArgumentError, match="no models to look around"):
        draw()
    with pytest.raises(ArgumentError, match="eigenvectors are directions at one model, and there"):
        draw(a, b, view={"hessian": True})
    with pytest.raises(DataError, match="a model in memory comes without its tokenizer"):
        geo.landscape(a)
    off = {"filter_normalization": "off"}
    for models, view in (([a, b, Weights(3)], off), ([a], {**off, "hessian": True})):
        with pytest.raises(ArgumentError, match="random directions are, and none is drawn"):
            draw(*models, view=view)
    with pytest.raises(ArgumentError, match="filter-normalization 'layer': expected"):
        geo.LandscapeConfig(filter_normalization="layer")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputExistsError, match="the output exists"):
        geo.landscape(a, tmp_path / "out", data=QUADRATIC)
    broken = Weights(3)
    with torch.no_grad():
        broken.w[0, 0] = torch.nan
    with pytest.raises(geo.GeoError, match=r"the loss is not a number|NaN or infinite elements"):
        draw(a, broken)


class Scalar(nn.Module):
    """Nothing but a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(3))


def test_a_model_without_filters_has_no_random_direction() -> None:
    def square(model: nn.Module, batch: Tensor) -> Tensor:
        assert isinstance(model, Scalar)
        return batch * model.bias.square().sum()

    data = geo.FunctionObjective(square, [torch.ones(3)])
    with pytest.raises(ArgumentError, match="no tensor has filters that a direction could be"):
        geo.landscape(Scalar(), data=data)


# --- real checkpoints


def plain(folder: Path) -> float:
    """The loss of a checkpoint, loaded and measured by itself."""
    compute = geo.Compute(dtype="float32")
    checkpoint = open_checkpoint(folder)
    sample = prepare(SOME, folder, checkpoint.config, compute)
    return sample.objective.measure(load_model(folder, compute)).mean


@pytest.mark.pictures
@pytest.mark.slow
def test_marks_and_corners_are_the_models_to_the_bit(family: Path, tmp_path: Path) -> None:
    models = [family / name for name in "abc"]
    out = tmp_path / "out"
    found = geo.landscape(
        models, out, data=SOME, view=geo.LandscapeConfig(grid=4, margin=0), mark=[family / "base"]
    )
    (surface,) = found.measurements.surfaces
    expected = [plain(model) for model in [*models, family / "base"]]
    assert [mark.loss for mark in surface.marks] == expected
    assert [entry.loss for entry in found.measurements.losses] == expected
    assert [surface.x[0], surface.x[-1]] == [0, surface.marks[1].x]  # c lies between a and b
    assert [surface.loss[0][0], surface.loss[0][-1]] == expected[:2]
    assert surface.metric is not None
    assert surface.marks[-1].off_plane > 0
    report = Report.model_validate_json((out / "report.json").read_text())
    assert report == found.report
    assert report.data is not None
    assert report.data.half == ""
    assert report.data.examples == 60
    with np.load(out / "figures" / "landscape.npz") as arrays:
        assert arrays["loss"].tolist() == [surface.loss]
        assert arrays["models"].tolist() == [[mark.model for mark in surface.marks]]
        assert arrays["places"].shape == (1, 4, 3)
    for picture in ("landscape.png", "landscape.svg", "landscape.html"):
        assert (out / "figures" / picture).stat().st_size > 5000


class StopAfter:
    """A progress that counts phases, and is interrupted at some."""

    def __init__(self, phases: int) -> None:
        self.left = phases

    def phase(self, title: str, total: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def advance(self, count: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass


@pytest.mark.parametrize(
    ("names", "hessian", "evaluations"),
    [("a", False, 9), ("a", True, 9), ("abc", False, 3 + 9 - 2), ("ab", False, 2 + 9 - 2)],
)
@pytest.mark.slow
def test_interrupted_grid_goes_on(
    family: Path, names: str, hessian: bool, evaluations: int
) -> None:
    """Models that are points of the grid are measured once: a, and b at the other end."""
    view, models = geo.LandscapeConfig(grid=3, hessian=hessian), [family / name for name in names]

    def run(progress: StopAfter, data: geo.EvalData = SOME) -> Any:
        return geo.landscape(models, data=data, view=view, progress=progress).measurements

    with pytest.raises(KeyboardInterrupt):  # the eigenvectors are a phase of their own
        run(StopAfter(4 + hessian))
    counter = StopAfter(99)
    resumed = run(counter)
    assert 99 - counter.left == evaluations - 4
    assert run(StopAfter(0)) == resumed  # everything is known now: nothing is measured
    with pytest.raises(KeyboardInterrupt):  # another seed is other work
        run(StopAfter(0), geo.EvalData(max_examples=60, seq_len=16, seed=1))


def test_half_precision_models_are_moved_in_single(family: Path, tmp_path: Path) -> None:
    """A step that bfloat16 would swallow changes the loss."""
    half = tmp_path / "half"
    load_model(family / "a", geo.Compute(device="cpu", dtype="bfloat16")).save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (half / name).write_bytes((family / "a" / name).read_bytes())
    found = geo.landscape(
        half, data=SOME, view=geo.LandscapeConfig(grid=3, radius=1e-4)
    ).measurements
    (surface,) = found.surfaces
    losses = {loss for row in surface.loss for loss in row}
    assert len(losses) == 9
    assert surface.loss[1][1] == surface.marks[0].loss == plain(half)
    tilt = [surface.loss[0][0], surface.loss[2][2]]
    assert sum(tilt) / 2 == pytest.approx(surface.loss[1][1], abs=1e-5)


def test_directions_at_fused_experts_are_those_of_the_stored_ones(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "m")

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        logits = model(input_ids=ids).logits
        return nn.functional.cross_entropy(logits.mT, ids, reduction="none").mean(dim=1)

    ids = torch.randint(32, (6, 8), generator=torch.Generator().manual_seed(1))
    data = geo.FunctionObjective(loss, [ids])
    found = geo.landscape(tmp_path / "m", data=data, view=geo.LandscapeConfig(grid=3)).measurements
    (surface,) = found.surfaces
    assert surface.loss[1][1] == surface.marks[0].loss
    assert len({loss for row in surface.loss for loss in row}) == 9
    with pytest.raises(UnsupportedError, match="tensors are not those that are stored"):
        geo.landscape(tmp_path / "m", data=data, view=geo.LandscapeConfig(grid=3, hessian=True))


# --- the command


def test_landscape_on_the_command_line(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["landscape", family / "a", family / "b", "--grid", 2, "--max-examples", 60]
    words += ["--seq-len", 16, "--range", 3, 9, "--log", "-o", out]
    code, stdout, stderr = invoke(*words, "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert report["result"]["scale"] == {"low": 3, "high": 9, "log": True}
    assert "6 measurements on 60 examples" in stderr
    assert "finished points are kept in" in stderr
    code, stdout, stderr = invoke(*words, "--overwrite")
    assert code == 0, stderr
    assert "2 x 2 points, loss from" in " ".join(stdout.split())
    assert "and a random direction" in " ".join(stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "a"], "are equal: they span nothing"),
        (["a", "--grid", "1"], "grid must be at least 2, found 1"),
        (["a", "--range", "4", "3"], "range begins at 4 and ends at 3"),
        (["a", "--radius", "-1"], "radius must be a number above 0, found -1"),
        (["a", "b", "--hessian-directions"], "eigenvectors are directions at one model"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(family: Path, words: list[str], message: str) -> None:
    named = [str(family / word) if word in "ab" else word for word in words]
    code, stdout, stderr = invoke("landscape", *named, "--max-examples", 60, "--seq-len", 16)
    assert code == 1
    assert stdout == ""
    assert message in stderr.splitlines()[-1]


@pytest.mark.slow
def test_two_gloo_processes_give_the_numbers_of_one(family: Path, tmp_path: Path) -> None:
    words = ["landscape", str(family / "a"), "--grid", "2", "--json", "--max-examples", "60"]
    done = FORKS.together(
        ["-m", "mergekit_geo", *words, "--seq-len", "16"],
        tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "two"),
    )
    assert done.returncode == 0, done.stderr
    one = geo.landscape(family / "a", data=SOME, view=geo.LandscapeConfig(grid=2)).report
    assert json.loads(done.stdout)["result"] == json.loads(one.to_json())["result"]
