"""The license that a checkpoint's card states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.records.model import License

CARD = "README.md"
MOST = 1 << 20
"""Bytes of the largest card that is read."""


def stated_license(checkpoint: Checkpoint) -> License | None:
    """The license that the Hub, or the card in its folder, states of a checkpoint.

    None where nothing states one.
    """
    found = original(checkpoint)
    if found.license or not found.files or found.root is None:
        return found.license
    return license_in(found.root)


def license_in(folder: Path) -> License | None:
    """License in the README.md of a folder; None if it has none, or cannot be read."""
    card = folder / CARD
    try:
        if not card.is_file() or card.stat().st_size > MOST:
            return None
        return license_of(_front_matter(card))
    except Exception:  # it is somebody's free text, and the parser's errors are many
        return None


def license_of(metadata: Mapping[str, Any]) -> License | None:
    """License in a card's front matter.

    Example:
        >>> license_of({"license": "other", "license_name": "mine", "license_link": "LICENSE"})
        License(id='other', name='mine', link='LICENSE')
    """
    found = metadata.get("license")
    if isinstance(found, list):
        found = ", ".join(map(str, found))
    if not isinstance(found, str) or not found.strip():
        return None
    name, link = _text(metadata, "license_name"), _text(metadata, "license_link")
    return License(id=found.strip(), name=name, link=link)


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def _front_matter(card: Path) -> Mapping[str, Any]:
    from huggingface_hub.repocard import metadata_load

    return metadata_load(card) or {}
