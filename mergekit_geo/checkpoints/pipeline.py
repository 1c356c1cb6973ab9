"""A diffusers pipeline as one checkpoint, and whether several fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.components import COMPONENTS, configs_of, read_components, split_name
from mergekit_geo.checkpoints.index import CLASS
from mergekit_geo.checkpoints.module_folders import ModuleFolder, at
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.settings import SILENT
from mergekit_geo.checkpoints.unchanged import stamps_in
from mergekit_geo.checkpoints.vocabulary import conflict, read_vocabulary
from mergekit_geo.files.sound_json import brief, read_json
from mergekit_geo.records.model import License

MEANINGS = ("prediction_type",)
"""Settings of a scheduler that say what a denoiser predicts: unlike ones have no mean."""


def joined(
    name: str,
    folder: Path,
    components: Mapping[str, Checkpoint],
    *,
    revision: str | None = None,
    listed: frozenset[str] = frozenset(),
    stated: License | None = None,
) -> Checkpoint:
    """A pipeline of its components.

    Args:
        name: What the user calls it.
        folder: That holds them.
        components: Those that have weights, by their folder.
        revision: Commit of the Hub that it is a snapshot of.
        listed: All that its repository holds, where only a part of that is here.
        stated: Its license, where the Hub has told it.
    """
    every = components.items()

    def read(tensor: str, start: int, stop: int, out: Bytes) -> None:
        place, own = split_name(tensor)
        components[place].read(own, start, stop, out)

    def fetched(_: Checkpoint) -> Checkpoint:
        here = {place: one.fetch() for place, one in every}
        return joined(name, folder, here, revision=revision, listed=listed, stated=stated)

    return Checkpoint(
        name=name,
        tensors={f"{place}.{n}": info for place, one in every for n, info in one.tensors.items()},
        read=read,
        fingerprint=lambda: [[place, one.fingerprint()] for place, one in every],
        config={COMPONENTS: {place: one.config for place, one in every}},
        folder=folder,
        revision=revision,
        stamps=(*stamps_in(folder), *(stamp for _, one in every for stamp in one.stamps)),
        is_local=all(one.is_local for _, one in every),
        fetched=fetched,
        files=tuple(at(place, file) for place, one in every for file in one.files),
        listed=listed,
        license=stated,
        renamed="; ".join(one.renamed for _, one in every if one.renamed),
    )


def compare_pipelines(checkpoints: Sequence[Checkpoint]) -> tuple[list[str], list[str]]:
    """Problems and warnings from comparing each pipeline with the first; none of other models.

    Weights and configurations of components are compared as those of all models are.
    """
    problems: list[str] = []
    warnings: list[str] = []
    whole = [one for one in checkpoints if configs_of(one.config)]
    for other in whole[1:]:
        problems += _unlike(whole[0], other)
        warnings += _differing(whole[0], other)
    return problems, warnings


def _unlike(donor: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """Reasons why no mean can be taken: unlike classes, vocabularies, or predictions."""
    for place, mine, theirs in _shared(donor, other):
        is_weighed = place in configs_of(donor.config)
        if is_weighed and mine.kind.casefold() != theirs.kind.casefold():
            yield f"{place} is {mine.kind} in {donor.name} and {theirs.kind} in {other.name}"
        tokens = [read_vocabulary(_folder(one) / place) for one in (donor, other)]
        if tokens[0] and tokens[1] and (found := conflict(tokens[0], tokens[1])):
            yield f"{place}: {found} (in {donor.name} and in {other.name})"
        if not is_weighed:
            yield from _differing_settings(place, mine, donor, other, MEANINGS)


def _differing(donor: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """What the output has of the first pipeline, where others have something else."""
    mine, theirs = (_components(one).keys() - configs_of(one.config) for one in (donor, other))
    for place in sorted(mine ^ theirs):
        holder, lacking = (donor, other) if place in mine else (other, donor)
        has = "has it" if holder is donor else "has none"
        yield f"{place} is in {holder.name} and not in {lacking.name}; the output {has}"
    for place, one, two in _shared(donor, other):
        if place in mine and place in theirs:
            if one.kind != two.kind:
                yield (
                    f"{place} is {one.kind} in {donor.name} and {two.kind} in {other.name}; the "
                    "output has the first model's"
                )
            yield from (
                f"{found}; the output has the first model's"
                for found in _differing_settings(place, one, donor, other)
            )


def _differing_settings(
    place: str,
    component: ModuleFolder,
    donor: Checkpoint,
    other: Checkpoint,
    asked: Collection[str] = (),
) -> Iterator[str]:
    """Settings of a component without weights that both state and that differ."""
    for path in component.settings:
        one, two = (_read(_folder(checkpoint) / path) for checkpoint in (donor, other))
        for key in sorted(one.keys() & two.keys()):
            told = key in asked if asked else key not in (*SILENT, *MEANINGS, CLASS)
            if told and one[key] != two[key]:
                yield (
                    f"{path}: {key} is {brief(one[key])} in {donor.name} and {brief(two[key])} in "
                    f"{other.name}"
                )


def _shared(donor: Checkpoint, other: Checkpoint) -> list[tuple[str, ModuleFolder, ModuleFolder]]:
    """The components that both have."""
    mine, theirs = _components(donor), _components(other)
    return [(place, mine[place], theirs[place]) for place in mine if place in theirs]


def _components(checkpoint: Checkpoint) -> dict[str, ModuleFolder]:
    return {one.path: one for one in read_components(_folder(checkpoint))}


def _folder(checkpoint: Checkpoint) -> Path:
    assert checkpoint.folder is not None, "a pipeline has a folder"
    return checkpoint.folder


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
