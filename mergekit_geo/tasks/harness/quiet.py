"""lm-evaluation-harness without its log, its progress bars and its draws from global generators."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import datasets
import lm_eval.api.task
import numpy as np
import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

from mergekit_geo.checkpoints.hub_client import bars_hidden
from mergekit_geo.modules.load import quiet_transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval, datasets and transformers; what task files print goes to stderr."""
    log = logging.getLogger("lm_eval")
    level, log.level = log.level, logging.CRITICAL
    bar, lm_eval.api.task.tqdm = lm_eval.api.task.tqdm, _no_bar
    try:
        with bars_hidden(datasets), quiet_transformers(), redirect_stdout(sys.stderr):
            yield
    finally:
        log.level, lm_eval.api.task.tqdm = level, bar


@contextmanager
def seeded() -> Iterator[None]:
    """Seed the global generators as `lm_eval.simple_evaluate` does, and put them back after."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _no_bar(steps: Iterable[Any], **options: Any) -> Iterable[Any]:
    return steps
