"""A task: the loss of the next token in bits instead of nats.

python examples/extend/task.py barrier a b --task bits-lm --data held-out.jsonl
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor
from torch.nn import Module

from mergekit_geo.cli.app import main
from mergekit_geo.tasks.causal_lm import KIND, CausalLM
from mergekit_geo.tasks.kind import TaskInputs
from mergekit_geo.tasks.table import TASKS
from mergekit_geo.tasks.task import BatchLosses, Task


class BitsLM(CausalLM):
    """Next-token prediction, measured in bits."""

    name = "bits-lm"

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Losses of a batch that is on the model's device."""
        found = super().losses(model, batch)
        return replace(found, loss=found.loss / math.log(2))


def make(inputs: TaskInputs) -> Task:
    """The task for the models of one architecture."""
    tokenizer = inputs.tokenizer()
    return BitsLM(
        tokenizer, inputs.seq_len(tokenizer), inputs.vocabulary(tokenizer), inputs.data, inputs.note
    )


# The architectures are those of next-token prediction; exp(loss) is no perplexity any more.
BITS = replace(KIND, name=BitsLM.name, make=make, has_perplexity=False)

TASKS[BITS.name] = BITS  # the line in the table

if __name__ == "__main__":
    main()
