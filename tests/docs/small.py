"""What keeps the examples small: fewer steps, points and examples than a user would take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.specs.panels import options_of
from mergekit_geo.specs.table import COMMANDS, spec_of
from tests.docs.place import few_documents

ADDED = {
    "--grid": "3", "--points": "3", "--steps": "4", "--sharpness": "off", "--no-fsync": "",
    "--max-examples": "80",
}  # fmt: skip
"""Options that a command gets where it takes them and does not say otherwise."""

INSTEAD = {"--steps": "--epochs"}

MOST = {"--steps": 20, "--trials": 6}
"""Steps of a training and trials of a search, whatever the example says."""


def shrunk(words: Sequence[str]) -> list[str]:
    """A command with fewer steps and points.

    Args:
        words: Behind `geo-merge`.
    """
    before = ["", *words[:-1]]
    few = [
        str(min(int(word), MOST[last])) if last in MOST else word
        for last, word in zip(before, words, strict=True)
    ]
    return [*few, *_added(words)]


def _added(words: Sequence[str]) -> Iterator[str]:
    if not words or words[0] not in COMMANDS:
        return
    taken = {one.option.flag for one in options_of(spec_of(words[0]))}
    if words[0] == "merge" and "adamerging" not in words:
        taken.discard("--steps")  # of one method alone
    said = {word.split("=")[0] for word in words}
    for flag, value in ADDED.items():
        if flag in taken and not {flag, INSTEAD.get(flag)} & said:
            yield f"{flag}={value}" if value else flag


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the built-in text, draw nothing, and measure sharpness by few steps."""
    monkeypatch.setattr("mergekit_geo.data.load.builtin_documents", few_documents)
    monkeypatch.setattr("mergekit_geo.views.files.write_figures", lambda *_: None)
    monkeypatch.setattr("mergekit_geo.curvature.sample.GROUPS", 2)
    few = {"steps": 3, "half_steps": 2}
    for name, level in LEVELS.items():
        of_full = {
            "trace_products": 4, "probes": 2, "probe_steps": 4, "ascent_steps": 2, "restarts": 1,
            "draws": 2,
        }  # fmt: skip
        found = replace(level, **few, **(of_full if level.probes else {}))
        monkeypatch.setitem(LEVELS, name, found)
