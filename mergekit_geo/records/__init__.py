"""What was found: typed records, of which reports are made."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Record(BaseModel):
    """What was found: immutable, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sparse(Record):
    """A record some of whose keys are there only where they hold something.

    Attributes:
        only_if_held: Their names.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_empty(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = usual(self)
        return {k: v for k, v in found.items() if k not in self.only_if_held or v}
