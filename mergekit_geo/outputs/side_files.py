"""The files beside the weights, written to an output: they go from the donor byte for byte.

Resaving them through transformers would change them, and raises on some generation configurations.
"""

from __future__ import annotations

import json
from pathlib import Path

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.components import configs_of, read_components
from mergekit_geo.checkpoints.configuration import config_text, without_other_files
from mergekit_geo.checkpoints.index import CLASS
from mergekit_geo.checkpoints.side_files import copy_files, side_files_of

DTYPE_KEYS = ("dtype", "torch_dtype")


def copy_side_files(
    donor: Path, out: Path, dtype: str | None = None, config: Config | None = None, inside: str = ""
) -> None:
    """Copy the donor's companions into `out`, byte for byte.

    Args:
        donor: Folder of the checkpoint they come from.
        out: Folder they go to.
        dtype: The weights' dtype in torch's spelling, such as `bfloat16`, where it is not the
            donor's. It is changed in `config.json`, and keys that name files which the output
            lacks are left out there: nothing else is.
        config: What `config.json` is to say where that is not what the donor's says; a pipeline
            has none.
        inside: Place of `config.json` in these folders.
    """
    copy_files(donor, side_files_of(donor), out)
    if config is not None and not configs_of(config):
        write_config(out / inside, config, dtype)
        return
    for place in [inside, *(component.path for component in read_components(donor))]:
        if (out / place / "config.json").is_file():
            _adapt_config(out / place, dtype)


def write_config(out: Path, config: Config, dtype: str | None = None) -> None:
    """Write `config.json`, stating `dtype` if it is given."""
    text = config_text(_of_dtype(config, dtype))
    (out / "config.json").write_text(text, "utf-8")


def _adapt_config(out: Path, dtype: str | None) -> None:
    """Change only the keys that have to change, and keep the rest as it is written."""
    path = out / "config.json"
    text = path.read_text("utf-8")
    stored = json.loads(text)
    config = _of_dtype(json.loads(text, object_hook=without_other_files), dtype)
    if config != stored:
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _of_dtype(config: Config, dtype: str | None) -> Config:
    if dtype is None or CLASS in config:  # of a diffusers component, which states none
        return config
    stated = [key for key in DTYPE_KEYS if key in config] or [DTYPE_KEYS[0]]
    return {**config, **dict.fromkeys(stated, dtype)}
