"""Settings of an evaluation, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count

BUILTIN = "builtin:python-docs"
TRAIN = "train"
LOSS_ON = ("assistant", "all")


@dataclass(frozen=True)
class EvalData:
    """What to measure loss on.

    Attributes:
        source: `builtin:python-docs`, by default too; a `.txt`, `.jsonl`, `.json`, `.csv` or
            `.parquet` file; a folder saved by datasets; or a dataset on the Hub.
        text_column: Column of the text or messages; guessed from the usual names if None.
        max_examples: Measure at most so many examples, a seeded sample; all if None.
        seq_len: Tokens in a window; the model's context up to 512 if None.
        batch_size: Examples in a batch; chosen by the task if None.
        seed: Of the sample, the split into halves and the intervals.
        config: Configuration of a dataset on the Hub.
        split: Split of a dataset; of several, `validation`, `test` or `train` if None. Of the
            built-in text `train` is what is not held out.
        task: Such as `causal-lm`; that of the architecture if None.
        label_column: Column of the labels or targets; guessed if None.
        image_column: Column of the images; guessed if None.
        loss_on: Which tokens of a conversation count, `assistant` or `all`.
    """

    source: str = ""
    text_column: str | None = None
    max_examples: int | None = None
    seq_len: int | None = None
    batch_size: int | None = None
    seed: int = 0
    config: str | None = None
    split: str | None = None
    task: str | None = None
    label_column: str | None = None
    image_column: str | None = None
    loss_on: str = "assistant"

    @property
    def origin(self) -> str:
        """Where the data is from, by default or by name."""
        return self.source or BUILTIN

    def __post_init__(self) -> None:
        for name, least in (("max_examples", 1), ("seq_len", 2), ("batch_size", 1)):
            check_count(name, getattr(self, name), least)
        check_count("seed", self.seed, 0)
        if self.loss_on not in LOSS_ON:
            raise ArgumentError(f"loss-on {self.loss_on!r}: expected one of {', '.join(LOSS_ON)}")
