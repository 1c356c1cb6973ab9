"""Token ids as lm-evaluation-harness' own model wrapper makes them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM

from mergekit_geo.errors import DataError
from mergekit_geo.tasks.harness.quiet import quiet

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

    from mergekit_geo.checkpoints.checkpoint import Config

    Pair = tuple[list[int], list[int]]
    """Ids of a context, and of what follows it and counts."""


class Encoder(HFLM):  # type: ignore[misc]
    """lm-eval's wrapper of transformers' models, whose forward pass is left out.

    It cuts text as it does for a model, and hands out the ids that it would have run.

    Args:
        tokenizer: Of the models.
        config: Of the architecture, with transformers' defaults.
        max_length: Most tokens of an input; the model's context if None.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: Config, max_length: int | None
    ) -> None:
        with quiet():
            super().__init__(_Nowhere(config), tokenizer=tokenizer, max_length=max_length)
        self._caught: list[Pair] = []
        self._encode_once = lru_cache(maxsize=64)(self._encode_now)  # choices share a context

    @property
    def is_seq2seq(self) -> bool:
        """Whether contexts go to an encoder, and what follows them to a decoder."""
        return bool(self.backend == "seq2seq")

    def pairs(self, requests: Sequence[Instance]) -> list[Pair]:
        """Ids of each context and its continuation, in order.

        Raises:
            DataError: A continuation has no tokens.
        """
        self._caught = []
        try:
            self.loglikelihood(requests, disable_tqdm=True)
        except IndexError as error:  # a continuation without context and without tokens
            raise DataError("an answer of a question is empty") from error
        return self._caught

    def windows(self, request: Instance) -> list[Pair]:
        """The rolling windows of a text: each token counts once."""
        self._caught = []
        self.loglikelihood_rolling([request], disable_tqdm=True)
        return self._caught

    def on(self, model: Module, batch_size: int) -> HFLM:
        """The wrapper around a live module, for what it generates."""
        found = copy.copy(self)
        found._model, found._device = model, next(model.parameters()).device
        found.batch_size_per_gpu = batch_size
        return found

    def tok_encode(self, string: str, *more: Any, **options: Any) -> list[int]:
        """Ids of a text, which is cut once where it comes again."""
        return list(self._encode_once(string, more, tuple(sorted(options.items()))))

    def _encode_now(self, string: str, more: Any, options: Any) -> tuple[int, ...]:
        return tuple(super().tok_encode(string, *more, **dict(options)))

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        self._caught += [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)


class _Nowhere:
    """What lm-eval's wrapper asks of a model before it runs it."""

    def __init__(self, config: Config) -> None:
        self.config, self.device = _attributes(config), torch.device("cpu")


def _attributes(config: Config) -> SimpleNamespace:
    """A configuration by attribute, as that of its text model is.

    Example:
        >>> _attributes({"text_config": {"n_ctx": 8}}).text_config.n_ctx
        8
    """
    text = config.get("text_config")
    return SimpleNamespace(**{**config, "text_config": _attributes(text) if text else None})
