"""An unfinished escape on disk: it goes on to the same bytes after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mergekit_geo.files.replacement import replacing
from mergekit_geo.outputs.kind import ESCAPE_STATE
from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.processes import broadcast, is_main_process


class EscapeState:
    """One file in the unfinished output's folder, written whole or not at all.

    Args:
        folder: Of the unfinished output; None keeps nothing.
        fsync: Flush it to the disk.
    """

    def __init__(self, folder: Path | None, *, fsync: bool = True) -> None:
        self.path = None if folder is None else folder / ESCAPE_STATE
        self.fsync = fsync

    def save(self, tensors: Mapping[str, Tensor | None], notes: Mapping[str, Any]) -> None:
        """Keep vectors, and what belongs to them.

        Args:
            tensors: By name; None is left out.
            notes: A JSON value.
        """
        if self.path is None or not is_main_process():
            return
        found = {
            name: vector.contiguous() for name, vector in tensors.items() if vector is not None
        }
        with replacing(self.path, fsync=self.fsync) as fresh:
            save_tensors(found, fresh, {"notes": json.dumps(notes)})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Vectors and notes of the run before; nothing where there was none.

        Only what is of the same work is there: the output clears the folder of anything else.
        """
        found = self._read() if is_main_process() else ({}, {})
        return broadcast(found)

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self.path is None or not self.path.is_file():
            return {}, {}
        try:
            with safe_open(self.path, framework="pt") as file:
                notes: dict[str, Any] = json.loads(file.metadata()["notes"])
            return load_file(self.path), notes
        except (SafetensorError, OSError):
            return {}, {}
