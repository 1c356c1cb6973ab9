"""Settings of fine-tuning: what is refused, and what follows from them."""

from typing import Any

import pytest

from mergekit_geo.config.training import TrainingConfig
from mergekit_geo.errors import ArgumentError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer 'lion': expected one of adamw, sgd"),
        ({"epochs": 1.0, "steps": 2}, "epochs and steps are both given"),
        ({"steps": 0}, "steps must be at least 1, found 0"),
        ({"batch_size": 0}, "batch-size must be at least 1, found 0"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"lora_rank": 0}, "lora-rank must be at least 1"),
        ({"save_every": 0}, "save-every must be at least 1"),
        ({"epochs": 0.0}, "epochs must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning-rate must be a number above 0, found nan"),
        ({"learning_rate": -1.0}, "learning-rate must be a number above 0, found -1"),
        ({"weight_decay": -0.1}, "weight-decay must be at least 0"),
        ({"clip": float("nan")}, "clip must be at least 0, found nan"),
        ({"warmup": 1.5}, "warmup is a share of the steps, found 1.5"),
    ],
)
def test_what_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (TrainingConfig(), 10),
        (TrainingConfig(epochs=2.5), 25),
        (TrainingConfig(epochs=0.01), 1),
        (TrainingConfig(steps=3, accumulation=7), 3),
        (TrainingConfig(accumulation=4), 3),
    ],
)
def test_steps_of_epochs(training: TrainingConfig, steps: int) -> None:
    assert training.steps_of(batches=10, processes=1) == steps
    assert TrainingConfig(epochs=2).steps_of(batches=10, processes=4) == 5


def test_the_rate_falls_with_the_size_of_the_model() -> None:
    assert TrainingConfig().rate(10**8) == pytest.approx(5e-5)
    assert TrainingConfig().rate(650) == 1e-3
    assert TrainingConfig(optimizer="sgd").rate(10**8) == pytest.approx(1.5e-3)
    assert TrainingConfig(lora_rank=4).rate(10**8) == pytest.approx(5e-4)
    assert TrainingConfig(learning_rate=0.3).rate(10**8) == 0.3
