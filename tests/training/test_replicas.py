"""Two gloo processes: whose gradient is climbed, weights that stay the same, sharded weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.errors import ArgumentError
from mergekit_geo.training.sam import Sam
from tests.forks import FORKS
from tests.training import naive, two_processes
from tests.training.two_processes import PARTS, RHO, STEPS, micro_batch

pytestmark = pytest.mark.slow

Found = tuple[dict[str, Any], dict[str, Any]]
WORKER = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each rank found, in one launch for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    done = FORKS.together([str(WORKER), str(folder)], folder)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(folder / f"rank-{r}.pt", weights_only=False) for r in range(2))
    return first, second


def climbs(case: dict[str, Any]) -> list[Tensor]:
    """w + e of every step, in the whole weights."""
    return case["points"][PARTS :: 2 * PARTS]


@pytest.mark.parametrize(
    "case",
    ["per_replica", "synchronised", "dropout", "accelerated", "trainer_per_replica",
     "trainer_synchronised", "trainer_sharded"],
)  # fmt: skip
def test_weights_are_the_same_to_the_bit(found: Found, case: str) -> None:
    first, second = (rank[case] for rank in found)
    assert torch.equal(first["weights"], second["weights"])
    assert not torch.equal(first["weights"], first["points"][0])
    assert first["summary"] == second["summary"]
    assert first["summary"].backward_passes == 2 * PARTS * STEPS


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        ("per_replica", "per-replica"),
        ("accelerated", "per-replica"),
        ("synchronised", "synchronised"),
        ("sharded", "synchronised"),
        ("trainer_per_replica", "per-replica"),
        ("trainer_synchronised", "synchronised"),
        ("trainer_sharded", "synchronised"),
    ],
)
def test_whose_gradient_is_climbed(found: Found, case: str, mode: str) -> None:
    """Each process's own by default, one for all if synchronised; all micro-batches there."""
    first, second = (rank[case] for rank in found)
    assert first["summary"].mode == mode
    for here, there in zip(climbs(first), climbs(second), strict=True):
        assert torch.equal(here, there) == (mode == "synchronised")
    for step in range(STEPS):
        points = first["points"][2 * PARTS * step :][: 2 * PARTS]
        assert torch.equal(points[0], points[1])
        assert torch.equal(points[2], points[3])
        assert float((points[2] - points[0]).norm()) == pytest.approx(RHO, rel=1e-5)


def replica_loss(rank: int, step: int) -> naive.Loss:
    rows = [micro_batch(rank, step, part) for part in range(PARTS)]
    return lambda model: sum((two_processes.loss_of(model, row) for row in rows), torch.zeros(()))


def mean_loss(step: int) -> naive.Loss:
    losses = [replica_loss(rank, step) for rank in range(2)]
    return lambda model: (losses[0](model) + losses[1](model)) / 2


def sharp(model: nn.Module, step: int, mode: str, *, adaptive: bool) -> list[Tensor]:
    """The gradient that SAM steps by, in one process."""
    scales = naive.adaptive_scales(model) if adaptive else None
    if mode == "synchronised":
        return naive.sharp_gradient(model, mean_loss(step), RHO, scales)
    both = [naive.sharp_gradient(model, replica_loss(r, step), RHO, scales) for r in range(2)]
    return [(first + second) / 2 for first, second in zip(*both, strict=True)]


@pytest.mark.parametrize(
    "case",
    ["per_replica", "synchronised", "sharded", "synchronised_adaptive", "sharded_adaptive"],
)
def test_a_training_is_that_of_the_papers(found: Found, case: str) -> None:
    """With accumulation and clipping, under DDP and FSDP2, against one process without either."""
    ours, adaptive = found[1][case], case.endswith("adaptive")
    model = two_processes.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(STEPS):
        gradients = sharp(model, step, ours["summary"].mode, adaptive=adaptive)
        for parameter, gradient, mine in zip(
            model.parameters(), gradients, ours["gradients"][step], strict=True
        ):
            parameter.grad = gradient
            assert torch.allclose(mine, gradient, rtol=1e-9, atol=1e-11)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    assert torch.allclose(ours["weights"], two_processes.whole(model), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", ["momentum", "momentum_sharded"])
def test_momentum_is_that_of_the_paper(found: Found, case: str) -> None:
    """The gradient of the mean loss ahead, the same in all processes."""
    first, second = (rank[case] for rank in found)
    assert torch.equal(first["weights"], second["weights"])
    for here, there in zip(first["points"], second["points"], strict=True):
        assert torch.equal(here, there)
    ahead = partial(naive.ahead_gradient, rho=RHO, adaptive=case == "momentum_sharded")
    assert torch.allclose(first["weights"], whole_training(ahead, mean_loss), rtol=1e-8, atol=1e-10)
    assert (first["summary"].mode, first["summary"].ascents) == ("synchronised", STEPS - 1)
    assert first["summary"].backward_passes == PARTS * STEPS


@pytest.mark.parametrize("case", ["look_synchronised", "look_sharded"])
def test_look_is_that_of_the_paper(found: Found, case: str) -> None:
    look = naive.Look(rho=RHO, every=3, alpha=0.7)
    expected = whole_training(look.gradient, mean_loss)
    for rank in found:
        assert torch.allclose(rank[case]["weights"], expected, rtol=1e-8, atol=1e-10)
    assert found[0][case]["summary"].backward_passes == PARTS * (STEPS + STEPS // 3)


def test_look_climbs_by_each_one_s_gradient_and_uses_the_mean_again(found: Found) -> None:
    """g and g_s are the means over the processes, g_s of gradients at points of their own."""
    first, second = (rank["look"] for rank in found)
    assert torch.equal(first["weights"], second["weights"])
    assert first["summary"].mode == "per-replica"
    look = naive.Look(rho=RHO, every=3, alpha=0.7)

    def gradient(step: int, model: nn.Module, _: Any, loss: naive.Loss) -> list[Tensor]:
        plain = naive.gradient(model, loss)
        if step % look.every:
            return look.between(plain)
        steep = sharp(model, step, "per-replica", adaptive=False)
        look.keep(plain, steep)
        return steep

    expected = whole_training(gradient, mean_loss)
    assert torch.allclose(first["weights"], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("case", "same"), [("resumed", "look"), ("resumed_shards", "look_sharded")]
)
def test_a_state_that_is_restored_changes_no_bit(found: Found, case: str, same: str) -> None:
    for rank in found:
        assert torch.equal(rank[case]["weights"], rank[same]["weights"])
        assert rank[case]["summary"] == rank[same]["summary"]


def whole_training(
    gradient_of: Callable[..., list[Tensor]], loss_of: Callable[[int], naive.Loss]
) -> Tensor:
    """Weights after a training in one process."""
    model = two_processes.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(STEPS):
        found = gradient_of(step, model, optimizer, loss_of(step))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return two_processes.whole(model)


@pytest.mark.parametrize("name", ["{}", "{}_adaptive", "trainer_{}"])
def test_sharded_weights_train_as_replicated_ones(found: Found, name: str) -> None:
    replicated, sharded = (found[0][name.format(k)] for k in ("synchronised", "sharded"))
    assert torch.allclose(replicated["weights"], sharded["weights"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["spoilt", "spoilt_shards"])
def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_all(
    found: Found, case: str
) -> None:
    first, second = (rank[case] for rank in found)
    assert torch.equal(first["weights"], second["weights"])
    assert first["weights"].isfinite().all()
    assert first["summary"] == second["summary"]
    assert first["summary"].skipped == 1
    begins = first["points"][:: 2 * PARTS]  # the skipped step has no second pass
    assert len(first["points"]) == 2 * PARTS * STEPS - PARTS
    assert torch.equal(first["points"][4 * PARTS], first["points"][5 * PARTS])
    assert not torch.equal(begins[0], begins[1])


def test_an_overflow_in_one_process_is_skipped_in_all(found: Found) -> None:
    for rank in found:
        assert torch.equal(rank["overflow"]["weights"], rank["overflow"]["before"])
        assert rank["overflow"]["scale"] == 2.0**9


def test_a_bare_model_in_two_processes(found: Found) -> None:
    expected = "2 processes train, but the model is a bare Sequential"
    assert expected in found[0]["bare"]["error"]
    assert "SAM of what accelerator.prepare returned" in found[0]["bare"]["error"]


def test_a_static_graph_climbs_together(found: Found) -> None:
    first, second = (rank["static_graph"] for rank in found)
    assert "static_graph exchanges gradients from the first pass on" in first["refusal"]
    assert "ascent='synchronised'" in first["refusal"]
    assert first["mode"] == "synchronised"
    assert torch.equal(first["weights"], second["weights"])


def test_processes_that_know_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As accelerate leaves them on a machine without a GPU, unless it is told cpu=True."""
    told = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "29500"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    model = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match=r"2 processes train, .*Accelerator\(cpu=True\)"):
        Sam(model, torch.optim.SGD(model.parameters()))
