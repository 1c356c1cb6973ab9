"""Preflight: do these checkpoints belong together? Answered from headers and configurations.

Ordinary differences between checkpoints of one architecture are understood (old prefixes, a tied
head stored in one only, buffers that models recompute), and what was done is noted. Everything
else is found here, all at once, before anything is downloaded or written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.components import PIPELINE, configs_of
from mergekit_geo.checkpoints.configuration import TIE, vocabulary_size
from mergekit_geo.checkpoints.derived import renamed
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.index import CLASS, INDEX
from mergekit_geo.checkpoints.layers import layer_number, renumbered
from mergekit_geo.checkpoints.naming import Schema, is_counter, may_be_buffer, schema_of
from mergekit_geo.checkpoints.parts import MTP, Part, missing_parts, parts_of, parts_with_names
from mergekit_geo.checkpoints.reshape.depth import depth_keys
from mergekit_geo.checkpoints.settings import differing_setting, differing_settings
from mergekit_geo.checkpoints.shapes import misshapen
from mergekit_geo.checkpoints.sources import is_base_of, original, side_files_from
from mergekit_geo.checkpoints.vocabulary import compare_vocabularies
from mergekit_geo.errors import IncompatibleError
from mergekit_geo.files.hub_id import inside

Names = dict[str, str]
"""Canonical name to stored name."""

NamedParent = tuple[Checkpoint, Schema, Names]
MANY = 2
PAIR = ("LABEL_0", "LABEL_1")
"""Labels that a configuration need not state."""


@dataclass
class Preflight:
    """Result of comparing checkpoints.

    Attributes:
        anchors: The checkpoints under the donor's tensor names.
        notes: Ordinary differences, and what was done about them.
        warnings: Differences that the user should know of.
        problems: Why they cannot be merged; empty if they can.
        ties: Tensors that have to be equal, as a configuration ties them.
        untied: Whether some models tie head and embedding and others do not: merged, none does.
        aside: Names of what only the donor has, and keeps.
        unfit: Why single tensors cannot be merged, by model and stored name.
        is_fetched: Whether the data of the anchors is here, and was compared.
    """

    anchors: list[Checkpoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ties: list[tuple[Checkpoint, str, str]] = field(default_factory=list)
    untied: bool = False
    aside: set[str] = field(default_factory=set)
    unfit: dict[Checkpoint, dict[str, str]] = field(default_factory=dict)
    is_fetched: bool = False

    def refuse(self, problem: str, holders: Sequence[tuple[Checkpoint, str]]) -> None:
        """Note what is wrong with a tensor, by its stored name in the models that have it."""
        self.problems.append(problem)
        for checkpoint, stored in holders:
            self.unfit.setdefault(checkpoint, {}).setdefault(stored, problem)

    def fetch(self) -> tuple[Checkpoint, ...]:
        """The anchors with their data at hand, after the checks that need data.

        Raises:
            IncompatibleError: Something is wrong.
            HubError: A download failed.
        """
        self.require()
        if not self.is_fetched:
            self.anchors = [anchor.fetch() for anchor in self.anchors]
            self.compare_values()
            self.require()
            self.is_fetched = True
        return tuple(self.anchors)

    def compare_values(self) -> None:
        """Make the checks that need data: integers are equal, tied tensors are the same."""
        self.problems += _differing_integers(self.anchors)
        self.problems += [p for tie in self.ties for p in _loose_tie(*tie)]

    def require(self) -> None:
        """Raise if there are problems.

        Raises:
            IncompatibleError: With all of them.
        """
        if self.problems:
            raise IncompatibleError(
                self.problems, remedy="merge fine-tunes of one base; `geo-merge check` compares"
            )


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
    names = _align_names(checkpoints, found)
    _refuse_lost_predictors(checkpoints, found)
    _leave_to_donor(checkpoints, names, found)
    _compare_tensors(checkpoints, names, found, by_layers=by_layers)
    source = side_files_from(checkpoints)
    others = [c for c in checkpoints if c is not source and not is_base_of(c, source)]
    problems, warnings = compare_vocabularies([source, *others])
    found.problems += problems
    found.warnings += warnings
    if not found.problems:
        outputs = _output_names(names[0])
        outputs |= _further_layers(outputs, names[1:]) if by_layers else {}
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


def _output_names(donor: Names) -> Names:
    """Canonical name to the name in the output: the donor's stored one, for the first that has it.

    A head that is the donor's embedding is stored under that name: it has its own in the output.
    """
    found: Names = {}
    taken: set[str] = set()
    for name, stored in donor.items():
        found[name] = name if stored in taken else stored
        taken.add(stored)
    return found


def _further_layers(outputs: Names, others: Sequence[Names]) -> Names:
    """The same for layers that only other models have, called as the donor's first one."""
    found: Names = {}
    for name in (name for own in others for name in own if name not in outputs):
        if place := layer_number(name):
            first = outputs.get(renumbered(name, 0))
            found[name] = renumbered(first, place[1]) if first and layer_number(first) else name
    return found


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


def _schemas(checkpoints: Sequence[Checkpoint]) -> list[Schema]:
    """Names of each architecture; a model that states none has that of the others."""
    key = "architectures"
    named = next((c.config[key] for c in checkpoints if c.config.get(key)), None)
    configs = [c.config for c in checkpoints]
    return [schema_of(c if c.get(key) or not c else {**c, key: named}) for c in configs]


def _align_names(checkpoints: Sequence[Checkpoint], found: Preflight) -> list[Names]:
    """Canonical to stored names, per checkpoint."""
    stored = [set(checkpoint.tensors) for checkpoint in checkpoints]
    ties = {checkpoint.config.get(TIE) for checkpoint in checkpoints if checkpoint.config}
    if len(ties) < MANY and all(names == stored[0] for names in stored):
        return [{name: name for name in checkpoint.tensors} for checkpoint in checkpoints]
    schemas = _schemas(checkpoints)
    names = [_canonical(c, s, found) for c, s in zip(checkpoints, schemas, strict=True)]
    _resolve_ties(checkpoints, schemas, names, found)
    _drop_superfluous(checkpoints, schemas, names, found)
    return names


def _canonical(checkpoint: Checkpoint, schema: Schema, found: Preflight) -> Names:
    names: Names = {}
    renamed = 0
    for stored in checkpoint.tensors:
        name = schema.canonical(stored)
        if name in names:
            found.problems.append(
                f"{checkpoint.name}: {names[name]!r} and {stored!r} are both loaded as {name!r}"
            )
        names[name] = stored
        renamed += name != stored
    if renamed:
        example = next(f"{s} -> {n}" for n, s in names.items() if n != s)
        found.notes.append(
            f"{checkpoint.name}: {renamed} tensors matched by their loaded names ({example})"
        )
    return names


def _resolve_ties(
    checkpoints: Sequence[Checkpoint], schemas: list[Schema], names: list[Names], found: Preflight
) -> None:
    """Tied tensors that only some checkpoints store, or only some checkpoints tie."""
    every = list(zip(checkpoints, schemas, names, strict=True))
    for target in sorted({target for schema in schemas for target in schema.ties}):
        untied = [c for c, schema, own in every if schema.expected and target not in schema.ties]
        holders = sum(target in own for own in names)
        if untied:
            _untie(target, untied[0], every, found)
        elif 0 < holders < len(names):
            for one in every:
                _leave_out_tied(target, *one, found)
    if not found.untied:
        for other in checkpoints[1:]:
            found.warnings += differing_setting(TIE, checkpoints[0], other)


def _untie(target: str, untied: Checkpoint, every: Sequence[NamedParent], found: Preflight) -> None:
    """Untie the others where one checkpoint has its own head: theirs are their embeddings."""
    for checkpoint, schema, own in every:
        source = schema.ties.get(target)
        if source is None and target not in own:
            found.problems.append(
                f"{checkpoint.name} stores no {target}, which its configuration does not tie"
            )
        if source in own and target not in own:
            own[target] = own[source]
        if source is not None:
            found.untied = True
            found.warnings.append(
                f"{target} is tied to {source} in {checkpoint.name} and not in {untied.name}: "
                f"{source} of {checkpoint.name} is merged as its {target} too, and in the output "
                f"{TIE} is false"
            )


def _leave_out_tied(
    target: str, checkpoint: Checkpoint, schema: Schema, own: Names, found: Preflight
) -> None:
    """Leave out a tied tensor, to be compared with its source, or standing for a missing one."""
    source = schema.ties.get(target)
    if target not in own or source is None:
        return
    if source in own:
        found.ties.append((checkpoint, own[target], own[source]))
    else:
        own[source] = own[target]
    del own[target]
    found.notes.append(f"{checkpoint.name}: {target} is tied to {source}, left out")


def _drop_superfluous(
    checkpoints: Sequence[Checkpoint], schemas: list[Schema], names: list[Names], found: Preflight
) -> None:
    """Leave out what only some checkpoints store and no model needs.

    The donor's counters stay, and what transformers leaves aside by declaration.
    """
    common = set.intersection(*(set(n) for n in names))
    for checkpoint, asked, own in zip(checkpoints, schemas, names, strict=True):
        schema = asked.for_names(own)
        aside = [n for n in own if n not in common and schema.is_aside(n)]
        kept = common.union(n for n in own if own is names[0] and (is_counter(n) or n in aside))
        extra = [n for n in own if n not in kept and schema.is_superfluous(n)]
        for name in extra:
            del own[name]
        _tell_of_aside(checkpoint, aside, found, copied=own is names[0])
        if buffers := [name for name in extra if name not in aside]:
            found.notes.append(
                f"{checkpoint.name}: {len(buffers)} buffers that are not in every model left out "
                f"({buffers[0]})"
            )


def _tell_of_aside(
    checkpoint: Checkpoint, aside: list[str], found: Preflight, *, copied: bool
) -> None:
    if not aside:
        return
    found.aside.update(aside if copied else [])
    does = "are copied from it as they are" if copied else "are left out"
    found.warnings.append(
        f"{len(aside)} tensors that are not alike in every model, or missing, and that "
        f"transformers does without ({aside[0]} of {checkpoint.name}), {does}"
    )


def _leave_to_donor(
    checkpoints: Sequence[Checkpoint], names: list[Names], found: Preflight
) -> None:
    """Leave the donor's own where tensors that no model needs differ in shape or dtype.

    Where they are alike they are merged as all tensors are.
    """
    donor, mine = checkpoints[0], names[0]
    others = list(zip(checkpoints[1:], names[1:], strict=True))
    unlike = {
        name: None
        for name, stored in mine.items()
        for checkpoint, own in others
        if name in own and _unlike(name, donor.tensors[stored], checkpoint.tensors[own[name]])
    }
    schema = schema_of(donor.config).for_names(mine) if unlike else Schema()
    kept = [name for name in unlike if schema.is_buffer(name) or schema.is_unknown(name)]
    for _, own in others:
        for name in kept:
            own.pop(name, None)
    found.aside.update(kept)
    aside = [name for name in kept if not schema.is_buffer(name)]
    _tell_of_aside(donor, aside, found, copied=True)


def _unlike(name: str, mine: TensorInfo, theirs: TensorInfo) -> bool:
    """Whether two tensors cannot be averaged; integers, whether they need not be equal."""
    if mine.is_float != theirs.is_float or mine.shape != theirs.shape:
        return True
    return not mine.is_float and may_be_buffer(name)


def _compare_tensors(
    checkpoints: Sequence[Checkpoint], names: list[Names], found: Preflight, *, by_layers: bool
) -> None:
    donor, mine = checkpoints[0], names[0]
    for checkpoint, own in zip(checkpoints[1:], names[1:], strict=True):
        both = ((donor, mine), (checkpoint, own))
        if cause := _prefixed(*both) or _fused(*both):
            found.problems.append(cause)
            continue
        shared = [n for n in mine.keys() | own.keys() if not is_counter(n)]
        if by_layers:
            shared = [n for n in shared if (n in mine and n in own) or not layer_number(n)]
        names_here = sorted(n for n in shared if n not in found.aside)
        for (holder, its), (lacking, others) in (both, both[::-1]):
            alone = [its[name] for name in names_here if name in its and name not in others]
            _refuse_missing(alone, holder, lacking, found)
        for name in (name for name in names_here if name in mine and name in own):
            infos = donor.tensors[mine[name]], checkpoint.tensors[own[name]]
            if problem := _difference(name, infos, donor, checkpoint):
                found.refuse(problem, [(one, names[name]) for one, names in both])


def _refuse_missing(
    alone: Sequence[str], holder: Checkpoint, lacking: Checkpoint, found: Preflight
) -> None:
    """Refuse tensors that one of two models lacks: a part as a whole, or one by one."""
    if not alone:
        return
    theirs = set(parts_with_names(lacking))
    parts = parts_of(holder.tensors, holder.config)
    whole: dict[Part, list[str]] = {}
    for stored in alone:
        if parts[stored] in theirs or may_be_buffer(stored):
            problem = f"{stored} is in {holder.name} and not in {lacking.name}"
            found.refuse(problem, [(holder, stored)])
        else:
            whole.setdefault(parts[stored], []).append(stored)
    for part, names in whole.items():
        _refuse_part(part, names, holder, lacking, found)


def _refuse_part(
    part: Part, names: Sequence[str], holder: Checkpoint, lacking: Checkpoint, found: Preflight
) -> None:
    tensors = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    found.refuse(
        f"{part} ({tensors}, {names[0]}) is in {holder.name} and not in {lacking.name}: "
        "--allow-missing-parts copies it",
        [(holder, name) for name in names],
    )


def _refuse_lost_predictors(checkpoints: Sequence[Checkpoint], found: Preflight) -> None:
    """Refuse layers for multi-token prediction that some models lack.

    What transformers ignores by declaration is left aside: it has no part in what the models are.
    """
    if all(c.tensors.keys() == checkpoints[0].tensors.keys() for c in checkpoints):
        return
    for part in (part for part in missing_parts(checkpoints) if part.kind == MTP):
        having = [(one, parts_with_names(one).get(part)) for one in checkpoints]
        holder, names = next((one, names) for one, names in having if names)
        lacking = next(one for one, names in having if not names)
        if not all(map(schema_of(holder.config).is_ignored, names)):
            _refuse_part(part, names, holder, lacking, found)


def _prefixed(donor: tuple[Checkpoint, Names], other: tuple[Checkpoint, Names]) -> str:
    """A hint if one model's names are the other's with a prefix; empty if they are not."""
    for (plain, names), (holder, own) in ((donor, other), (other, donor)):
        missing, extra = names.keys() - own.keys(), own.keys() - names.keys()
        first = min(missing, default="")
        prefix = next((n.removesuffix(first) for n in extra if first and n.endswith(first)), "")
        if prefix and len(missing) >= MANY and all(prefix + name in extra for name in missing):
            return (
                f"{len(missing)} tensors are called in {holder.name} as in {plain.name}, with "
                f"{prefix!r} before ({prefix}{first}), which transformers does not load so: load "
                f"{holder.name} with what saved it, and save the inner model"
            )
    return ""


def _fused(donor: tuple[Checkpoint, Names], other: tuple[Checkpoint, Names]) -> str:
    """A hint if one model stores its experts one by one, and the other all in one tensor."""
    for (apart, names), (fused, own) in ((donor, other), (other, donor)):
        single, whole = sorted(names.keys() - own.keys()), sorted(own.keys() - names.keys())
        schema = schema_of(apart.config) if single and whole else Schema()
        parts = [names[name] for name in single if schema.is_converted(name)]
        if parts and set(whole) & schema.expected.keys():
            return (
                f"{len(parts)} tensors of {apart.name} ({parts[0]}) are stored together in "
                f"{fused.name} ({own[whole[0]]}): load {apart.name} with transformers, and save it "
                "with save_pretrained(..., save_original_format=False)"
            )
    return ""


def _difference(
    name: str, infos: tuple[TensorInfo, TensorInfo], donor: Checkpoint, other: Checkpoint
) -> str | None:
    mine, theirs = infos
    if mine.shape != theirs.shape:
        cause = _cause(mine.shape, theirs.shape, donor, other)
        return (
            f"{name} is {list(mine.shape)} in {donor.name} and {list(theirs.shape)} in "
            f"{other.name}: {cause}"
        )
    if mine.is_float != theirs.is_float or (not mine.is_float and mine.dtype != theirs.dtype):
        return f"{name} is {mine.dtype} in {donor.name} and {theirs.dtype} in {other.name}"
    return None


def _cause(
    mine: tuple[int, ...], theirs: tuple[int, ...], donor: Checkpoint, other: Checkpoint
) -> str:
    rows = [shape[0] if shape else 0 for shape in (mine, theirs)]
    sizes = [vocabulary_size(c.config, rows) for c in (donor, other)]
    if mine[1:] == theirs[1:] and sizes[0] != sizes[1] and rows == sizes:
        return (
            "different vocabularies (was one resized for added tokens?): --tokenizer-source union "
            "(tokenizer_source in a recipe) puts rows by token, --truncate-embeddings cuts them to "
            "what all have"
        )
    labels = [len(c.config.get("id2label") or PAIR) for c in (donor, other)]
    if mine[1:] == theirs[1:] and labels[0] != labels[1] and rows == labels:
        return (
            "classifiers of different numbers of labels (--part layers merges their layers alone)"
        )
    widths = [checkpoint.config.get("hidden_size") for checkpoint in (donor, other)]
    if None not in widths and widths[0] != widths[1]:
        return f"models of widths {widths[0]} and {widths[1]}"
    return "models of different sizes"


def _differing_integers(anchors: Sequence[Checkpoint]) -> list[str]:
    """Report integer and boolean tensors that differ, except counters."""
    donor = anchors[0]
    names = [
        name for name, info in donor.tensors.items() if not info.is_float and not is_counter(name)
    ]
    return [
        f"{name} holds integers that differ between {donor.name} and {other.name}"
        for name in names
        for other in anchors[1:]
        if name in other.tensors and not _equal(donor, name, other, name)
    ]


def _loose_tie(checkpoint: Checkpoint, target: str, source: str) -> list[str]:
    here = checkpoint.fetch()
    if _equal(here, target, here, source):
        return []
    return [
        f"{checkpoint.name} stores its own {target} although its configuration ties it to {source}"
    ]


def _equal(first: Checkpoint, name: str, second: Checkpoint, other: str) -> bool:
    """Whether two tensors hold the same bits, compared a chunk at a time."""
    info, length = first.tensors[name], 1 << 20
    if info != second.tensors[other]:
        return False
    size = ITEM_BYTES[info.dtype]
    mine, theirs = np.empty((2, min(length, info.count) * size), np.uint8)
    for start in range(0, info.count, length):
        stop = min(start + length, info.count)
        first.read(name, start, stop, mine)
        second.read(other, start, stop, theirs)
        used = (stop - start) * size
        if not np.array_equal(mine[:used], theirs[:used]):
            return False
    return True
