"""A search in sentences: what was tried, what it cost, and what the best of it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.findings import Finding, finding, percent
from mergekit_geo.records.search import ReferenceEntry, SearchEntry, TrialEntry
from mergekit_geo.views.amount import listed, signed, size
from mergekit_geo.views.search_trials import DEFAULT, UNIFORM

SAMPLERS = {
    "cmaes": "CMA-ES", "tpe": "TPE", "nsga2": "NSGA-II", "gp": "a Gaussian process",
    "random": "random search",
}  # fmt: skip


def about(found: SearchEntry) -> str:
    """How many trials of what there were, by what, and what was minimised."""
    sampler = SAMPLERS.get(found.sampler, found.sampler)
    by = f"{sampler}{' on Ray' if found.engine == 'ray' else ''}"
    what = found.aim or (
        f"the losses on {listed(found.aims)}, side by side" if found.aims else "the loss"
    )
    several = bool(found.aim or found.aims)
    return (
        f"{_count(len(found.trials), 'trial')} by {by} over {_searched(found)}, on "
        f"{found.documents} documents of the selection {'halves' if several else 'half'}; "
        f"minimised: {what}."
    )


def _searched(found: SearchEntry) -> str:
    choices = sum(bool(one.labels) for one in found.dimensions)
    numbers = len(found.dimensions) - choices
    told = [_count(numbers, "number")] if numbers else []
    return listed([*told, *([_count(choices, "choice")] if choices else [])])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def cost(found: SearchEntry) -> str:
    """What all trials cost, and what racing saved of it."""
    told = f"They cost as much as {found.evaluations:.4g} full evaluations"
    stopped = sum(trial.stopped for trial in found.trials)
    if not found.racing:
        return f"{told}; without racing."
    if not stopped:
        return f"{told}; racing stopped none."
    share = found.saved / (found.saved + found.evaluations)
    return (
        f"{told}: racing stopped {stopped} early, and saved {found.saved:.3g} ({percent(share)})."
    )


def set_aside(found: SearchEntry) -> list[str]:
    """Trials that cannot be the best: they lose what is to be kept, or could not be measured."""
    lost = sum(not trial.is_feasible for trial in found.trials)
    failed = [trial for trial in found.trials if trial.error]
    kept = f"{listed(found.kept)}, which {'is' if len(found.kept) == 1 else 'are'} to be kept"
    return [
        *([f"{_count(lost, 'trial')} lost {kept}."] if lost else []),
        *([f"{_count(len(failed), 'trial')} could not be measured ({failed[0].error})."]
          if failed else []),
    ]  # fmt: skip


def search_headline(found: SearchEntry | None) -> list[str]:
    """What the output counts on both halves, and how it stands beside plain choices.

    Args:
        found: The search; nothing is said without one.
    """
    if found is None:
        return []
    taken = found.trial(found.taken)
    told = [_taken(found, taken), _beside(found.references)] if taken else []
    return [text for text in [_unkept(found), *told, _interrupted(found)] if text]


def _taken(found: SearchEntry, taken: TrialEntry) -> str:
    """Which trial the output is, and what it counts on both halves."""
    plain = taken.title.rpartition(" ")[2] in {"recipe", "soup"}
    start = f", {'the ' * plain}{taken.title}" if taken.title else ""
    best = "the best" if found.best == taken.number else "the one that was to be taken"
    told = f"The output is trial {taken.number}{start}, {best} of {len(found.trials)}"
    chosen, report, gap = found.selection, found.report, found.optimism
    if chosen is None or report is None or gap is None:
        return f"{told}."
    return (
        f"{told}: {_counted(found)} {signed(report.number, report)} on the report half, and "
        f"{signed(chosen.number, chosen)} on the selection half that it was chosen on (optimism: "
        f"{signed(gap.number, gap)})."
    )


def _counted(found: SearchEntry) -> str:
    """What its number is called."""
    if found.aims:
        return "the mean of its differences from the best models is"
    if not found.aim:
        return "its loss minus that of the best model is"
    return f"the {found.aim.partition(' over ')[0]} of its differences from the best models is"


def known_finding(one: ReferenceEntry) -> Finding:
    """What the difference from a plain choice tells."""
    return finding(one.difference, one.limit)


def _beside(references: Sequence[ReferenceEntry]) -> str:
    """How the output stands beside plain choices that it is not itself, in a sentence."""
    others = [one for one in references if not one.difference.low == one.difference.high == 0]
    told = [
        f"{_verb(kind)} {listed([_against(one) for one in those])}"
        for kind in ("lower", "same", "unknown", "higher")
        if (those := [one for one in others if known_finding(one) == kind])
    ]  # fmt: skip
    return f"On the report half it {'; it '.join(told)}." if told else ""


def _verb(kind: Finding) -> str:
    return {
        "lower": "is better than", "same": "does not differ from", "higher": "is worse than",
        "unknown": "cannot be told from",
    }[kind]  # fmt: skip


def _against(one: ReferenceEntry) -> str:
    by = one.difference
    name = f"the {one.title}{f', {one.model}' if one.model else ''}"
    if known_finding(one) in {"lower", "higher"}:
        return f"{name}{',' * bool(one.model)} by {size(by.number, by)}"
    return f"{name} ({signed(by.number, by)})"


def _interrupted(found: SearchEntry) -> str:
    if not found.interrupted:
        return ""
    of = f" of {found.asked} trials" if found.asked else " trials"
    return (
        f"The search was interrupted after {len(found.trials)}{of}; the same command goes on "
        "with it."
    )


def _unkept(found: SearchEntry) -> str:
    """The least bad trial, where none keeps what is to be kept."""
    whole = [trial for trial in found.trials if trial.is_whole]
    if found.aims or found.best is not None or not whole:
        return ""
    least = min(whole, key=lambda trial: trial.lost)
    return (
        f"No trial keeps {listed(found.kept)}: the least bad, trial {least.number}, is "
        f"significantly worse by {least.lost:.4f}."
    )


def front_words(found: SearchEntry) -> list[str]:
    """How many trials are on a front, and its ends."""
    trials = [trial for trial in found.trials if trial.number in found.front]
    if not trials:
        return []
    best = {name: min(trials, key=lambda t: t.by_set.get(name) or 0.0) for name in found.aims}
    ends = [f"{name} (trial {trial.number}, {_value(trial, name)})" for name, trial in best.items()]
    return [
        f"{len(trials)} of {_count(len(found.trials), 'trial')} are on the front: no other is "
        f"better on every set. Lowest on {listed(ends)}."
    ]


def _value(trial: TrialEntry, name: str) -> str:
    value = trial.by_set.get(name)
    return "" if value is None else f"Δ {value:+.4f}"


def last_word(found: SearchEntry | None) -> str:
    """A sentence where nothing was found that is better than a plain choice; else empty."""
    if found is None or found.better_than_default is None:
        return ""
    known = {one.title: one for one in found.references}
    return _soup_better(known) if found.better_than_default else _default_does(found, known)


def _soup_better(known: Mapping[str, ReferenceEntry]) -> str:
    one = known.get(UNIFORM)
    if one is None or known_finding(one) != "higher":
        return ""
    by = size(one.difference.number, one.difference)
    return f"The {UNIFORM} is significantly better than what the search found, by {by}: take that."


def _default_does(found: SearchEntry, known: Mapping[str, ReferenceEntry]) -> str:
    taken = found.trial(found.taken)
    would = f"the {DEFAULT} would do{_soup(known)}"
    is_best = taken is not None and taken.number == found.best
    if taken is not None and DEFAULT in taken.starts:
        told = f"Nothing that was tried is better than the {DEFAULT}, which is the output: {would}."
        return told if is_best else ""
    one = known.get(DEFAULT)
    if one is not None and known_finding(one) == "higher":
        by = size(one.difference.number, one.difference)
        return f"What was found is worse than the {DEFAULT} on the report half, by {by}: {would}."
    by = f" ({signed(one.difference.number, one.difference)})" if one else ""
    return (
        f"{'Nothing that was tried' if is_best else 'The output'} is {'' if is_best else 'not '}"
        f"significantly better than the {DEFAULT} on the report half"
        f"{by}: {would}."
    )


def _soup(known: Mapping[str, ReferenceEntry]) -> str:
    """Whether a soup would do, too, or better."""
    one = known.get(UNIFORM)
    if one is None or known_finding(one) == "lower":
        return ""
    is_better = known_finding(one) == "higher"
    return f", and the {UNIFORM} is better" if is_better else f", and so would the {UNIFORM}"
