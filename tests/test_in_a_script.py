"""geo in somebody's script: what it takes, what it leaves as it was, and how it is stopped."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from transformers import LlamaForCausalLM, logging

import mergekit_geo as geo
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.progress import Progress, Silent
from tests.checkpoints.hub_process import process, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Token
from tests.commands.trainings import FAST, rows, tiny

TOKEN = "hf_owner_7a8b"
STATES = (PartialState, AcceleratorState, GradientState)


def moved(seed: int) -> LlamaForCausalLM:
    """Near the others, in training mode."""
    model, draw = tiny(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)
    return model.train()


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float()
    targets = batch["labels"][:, 1:]
    return nn.functional.cross_entropy(logits.mT, targets, reduction="none").mean(1)


def objective() -> geo.FunctionObjective:
    found = rows(48, seed=7)
    batches = [found[i : i + 8] for i in range(0, 48, 8)]
    return geo.FunctionObjective(
        loss_of,
        [{k: torch.stack([row[k] for row in batch]) for k in batch[0]} for batch in batches],
    )


Work = Callable[[list[Any], Path, Progress], Any]


def merge(models: list[Any], out: Path, progress: Progress, **more: Any) -> geo.Result:
    common: dict[str, Any] = {"output": FAST, "data": objective(), "sharpness": "off"}
    return geo.soup(models, out, progress=progress, **{**common, **more})


def slerp(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    return geo.slerp(
        models[:2], out, output=FAST, data=objective(), sharpness="off", progress=progress
    )


def barrier(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    return geo.barrier(models[:2], out, data=objective(), progress=progress)


def sharpness(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    return geo.sharpness(models[0], out, data=objective(), progress=progress)


def landscape(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    view = geo.LandscapeConfig(grid=3)
    return geo.landscape(models, out, view=view, data=objective(), progress=progress)


def path(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    data = objective()
    fitting = geo.CurveFitConfig(steps=4)
    return geo.fit_path(
        models[:2], out, train_data=data, data=data, fitting=fitting, progress=progress
    )


def finetune(models: list[Any], out: Path, progress: Progress) -> geo.Result:
    data, base = objective(), out.parent / "base"  # memory cannot be told to be the same again
    if not base.exists():
        with quiet_transformers():
            models[0].save_pretrained(base)
    return geo.finetune(
        base, out, train_data=data, training=geo.TrainingConfig(steps=3), output=FAST, data=data,
        sharpness="off", resume=True, progress=progress,
    )  # fmt: skip


GREEDY = geo.SelectionConfig(method="greedy")
WORKS: dict[str, Work] = {
    "soup": merge, "greedy": partial(merge, choosing=GREEDY), "slerp": slerp, "barrier": barrier,
    "sharpness": sharpness, "landscape": landscape, "path": path, "finetune": finetune,
}  # fmt: skip


@pytest.fixture
def models() -> list[Any]:
    return [moved(seed) for seed in (1, 2, 3)]


@pytest.fixture
def accelerator(_own_cache: None) -> Iterator[Accelerator]:
    """Of a script that has settings of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing has been measured before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def surroundings(models: list[Any]) -> dict[str, Any]:
    """All of a script's that a call could change."""
    drawn = np.random.get_state()[1]
    return {
        "accelerate": [dict(kind._shared_state) for kind in STATES],
        "random": (torch.get_rng_state().tolist(), random.getstate(), np.asarray(drawn).tolist()),
        "threads": threading.active_count(),
        "transformers": (logging.get_verbosity(), logging.is_progress_bar_enabled()),
        "gradients": torch.is_grad_enabled(),
        "modes": [module.training for model in models for module in model.modules()],
        "grad": [p.grad is None and p.requires_grad for m in models for p in m.parameters()],
        "weights": [t.tolist() for model in models for t in model.state_dict().values()],
    }


class Stop(Silent):
    """Ctrl-C at the n-th thing that is told."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.told = at, 0

    def advance(self, count: int) -> None:
        self.told += 1
        if self.told == self.at:
            raise KeyboardInterrupt

    def phase(self, title: str, total: int) -> None:
        self.advance(0)

    def say(self, text: str) -> None:
        self.advance(0)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.slow
def test_a_script_is_as_it_was_and_can_stop_what_it_calls(
    name: str,
    models: list[Any],
    accelerator: Accelerator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    work, whole = WORKS[name], Stop()
    before = surroundings(models)
    first = work(models, tmp_path / "first", whole)
    assert surroundings(models) == before
    assert whole.told > 10
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    for at in (1, whole.told // 3, whole.told * 2 // 3):
        with pytest.raises(KeyboardInterrupt):
            work(models, tmp_path / "out", Stop(at))
        assert surroundings(models) == before
        assert not (tmp_path / "out").exists()
    again = work(models, tmp_path / "out", Silent())  # nothing is in its way
    assert type(again) is type(first)
    assert (tmp_path / "out" / "report.json").is_file()
    assert not (tmp_path / "out.partial").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.slow
def test_references_folders_modules_and_state_dicts_are_one(
    models: list[Any], tmp_path: Path
) -> None:
    folder, data = tmp_path / "a", objective()
    models[0].save_pretrained(folder)
    state = models[1].state_dict()
    results = [
        geo.barrier(pair, data=data).measurements.pairs[0]
        for pair in (models[:2], [folder, models[1]], [models[0], state], [str(folder), state],
                     [models[0].state_dict(), models[1]])
    ]  # fmt: skip
    for other in results[1:]:
        assert other.loss == results[0].loss
        assert other.barrier == results[0].barrier
    settings: dict[str, Any] = {"output": FAST, "data": data, "sharpness": "off"}
    soup = geo.soup([state, models[0]], tmp_path / "soup", **settings)
    expected = geo.soup([models[1], models[0]], **settings).measurements.losses
    assert soup.measurements.losses == expected
    LlamaForCausalLM.from_pretrained(tmp_path / "soup")
    with pytest.raises(geo.GeoError, match=r"a configuration cannot be run \(give the module"):
        geo.barrier([state, models[0].state_dict()], data=data)


@pytest.mark.slow
def test_a_prepared_or_compiled_module_is_the_module(
    models: list[Any], accelerator: Accelerator
) -> None:
    """Sharpness and losses under somebody's autocast would be noise."""
    data, plain = objective(), geo.sharpness(models[0], data=objective())
    expected = geo.barrier(models[:2], data=data).measurements.pairs[0].loss
    optimizer = torch.optim.SGD(models[0].parameters())
    prepared, _ = accelerator.prepare(models[0], optimizer)
    assert "forward" in vars(prepared), "accelerate has wrapped it"
    forward = prepared.forward
    compiled: Any = torch.compile(models[1], backend="eager")
    found = geo.barrier([prepared, compiled], data=data).measurements.pairs[0].loss
    assert found == expected
    assert geo.sharpness(prepared, data=data).measurements == plain.measurements
    assert prepared.forward == forward
    state = geo.soup([compiled, prepared], data=None).state
    assert state is not None
    assert state.keys() == models[1].state_dict().keys()


def test_the_hub_client_s_bars_are_not_printed_either(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code = (
        "import mergekit_geo as geo\n"
        "from mergekit_geo.progress import Silent\n"
        "class Told(Silent): pass\n"
        "geo.soup(['org/a', 'org/b'], 'out', data=None, progress=Told())\n"
        "geo.push('out', 'org/c', progress=Told())\n"
    )
    with serve_hub(tmp_path / "store") as hub:
        hub.tokens = {TOKEN: Token()}
        for seed, name in enumerate("ab"):
            tiny(seed).save_pretrained(tmp_path / name)
            hub.publish(f"org/{name}", tmp_path / name)
        done = succeeded(process(hub, tmp_path, "-c")(code, HF_TOKEN=TOKEN))
        assert "model.safetensors" in hub.files("org/c")
    assert (done.stdout, done.stderr) == ("", "")
