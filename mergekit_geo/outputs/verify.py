"""Whether a folder is a whole output, told from its files alone."""

from __future__ import annotations

from pathlib import Path

from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.own_files import is_own, own
from mergekit_geo.errors import CheckpointError, PushError
from mergekit_geo.files.sound_json import read_json
from mergekit_geo.outputs.journal import FILE, FRESH
from mergekit_geo.outputs.kind import ESCAPED, MARK
from mergekit_geo.outputs.place import partial_of

MARKS = (MARK, "finetune.json", ESCAPED.mark)
"""One of these tells an output, and names its tensors."""
WEIGHTS = (".safetensors", ".safetensors.index.json")
HELD = ("report.json", "README.md")
"""Every output holds these beside its weights."""


def require_finished(folder: Path) -> list[Path]:
    """The files of an output, relative to it, sorted; hidden ones are no part of it.

    Raises:
        PushError: It is no output, not a whole one, or one whose files are links to elsewhere.
    """
    if not folder.is_dir():
        raise _absent(folder)
    if any((folder / journal).exists() for journal in (FILE, FRESH)):
        raise _unfinished(folder)
    mark = next((name for name in MARKS if (folder / name).is_file()), None)
    if mark is None:
        raise PushError(
            f"this is no output of geo-merge (it has no {MARK})",
            where=str(folder),
            remedy="`hf upload` pushes any folder",
        )
    if absent := [name for name in HELD if not (folder / name).is_file()]:
        raise _incomplete(folder, f"it has no {absent[0]}")
    _require_weights(folder, mark)
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    _require_own(folder, mark, shown)
    return sorted(own(folder, shown))


def links_out(folder: Path) -> list[str]:
    """Files of an output that are not pushed: they are links that lead out of its folder."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(file.as_posix() for file in files if not is_own(folder, file))


def _require_own(folder: Path, mark: str, files: list[Path]) -> None:
    needed = {mark, *HELD, "config.json"}
    for file in files:
        is_needed = file.as_posix() in needed or file.name.endswith(WEIGHTS)
        if is_needed and not is_own(folder, file):
            raise PushError(
                f"{file} is a link that leads out of the folder, and the output needs it",
                where=str(folder),
                remedy="put a copy in its place",
            )


def _require_weights(folder: Path, mark: str) -> None:
    """Require that all shards are there and sound, and hold the tensors that are recorded."""
    try:
        held = open_folder(folder).tensors.keys()
    except CheckpointError as error:
        raise _incomplete(folder, error.message) from error
    try:
        recipe = read_json(folder / mark)
        named, modules = recipe["tensors"].keys(), dict(recipe.get("modules", {}))
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _incomplete(folder, f"{mark} is not sound") from error
    if absent := sorted(named - held):
        raise _incomplete(folder, f"{absent[0]} is missing, and {len(absent) - 1} other tensors")
    if gone := [file for file in modules if not (folder / file).is_file()]:
        raise _incomplete(folder, f"it has no {gone[0]}")


def _absent(folder: Path) -> PushError:
    if partial_of(folder).is_dir():
        return _unfinished(partial_of(folder))
    return PushError("no such folder", where=str(folder), remedy="give the -o of a merge")


def _unfinished(folder: Path) -> PushError:
    return PushError(
        "this output is unfinished",
        where=str(folder),
        remedy="run the merge again: it continues where it was",
    )


def _incomplete(folder: Path, why: str) -> PushError:
    return PushError(
        f"this output is incomplete: {why}",
        where=str(folder),
        remedy="make it again: merge with --overwrite",
    )
