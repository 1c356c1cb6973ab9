"""All that a measured number depends on, as one JSON value: the key of everything that is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.origin import installed_version, versions
from mergekit_geo.config.data import source_of

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.data import Data
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.sample import Sample

READERS = ("tokenizers", "sentencepiece", "tiktoken", "jinja2", "pillow", "torchvision")
"""Libraries that turn rows into what a model is given; not all of them need be there."""

PRECISION = (
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)  # fmt: skip
"""Environment variables that let a product of float32 matrices be rounded to fewer bits."""


def cache_key(
    models: Sequence[Checkpoint | str],
    sample: Sample | None,
    data: Data,
    compute: Compute,
    *more: object,
) -> list[object]:
    """A JSON value that changes when a number measured at these models would.

    Args:
        models: Checkpoints whose data is here, or digests of all that is in their folders.
        sample: What is measured on.
        data: The same as asked for.
        compute: How models are run.
        more: What else the numbers depend on.
    """
    return [
        [model if isinstance(model, str) else model_key(model) for model in models],
        sample and [sample.digest, sample.objective.digest],
        source_of(data).settings(),
        machine_key(compute),
        list(more),
    ]


def machine_key(compute: Compute) -> dict[str, Any]:
    """A key of what else changes numbers: libraries, device, precision."""
    there = torch.cuda.is_available()
    device = compute.device or ("cuda" if there else "cpu")
    is_cuda = there and device.startswith("cuda")
    return {
        "device": device,
        "accelerator": torch.cuda.get_device_name(device) if is_cuda else "",
        "dtype": compute.dtype,
        "code": compute.trust_remote_code,
        "matmul": torch.get_float32_matmul_precision(),
        "convolution": torch.backends.cudnn.allow_tf32,
        "environment": {name: os.environ.get(name) for name in PRECISION},
        "versions": {**versions(), **{name: installed_version(name) for name in READERS}},
    }
