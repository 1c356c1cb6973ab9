"""Where numbers come from: versions, times, inputs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Literal

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import configs_of
from mergekit_geo.checkpoints.index import CLASS
from mergekit_geo.checkpoints.module_folders import loader_in
from mergekit_geo.checkpoints.sources import original, sources_of
from mergekit_geo.checkpoints.stated_license import stated_license
from mergekit_geo.records.model import ModelEntry
from mergekit_geo.records.report import Provenance

LIBRARIES = ("mergekit_geo", "torch", "transformers", "safetensors", "huggingface_hub", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that matter."""
    found = {name: installed_version(name) or "unknown" for name in LIBRARIES}
    return {"python": python_version(), **found}


@cache
def installed_version(library: str) -> str | None:
    """Version of a library, None where it is not installed; its metadata is read once."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def provenance(
    began: float,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    command: str = "",
) -> Provenance:
    """Provenance of work that began at `began` (seconds since 1970) and ends now."""
    return Provenance(
        versions=versions(),
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        seconds=round(time.time() - began, 3),
        device=device,
        dtype=dtype,
        attention=attention,
        command=command,
    )


def count_parameters(checkpoint: Checkpoint) -> int:
    """Number of elements of a checkpoint's float tensors."""
    return sum(info.count for info in checkpoint.tensors.values() if info.is_float)


def model_entry(checkpoint: Checkpoint, role: Literal["parent", "bend"] = "parent") -> ModelEntry:
    """The report's entry of an input."""
    entry = ModelEntry(
        name=checkpoint.name,
        revision=checkpoint.revision,
        parameters=count_parameters(checkpoint),
        license=stated_license(checkpoint),
        architecture=_architecture(checkpoint.config),
        loader=_loader(checkpoint),
        role=role,
    )
    parts = sources_of(checkpoint)
    if len(parts) == 1:
        return entry
    base, adapter = parts
    return entry.model_copy(update={"base": base, "adapter": adapter})


def model_entries(checkpoints: Iterable[Checkpoint]) -> list[ModelEntry]:
    """The report's entries of inputs."""
    return [model_entry(checkpoint) for checkpoint in checkpoints]


def _loader(checkpoint: Checkpoint) -> str | None:
    """Class of another library than transformers that loads a model; None for others."""
    if configs_of(checkpoint.config):
        return "DiffusionPipeline"
    component = checkpoint.config.get(CLASS)
    if isinstance(component, str) and component.isidentifier():
        return component
    return loader_in(original(checkpoint).root)


def _architecture(config: Config) -> str | None:
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) else None
