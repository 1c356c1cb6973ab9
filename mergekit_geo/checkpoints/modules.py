"""The modules that sentence-transformers puts after a model: pooling, Dense layers and others.

`modules.json` names a folder of each. What has weights there is merged as the model is; how they
compute must be the same in all parents.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.beside import weights_beside
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.index import read_tensors
from mergekit_geo.checkpoints.module_folders import (
    MODULES,
    ROUTERS,
    ModuleFolder,
    loader_in,
    read_modules,
    route_kinds,
)
from mergekit_geo.checkpoints.pipeline import compare_pipelines
from mergekit_geo.checkpoints.sources import original
from mergekit_geo.checkpoints.vocabulary import has_tokenizer, read_vocabulary
from mergekit_geo.errors import CheckpointError
from mergekit_geo.files.sound_json import brief, read_json

WEIGHTLESS = frozenset({"Normalize"})
"""Modules that may have no folder at all."""

WEIGHTED = frozenset(
    {"CNN", "Dense", "LSTM", "LayerNorm", "SparseAutoEncoder", "SparseStaticEmbedding",
     "StaticEmbedding", "WeightedLayerPooling", "WordEmbeddings"}
)  # fmt: skip
"""Modules that need weights."""

RENAMED = {
    "word_embedding_dimension": "embedding_dimension",
    "in_word_embedding_dimension": "in_embedding_dimension",
}
"""Names of settings before sentence-transformers 5.4, and since."""

MODES = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean", "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
"""Flags that chose the pooling before, and the value that does since."""

PROCESSORS = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
"""Files with settings of processors for images, video and audio."""

NAMES = ("_type", "_class")
"""Ends of keys whose values are names of classes, which have come to be called otherwise."""

NOT_COMPARED = ("tokenizer_config.json", "generation_config.json")
"""Settings of a model in a module that do not say what it computes."""

BY_THE_WAY = ("transformers_version", "torch_dtype", "dtype", "_name_or_path")
"""Keys of a model's configuration that need not be alike."""

FIRST_INPUT = "sentence_embedding"
BY_DEFAULT = (False, None)
ALSO_BY_DEFAULT = {"include_prompt": True, "module_input_name": FIRST_INPUT}
UNKNOWN = ("embedding_dimension",)
"""Settings that some modules learn as they run: null before that, and alike if the model is."""


def mergeable(checkpoints: Sequence[Checkpoint], *, by_layers: bool = False) -> Preflight:
    """Run `preflight`, and check that sentence-transformers modules beside the model agree."""
    found = preflight(checkpoints, by_layers=by_layers)
    found.warnings += weights_beside(checkpoints)
    sources = [original(one.within or one) for one in checkpoints]
    problems, warnings = compare_pipelines(sources)
    found.problems += problems
    found.warnings += warnings
    folders = [Parent(source.name, source.root, source.inside) for source in sources]
    donor = folders[0]
    try:
        if donor.modules or any(parent.modules for parent in folders):
            for parent in folders:
                found.problems += parent.problems()
            for other in folders[1:]:
                _compare(donor, other, found)
        for other in folders[1:]:
            found.warnings += _differing_inputs(donor, other)
    except CheckpointError as error:
        found.problems.append(str(error))
    return found


@dataclass(frozen=True)
class Parent:
    """The sentence-transformers modules of a model.

    Attributes:
        name: What the user calls it.
        folder: None in memory.
        backbone: The folder in it that holds the model itself; empty where that is its own.
    """

    name: str
    folder: Path | None
    backbone: str = ""

    @property
    def modules(self) -> tuple[ModuleFolder, ...]:
        """The modules in their order; empty for a plain model."""
        return read_modules(self.folder) if self.folder else ()

    def weights(self) -> dict[int, dict[str, Any]]:
        """Shapes of each module that has weights in a folder of its own, by its place."""
        return {
            module.index: {
                key: (info.shape, info.is_float)
                for key, (info, _) in read_tensors(self.folder / module.path).items()
            }
            for module in self.modules
            if self.folder and module.weights and module.path != self.backbone
        }

    def problems(self) -> Iterator[str]:
        """Reasons why the modules cannot be copied."""
        for module in self.modules:
            if not module.is_apart:
                continue
            place = f"{self.name}: {MODULES} names {module.path}"
            if not module.files:
                if module.kind not in WEIGHTLESS:
                    yield f"{place} ({module.kind}), which is missing"
            elif not module.weights and module.pickles:
                yield (
                    f"{place}, whose weights are pickled ({module.pickles[0]}); if you trust them "
                    f"save them as safetensors: {_conversion(self.name, loader_in(self.folder))}"
                )
            elif not module.weights and module.kind in WEIGHTED:
                yield f"{place} ({module.kind}), whose weights are missing"


def _conversion(name: str, loader: str | None) -> str:
    """The command that saves a model's modules as safetensors."""
    code = (
        "import sys, sentence_transformers as s; "
        f"s.{loader}(sys.argv[1]).save_pretrained(sys.argv[2])"
    )
    target = f"{Path(name.partition('@')[0]).name}-safetensors"
    return f'python -c "{code}" {shlex.join([name.partition("@")[0], target])}'


def _compare(donor: Parent, other: Parent, found: Preflight) -> None:
    mine, theirs = donor.modules, other.modules
    if not mine:
        if theirs:
            found.warnings.append(
                f"{other.name} has {MODULES} ({_row(theirs)}) and {donor.name} has none: it is "
                f"left out; name {other.name} first to keep it"
            )
        return
    if not theirs and not donor.weights():
        if other.folder is not None:
            found.warnings.append(
                f"{donor.name} has {MODULES} ({_row(mine)}) and {other.name} has none: the output "
                f"has that of {donor.name}"
            )
        return
    if _row(mine) != _row(theirs):
        found.problems.append(
            f"{MODULES}: {_row(mine)} in {donor.name} and {_row(theirs) or 'none'} in {other.name}"
        )
        return
    for module in mine:
        if module.path != donor.backbone:
            found.problems += _differing_settings(module, donor, other)
    found.warnings += _differing_texts(donor, other)
    found.problems += _differing_weights(donor, other)


def _row(modules: Sequence[ModuleFolder]) -> str:
    """The kinds of modules in a row, such as `Transformer, Pooling, Dense`."""
    return ", ".join(module.kind for module in modules)


def _differing_settings(module: ModuleFolder, donor: Parent, other: Parent) -> Iterator[str]:
    """Settings of a module that are not the same in both, by key, with both values."""
    assert donor.folder is not None
    assert other.folder is not None
    theirs = next(m for m in other.modules if m.index == module.index)
    for name in sorted({*_settings_of(module), *_settings_of(theirs)}.difference(NOT_COMPARED)):
        one = _today(module.kind, _read(donor.folder / module.path / name))
        two = _today(module.kind, _read(other.folder / theirs.path / name))
        for key in sorted({*one, *two}.difference(BY_THE_WAY)):
            a, b = (found.get(key, ALSO_BY_DEFAULT.get(key)) for found in (one, two))
            if a != b and not (a in BY_DEFAULT and b in BY_DEFAULT) and not _is_unknown(key, a, b):
                said = f"{key} is {brief(a)} in {donor.name} and {brief(b)} in {other.name}"
                yield f"{module.path}/{name}: {said}"


def _settings_of(module: ModuleFolder) -> list[str]:
    """Names of a module's files of settings, in its folder."""
    return [path.relative_to(module.path).as_posix() for path in module.settings]


def _is_unknown(key: str, *values: object) -> bool:
    return key in UNKNOWN and None in values


def _today(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A module's settings as sentence-transformers writes them now.

    >>> _today("Pooling", {"word_embedding_dimension": 8, "pooling_mode_cls_token": True})
    {'embedding_dimension': 8, 'pooling_mode': 'cls'}
    """
    found = {RENAMED.get(key, key): v for key, v in settings.items() if key not in MODES}
    if kind == "Pooling":
        flags = [mode for key, mode in MODES.items() if settings.get(key)] or ["mean"]
        stated = found.get("pooling_mode") or flags
        found["pooling_mode"] = ", ".join(stated) if isinstance(stated, list) else stated
    if found.get("module_output_name") == found.get("module_input_name", FIRST_INPUT):
        found["module_output_name"] = None
    if kind in ROUTERS:
        return {**found, "types": None, "structure": route_kinds(settings)}
    return found


def _differing_texts(donor: Parent, other: Parent) -> Iterator[str]:
    """Settings of text inputs that differ."""
    places = {_place(donor), _place(donor) / donor.backbone}
    for pattern in ("sentence_*_config.json", "config_sentence_transformers.json"):
        for path in sorted(path for place in places for path in place.glob(pattern)):
            yield from _differing(path.name, donor, other)


def _differing_inputs(donor: Parent, other: Parent) -> Iterator[str]:
    """Settings of image, video and audio inputs that differ."""
    for file in PROCESSORS if donor.folder and other.folder else ():
        holders = [parent for parent in (donor, other) if (_place(parent) / file).is_file()]
        if len(holders) == 1:
            lacking = other if holders == [donor] else donor
            has = "has it" if lacking is other else f"has none; name {other.name} first to keep it"
            yield f"{file} is in {holders[0].name} and not in {lacking.name}; the output {has}"
        else:
            yield from _differing(file, donor, other)


def _differing(file: str, donor: Parent, other: Parent) -> Iterator[str]:
    """Settings in a file that both state and that differ; the output has the donor's."""
    one, two = (_read(_settings_in(parent, file)) for parent in (donor, other))
    for key in sorted({*one} & {*two}):
        if one[key] != two[key] and not (key == "__version__" or key.endswith(NAMES)):
            yield (
                f"{file}: {key} is {brief(one[key])} in {donor.name} and {brief(two[key])} in "
                f"{other.name}; the output has the first model's"
            )


def _settings_in(parent: Parent, file: str) -> Path:
    """Where a file of settings is: in the model's folder, or in that of its backbone."""
    own = _place(parent) / file
    return own if own.is_file() else _place(parent) / parent.backbone / file


def _place(parent: Parent) -> Path:
    assert parent.folder is not None
    return parent.folder


def _differing_weights(donor: Parent, other: Parent) -> Iterator[str]:
    mine, theirs = donor.weights(), other.weights()
    for index in sorted(mine.keys() | theirs.keys()):
        holder, lacking = (donor, other) if index in mine else (other, donor)
        path = holder.modules[index].path
        if not (index in mine and index in theirs):
            yield f"{path} has weights in {holder.name} and none in {lacking.name}"
            continue
        for key in sorted(mine[index].keys() | theirs[index].keys()):
            one, two = (_shape(header[index].get(key)) for header in (mine, theirs))
            if one != two:
                yield f"{path}: {key} is {one} in {donor.name} and {two} in {other.name}"
        yield from _differing_vocabularies(index, donor, other)


def _differing_vocabularies(index: int, donor: Parent, other: Parent) -> Iterator[str]:
    """Vocabularies of a module that has its own, such as StaticEmbedding."""
    places = [_place(parent) / parent.modules[index].path for parent in (donor, other)]
    held = [read_vocabulary(place) if has_tokenizer(place) else None for place in places]
    if None not in held and held[0] != held[1]:
        path = donor.modules[index].path
        yield f"{path}: {donor.name} and {other.name} have different vocabularies"


def _shape(found: tuple[tuple[int, ...], bool] | None) -> str:
    if found is None:
        return "missing"
    shape, is_float = found
    return f"{list(shape)}" if is_float else f"{list(shape)} of integers"


def _read(path: Path) -> dict[str, Any]:
    """Settings in a JSON file; none where there is none."""
    return read_json(path) if path.is_file() else {}
