"""Preflight: do these checkpoints belong together? Answered from headers and configurations.

What is wrong is found here, all at once, before anything is downloaded or written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.components import PIPELINE, configs_of
from mergekit_geo.checkpoints.configuration import TIE
from mergekit_geo.checkpoints.derived import renamed
from mergekit_geo.checkpoints.differences import compare_tensors, refuse_lost_predictors
from mergekit_geo.checkpoints.index import CLASS, INDEX
from mergekit_geo.checkpoints.matching import (
    align_names,
    further_layers,
    leave_to_donor,
    output_names,
)
from mergekit_geo.checkpoints.parts import parts_of
from mergekit_geo.checkpoints.reshape.depth import depth_keys
from mergekit_geo.checkpoints.settings import differing_settings
from mergekit_geo.checkpoints.shapes import misshapen
from mergekit_geo.checkpoints.sources import is_base_of, original, side_files_from
from mergekit_geo.checkpoints.vocabulary import compare_vocabularies
from mergekit_geo.files.hub_id import inside


def preflight(checkpoints: Sequence[Checkpoint], *, by_layers: bool = False) -> Preflight:
    """Compare checkpoints with the first of them, the donor.

    Args:
        checkpoints: The models.
        by_layers: Whether single layers are taken of them, so that their depths may differ.
    """
    found = Preflight()
    for checkpoint in checkpoints:
        _ask_adapter(original(checkpoint), found)
        found.notes += _renamed(original(checkpoint))
        found.problems += misshapen(checkpoint)
        found.warnings += _other_weights(checkpoint)
    _compare_configs(checkpoints, found, depth_keys() if by_layers else ())
    if found.problems:
        return found
    names = align_names(checkpoints, found)
    refuse_lost_predictors(checkpoints, found)
    leave_to_donor(checkpoints, names, found)
    compare_tensors(checkpoints, names, found, by_layers=by_layers)
    source = side_files_from(checkpoints)
    others = [c for c in checkpoints if c is not source and not is_base_of(c, source)]
    problems, warnings = compare_vocabularies([source, *others])
    found.problems += problems
    found.warnings += warnings
    if not found.problems:
        outputs = output_names(names[0])
        outputs |= further_layers(outputs, names[1:]) if by_layers else {}
        found.anchors = [
            renamed(
                checkpoint,
                {s: own[n] for n, s in outputs.items() if n in own},
                untied=found.untied and checkpoint.config.get(TIE) is not False,
            )
            for checkpoint, own in zip(checkpoints, names, strict=True)
        ]
    return found


def _ask_adapter(checkpoint: Checkpoint, found: Preflight) -> None:
    """Whether a base and its adapter belong together."""
    if (both := checkpoint.adapted) is None:
        return
    found.problems += both.problems
    found.warnings += both.warnings
    if (beside := both.side_files) is not None:
        found.problems += [beside.problem] if beside.problem else []
        found.warnings += [beside.warning] if beside.warning else []
        found.notes += beside.notes


def _renamed(checkpoint: Checkpoint) -> list[str]:
    """What was done to the names of a model, or of an adapter's base, before all else."""
    base = checkpoint.adapted.base if checkpoint.adapted else checkpoint
    return [base.renamed] if base.renamed else []


def _other_weights(checkpoint: Checkpoint) -> list[str]:
    """A warning where transformers would load other weights than are read here."""
    named = checkpoint.config.get("transformers_weights")
    read = original(checkpoint).files
    if named is None or not read or named in (*read, INDEX):
        return []
    return [
        f"config.json of {checkpoint.name} says that its weights are in {named!r}, which is not "
        f"read: those in {read[0]} are"
    ]


def _compare_configs(
    checkpoints: Sequence[Checkpoint], found: Preflight, silent: Collection[str] = ()
) -> None:
    donor, *others = [c for c in checkpoints if c.config] or [checkpoints[0]]
    for other in others:
        if found_unlike := _unlike_architectures(donor, other):
            hint = _graft_hint(donor, other)
            found.problems.append(f"different architectures: {found_unlike}{hint}")
            continue
        found.warnings += differing_settings(donor, other, silent)
        for place in configs_of(donor.config).keys() & configs_of(other.config):
            _compare_configs([_component(one, place) for one in (donor, other)], found, silent)


def _component(pipeline: Checkpoint, place: str) -> Checkpoint:
    """The name and the configuration of a pipeline's component."""
    name = inside(pipeline.name, place)
    return replace(pipeline, name=name, config=configs_of(pipeline.config)[place])


def _unlike_architectures(donor: Checkpoint, other: Checkpoint) -> str:
    """How the stated architectures of two models differ; empty if they do not.

    Class names are compared without regard to case: LLaMAForCausalLM was renamed.
    """
    for whole, one in ((donor, other), (other, donor)):
        if (components := configs_of(whole.config)) and not configs_of(one.config):
            example = inside(whole.name, next(iter(components)))
            return (
                f"{whole.name} is a whole pipeline ({PIPELINE}), and {one.name} is one model: name "
                f"a component, such as {example}"
            )
    for key in ("architectures", "model_type", CLASS):
        mine, theirs = _stated(donor, key), _stated(other, key)
        if mine and theirs:
            same = mine.casefold() == theirs.casefold()
            return "" if same else f"{donor.name} is {mine}, {other.name} is {theirs}"
    return ""


def _graft_hint(donor: Checkpoint, other: Checkpoint) -> str:
    """How the modules that two models share are merged, where one has more; empty otherwise."""
    mine, theirs = (
        {part.module for part in parts_of(c.tensors, c.config).values()} for c in (donor, other)
    )
    if mine == theirs or len(shared := mine & theirs) != 1:
        return ""
    return f"; --part {shared.pop()} merges what both have"


def _stated(checkpoint: Checkpoint, key: str) -> str:
    found = checkpoint.config.get(key)
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found or "")
