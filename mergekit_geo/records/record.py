"""What every part of a report is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a report: immutable, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
