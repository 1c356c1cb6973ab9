"""A blend in a running module is what would be written, wherever it is put."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import ArgumentError, UnsupportedError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.sphere import Slerp
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.methods import rule_of
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.batch_norm import batch_norms, reestimate
from mergekit_geo.modules.blend import InPlace, Reloading
from mergekit_geo.modules.held import held_copy, hold
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import open_live, open_module

CPU = Compute(device="cpu")


def anchors_of(*folders: Path) -> tuple[Checkpoint, ...]:
    return tuple(held_copy(open_checkpoint(folder)) for folder in folders)


def merged(blend: Blend) -> dict[str, torch.Tensor]:
    sink = MemorySink(blend)
    stream(blend, sink)
    return sink.state


@pytest.mark.parametrize("rule", [Linear((0.3, 0.7)), Slerp(0.3)], ids=lambda rule: rule.name)
@pytest.mark.parametrize("dtype", [None, "BF16"])
def test_live_weights_are_the_written_ones(
    family: Path, rule: Linear | Slerp, dtype: str | None
) -> None:
    blend = Blend(anchors_of(family / "a", family / "b"), rule, dtype)
    live = open_live(blend, CPU)
    assert isinstance(live, InPlace)
    live.put(blend)
    state = live.model.state_dict()
    for name, tensor in merged(blend).items():
        assert state[name].equal(tensor.to(state[name].dtype)), name


def test_trials_in_a_row_are_the_written_ones(family: Path) -> None:
    """Masks and inner products of one trial serve the next."""
    anchors = anchors_of(family / "a", family / "b")
    live = open_live(Blend(anchors[:1], Linear((1.0,))), CPU, anchors)
    state = live.model.state_dict()
    for method, weight, density in [
        ("ties", 0.5, 0.3), ("ties", 0.8, 0.3), ("della", 0.5, 0.4), ("ties", -0.2, 0.7),
        ("dare_linear", 0.5, 0.3), ("dare_linear", 0.9, 0.3), ("ties", 1.0, 0.3),
    ]:  # fmt: skip
        rule = rule_of(method, 2, 0, weights=weight, density=density)
        blend = Blend(anchors, rule)
        live.put(blend)
        for name, tensor in merged(blend).items():
            assert state[name].equal(tensor), (method, name)


def test_moving_keeps_the_module_s_memory_and_its_ties(family: Path) -> None:
    anchors = anchors_of(family / "a", family / "b")
    live = open_live(Blend(anchors, Linear((1.0, 0.0))), CPU)
    places = [parameter.data_ptr() for parameter in live.model.parameters()]
    live.put(Blend(anchors, Linear((0.0, 1.0))))
    assert [parameter.data_ptr() for parameter in live.model.parameters()] == places
    other = load_model(family / "b", CPU)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert live.model(input_ids=ids).logits.equal(other(input_ids=ids).logits)


def test_old_names_are_found_in_the_module(tmp_path: Path) -> None:
    """GPT-2's first checkpoints lack the prefix, and hold masks that no module has."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16))
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    old["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    blend = Blend(anchors_of(tmp_path), Linear((2.0,)))
    live = open_live(blend, CPU)
    assert isinstance(live, InPlace)
    live.put(blend)
    own = live.model.state_dict()["transformer.wte.weight"]
    assert own.equal(2 * model.transformer.wte.weight)


def test_fused_experts_are_loaded_anew(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    model.save_pretrained(tmp_path)
    blend = Blend(anchors_of(tmp_path), Linear((1.0,)))
    live = open_live(blend, CPU)
    assert isinstance(live, Reloading)
    live.put(blend)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            live.model(input_ids=ids).logits, model.eval()(input_ids=ids).logits
        )


def test_modules_are_copied_and_state_dicts_refused() -> None:
    module = nn.Linear(2, 2)
    checkpoint = open_checkpoint(module)
    copy = open_module(checkpoint, CPU)
    assert copy is not module
    assert copy.weight.equal(module.weight)  # type: ignore[union-attr, operator]
    with pytest.raises(UnsupportedError, match="without a configuration cannot be run"):
        open_module(of_state({"w": torch.ones(2)}, "state"), CPU)


def test_anchors_are_held_if_small_or_asked_for(family: Path) -> None:
    plain = [open_checkpoint(family / "a")]
    assert hold(plain)[0].in_memory
    assert hold(plain, "off")[0] is plain[0]
    with pytest.raises(ArgumentError, match="expected one of auto, on, off"):
        hold(plain, "maybe")
    held = hold(plain, "on")[0]
    assert held.fingerprint() == plain[0].fingerprint()
    sums = [merged(Blend((anchor,), Linear((1.0,)))) for anchor in (plain[0], held)]
    assert all(sums[0][name].equal(sums[1][name]) for name in sums[0])


def test_batch_norm_statistics_are_the_plain_average() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    batches = [torch.randn(16, 3) + i for i in range(3)]
    assert reestimate(model, batches, lambda module, batch: module(batch)) == 3
    (layer,) = batch_norms(model)
    with torch.no_grad():
        means = torch.stack([model[0](batch).mean(dim=0) for batch in batches])
        spread = torch.stack([model[0](batch).var(dim=0) for batch in batches])
    torch.testing.assert_close(layer.running_mean, means.mean(dim=0))
    torch.testing.assert_close(layer.running_var, spread.mean(dim=0))
    assert not layer.training
    assert layer.momentum == 0.1
