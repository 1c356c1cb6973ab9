"""Gram matrices against sums over activations that are kept whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from mergekit_geo.activations.grams import Gathering, Grams
from mergekit_geo.activations.layers import LinearLayer, linear_layers
from mergekit_geo.activations.spool import Spool
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.errors import ChangedError, DataError, DiskFullError, UnsupportedError

DOWN = "model.layers.0.mlp.down_proj.weight"

Batch = Callable[[nn.Module], object]


def llama(*, tied: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
        )
    ).eval()  # fmt: skip


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    ).eval()


def texts(lengths: Sequence[int], size: int) -> list[Batch]:
    """Batches of random tokens of these lengths, padded on the right."""
    draw = torch.Generator().manual_seed(1)
    rows = [torch.randint(32, (length,), generator=draw) for length in lengths]
    return [batch(rows[i : i + size]) for i in range(0, len(rows), size)]


def batch(rows: Sequence[Tensor]) -> Batch:
    ids = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = torch.tensor([[i < len(row) for i in range(ids.shape[1])] for row in rows]).long()
    return lambda model: model(input_ids=ids, attention_mask=mask)


@pytest.fixture
def spool(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Spool]]:
    made: list[Spool] = []

    def make(name: str = "") -> Spool:
        made.append(Spool(f"{request.node.name[:40]} {name}".replace("/", " ")))
        return made[-1]

    yield make
    for one in made:
        one.clear()


def layers_of(model: nn.Module) -> tuple[LinearLayer, ...]:
    return linear_layers(model, open_checkpoints([model])[0])


def gather(model: nn.Module, batches: Sequence[Batch], spool: Spool) -> Grams:
    first = batches[0] if batches else model
    return Gathering(model, layers_of(model), batches, [1] * len(batches), first, spool).gathered()


def naive(model: nn.Module, layer: LinearLayer, batches: Sequence[Batch]) -> Tensor:
    """The mean of x xᵀ over activations that are kept whole, in float64, one text at a time."""
    seen: list[Tensor] = []
    hooks = [
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, given: seen.append(given[0].reshape(-1, layer.width).double())
        )
        for path in layer.modules
    ]
    with torch.no_grad():
        for one in batches:
            one(model)
    for hook in hooks:
        hook.remove()
    rows = torch.cat(seen)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_grams_are_sums_over_positions_without_padding(
    make: Callable[[], nn.Module], spool: Callable[..., Spool]
) -> None:
    model, lengths = make(), [9, 7, 7, 3, 2]
    found = gather(model, texts(lengths, 2), spool())
    for layer in layers_of(model):
        expected = naive(model, layer, texts(lengths, 1))
        assert found.rows[layer.weight] == sum(lengths)
        torch.testing.assert_close(
            found.of(layer.weight).double(), expected, rtol=2e-5, atol=2e-6 * float(expected.max())
        )


def test_batches_and_their_order_change_rounding_alone(spool: Callable[..., Spool]) -> None:
    model, lengths = llama(), [9, 7, 7, 3, 2, 2]
    first = gather(model, texts(lengths, 3), spool("a"))
    second = gather(model, list(reversed(texts(lengths, 2))), spool("b"))
    for weight in first.files:
        torch.testing.assert_close(first.of(weight), second.of(weight), rtol=1e-5, atol=1e-5)


def test_layers_of_a_tied_llama_and_of_gpt2() -> None:
    named = {layer.weight: layer for layer in layers_of(llama())}
    assert "model.embed_tokens.weight" not in named, "the head is the table of embeddings, too"
    assert named["model.layers.1.mlp.down_proj.weight"].modules == ("model.layers.1.mlp.down_proj",)
    assert named["model.layers.1.mlp.down_proj.weight"].width == 12
    turned = {layer.weight: layer for layer in layers_of(gpt2())}
    assert turned["transformer.h.0.mlp.c_proj.weight"].by_column
    assert turned["transformer.h.0.mlp.c_proj.weight"].width == 32
    assert "transformer.wte.weight" not in turned
    untied = layers_of(llama(tied=False))[-1]
    assert (untied.weight, untied.modules) == ("lm_head.weight", ("lm_head",))


class Shared(nn.Module):
    """A layer that is called twice, and two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(5, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(self.first(x)))
        return found


def test_calls_of_one_weight_are_summed(spool: Callable[..., Spool]) -> None:
    model, draw = Shared().eval(), torch.Generator().manual_seed(0)
    inputs = [torch.randn(4, 3, generator=draw) for _ in range(3)]
    found = gather(model, [lambda m, x=x: m(x) for x in inputs], spool())  # type: ignore[misc]
    (layer, _) = layers_of(model)
    expected = naive(model, layer, [lambda m, x=x: m(x) for x in inputs])  # type: ignore[misc]
    assert set(found.files) == {"first.weight"}, "a layer that is never called has none"
    assert found.rows["first.weight"] == 3 * 3 * 4
    torch.testing.assert_close(found.of("first.weight").double(), expected, rtol=1e-5, atol=1e-6)


def test_layers_that_are_given_one_activation_share_a_file(spool: Callable[..., Spool]) -> None:
    found = gather(llama(), texts([4, 4], 2), spool())
    attention = "model.layers.0.self_attn.{}_proj.weight"
    files = {found.files[attention.format(name)] for name in "qkv"}
    assert len(files) == 1
    assert found.files[attention.format("o")] not in files
    assert len(list(found.spool.folder.glob("*.safetensors"))) == 2 * 4


class Parting(nn.Module):
    """Two layers that are given one activation by the first batch, and two by the others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.a(x) + self.b(x if float(x.sum()) == 0 else x + 1)
        return found


def test_layers_that_cease_to_share_are_told_apart(spool: Callable[..., Spool]) -> None:
    inputs = [torch.zeros(2, 2), torch.ones(2, 2)]
    found = gather(Parting(), [lambda m, x=x: m(x) for x in inputs], spool())  # type: ignore[misc]
    torch.testing.assert_close(found.of("a.weight"), torch.full((2, 2), 0.5))
    torch.testing.assert_close(found.of("b.weight"), torch.full((2, 2), 2.0))


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 5, 9, 16])
def test_a_killed_pass_goes_on_to_the_same_bytes(
    calls: int, spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = llama(), texts([5, 5, 4, 4], 2)
    whole, killed = spool("whole"), spool("killed")
    gather(model, batches, whole)
    write, count = killed.write, 0

    def fails(*given: object) -> None:
        nonlocal count
        count += 1
        if count == calls:
            raise _KilledError
        write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(killed, "write", fails)
    with pytest.raises(_KilledError):
        gather(model, batches, killed)
    assert Grams.kept(killed) is None
    monkeypatch.undo()
    gather(model, batches, killed)
    files = sorted(path.name for path in whole.folder.iterdir())
    assert files == sorted(path.name for path in killed.folder.iterdir())
    for name in files:
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()


def test_finished_grams_are_taken_up_and_damaged_ones_refused(spool: Callable[..., Spool]) -> None:
    model, batches = llama(), texts([5, 5], 2)
    made = gather(model, batches, spool())
    again = Grams.kept(spool())
    assert again is not None
    assert again == replace(made, spool=again.spool)
    path = made.spool.folder / made.files[DOWN]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChangedError, match="was removed or changed while it was in use"):
        again.of(DOWN)


def test_damaged_sums_are_started_over(spool: Callable[..., Spool]) -> None:
    model, batches = llama(), texts([5, 5, 4], 1)
    whole = gather(model, batches, spool("whole"))
    gather(model, batches[:1], spool("part"))
    part = spool("part")
    part.note({**part.state(), "of": 3})
    (part.folder / "00000.safetensors").write_bytes(b"")
    found = gather(model, batches, part)
    for weight in whole.files:
        assert torch.equal(found.of(weight), whole.of(weight))


def test_what_cannot_be_gathered(
    spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = nn.Sequential(nn.LayerNorm(3), nn.Conv2d(1, 1, 1))
    with pytest.raises(UnsupportedError, match="no linear layers"):
        layers_of(norms)
    with pytest.raises(DataError, match="no examples to make Gram matrices of"):
        gather(llama(), [], spool())
    with pytest.raises(DataError, match="no linear layer was called"):
        gather(Shared(), [lambda model: None], spool())
    usage = "mergekit_geo.activations.spool.shutil.disk_usage"
    monkeypatch.setattr(usage, lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(DiskFullError, match=r"need 0\.\d+ MB, 0\.000 MB are free"):
        gather(llama(), texts([5], 1), spool())


def test_a_budget_holds_fewer_batches_and_says_so(spool: Callable[..., Spool]) -> None:
    model, batches, said = llama(), texts([4] * 5, 1), list[str]()
    found = Gathering(
        model, layers_of(model), batches, [4] * 5, batches[0], spool(), left=lambda: 0.0,
        warn=said.append,
    ).gathered()  # fmt: skip
    assert set(found.rows.values()) == {8}, "the second tells what all of them would take"
    assert said == [
        "the Gram matrices of the model are made of 2 of 5 batches to stay within the budget; "
        "--budget 0 takes all"
    ]
    assert Grams.kept(spool()) is not None
