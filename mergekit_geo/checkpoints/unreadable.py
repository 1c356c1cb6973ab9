"""Models whose weights cannot be averaged, or not read: each is refused, with the way out.

Pickles, other formats, adapters without their base, quantised weights.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.index import INDEX, INDEXES, SINGLE
from mergekit_geo.checkpoints.module_folders import ModuleFolder
from mergekit_geo.errors import FormatError, UnsupportedError
from mergekit_geo.files.hub_id import HubId, inside
from mergekit_geo.files.local_path import local_path

SCALE = re.compile(r"weight_scale|scale_inv|absmax|zero_?point|quant_|\.scales$|SCB$")
"""Part of the names of tensors that accompany quantised weights, such as scales."""

FEW = 6
_RESAVE = "load it with from_tf or from_flax of transformers 4, and save it with save_pretrained"
OTHER_FORMATS = {
    ".gguf": "use the model that it was made from; convert after merging",
    ".h5": _RESAVE, ".msgpack": _RESAVE, ".onnx": "use the model that it was exported from",
}  # fmt: skip
"""Suffixes of weights that are not read, and what to do about them."""


def refuse_unreadable(name: str, files: set[str]) -> None:
    """Refuse a file list that holds no safetensors weights of one model.

    Raises:
        UnsupportedError: The weights are pickled, or an adapter without its base.
        FormatError: There are no weights at all.
    """
    if "adapter_config.json" in files and not files & {SINGLE, INDEX}:
        raise UnsupportedError(
            "this is an adapter, not a whole model",
            where=name,
            remedy=f"name its base as well: BASE+{name}",
        )
    here = sorted(file for file in files if "/" not in file)
    if any(file.endswith(".safetensors") or file in INDEXES for file in here):
        return
    if pickled := [f for f in here if f.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        raise UnsupportedError(
            f"the weights are pickled ({pickled[0]}), and a pickle can run any code when loaded; "
            "expected safetensors",
            where=name,
            remedy=f"convert it if you trust it: {conversion_command(name)}",
        )
    _refuse_without_weights(name, here, sorted(files))


def _refuse_without_weights(name: str, here: list[str], files: list[str]) -> NoReturn:
    """Refuse a folder without weights, naming what it holds instead."""
    below = sorted({f.rpartition("/")[0] for f in files if f.endswith(".safetensors")})
    if below:
        raise FormatError(
            f"no safetensors file in it; some are in {', '.join(below[:FEW])}",
            where=name,
            remedy=f"name the folder of one: {inside(name, below[0])}",
        )
    other = next((f for f in here if f.endswith(tuple(OTHER_FORMATS))), None)
    if other is not None:
        raise UnsupportedError(
            f"no safetensors file in it; {other} is of another format, which is not read",
            where=name,
            remedy=OTHER_FORMATS[Path(other).suffix],
        )
    raise FormatError(
        "no safetensors file in it",
        where=name,
        remedy=f"expected {SINGLE} or {INDEX}; of an adapter, adapter_config.json and "
        "adapter_model.safetensors",
    )


def conversion_command(name: str) -> str:
    """The command that turns a pickled checkpoint into a safetensors one."""
    source, *more = _source(name)
    target = f"{Path(source).name}-safetensors"
    code = (
        "import sys, transformers as t; s, d, *r = sys.argv[1:]; "
        "k = dict(zip(['revision', 'subfolder'], r)); c = t.AutoConfig.from_pretrained(s, **k); "
        "getattr(t, c.architectures[0]).from_pretrained(s, use_safetensors=False, **k)"
        ".save_pretrained(d); t.AutoTokenizer.from_pretrained(s, **k).save_pretrained(d)"
    )
    return f'python -c "{code}" {shlex.join([source, target, *more])}'


def _source(name: str) -> list[str]:
    """What transformers calls a model: a folder or repository, then revision and subfolder."""
    if local_path(name).is_dir() or (place := HubId.parse(name)) is None:
        return [name]
    if place.subfolder:
        return [place.repo, place.revision or "main", place.subfolder]
    return [place.repo, *filter(None, [place.revision])]


def refuse_quantised(name: str, config: Config, tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse a configuration of packed weights.

    Raises:
        UnsupportedError: `quantization_config` is set.
    """
    if not (method := _quantised_by(config)):
        return
    if any(not info.is_float or SCALE.search(tensor) for tensor, info in tensors.items()):
        raise _packed(name, method)
    dtypes = ", ".join(sorted({info.dtype for info in tensors.values()}))
    raise UnsupportedError(
        f"config.json says that the weights are quantised ({method}), and they are stored as "
        f"plain {dtypes}",
        where=name,
        remedy="take quantization_config out of its config.json to merge them as they are",
    )


@contextmanager
def quantised_errors(name: str, config: Config) -> Iterator[None]:
    """Report unreadable tensors as quantised, where the configuration says so.

    Raises:
        UnsupportedError: In the place of a FormatError.
    """
    try:
        yield
    except FormatError as error:
        if method := _quantised_by(config):
            raise _packed(name, method) from error
        raise


def _quantised_by(config: Config) -> str:
    """The method that a configuration names; empty where it names none."""
    parts = (config, *(value for value in config.values() if isinstance(value, dict)))
    found = next((p["quantization_config"] for p in parts if p.get("quantization_config")), None)
    if found is None:
        return ""
    return str(found.get("quant_method", "unknown")) if isinstance(found, dict) else "unknown"


def _packed(name: str, method: str) -> UnsupportedError:
    return UnsupportedError(
        f"the weights are quantised ({method}), and packed integers cannot be averaged",
        where=name,
        remedy="use the unquantised model; quantise after merging",
    )


def refuse_pickled_component(component: ModuleFolder, name: str) -> None:
    """Refuse a component of a pipeline whose weights are all pickled.

    Args:
        component: With its files.
        name: What the user calls the pipeline.

    Raises:
        UnsupportedError: With the command that saves the pipeline as safetensors.
    """
    if component.weights or not component.pickles:
        return
    source, *more = _source(name)
    code = (
        "import sys, diffusers as d; s, t, *r = sys.argv[1:]; d.DiffusionPipeline.from_pretrained("
        "s, **dict(zip(['revision'], r))).save_pretrained(t)"
    )
    target = f"{Path(source).name}-safetensors"
    raise UnsupportedError(
        f"the weights of {component.path} are pickled ({component.pickles[0]}), and a pickle can "
        "run any code when loaded; expected safetensors",
        where=name,
        remedy=f'convert it if you trust it: python -c "{code}" '
        f"{shlex.join([source, target, *more[:1]])}",
    )
