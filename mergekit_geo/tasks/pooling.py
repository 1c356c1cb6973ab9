"""From the states of a text's tokens to one vector, as sentence-transformers pools them.

Legend: b texts, l tokens, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mergekit_geo.checkpoints.modules import MODES

Pool = Callable[[Tensor, Tensor], Tensor]


def pooled(states_bld: Tensor, mask_bl: Tensor, modes: tuple[str, ...]) -> Tensor:
    """Vectors of texts; those of several modes side by side.

    Args:
        states_bld: Last hidden states.
        mask_bl: 1 where a token counts, 0 where it is padding.
        modes: Keys of `POOLINGS`.

    Example:
        >>> states, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])
        >>> pooled(states, mask, ("mean", "max", "lasttoken")).tolist()
        [[2.0, 3.0, 3.0]]
    """
    return torch.cat([POOLINGS[mode](states_bld, mask_bl) for mode in modes], dim=-1)


def modes_of(settings: Mapping[str, object]) -> tuple[str, ...]:
    """The modes that the settings of a `Pooling` name, in the order of their vectors.

    Example:
        >>> modes_of({"pooling_mode_cls_token": True}), modes_of({"pooling_mode": "mean"})
        (('cls',), ('mean',))
    """
    stated = settings.get("pooling_mode")
    if isinstance(stated, str):
        return (stated,)
    if isinstance(stated, list) and stated:
        return tuple(map(str, stated))
    return tuple(mode for key, mode in MODES.items() if settings.get(key)) or ("mean",)


def _sum(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    return (states_bld * mask_bl[..., None].to(states_bld)).sum(dim=1)


def _count(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    return mask_bl.sum(dim=1, keepdim=True).clamp(min=1).to(states_bld)


def _mean(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    return _sum(states_bld, mask_bl) / _count(states_bld, mask_bl)


def _mean_sqrt(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    return _sum(states_bld, mask_bl) / _count(states_bld, mask_bl).sqrt()


def _weighted_mean(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    """Later tokens weigh more: the first 1, the second 2, and so on."""
    place_l = torch.arange(1, mask_bl.shape[1] + 1, device=mask_bl.device)
    weight_bl = mask_bl * place_l
    return _sum(states_bld, weight_bl) / _count(states_bld, weight_bl)


def _first(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    return states_bld[_rows(mask_bl), mask_bl.int().argmax(dim=1)]


def _last(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    place_l = torch.arange(mask_bl.shape[1], device=mask_bl.device)
    return states_bld[_rows(mask_bl), (mask_bl * place_l).argmax(dim=1)]


def _largest(states_bld: Tensor, mask_bl: Tensor) -> Tensor:
    padding = (mask_bl == 0)[..., None]
    return states_bld.masked_fill(padding, -torch.inf).amax(dim=1)


def _rows(mask_bl: Tensor) -> Tensor:
    return torch.arange(len(mask_bl), device=mask_bl.device)


POOLINGS: Mapping[str, Pool] = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""Poolings by the names of sentence-transformers."""
