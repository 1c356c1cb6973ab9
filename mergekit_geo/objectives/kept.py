"""What has been measured already, kept in the user's cache, so that a long measurement goes on."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.live.distributed import is_first
from mergekit_geo.objectives.losses import Answers, Losses

OPTIONAL = ("score", "example", "target", "predicted")


class Kept:
    """A folder named after all that the numbers in it depend on.

    Args:
        work: A JSON value that changes when the numbers would.
    """

    def __init__(self, work: object) -> None:
        key = hashlib.sha256(json.dumps(work, sort_keys=True, default=repr).encode()).hexdigest()
        self.folder = cache_folder() / key[:32]

    @property
    def settled(self) -> int | None:
        """How many examples an earlier run had settled on, None if none had.

        A budget's estimate differs from run to run, and other examples would be other numbers.
        """
        path = self.folder / "examples"
        return int(path.read_text("utf-8")) if path.is_file() else None

    def settle(self, count: int) -> None:
        """Let later runs take as many examples."""
        if is_first():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "examples").write_text(str(count), "utf-8")

    def path(self, point: str, suffix: str) -> Path:
        """The file of a point."""
        return self.folder / f"{hashlib.sha256(point.encode()).hexdigest()[:32]}{suffix}"

    def write(self, path: Path, fill: Callable[[BinaryIO], object]) -> None:
        """Write a file whole or not at all, by the first process alone."""
        if not is_first():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as file:
            fill(file)
        fresh.replace(path)


class KeptLosses(Kept):
    """Losses at points of weight space, one file a point."""

    def get(self, point: str) -> Losses | None:
        """What was measured at a point, None if nothing was or the file is torn."""
        try:
            with np.load(self.path(point, ".npz")) as found:
                return _losses({name: found[name] for name in found.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, point: str, losses: Losses) -> None:
        """Keep what was measured."""
        self.write(
            self.path(point, ".npz"),
            lambda file: np.savez(file, allow_pickle=False, **_arrays(losses)),
        )


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mergekit_geo`, or the same under `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mergekit_geo"


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
    )
