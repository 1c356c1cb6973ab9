"""Log-likelihoods of answers, from one forward pass of a batch of questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mergekit_geo.tasks.counted_logits import CountedLogits, counted_logits
from mergekit_geo.tasks.harness.layout import only_right
from mergekit_geo.tasks.seq2seq import decoder_inputs
from mergekit_geo.tasks.token_losses import largest, rows_of_a_chunk

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def log_likelihoods(
    model: Module, batch: dict[str, Tensor], *, is_seq2seq: bool
) -> tuple[Tensor, Tensor]:
    """Log-likelihood of each answer, and whether each of its tokens is the likeliest.

    Rows are filled on the right and come without a mask, as in lm-eval's wrapper: no token of a
    causal model looks to the right. The log-softmax is in float32.

    Args:
        model: Causal, or with encoder and decoder.
        batch: As `layout.tensors` makes it.
        is_seq2seq: Which of both.

    Returns:
        (c,) float32, differentiable; and (c,) bool.
    """
    inputs, shape = _decoded(model, batch) if is_seq2seq else _continued(batch)
    place = batch["row"] * shape[1] + batch["place"]
    places, of_token = torch.unique(place, return_inverse=True)
    counted = torch.zeros(shape, dtype=torch.bool, device=place.device)
    counted.view(-1)[places] = True
    logits = counted_logits(model, inputs, counted)
    sums, said = _of_places(logits)
    index = of_token if logits.places is None else logits.places[of_token]
    known = logits.values[index, batch["token"]].float() - sums[of_token]
    missed = (said[of_token] != batch["token"]).to(known)
    zeros = torch.zeros(len(batch["owner"]), device=known.device)
    greedy = zeros.index_add(0, batch["answer"], missed) == 0
    return zeros.index_add(0, batch["answer"], known), greedy


def _of_places(logits: CountedLogits) -> tuple[Tensor, Tensor]:
    """Log of the sum of exponentials at each place, and the likeliest token."""
    found = []
    for some in logits.chunks(rows_of_a_chunk(logits.values)):
        full = some.float()
        found.append((full.logsumexp(-1), largest(full)))
    sums, said = zip(*found, strict=True)
    return torch.cat(sums), torch.cat(said)


def answer_losses(model: Module, batch: dict[str, Tensor], *, is_seq2seq: bool) -> Tensor:
    """Minus the log-likelihood of each question's right answer by its weight; no other is run."""
    right = only_right(batch)
    return right_losses(log_likelihoods(model, right, is_seq2seq=is_seq2seq)[0], right)


def right_losses(known_c: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Minus the log-likelihood of any right answer of each question, by its weight: (b,)."""
    right_bg = batch["right"]
    absent = torch.full_like(known_c[:1], -torch.inf).expand(right_bg.shape)
    known_bg = torch.where(right_bg >= 0, known_c[right_bg.clamp(min=0)], absent)
    return -known_bg.logsumexp(-1) / batch["weight"]


def _continued(batch: dict[str, Tensor]) -> tuple[dict[str, Any], tuple[int, int]]:
    """What a causal model is called with, and the shape of its rows."""
    ids = batch["input_ids"]
    return {"input_ids": ids, "use_cache": False}, (ids.shape[0], ids.shape[1])


def _decoded(model: Module, batch: dict[str, Tensor]) -> tuple[dict[str, Any], tuple[int, int]]:
    """Inputs of a model with a decoder, whose rows are the answers, and their shape."""
    shape = len(batch["owner"]), int(batch["place"].max()) + 1
    tokens = torch.zeros(shape, dtype=torch.long, device=batch["token"].device)
    tokens[batch["answer"], batch["place"]] = batch["token"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return {**inputs, **decoder_inputs(model, tokens), "use_cache": False}, shape
