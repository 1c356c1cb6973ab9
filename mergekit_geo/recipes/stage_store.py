"""Models that are made on the way: kept in the user's cache, made where they are not there yet.

One is known by its key, never by being there: what it was when it was made is noted beside it. It
is an ordinary output, which a killed run leaves unfinished and the next one goes on with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.commands._run import Work, carry_out
from mergekit_geo.errors import DiskFullError, GeoError, OutputError
from mergekit_geo.files.user_cache import CacheFolder
from mergekit_geo.outputs.place import partial_of
from mergekit_geo.outputs.writer import bytes_in
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.recipes.record import COPY
from mergekit_geo.recipes.stages import Stage, of_stage
from mergekit_geo.records.model import Source
from mergekit_geo.records.report import Report, read_report

if TYPE_CHECKING:
    from mergekit_geo.progress import Progress

STAGES = "stages"
"""Their folder in the user's cache."""


@dataclass(frozen=True)
class MadeStage:
    """A model that was made on the way.

    Attributes:
        stage: As planned.
        place: Its folder.
        checkpoint: The model, under its name.
        report: Of its making.
    """

    stage: Stage
    place: Path
    checkpoint: Checkpoint
    report: Report

    @property
    def name(self) -> str:
        """What other recipes call it."""
        return self.stage.name

    @property
    def recipe(self) -> dict[str, Any]:
        """Recipe of the stage, with the commits of models on the Hub."""
        *_, own = yaml.safe_load_all((self.place / COPY).read_text("utf-8"))
        return dict(own)

    @property
    def origins(self) -> list[Source]:
        """Folders and repositories that it was made of, on whatever way."""
        found = [source for model in self.report.models for source in model.origins]
        return list({source.pinned: source for source in found}.values())


class StageStore:
    """Where stages are: in the user's cache, or in a folder that is gone afterwards.

    Args:
        root: Their folder.
        kept: Whether it outlives the command.
        warn: Told why what is kept cannot be used.
    """

    def __init__(
        self, root: Path, *, kept: bool = True, warn: Callable[[str], None] = lambda text: None
    ) -> None:
        self.root, self.kept = root, kept
        self._records = CacheFolder(STAGES, warn)

    def place(self, stage: Stage) -> Path:
        """The folder of a stage."""
        return self.root / stage.key

    def holds(self, stage: Stage) -> bool:
        """Whether a stage is there, whole and as it was made."""
        content = self._records.read(f"{stage.key}.json") if self.kept else None
        if content is None:
            return False
        try:
            return bool(json.loads(content) == self._state(stage))
        except GeoError:
            return False

    def keep(self, stage: Stage) -> None:
        """Note that a stage was just made."""
        text = json.dumps(self._state(stage)).encode()
        if self.kept:
            self._records.write(f"{stage.key}.json", lambda file: file.write(text))

    def needs(self, stage: Stage) -> int:
        """Bytes that a stage still takes."""
        if self.holds(stage):
            return 0
        partial = partial_of(self.place(stage))
        return max(stage.nbytes - (bytes_in(partial) if partial.is_dir() else 0), 0)

    def _state(self, stage: Stage) -> Any:
        return json.loads(json.dumps(model_key(open_folder(self.place(stage)))))


@contextmanager
def store_of(stages: Sequence[Stage], warn: Callable[[str], None]) -> Iterator[StageStore]:
    """Where stages are; what is made of models in memory, which can change unseen, is not kept.

    Raises:
        OutputError: The cache cannot be written.
    """
    anchors = [original(one) for stage in stages for one in stage.prepared.checkpoints]
    if any(anchor.in_memory for anchor in anchors):
        with TemporaryDirectory(prefix="geo-merge-stages-") as folder:
            yield StageStore(Path(folder), kept=False, warn=warn)
        return
    cache = CacheFolder(STAGES)
    try:
        cache.make()
    except OSError as error:
        raise OutputError(
            f"models that are made on the way cannot be kept: {error}",
            where=str(cache.folder),
            remedy="set XDG_CACHE_HOME to a folder of yours on a disk with space",
        ) from error
    yield StageStore(cache.folder, kept=True, warn=warn)


def make(
    stages: Sequence[Stage],
    store: StageStore,
    work: Callable[[Stage, Path, Mapping[str, MadeStage]], Work],
    progress: Progress,
) -> dict[str, MadeStage]:
    """Make the stages that are not made yet, in their order.

    Args:
        stages: As planned.
        store: Where they are.
        work: The work of one, given its folder and those made before it.
        progress: Told what is going on.

    Raises:
        DiskFullError: The disk does not hold them.
        GeoError: As a merge; finished stages stay where they are.
    """
    _require_space(stages, store, progress)
    made: dict[str, MadeStage] = {}
    for number, stage in enumerate(stages, 1):
        place = store.place(stage)
        if store.holds(stage):
            progress.say(f"{stage.name} is made already: {place}")
        else:
            progress.say(f"making {stage.name}, {number} of {len(stages)}")
            with of_stage(stage.name):
                carry_out(work(stage, place, made))
            store.keep(stage)
        made[stage.name] = MadeStage(
            stage, place, open_folder(place, stage.name), read_report(place)
        )
    return made


def _require_space(stages: Sequence[Stage], store: StageStore, progress: Progress) -> None:
    """Tell what the stages still take on the disk, or refuse it."""
    needed, free = sum(map(store.needs, stages)), shutil.disk_usage(store.root).free
    if needed > free:
        raise DiskFullError(
            f"models that are made on the way need {in_gigabytes(needed)}, and "
            f"{in_gigabytes(free)} are free there",
            where=str(store.root),
            remedy="free some space, or set XDG_CACHE_HOME to a folder on another disk",
        )
    if needed:
        progress.say(f"models made on the way: {in_gigabytes(needed)} in {store.root}")
