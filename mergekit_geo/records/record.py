"""The base of everything that a report holds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """What was found: immutable, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
