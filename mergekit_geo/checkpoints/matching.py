"""Which tensors of checkpoints are the same one, by the names that transformers loads them by.

Ordinary differences are understood (old prefixes, a tied head stored in one only, buffers that
models recompute), and what was done is noted.
"""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.checkpoints.configuration import TIE
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.layers import layer_number, renumbered
from mergekit_geo.checkpoints.naming import Schema, is_counter, may_be_buffer, schema_of
from mergekit_geo.checkpoints.settings import differing_setting

Names = dict[str, str]
"""Canonical name to stored name."""

NamedParent = tuple[Checkpoint, Schema, Names]
MANY = 2


def align_names(checkpoints: Sequence[Checkpoint], found: Preflight) -> list[Names]:
    """Canonical to stored names, per checkpoint.

    Args:
        checkpoints: The models, the donor first.
        found: Told what was done, and what is wrong.
    """
    stored = [set(checkpoint.tensors) for checkpoint in checkpoints]
    ties = {checkpoint.config.get(TIE) for checkpoint in checkpoints if checkpoint.config}
    if len(ties) < MANY and all(names == stored[0] for names in stored):
        return [{name: name for name in checkpoint.tensors} for checkpoint in checkpoints]
    schemas = _schemas(checkpoints)
    names = [_canonical(c, s, found) for c, s in zip(checkpoints, schemas, strict=True)]
    _resolve_ties(checkpoints, schemas, names, found)
    _drop_superfluous(checkpoints, schemas, names, found)
    return names


def _schemas(checkpoints: Sequence[Checkpoint]) -> list[Schema]:
    """Names of each architecture; a model that states none has that of the others."""
    key = "architectures"
    named = next((c.config[key] for c in checkpoints if c.config.get(key)), None)
    configs = [c.config for c in checkpoints]
    return [schema_of(c if c.get(key) or not c else {**c, key: named}) for c in configs]


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


def leave_to_donor(checkpoints: Sequence[Checkpoint], names: list[Names], found: Preflight) -> None:
    """Leave the donor's own where tensors that no model needs differ in shape or dtype.

    Where they are alike they are merged as all tensors are.

    Args:
        checkpoints: The models, the donor first.
        names: Of each; those that are left to the donor are taken out of the others'.
        found: Told what was done.
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


def output_names(donor: Names) -> Names:
    """Canonical name to the name in the output: the donor's stored one, for the first that has it.

    A head that is the donor's embedding is stored under that name: it has its own in the output.
    """
    found: Names = {}
    taken: set[str] = set()
    for name, stored in donor.items():
        found[name] = name if stored in taken else stored
        taken.add(stored)
    return found


def further_layers(outputs: Names, others: Sequence[Names]) -> Names:
    """Canonical name to output name of layers the donor lacks, called as its first one is.

    Args:
        outputs: Those of the donor's own tensors.
        others: Names of the other models.
    """
    found: Names = {}
    for name in (name for own in others for name in own if name not in outputs):
        if place := layer_number(name):
            first = outputs.get(renumbered(name, 0))
            found[name] = renumbered(first, place[1]) if first and layer_number(first) else name
    return found
