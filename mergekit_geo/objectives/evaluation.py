"""Several models on the same examples, within a budget told in advance."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.errors import DataError
from mergekit_geo.objectives.causal_lm import Losses, default_batch_size, measure
from mergekit_geo.objectives.models import load_model, load_tokenizer
from mergekit_geo.objectives.settings import Compute, EvalData
from mergekit_geo.objectives.text import Document, digest
from mergekit_geo.objectives.windows import cut_windows, sample
from mergekit_geo.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    Source = Path | tuple[Config, Mapping[str, Tensor]]

DEFAULT_CONTEXT = 512


@dataclass(frozen=True)
class Evaluation:
    """Losses of several models on the same examples.

    Attributes:
        losses: Per model, in the order measured.
        examples: How many windows were measured, and `available` how many there were.
        tokens: How many tokens were predicted per model.
        documents: How many documents they are from.
        seq_len: Tokens in a full window.
        data_digest: SHA-256 of the documents.
        device: Where the models ran.
        dtype: Of the arithmetic.
        attention: transformers' name of the attention backend.
        warnings: What was left out, and why.
    """

    losses: list[Losses]
    examples: int
    available: int
    tokens: int
    documents: int
    seq_len: int
    data_digest: str
    device: str
    dtype: str
    attention: str
    warnings: list[str] = field(default_factory=list)


def context_length(config: Config, asked: int | None) -> int:
    """Tokens in a window: what was asked for, else the model's context up to 512.

    Raises:
        DataError: More was asked for than the model can take.
    """
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if asked is None:
        return min(DEFAULT_CONTEXT, most or DEFAULT_CONTEXT)
    if most is not None and asked > most:
        raise DataError(
            f"windows of {asked} tokens are longer than the model's context of {most}",
            remedy=f"--seq-len {most} or less",
        )
    return asked


class Evaluator:
    """Measures one model after another on the same windows of text.

    Args:
        documents: Texts.
        donor: Folder with the tokenizer, and the configuration that bounds the windows.
        config: The parsed configuration.
        data: Sample size, window length, batch size, seed.
        compute: Device, dtype, budget.
        models: How many models will be measured, for the estimate of the cost.
        progress: Told of the cost and of each batch.

    Raises:
        DataError: No tokenizer, or the text is too short.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        donor: Path,
        config: Config,
        data: EvalData,
        compute: Compute,
        *,
        models: int,
        progress: Progress | None = None,
    ) -> None:
        self.documents, self.compute, self.data, self.models = documents, compute, data, models
        self.progress = progress or Silent()
        tokenizer = load_tokenizer(donor, compute)
        if tokenizer is None:
            raise DataError("no tokenizer beside the weights", where=str(donor))
        self.seq_len = context_length(config, data.seq_len)
        windows = cut_windows(documents, tokenizer, self.seq_len)
        self.available = len(windows)
        self.windows = sample(windows, data.max_examples, data.seed)
        vocabulary = int(config.get("vocab_size") or len(tokenizer))
        self.batch_size = data.batch_size or default_batch_size(self.seq_len, vocabulary)
        self.losses: list[Losses] = []
        self.warnings: list[str] = []
        self._run_with = ("", "", "")

    def measure(self, name: str, source: Source) -> Losses:
        """Load a model, measure it, let it go.

        Raises:
            DataError: Its loss is not a number.
        """
        model = load_model(source, self.compute)
        dtype = str(model.dtype).removeprefix("torch.")
        self._run_with = (str(model.device), dtype, model.config._attn_implementation or "")
        if not self.losses:
            self._fit_budget(model)
        self.progress.phase(f"loss of {name}", sum(w.predicted for w in self.windows))
        found = measure(model, self.windows, self.batch_size, self.progress.advance)
        del model
        gc.collect()
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
        self.losses.append(found)
        return found

    def result(self) -> Evaluation:
        """All that was measured."""
        return Evaluation(
            losses=self.losses,
            examples=len(self.windows),
            available=self.available,
            tokens=sum(window.predicted for window in self.windows),
            documents=len({window.document for window in self.windows}),
            seq_len=self.seq_len,
            data_digest=digest(list(self.documents)),
            device=self._run_with[0],
            dtype=self._run_with[1],
            attention=self._run_with[2],
            warnings=self.warnings,
        )

    def _fit_budget(self, model: PreTrainedModel) -> None:
        """Time one batch, tell the cost, and take a smaller sample where it is too much."""
        full = [w for w in self.windows if len(w.tokens) == self.seq_len] or self.windows
        batch = full[: self.batch_size]
        measure(model, batch[:1], 1)  # the first forward pass of a process is slower
        began = time.perf_counter()
        measure(model, batch, self.batch_size)
        each = (time.perf_counter() - began) / sum(w.predicted for w in batch)
        tokens = sum(window.predicted for window in self.windows)
        seconds = each * tokens * self.models
        limit = self.compute.budget * 60
        if limit and seconds > limit:
            self._shrink(limit / seconds)
        self.progress.say(
            f"measuring {self.models} models on {len(self.windows)} windows of up to "
            f"{self.seq_len} tokens: about {min(seconds, limit or seconds):.0f} s"
        )

    def _shrink(self, share: float) -> None:
        most = min(len(self.windows), max(self.batch_size, int(len(self.windows) * share)))
        if most == len(self.windows):
            return
        self.warnings.append(
            f"measured on {most} of {len(self.windows)} windows to stay within "
            f"{self.compute.budget:g} minutes; --budget 0 measures all"
        )
        self.windows = sample(self.windows, most, self.data.seed)
