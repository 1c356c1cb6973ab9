"""Tensors that were computed of a model on data: kept whole, or as far as they have come.

One folder holds what one model, its data and the settings give: a safetensors file that says in its
header what it is of, and a sealed note with its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache import MeasurementCache
from mergekit_geo.files.regular import file_digest
from mergekit_geo.processes import is_main_process

TENSORS, NOTE, PARTIAL = "statistics.safetensors", "statistics.json", "partial.safetensors"
SAID = "statistic of"
"""Key of the header's metadata that says what the tensors are of."""

Origin = Mapping[str, str]
"""What statistics are of: model, data and settings, each in words or as a digest."""


@dataclass(frozen=True)
class KeptStatistics:
    """Tensors that an earlier run, or this one, has computed.

    Attributes:
        path: Of the file.
        digest: SHA-256 of it.
        facts: What was said of them: numbers, and texts.
    """

    path: Path
    digest: str
    facts: dict[str, float | int | str]


class StatisticCache(MeasurementCache):
    """A folder for the statistics of one model on its data."""

    def kept(self, origin: Origin) -> KeptStatistics | None:
        """Finished statistics; None where there are none, or they are damaged.

        Args:
            origin: What they are to be of.

        Raises:
            DataError: They are of another model, other data or other settings.
        """
        path, noted = self.cache.trusted(TENSORS), self.cache.read(NOTE)
        if path is None or noted is None:
            return None
        digest, facts = json.loads(noted)
        if file_digest(path) != digest:
            self.cache.unsound()
            return None
        require_origin(path, origin)
        return KeptStatistics(path, digest, facts)

    def keep(
        self, tensors: Mapping[str, Tensor], origin: Origin, facts: Mapping[str, float | int | str]
    ) -> KeptStatistics | None:
        """Write finished statistics, and drop what was kept on the way; None if it cannot be."""
        if not self._write(TENSORS, tensors, {SAID: json.dumps(dict(origin))}):
            return None
        path = self.folder / TENSORS
        digest = file_digest(path)
        noted = json.dumps([digest, dict(facts)]).encode()
        if not self.write(NOTE, lambda file: file.write(noted)):
            return None
        (self.folder / PARTIAL).unlink(missing_ok=True)
        return KeptStatistics(path, digest, dict(facts))

    def keep_partial(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """Write statistics as far as they have come."""
        self._write(PARTIAL, tensors, {"done": str(done)})

    def partial(self) -> tuple[dict[str, Tensor], int] | None:
        """Unfinished statistics, and how many examples are in them."""
        path = self.cache.trusted(PARTIAL)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return found, int(file.metadata()["done"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            self.cache.unsound()
            return None

    def _write(self, name: str, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> bool:
        whole, seen = {}, set[int]()
        for key, tensor in tensors.items():  # the format has no shared memory
            whole[key] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
            seen.add(tensor.data_ptr())
        metadata = dict(said)  # of one key: the order of several is not that of a dictionary
        return is_main_process() and self.cache.write_plain(
            name, lambda file: save_file(whole, file.name, metadata)
        )


def require_origin(path: Path, origin: Origin) -> None:
    """Refuse statistics of another model, other data or other settings.

    Args:
        path: Of the file.
        origin: What they are to be of.

    Raises:
        DataError: With what differs.
    """
    with safe_open(path, framework="pt") as file:
        said = json.loads((file.metadata() or {}).get(SAID, "{}"))
    unlike = [
        f"{key} {said.get(key, 'unknown')}, expected {value}"
        for key, value in origin.items()
        if said.get(key) != value
    ]
    if unlike:
        raise DataError(
            f"these statistics are of something else: {'; '.join(unlike)}",
            where=str(path),
            remedy="remove the file: it will be computed again",
        )
