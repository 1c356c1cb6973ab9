"""Views of checkpoints in another shape are merged, measured and copied as models of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reading import Bytes, Read
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.view import view
from mergekit_geo.checkpoints.sources import original, pinned
from mergekit_geo.commands._merge import merge
from mergekit_geo.commands._run import Work, carry_out
from mergekit_geo.commands.request import Request
from mergekit_geo.config.measures import Compute
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.held import hold
from mergekit_geo.modules.open import open_live
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import SoupSpec

LAYERS = 1


def shortened(model: Checkpoint, frame: Frame) -> Checkpoint:
    """The model with its first layer alone, the first and the last swapped in it."""
    kept = {n: i for n, i in model.tensors.items() if ".layers." not in n or ".layers.0." in n}

    def reader(source: Checkpoint) -> Read:
        def read(name: str, start: int, stop: int, out: Bytes) -> None:
            source.read(name.replace(".layers.0.", ".layers.1."), start, stop, out)

        return read

    return view(model, kept, reader, frame, "layer 1 alone")


@pytest.fixture
def views(family: Path) -> list[Checkpoint]:
    models = [open_folder(family / name) for name in "ab"]
    frame = Frame(models[0], {**models[0].config, "num_hidden_layers": LAYERS})
    return [shortened(model, frame) for model in models]


def by_hand(family: Path) -> dict[str, torch.Tensor]:
    states = [load_file(family / name / "model.safetensors") for name in "ab"]
    mean = {name: (states[0][name] + states[1][name]) / 2 for name in states[0]}
    swapped = {
        n.replace(".layers.1.", ".layers.0."): t for n, t in mean.items() if ".layers.1." in n
    }
    return {**{n: t for n, t in mean.items() if ".layers." not in n}, **swapped}


def test_a_view_has_its_source_and_its_own_shape(views: list[Checkpoint], family: Path) -> None:
    assert pinned(views[0]) == str(family / "a")
    assert "layers.1" not in "".join(views[0].tensors)
    assert original(views[0]).config["num_hidden_layers"] > LAYERS
    assert views[0].fingerprint() != original(views[0]).fingerprint()
    assert views[0].folder is not None
    assert views[0].folder != family / "a"


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_view_is_a_module_that_moves(views: list[Checkpoint], family: Path, mode: str) -> None:
    anchors = hold(views, mode)
    live = open_live(Blend(anchors, Linear((1.0, 0.0))), Compute())
    live.put(Blend(anchors, Linear((0.5, 0.5))))
    assert len(live.model.model.layers) == LAYERS  # type: ignore[union-attr, arg-type]
    state = live.model.state_dict()
    for name, tensor in by_hand(family).items():
        assert torch.allclose(state[name], tensor, atol=1e-6), name


def test_a_merge_of_views_is_a_model_of_their_shape(
    views: list[Checkpoint], family: Path, tmp_path: Path
) -> None:
    asked = SoupSpec(["a", "b"], tmp_path / "out", data=None)
    request = Request(asked, Selector(Linear((0.5, 0.5))), {})
    carry_out(Work(asked, lambda output: merge(views, request, output), MERGED, views))
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    for name, tensor in by_hand(family).items():
        assert torch.allclose(model.state_dict()[name], tensor, atol=1e-6), name
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["num_hidden_layers"] == LAYERS
    assert (tmp_path / "out/tokenizer.json").is_file()


def test_the_frame_is_gone_with_its_views(family: Path) -> None:
    model = open_folder(family / "a")
    found = shortened(model, Frame(model, model.config))
    folder = found.folder
    assert folder is not None
    assert (folder / "tokenizer.json").is_file()
    del found
    assert not folder.exists()


def test_a_model_in_memory_has_a_frame_without_a_folder() -> None:
    found = of_state({"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}, "m")
    first = view(found, {"w": TensorInfo("F32", (1, 2))}, lambda one: one.read, Frame(found, {}), 1)
    data = np.empty(8, np.uint8)
    first.read("w", 0, 2, data)
    assert data.view(np.float32).tolist() == [1.0, 2.0]
    assert first.folder is None
