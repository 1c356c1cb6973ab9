"""Parts of a report that are measured once, and kept for a later run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from mergekit_geo.evaluation.cache import MeasurementCache
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.records import Record

Found = TypeVar("Found", bound=Record)


class RecordCache(MeasurementCache):
    """One JSON file a part."""

    def get(self, name: str, kind: type[Found]) -> Found | None:
        """A stored part, None where there is none or its file is damaged; same in all processes."""
        return broadcast(self._read(name, kind) if is_main_process() else None)

    def recall(self, name: str, kind: type[Found], make: Callable[[], Found]) -> Found:
        """A stored part; made and stored the first time."""
        found = self.get(name, kind)
        if found is None:
            found = make()
            text = found.model_dump_json().encode()
            self.write(self.name(name, ".json"), lambda file: file.write(text))
        return found

    def _read(self, name: str, kind: type[Found]) -> Found | None:
        content = self.cache.read(self.name(name, ".json"))
        if content is None:
            return None
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            self.cache.unsound()
            return None


class NoCache:
    """A cache that stores nothing, for models whose changes cannot be detected."""

    def get(self, name: str, kind: type[Found]) -> Found | None:
        """Always None: no part is kept."""
        return None

    def recall(self, name: str, kind: type[Found], make: Callable[[], Found]) -> Found:
        """Make the part at every call."""
        return make()
