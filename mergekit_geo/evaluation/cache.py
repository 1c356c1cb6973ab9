"""What has been measured already, kept in the user's cache, so that a long measurement goes on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mergekit_geo.files.user_cache import CacheFolder, Warn
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.records import Record
from mergekit_geo.tasks.losses import Answers, Losses, Ratings

OPTIONAL = ("score", "example", "target", "predicted")
RATINGS = ("rated", "rating")
COUNT = "examples"

Found = TypeVar("Found", bound=Record)


class MeasurementCache:
    """A folder named after all that the numbers in it depend on.

    Args:
        work: A JSON value that changes when the numbers would.
        warn: Told why something cannot be used or kept.
    """

    def __init__(self, work: object, warn: Warn = lambda text: None) -> None:
        key = hashlib.sha256(json.dumps(work, sort_keys=True, default=repr).encode()).hexdigest()
        self.cache = CacheFolder(key[:32], warn)

    @property
    def folder(self) -> Path:
        """Path of the folder."""
        return self.cache.folder

    def settled(self, most: int) -> int | None:
        """How many examples an earlier run had settled on, None if none had.

        A budget's estimate differs from run to run, and other examples would be other numbers.

        Args:
            most: As many as there are.
        """
        found = self.cache.read(COUNT)
        if found is None:
            return None
        count = int(found) if found.isdigit() else 0
        if not 0 < count <= most:
            self.cache.unsound()
            return None
        return count

    def settle(self, count: int) -> None:
        """Store the number of examples for later runs."""
        self.write(COUNT, lambda file: file.write(str(count).encode()))

    def name(self, point: str, suffix: str) -> str:
        """Name of a point's file."""
        return f"{hashlib.sha256(point.encode()).hexdigest()[:32]}{suffix}"

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> bool:
        """Write a file whole or not at all, by the first process alone; says whether it is kept."""
        return is_main_process() and self.cache.write(name, fill)


class LossCache(MeasurementCache):
    """Losses at points of weight space, one file a point.

    Attributes:
        count: How many examples they are measured on.
    """

    count = 0

    def get(self, point: str) -> Losses | None:
        """Losses at a point, None if none are stored or the file is damaged; processes agree."""
        return broadcast(self._read(self._name(point)) if is_main_process() else None)

    def put(self, point: str, losses: Losses) -> None:
        """Store the losses at a point."""
        self.write(
            self._name(point), lambda file: np.savez(file, allow_pickle=False, **_arrays(losses))
        )

    def _name(self, point: str) -> str:
        return self.name(f"{self.count} {point}", ".npz")

    def _read(self, name: str) -> Losses | None:
        content = self.cache.read(name)
        if content is None:
            return None
        try:
            with np.load(BytesIO(content), allow_pickle=False) as found:
                return _losses({name: found[name] for name in found.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self.cache.unsound()
            return None


def _arrays(losses: Losses) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "loss": losses.loss,
        "weight": losses.weight,
        "document": losses.document,
    }
    if losses.score is not None:
        arrays["score"] = losses.score
    if losses.answers is not None:
        arrays |= {name: getattr(losses.answers, name) for name in OPTIONAL[1:]}
    own = {name: getattr(losses, name) for name in ("score_weight", "margin")}
    arrays |= {name: values for name, values in own.items() if values is not None}
    if losses.ratings is not None:
        arrays |= {name: getattr(losses.ratings, name) for name in RATINGS}
    return arrays


def _losses(arrays: dict[str, NDArray[Any]]) -> Losses:
    answers = None
    if "target" in arrays:
        answers = Answers(arrays["example"], arrays["target"], arrays["predicted"])
    return Losses(
        arrays["loss"],
        arrays["weight"],
        arrays["document"],
        arrays.get("score"),
        answers,
        Ratings(*(arrays[name] for name in RATINGS)) if "rated" in arrays else None,
        arrays.get("score_weight"),
        arrays.get("margin"),
    )


class RecordCache(MeasurementCache):
    """Parts of a report that are measured once, one JSON file a part."""

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
