"""What an output has beside its weights where no model's folder has it: a folder made for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.components import configs_of
from mergekit_geo.checkpoints.configuration import config_text
from mergekit_geo.checkpoints.side_files import copy_files, copy_tokenizer, side_files_of
from mergekit_geo.files.sound_json import read_json

GENERATION = "generation_config.json"


class Frame:
    """A folder with the donor's side files, in which some say something else.

    It is there as long as this is: a view of it holds on to it.

    Args:
        donor: Whose side files are copied; one in memory has none, and the frame no folder.
        config: What `config.json` says.
        tokenizer: Folder of the tokenizer that takes the place of the donor's.
        generation: Keys that `generation_config.json` says anew, where there is one.

    Attributes:
        config: The same.
        folder: None for a donor in memory.
        inside: Its place in the folder of all side files, as the donor's.
    """

    def __init__(
        self,
        donor: Checkpoint,
        config: Config,
        tokenizer: Path | None = None,
        generation: Mapping[str, Any] = {},
    ) -> None:
        self.config, self.inside = config, donor.inside
        self.folder: Path | None = None
        if donor.root is None:
            return
        self._place = TemporaryDirectory(prefix="geo-merge-frame-", ignore_cleanup_errors=True)
        place = Path(self._place.name)
        self.folder = place / donor.inside
        copy_files(donor.root, side_files_of(donor.root), place)
        if tokenizer is not None:
            copy_tokenizer(tokenizer, self.folder)
        if not configs_of(config):
            (self.folder / "config.json").write_text(config_text(config), "utf-8")
        _say_anew(self.folder / GENERATION, generation)


def _say_anew(path: Path, settings: Mapping[str, Any]) -> None:
    """Change keys of a JSON file that is there."""
    if settings and path.is_file():
        text = json.dumps({**read_json(path), **settings}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")
