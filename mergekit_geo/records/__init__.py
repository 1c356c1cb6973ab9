"""What was found: typed records, of which reports are made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """What was found: immutable, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
