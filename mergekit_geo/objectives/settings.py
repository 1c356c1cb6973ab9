"""Settings of an evaluation, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError

BUILTIN = "builtin:python-docs"
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class EvalData:
    """What to measure loss on.

    Attributes:
        source: `builtin:python-docs`, or a `.txt` or `.jsonl` file.
        text_column: The key of the text in a `.jsonl` row.
        max_examples: Measure at most so many token windows, a seeded sample; all if None.
        seq_len: Tokens in a window; the model's context up to 512 if None.
        batch_size: Windows in a batch; chosen from the vocabulary's size if None.
        seed: Of the sample and the bootstrap.
    """

    source: str = BUILTIN
    text_column: str = "text"
    max_examples: int | None = None
    seq_len: int | None = None
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_examples", 1), ("seq_len", 2), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ArgumentError(
                    f"{name.replace('_', '-')} must be at least {least}, found {value}"
                )


@dataclass(frozen=True)
class Compute:
    """How models are run.

    Attributes:
        device: Such as `cpu` or `cuda`; the accelerator if there is one when None.
        dtype: Of the arithmetic: `float32`, `bfloat16`, `float16`. None is float32 on a CPU and the
            checkpoint's own on an accelerator.
        budget: Minutes that all evaluation of one command may take; 0 is no limit.
        trust_remote_code: Run code that comes with a checkpoint.
    """

    device: str | None = None
    dtype: str | None = None
    budget: float = 10.0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in COMPUTE_DTYPES:
            raise ArgumentError(
                f"compute dtype {self.dtype!r}: expected one of {', '.join(COMPUTE_DTYPES)}"
            )
        if not self.budget >= 0:
            raise ArgumentError(f"the budget is in minutes, found {self.budget:g}")
