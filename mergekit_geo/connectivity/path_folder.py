"""The folder of a fitted path: what was fitted between which models, and the bends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import checkpoint_digest
from mergekit_geo.checkpoints.folder import bend_prefix, open_bend
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.sources import pinned
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.training import FITTED, CurveFitConfig
from mergekit_geo.connectivity.paths import Effort, ModelPath, fitted, path
from mergekit_geo.errors import ArgumentError, FormatError, IncompatibleError, NotFoundError
from mergekit_geo.files.regular import file_digest
from mergekit_geo.geometry.curves import curve_of
from mergekit_geo.outputs.kind import CURVES, measurement
from mergekit_geo.outputs.writer import save_tensors
from mergekit_geo.records.model import Source
from mergekit_geo.records.path import PATH_VERSION, EndEntry, PathRecord

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.checkpoints.reference import Model

PAIR = 2
RECORD, BENDS = "path.json", "bends.safetensors"
STATE = "fit.safetensors"
"""File of an unfinished fit."""

PATH = measurement("path", CURVES, mark=RECORD, beside=[BENDS], scratch=(STATE,))


@dataclass(frozen=True)
class PathFolder:
    """A fitted path on disk.

    Attributes:
        folder: Where it lies.
        record: What was fitted.
    """

    folder: Path
    record: PathRecord

    @classmethod
    def open(cls, folder: Path) -> PathFolder:
        """Read and check what is there.

        Raises:
            NotFoundError: No path.
            FormatError: A damaged one, or one of a later version.
        """
        path = folder / RECORD
        if not path.is_file():
            raise NotFoundError(
                f"no {RECORD}: this is no fitted path",
                where=str(folder),
                remedy="geo-merge path A B -o DIR makes one",
            )
        try:
            record = PathRecord.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise FormatError(
                f"not a sound {RECORD}: {error.errors()[0]['msg']}", where=str(folder)
            ) from error
        if record.path_version > PATH_VERSION:
            raise FormatError(
                f"a path of version {record.path_version}; this release reads {PATH_VERSION}",
                where=str(folder),
                remedy="a newer mergekit_geo reads it",
            )
        found = cls(folder, record)
        found._check_bends()
        return found

    @property
    def references(self) -> list[str]:
        """The ends as a user would name them."""
        return [
            end.reference or Source(name=end.name, revision=end.revision).pinned
            for end in self.record.ends
        ]

    def path(self) -> ModelPath:
        """The path through the bends."""
        measured = self.record.measured
        curve = curve_of(measured.kind, measured.bends, measured.places)
        bends = [
            open_bend(self.folder / BENDS, i, f"{self.folder} bend {i + 1}")
            for i in range(measured.bends)
        ]
        return fitted(curve, bends, self.record.bends_digest, self._effort())

    def _effort(self) -> Effort | None:
        """Cost of the fit; None where it was fitted to a function of the user's."""
        settings, measured = self.record.settings, self.record.measured
        if not settings.get("train_data"):
            return None
        known = {field.name for field in fields(CurveFitConfig)}
        return Effort(
            CurveFitConfig(**{name: value for name, value in settings.items() if name in known}),
            measured.steps,
            measured.seed,
            measured.seconds,
            EvalData(**settings["train_data"]),
        )

    def require_ends(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Refuse models other than those that the path was fitted between.

        Raises:
            IncompatibleError: One is another model, or has changed since.
        """
        problems = [
            f"{found.name} is not what the path was fitted to: {end.name} has changed since, or "
            "is another model"
            for found, end in zip(checkpoints, self.record.ends, strict=True)
            if end_entry(found).digest != end.digest
        ]
        if problems:
            raise IncompatibleError(problems, remedy="fit the path again: geo-merge path")

    def _check_bends(self) -> None:
        path = self.folder / BENDS
        if not path.is_file() or file_digest(path) != self.record.bends_digest:
            raise FormatError(
                f"{BENDS} is missing or not the one that was written",
                where=str(self.folder),
                remedy="fit the path again: geo-merge path",
            )


def named_path(
    name: str, models: Sequence[Model], fit: Callable[[str], ModelPath] | None = None
) -> ModelPath:
    """A kind of path by its name, or the fitted one in a folder.

    Args:
        name: Such as `linear`, or a folder.
        models: Between which it is to lead.
        fit: Fits a path of a kind; None where there is no training data.

    Raises:
        ArgumentError: No such kind, one that cannot be fitted, or more than two models.
        IncompatibleError: The folder's path leads between other models.
    """
    if name in FITTED and fit is not None:
        return fit(name)
    if name in FITTED:
        raise ArgumentError(
            f"a {name} path is fitted to training data",
            remedy="--train-data FILE; or --along DIR, which geo-merge path made",
        )
    if not Path(name).is_dir():
        return path(name)
    if len(models) != PAIR:
        raise ArgumentError(f"the path in {name} leads between two models, found {len(models)}")
    found = PathFolder.open(Path(name))
    found.require_ends([checkpoint.fetch() for checkpoint in open_checkpoints(models)])
    return found.path()


def end_entry(checkpoint: Checkpoint) -> EndEntry:
    """A model as `path.json` names it."""
    return EndEntry(
        name=checkpoint.name,
        revision=checkpoint.revision,
        reference=pinned(checkpoint),
        digest=checkpoint_digest(checkpoint),
    )


def save_bends(states: Sequence[Mapping[str, Tensor]], path: Path) -> str:
    """Write bends to one file, and return its digest."""
    tensors = {
        bend_prefix(i) + name: tensor.detach().cpu().clone()
        for i, state in enumerate(states)
        for name, tensor in state.items()
    }
    save_tensors(tensors, path, {"format": "pt"})
    return file_digest(path)
