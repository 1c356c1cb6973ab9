"""Pictures of several evaluation sets: what became of each skill, and the losses behind that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.losses import SetEntry
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.records.standing import Standing
from mergekit_geo.views.block import Chart
from mergekit_geo.views.chart import Dot, Dots, Panel, label
from mergekit_geo.views.losses import dot, estimated, loss_unit
from mergekit_geo.views.skills import KIND, kind_of

SET = 16
"""Most characters of a set's name beside a picture."""

HOW = (
    "Lines are 95 % intervals over documents, paired: square, the output is worse than {} there; "
    "circle, no significant difference; diamond, better; open circle, cannot tell."
)


def skill_charts(
    sets: Mapping[str, OutputSetEntry],
    found: Mapping[str, Standing | None],
    held_against: str = "the best parent",
) -> list[Chart]:
    """What became of each skill at a glance, then the losses of all models set by set.

    Args:
        sets: What was measured on each.
        found: How the output stands there.
        held_against: What that is beside.
    """
    skills = skills_picture(sets, found, held_against)
    return [
        Chart(skills, "What was kept and what was lost, by set", "skills"),
        losses_chart(sets, found, held_against),
    ]


def skills_picture(
    sets: Mapping[str, OutputSetEntry], found: Mapping[str, Standing | None], held_against: str
) -> Dots:
    """A row for each set: the output beside its best parent there, or the model before."""
    kinds = [kind_of(one) for one in found.values()]
    names = [f"{label(n)}: {KIND[kind]}" for n, kind in zip(found, kinds, strict=True)]
    panels = [_differences(sets, list(found.values()), held_against)]
    scores = [
        estimated(one.score.estimate) if one and one.score else None for one in found.values()
    ]
    metrics = {one.data.metric for one in sets.values() if one.data.metric}
    if any(scores):
        title = metrics.pop() if len(metrics) == 1 else "score"
        panels.append(Panel(f"Δ {title} ↑", scores, 0.0))
    caption = f"Δ is of the loss, in {_unit(sets) or f'percent of that of {held_against}'}. {HOW}"
    caption = caption.replace("{}", held_against)
    return Dots(names, [False] * len(names), panels, caption, kinds)


def _differences(
    sets: Mapping[str, OutputSetEntry], found: Sequence[Standing | None], held_against: str
) -> Panel:
    """Differences of losses; as shares of the parents' where sets count in unlike units."""
    is_shared = bool(_unit(sets))
    dots = [
        (estimated(one.difference) if is_shared else _share(one)) if one else None for one in found
    ]
    return Panel(
        f"Δ to {held_against.removeprefix('the ')}{'' if is_shared else ', %'} ↓", dots, 0.0
    )


def _unit(sets: Mapping[str, SetEntry]) -> str:
    """What loss is counted in; empty where sets do not agree."""
    units = {loss_unit(one.data) for one in sets.values()}
    return units.pop() if len(units) == 1 else ""


def _share(found: Standing) -> Dot | None:
    """A difference in percent of the parent's loss."""
    if not found.loss:
        return None
    own, by = found.difference, 100 / found.loss
    ends = [None if end is None else end * by for end in (own.low, own.high)]
    return dot(own.value * by, *ends)


def losses_chart(
    sets: Mapping[str, SetEntry], found: Mapping[str, Standing | None], held_against: str
) -> Chart:
    """Losses of all models, a panel for each set, with a line at the best parent's."""
    entries = {e.model: e for one in sets.values() for e in one.losses}
    panels, unit = [], _unit(sets)
    for name, one in sets.items():
        known = {e.model: dot(e.loss, e.low, e.high) for e in one.losses}
        standing = found.get(name)
        title = f"{label(name, SET)}{'' if unit else f' ({loss_unit(one.data)})'} ↓"
        panels.append(
            Panel(
                title, [known.get(model) for model in entries], standing.loss if standing else None
            )
        )
    caption = (
        f"{unit and f'In {unit}. '}Lines are 95 % intervals over documents of each model alone, "
        f"wider than those of paired differences. Dotted: {held_against} there. Star: the output."
    )
    outputs = [entry.role == "output" for entry in entries.values()]
    return Chart(
        Dots([label(name) for name in entries], outputs, panels, caption),
        "Losses of all models, by set", "losses",
    )  # fmt: skip
