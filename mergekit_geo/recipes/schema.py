"""The recipe: mergekit's keys, and ours beside them. Unknown keys are errors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["float64", "float32", "bfloat16", "float16"]
Parameters = dict[str, Any]


class Part(BaseModel):
    """A mapping of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelEntry(Part):
    """A model of the merge.

    Attributes:
        model: A folder, `org/name` or `org/name@revision`.
        parameters: Its own, such as `weight`.
    """

    model: str
    parameters: Parameters = {}


class Source(ModelEntry):
    """A model of a slice.

    Attributes:
        layer_range: First layer and the one after the last: the whole model.
    """

    layer_range: tuple[int, int] | None = None


class Slice(Part):
    """Models and the layers that are taken of them.

    Attributes:
        sources: The models.
        parameters: For all of them.
    """

    sources: list[Source] = Field(min_length=1)
    parameters: Parameters = {}


class Objective(Part):
    """What loss is measured on, and points are chosen by.

    Attributes:
        data: As `--data`.
        task: As `--task`.
        split: As `--split`.
        config: As `--data-config`.
        text_column: As `--text-column`.
        label_column: As `--label-column`.
        image_column: As `--image-column`.
        loss_on: As `--loss-on`.
        max_examples: As `--max-examples`.
        seq_len: As `--seq-len`.
        batch_size: As `--batch-size`.
    """

    data: str
    task: str | None = None
    split: str | None = None
    config: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    image_column: str | None = None
    loss_on: Literal["assistant", "all"] = "assistant"
    max_examples: int | None = None
    seq_len: int | None = None
    batch_size: int | None = None


class Along(Part):
    """A path between models, and which of its points is taken.

    Attributes:
        kind: `linear`, `slerp`, `bezier`, `polygon`, `neb`, or the folder of a fitted path.
        pick: `best` by loss, `midpoint`, `mean` or `flattest`; the best if None.
        train_data: What a path is fitted to.
    """

    kind: str
    pick: Literal["best", "midpoint", "mean", "flattest"] | None = None
    train_data: str | None = None


class Recipe(Part):
    """A merge as a file says it.

    Attributes:
        merge_method: As in the table of methods.
        models: The models; or
        slices: one slice of whole models.
        base_model: Where task vectors start, or the end of SLERP at t = 0.
        parameters: Of the method: numbers, gradients, or lists of filters.
        dtype: Of the output where `out_dtype` is not given; arithmetic is in float32 or wider.
        out_dtype: Of the output.
        tokenizer_source: `base`, or the model that the tokenizer is copied from.
        chat_template: `auto`, `chatml`, or a Jinja template.
        objective: What loss is measured on.
        along: A path, for `merge_method: along`.
        sharpness: `off`, `quick` or `full`.
        push_to: Repository on the Hub.
        seed: Of samples, halves and intervals.
    """

    merge_method: str
    models: list[ModelEntry] | None = None
    slices: list[Slice] | None = None
    base_model: str | None = None
    parameters: Parameters = {}
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    objective: Objective | None = None
    along: Along | None = None
    sharpness: Literal["off", "quick", "full"] | None = None
    push_to: str | None = None
    seed: int | None = None

    @field_validator("sharpness", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        """YAML 1.1 reads a bare `off` as false."""
        return "off" if value is False else value
