"""Where the losses of a model by itself are kept, whatever command measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.settings import differing_settings
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.config.data import NO_DATA
from mergekit_geo.errors import GeoError
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.cache_key import cache_key

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.files.user_cache import Warn
    from mergekit_geo.tasks.losses import Losses

ITSELF = ""
"""The point at which a model's own losses are kept."""


@dataclass(frozen=True)
class OutputLosses:
    """What was measured of a model that is being written, for commands to come.

    Attributes:
        study: What it was measured on, and how.
        count: How many examples.
        losses: Of all of these.
    """

    study: Study
    count: int
    losses: Losses


def keep_losses(measured: Sequence[OutputLosses], folder: Path) -> None:
    """Keep the losses of an output, now that it stands where it stays.

    Args:
        measured: On each set.
        folder: Of the model.
    """
    try:
        model = open_folder(folder)
    except GeoError:  # it is there all the same, and can be measured again
        return
    for one in measured:
        cache = model_cache(replace(one.study, models=(model,)), model, lambda text: None)
        if cache is not None:
            cache.count = one.count
            cache.put(ITSELF, one.losses)


def model_cache(
    study: Study, model: Checkpoint, warn: Warn, statistics: Sequence[object] = ()
) -> LossCache | None:
    """Where the losses of one model are kept; None where its changes cannot be detected.

    What it is measured beside does not matter, unless the module it is measured in is configured
    otherwise than its own would be.

    Args:
        study: What it is measured on, and how; the first of its models configures the module.
        model: Its data is here.
        warn: Told of a cache that cannot be used.
        statistics: What its BatchNorm statistics are estimated on, where they are not its own.
    """
    if study.sample is None or model.folder is None:
        return None
    is_whole = not (model.reshaped or model.within or model.copied)
    own = original(model) if is_whole else model
    configured = differing_settings(study.models[0], own) if study.models else []
    key = cache_key(
        [own], study.sample, NO_DATA, study.compute, "by itself", study.seed, *statistics,
        *configured,
    )  # fmt: skip
    return LossCache(key, warn)
