"""geo.sharpness, and the sharpness that every merge ends with, beside other computations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.curvature.table import gradients_of
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.sharpness import sharpness_table
from tests.checkpoints.reshape.vocabularies import save, tokenizer
from tests.forks import FORKS

pytestmark = pytest.mark.pictures

FAST = geo.OutputConfig(fsync=False)
FEW = geo.EvalData(max_examples=80, seq_len=16)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def largest_eigenvalue(model: nn.Module, loss_of: Callable[[], Tensor]) -> float:
    """By double backward and ARPACK."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        with sdpa_kernel(SDPBackend.MATH):
            slopes = torch.autograd.grad(loss_of(), parameters, create_graph=True)
            flat = torch.cat([slope.reshape(-1) for slope in slopes])
            along = flat @ torch.from_numpy(vector).to(flat)
            second = torch.autograd.grad(along, parameters)
        return np.asarray(torch.cat([part.reshape(-1) for part in second]).double().numpy())

    size = sum(parameter.numel() for parameter in parameters)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)
    return float(eigsh(operator, 1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)[0])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve short documents: too few for two halves, so that all are measured."""
    path = tmp_path_factory.mktemp("text") / "held.txt"
    words = " ".join(document.text for document in builtin_documents("held-out")).split()
    paragraphs = [" ".join(words[20 * i : 20 * i + 15]) for i in range(12)]
    path.write_text("\n\n".join(paragraphs))
    return path


@pytest.mark.slow
def test_a_llama_has_the_sharpness_that_transformers_own_loss_has(
    family: Path, text: Path, tmp_path: Path
) -> None:
    found = geo.sharpness(family / "base", tmp_path / "out", data=geo.EvalData(str(text)))
    model = AutoModelForCausalLM.from_pretrained(family / "base").eval()
    tokenizer = AutoTokenizer.from_pretrained(family / "base")
    rows = [tokenizer(line)["input_ids"] for line in text.read_text().split("\n\n")]

    def loss_of() -> Tensor:
        ids = [torch.tensor([row]) for row in rows]
        sums = [model(x, labels=x).loss * (x.shape[1] - 1) for x in ids]
        return torch.stack(sums).sum() / sum(len(row) - 1 for row in rows)

    (entry,) = found.measurements.sharpness
    assert entry.slope.examples == entry.slope.documents == 12
    assert entry.slope.tokens == sum(len(row) - 1 for row in rows)
    assert entry.slope.loss == pytest.approx(loss_of().item(), rel=1e-5)
    largest = entry.extremes.largest
    assert largest.converged
    assert largest.value == pytest.approx(largest_eigenvalue(model, loss_of), rel=3e-3)
    slopes = torch.autograd.grad(loss_of(), list(model.parameters()))
    norm = torch.cat([slope.reshape(-1) for slope in slopes]).double().norm()
    assert entry.slope.gradient_norm == pytest.approx(norm.item(), rel=1e-4)
    before = loss_of().item()
    with torch.no_grad():
        for parameter, slope in zip(model.parameters(), slopes, strict=True):
            parameter.add_(slope, alpha=0.05 / norm.item())
    assert entry.sam_sharpness == pytest.approx(loss_of().item() - before, rel=1e-3)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert Report.model_validate(written) == found.report
    assert not (tmp_path / "out" / "figures").exists()  # nothing to compare it with


@pytest.fixture(scope="module")
def merged(small: Path, tmp_path_factory: pytest.TempPathFactory) -> geo.Result:
    folder = tmp_path_factory.mktemp("merged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        models = [small / name for name in "ab"]
        return geo.soup(models, folder / "out", output=FAST, data=FEW)


@pytest.mark.slow
def test_every_merge_ends_with_the_sharpness_of_parents_and_output(
    merged: geo.Result,
) -> None:
    entries = merged.measurements.sharpness
    assert [entry.role for entry in entries] == ["parent", "parent", "output"]
    assert len({(e.slope.examples, e.slope.tokens, e.slope.documents) for e in entries}) == 1
    for entry in entries:
        assert entry.level == "quick"
        assert entry.extremes.largest.residual >= 0
        assert entry.extremes.largest.half is not None
        assert entry.extremes.steps <= 12
        assert 0 < entry.gradients <= 40
        assert entry.trace is entry.spectrum is entry.ascent is None
    assert not any(item.what == "sharpness" for item in merged.report.not_measured)


def test_output_holds_picture_and_card(merged: geo.Result) -> None:
    assert merged.out is not None
    assert (merged.out / "figures" / "sharpness.png").stat().st_size > 5000
    card = (merged.out / "README.md").read_text()
    assert "λ" in card  # the headline tells how sharp it is
    assert "Dinh 2017" in (merged.out / "report.html").read_text()


@pytest.mark.slow
def test_what_is_unchanged_is_not_measured_twice(
    merged: geo.Result, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert merged.out is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(merged.out.parent / "cache"))
    again = geo.soup([small / name for name in "ab"], tmp_path / "out", output=FAST, data=FEW)
    assert [entry.gradients for entry in again.measurements.sharpness] == [0, 0, 0]
    assert numbers(again.measurements.sharpness) == numbers(merged.measurements.sharpness)


def numbers(entries: list[SharpnessEntry]) -> list[dict[str, object]]:
    return [entry.model_dump(exclude={"gradients"}) for entry in entries]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network on digits, briefly trained: 1,210 parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    images, labels = digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:640] / 16, dtype=torch.float32), torch.tensor(labels[:640])


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def batches(count: int = 10) -> geo.FunctionObjective:
    images, labels = digits()
    return geo.FunctionObjective(
        losses_of, list(zip(images.chunk(count), labels.chunk(count), strict=True))
    )


def dense_hessian(model: nn.Module) -> Tensor:
    """Of the mean loss on all batches, in float64."""
    images, labels = digits()
    shapes = {name: p.shape for name, p in model.named_parameters()}
    flat = torch.cat([p.detach().double().reshape(-1) for p in model.parameters()])

    def loss_of(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        own = {n: x.view(s) for (n, s), x in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(
            torch.func.functional_call(model, own, images.double()), labels
        )

    return torch.func.hessian(loss_of)(flat)


@pytest.mark.slow
def test_full_level_of_a_module_in_memory_agrees_with_its_dense_hessian(
    network: nn.Module, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = [parameter.clone() for parameter in network.parameters()]
    (entry,) = geo.sharpness(network, out, data=batches(), level="full").measurements.sharpness
    values = torch.linalg.eigvalsh(dense_hessian(network)).numpy()
    extremes, trace, spectrum = entry.extremes, entry.trace, entry.spectrum
    assert extremes.method == "exact"
    assert extremes.largest.value == pytest.approx(values[-1], rel=1e-4)
    assert extremes.smallest is not None
    assert abs(extremes.smallest.value - values[0]) <= extremes.smallest.residual + 1e-4
    assert trace is not None
    assert abs(trace.value - values.sum()) <= 4 * trace.standard_error + 1e-3 * values.sum()
    assert spectrum is not None
    shares = np.searchsorted(values, spectrum.eigenvalues, side="right") / len(values)
    assert np.abs(shares - spectrum.cumulative).mean() < 0.03
    negative = spectrum.negative
    assert negative is not None
    assert negative.tau == pytest.approx(1e-3 * extremes.largest.value)
    assert negative.share == pytest.approx((values < -negative.tau).mean(), abs=0.03)
    assert negative.low <= negative.share <= negative.high
    assert entry.sam_sharpness is not None
    assert entry.slope.one_step is not None
    assert entry.sam_sharpness >= entry.slope.one_step
    assert entry.ascent is not None
    assert entry.ascent.adaptive_error is not None
    assert entry.gradients <= gradients_of(LEVELS["full"])
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert (out / "figures" / "spectrum.png").stat().st_size > 5000


def test_too_few_examples_do_not_tell_that_training_is_over(network: nn.Module) -> None:
    """On few images the gradient is noise; on many, one step down it gains less than 2 %."""
    images, labels = digits()

    def told(count: int) -> tuple[str, str]:
        rows = slice(0, count)
        pairs = zip(images[rows].chunk(8), labels[rows].chunk(8), strict=True)
        (entry,) = geo.sharpness(
            network, data=geo.FunctionObjective(losses_of, list(pairs))
        ).measurements.sharpness
        least, loss = entry.stationarity.detectable, entry.slope.loss
        assert least is not None
        assert (least > 0.02 * loss) == (count < 64)
        return entry.stationarity.kind, entry.stationarity.sentence

    kind, words = told(16)
    assert kind == "cannot tell"
    assert re.search(
        r"^cannot tell whether .* only a gain of [\d.]+ \([\d.]+ % of the loss\) or", words
    )
    assert "does not lower the loss" not in words
    kind, words = told(640)
    assert kind == "not measured"
    assert words.startswith("one step down the gradient does not lower the loss significantly")


@pytest.mark.slow
def test_the_printed_error_of_an_eigenvalue_is_that_of_the_sample(network: nn.Module) -> None:
    (entry,) = geo.sharpness(network, data=batches(8), level="full").measurements.sharpness
    for found in (entry.extremes.largest, entry.extremes.smallest):
        assert found is not None
        assert found.sampling is not None
        assert found.error is not None
        assert found.sampling.value == pytest.approx(found.value, rel=1e-2, abs=1e-2)
        assert found.uncertainty == max(found.error, found.residual)
    largest = entry.extremes.largest
    assert largest.error > 10 * largest.residual
    assert f"± {largest.error:.2g}" in sharpness_table([entry]).rows[0][1]


def test_an_output_is_paired_with_its_parents(network: nn.Module) -> None:
    other = deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    found = geo.soup([network, other], weights=[0.9, 0.1], data=batches(), sharpness="quick")
    first, second, output = found.measurements.sharpness
    assert [entry.model for entry in output.against] == [first.model, second.model]
    assert first.against == []
    for difference, parent in zip(output.against, (first, second), strict=True):
        own, one = output.extremes.largest, parent.extremes.largest
        assert difference.value == pytest.approx(own.value - one.value)
        assert difference.low is not None
        assert difference.detectable is not None
        half = difference.value - difference.low
        assert half < 1.97 * np.hypot(own.error, one.error) + own.residual + one.residual
        assert difference.detectable > half
    near = output.against[0]
    assert near.low is not None
    apart = 1.97 * np.hypot(output.extremes.largest.error, first.extremes.largest.error)
    assert near.value - near.low < apart / 2, "what the images share is taken out"


def test_half_precision_is_measured_in_float32(network: nn.Module) -> None:
    half = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).to(torch.bfloat16)
    half.load_state_dict(network.state_dict())
    wide = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    wide.load_state_dict(half.state_dict())
    found = [
        geo.sharpness(model, data=batches()).measurements.sharpness[0] for model in (half, wide)
    ]
    assert found[0].slope.dtype == "float32"
    assert numbers(found[:1]) == numbers(found[1:])


def test_a_model_that_is_not_kept_is_measured_once(network: nn.Module) -> None:
    gradients = 0

    def counted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal gradients
        gradients += torch.is_grad_enabled()
        return losses_of(model, batch)

    data = geo.FunctionObjective(counted, batches().loader)
    (entry,) = geo.sharpness(network, data=data).measurements.sharpness
    timing = 3
    assert gradients - timing <= entry.gradients * len(batches().loader)


class Stop:
    """Interrupts when a phase has gone so far; counts what was done."""

    def __init__(self, after: float) -> None:
        self.left = after

    def phase(self, title: str, total: int) -> None:
        """Of no interest."""

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left < 0 and count > 0 and self.left + count >= 0:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        """Of no interest."""


@pytest.mark.slow
def test_an_interrupted_measurement_goes_on(
    small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that were finished are kept; the numbers are those of a run in one go."""
    short = replace(
        LEVELS["full"], steps=4, half_steps=2, trace_products=4, probes=2, probe_steps=3,
        ascent_steps=2, draws=2,
    )  # fmt: skip
    monkeypatch.setitem(LEVELS, "full", short)
    data, model = geo.EvalData(str(text)), small / "b"
    pieces = 6  # twelve examples, two at a time
    with pytest.raises(KeyboardInterrupt):
        geo.sharpness(model, data=data, level="full", progress=Stop(after=60 * pieces))
    (resumed,) = geo.sharpness(model, data=data, level="full").measurements.sharpness
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    (whole,) = geo.sharpness(model, data=data, level="full").measurements.sharpness
    assert 0 < resumed.gradients < whole.gradients / 2
    assert numbers([resumed]) == numbers([whole])


def next_token_losses(model: nn.Module, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)


@pytest.mark.slow
def test_models_of_unlike_vocabularies_are_measured_as_a_union_writes_them(tmp_path: Path) -> None:
    save(tmp_path / "base", tokenizer(), seed=0)
    save(tmp_path / "chat", tokenizer(["<|im_end|>"]), seed=1)
    models, union = [tmp_path / "base", tmp_path / "chat"], geo.ReshapeConfig("union")
    written = [tmp_path / "first", tmp_path / "second"]
    for out, weights in zip(written, ([1.0, 0.0], [0.0, 1.0]), strict=True):
        geo.soup(models, out, weights=weights, data=None, reshape=union, sharpness="off",
                 output=FAST)  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randint(281, (2, 8), generator=draw) for _ in range(4)]
    data = geo.FunctionObjective(next_token_losses, batches)
    view = geo.LandscapeConfig(grid=3)
    found = []
    for ones, wished in ((models, union), (written, geo.ReshapeConfig())):
        sharp = geo.sharpness(ones, data=data, reshape=wished).measurements.sharpness
        drawn = geo.landscape(ones, data=data, view=view, reshape=wished).measurements.losses
        found.append([*(e.extremes.largest.value for e in sharp), *(e.loss for e in drawn)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.slow
def test_two_gloo_processes_agree_with_one(small: Path, text: Path, tmp_path: Path) -> None:
    words = ["sharpness", str(small / "a"), "--json", "--data", str(text)]
    done = FORKS.together(
        ["-m", "mergekit_geo", *words], tmp_path, XDG_CACHE_HOME=str(tmp_path / "two")
    )
    assert done.returncode == 0, done.stderr
    (two,) = Report.model_validate_json(done.stdout).result.sharpness
    (one,) = geo.sharpness(small / "a", data=geo.EvalData(str(text))).measurements.sharpness
    assert one.slope.loss == pytest.approx(two.slope.loss, rel=1e-6)
    assert one.extremes.largest.value == pytest.approx(two.extremes.largest.value, rel=1e-3)
    assert one.slope.gradient_norm == pytest.approx(two.slope.gradient_norm, rel=1e-4)


def invoke(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.slow
def test_table_and_caveats_on_the_shell(small: Path, text: Path) -> None:
    code, out, _ = invoke("sharpness", small / "a", small / "b", "--data", text)
    assert code == 0
    assert "λ_max" in out
    assert "12 examples, 12 documents, float32, finite differences" in out
    assert out.count("note: ") >= 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rho", "0"], "rho: expected a positive number, found 0"),
        (["--rho", "-1"], "rho: expected a positive number, found -1"),
        (["--max-examples", "5"], "sharpness needs at least 8 examples, found 5"),
        (["--budget", "1e-5"], r"would take .* are left \(--budget 0 sets no limit"),
        (["-o", "."], "the output exists"),
    ],
)
def test_bad_input(family: Path, words: list[str], message: str) -> None:
    code, _, stderr = invoke("sharpness", family / "a", *words)
    assert code == 1
    assert re.search(message, " ".join(stderr.split())), stderr


def test_unknown_level(family: Path) -> None:
    with pytest.raises(ArgumentError, match="level 'loud': expected one of quick, full"):
        geo.sharpness(family / "a", level="loud")
    assert invoke("sharpness", family / "a", "--level", "loud")[0] == 2


def test_no_models() -> None:
    with pytest.raises(ArgumentError, match="no models to measure"):
        geo.sharpness([])


def test_nothing_trainable(network: nn.Module) -> None:
    frozen = nn.Sequential(nn.Linear(64, 10)).requires_grad_(False)
    with pytest.raises(ArgumentError, match="no trainable parameter"):
        geo.sharpness(frozen, data=batches())


def test_loss_that_is_not_a_number(network: nn.Module) -> None:
    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return losses_of(model, batch) * torch.nan

    with pytest.raises(DataError, match="the loss is not a number"):
        geo.sharpness(network, data=geo.FunctionObjective(broken, batches().loader))


def test_a_failure_loses_no_weights(family: Path, tmp_path: Path) -> None:
    """Five examples are enough for losses and too few for sharpness."""
    models = [family / name for name in "ab"]
    data = geo.EvalData(max_examples=5, seq_len=16)
    found = geo.soup(models, tmp_path / "out", output=FAST, data=data)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    (missing,) = [item for item in found.report.not_measured if item.what == "sharpness"]
    assert "at least 8 examples, found 5" in missing.why
    assert missing.command.startswith("geo-merge sharpness ")
    assert missing.command.endswith("--max-examples=5 --seq-len=16 --budget=0")


def test_turned_off(family: Path, tmp_path: Path) -> None:
    models = [family / name for name in "ab"]
    found = geo.soup(models, output=FAST, data=FEW, sharpness="off")
    assert found.measurements.sharpness == []
    assert "turned off" in next(
        item.why for item in found.report.not_measured if item.what == "sharpness"
    )
