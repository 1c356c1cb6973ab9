"""The recipe: mergekit's keys, and ours beside them. Unknown keys are errors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from mergekit_geo.recipes.along import Along
from mergekit_geo.recipes.finetune import Finetune
from mergekit_geo.recipes.part import Part

Dtype = Literal["float64", "float32", "bfloat16", "float16"]
Parameters = dict[str, Any]


class ModelEntry(Part):
    """A model of the merge.

    Attributes:
        model: A folder, `org/name` or `org/name@revision`.
        parameters: Its own, such as `weight`.
    """

    model: str
    parameters: Parameters = Field(default={})


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
    parameters: Parameters = Field(default={})


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


class Tokenizer(Part):
    """Which tokenizer the output has: mergekit's newer form of `tokenizer_source`.

    Attributes:
        source: `base`, or the model that it is copied from.
    """

    source: str


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
        tokenizer_source: `base`, or the model that the tokenizer is copied from; or
        tokenizer: the same as `source` under this key.
        chat_template: `auto`, a name such as `chatml`, or a Jinja template.
        finetune: Members that are trained first.
        objective: What loss is measured on.
        along: A path, for `merge_method: along`.
        sharpness: `off`, `quick` or `full`.
        push_to: Repository on the Hub.
        seed: Of training, fits, samples, halves and intervals.
    """

    merge_method: str
    models: list[ModelEntry] | None = None
    slices: list[Slice] | None = None
    base_model: str | None = None
    parameters: Parameters = Field(default={})
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    finetune: list[Finetune] = Field(default=[])
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
