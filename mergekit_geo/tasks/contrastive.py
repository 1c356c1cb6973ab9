"""Loss of telling what belongs to something from other candidates, and who these are.

Legend: b examples, c candidates of each, the right one first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mergekit_geo.tasks.task import BatchLosses

ABSENT = -1
"""Number of a candidate that is none: others have more."""


def candidates_of(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[list[str]]:
    """Candidates of each pair in a group: its own text first, then those of all others, once each.

    What belongs to an equal first text, or is that text, is no candidate: it would be right, too.

    Args:
        pairs: A text, then the one that belongs to it and those that do not.

    Example:
        >>> candidates_of([("a", ["A"]), ("b", ["B", "no"]), ("a", ["AA"])])
        [['A', 'B', 'no'], ['B', 'no', 'A', 'AA'], ['AA', 'B', 'no']]
    """
    found = []
    for first, (right, *negatives) in pairs:
        right_too = {other[0] for text, other in pairs if text == first} | {first}
        every = [*negatives, *(text for _, texts in pairs for text in texts)]
        found.append([right, *dict.fromkeys(t for t in every if t not in right_too)])
    return found


def numbered(lists: Sequence[Sequence[int]]) -> Tensor:
    """Lists of numbers as rows of one tensor, filled with `ABSENT`."""
    longest = max(map(len, lists))
    return torch.tensor([[*row, *[ABSENT] * (longest - len(row))] for row in lists])


def ranking_losses(scores_bc: Tensor, present_bc: Tensor) -> BatchLosses:
    """Cross entropy of the first candidate, in nats, and whether it has the highest score.

    Args:
        scores_bc: Logits.
        present_bc: Which candidates there are.

    Example:
        >>> found = ranking_losses(torch.zeros(1, 4), torch.tensor([[True, True, False, False]]))
        >>> round(found.loss.item(), 4)
        0.6931
    """
    scores = scores_bc.float().masked_fill(~present_bc, -torch.inf)
    target = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    right = scores[:, 0] >= scores.amax(dim=1)
    return BatchLosses(functional.cross_entropy(scores, target, reduction="none"), right.float())
