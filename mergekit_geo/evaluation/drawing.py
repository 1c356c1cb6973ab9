"""Random samples of examples, one by one or by whole documents."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, takewhile

from mergekit_geo.tasks.task import Example


def draw(
    examples: Sequence[Example], most: int | None, seed: int, *, whole: bool = False
) -> list[Example]:
    """Draw at most `most` examples without replacement, and keep their order.

    Args:
        examples: All that there are.
        most: All, if None.
        seed: Another seed is another sample.
        whole: Draw documents with all their examples; one at least, whatever its length.

    Example:
        >>> draw([Example(d, 1, 1, {}) for d in range(9)], 2, seed=0)[1].document
        8
        >>> three = [Example(d // 3, 1, 1, {}) for d in range(9)]
        >>> [example.document for example in draw(three, 5, seed=0, whole=True)]
        [1, 1, 1]
    """
    if most is None or most >= len(examples):
        return list(examples)
    generator = random.Random(seed)
    if whole:
        chosen = _documents(Counter(one.document for one in examples), most, generator)
        return [one for one in examples if one.document in chosen]
    return [examples[i] for i in sorted(generator.sample(range(len(examples)), most))]


def _documents(sizes: Mapping[int, int], most: int, generator: random.Random) -> set[int]:
    """Documents in a random order, up to the first that has too many examples for the rest."""
    order = generator.sample(list(sizes), len(sizes))
    totals = accumulate(sizes[document] for document in order)
    count = sum(1 for _ in takewhile(lambda total: total <= most, totals))
    return set(order[: max(count, 1)])
