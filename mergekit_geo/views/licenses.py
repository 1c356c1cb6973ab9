"""What the parents' licences mean for an output, told from their cards alone."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.model import License, ModelEntry


def common_license(models: Sequence[ModelEntry]) -> License | None:
    """The licence that every parent states; None where one states another, or none.

    Example:
        >>> a = ModelEntry(name="a", revision=None, parameters=1, license=License(id="mit"))
        >>> common_license([a, a]).id
        'mit'
    """
    stated = [model.license for model in _parents(models)]
    kinds = {_kind(entry) for entry in stated if entry is not None}
    return stated[0] if len(kinds) == 1 and None not in stated else None


def differing_licenses(models: Sequence[ModelEntry]) -> list[str]:
    """A warning where parents state different licences."""
    kinds = {_kind(model.license) for model in models if model.license is not None}
    if len(kinds) < 2:  # noqa: PLR2004
        return []
    told = "; ".join(f"{model.name}: {license_name(model)}" for model in _parents(models))
    return [f"the parents' licences differ, so the model card states none ({told})"]


def license_name(model: ModelEntry) -> str:
    """Name of a model's license, or `none stated`."""
    if model.license is None:
        return "none stated"
    return model.license.name or model.license.id


def _parents(models: Sequence[ModelEntry]) -> list[ModelEntry]:
    return [model for model in models if model.role == "parent"]


def _kind(entry: License) -> tuple[str, str]:
    return entry.id.lower(), (entry.name or "").lower()
