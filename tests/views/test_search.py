"""What is shown of a search is what was found: the best so far, kinds of trials, fronts, words."""

from __future__ import annotations

import csv
import io
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.report import Provenance
from mergekit_geo.records.search import (
    ReferenceEntry,
    ReferenceSetEntry,
    SearchEntry,
    SearchMeasurements,
)
from mergekit_geo.views import console
from mergekit_geo.views.block import Folded, charts
from mergekit_geo.views.card import model_card
from mergekit_geo.views.files import write_page
from mergekit_geo.views.scatter import Scatters
from mergekit_geo.views.search import reference_table, search_files, search_section
from mergekit_geo.views.search_charts import best_so_far, bounds, importance_chart
from mergekit_geo.views.search_front import front_table, on_front
from mergekit_geo.views.search_trials import by_kind
from mergekit_geo.views.search_words import about, cost, last_word, search_headline, set_aside
from mergekit_geo.views.style import FOUND
from mergekit_geo.views.view import said, view_of
from tests.views.browser import Browser
from tests.views.search_reports import search_report, searched
from tests.views.set_reports import estimated

FOUR = ("docs", "code", "chat", "math")


def pictures(found: SearchEntry) -> dict[str, Any]:
    """Pictures of a search, by the name of their files."""
    section = search_section(found, None, {})
    return {chart.name: chart.picture for chart in charts([section])}


def against(title: str, value: float, half: float = 0.01, model: str = "") -> ReferenceEntry:
    difference = Estimate(**estimated(value, half))
    return ReferenceEntry(title=title, model=model, difference=difference, limit=0.04)


def test_the_best_so_far_is_the_least_of_whole_trials_that_keep_all() -> None:
    found = searched(60, lost=(3, 20, 55))
    stairs = best_so_far(found.trials)
    assert stairs is not None
    good = [t.value if t.is_whole and t.is_feasible else 9.0 for t in found.trials]
    naive = list(accumulate((value or 0.0 for value in good), min))
    steps = dict(zip(stairs.x, stairs.y, strict=True))
    assert all(steps[number] == naive[int(number)] for number in steps)
    assert len({round(value, 12) for value in naive} - {9.0}) == len(set(stairs.y))
    assert stairs.x[-1] == 59
    assert stairs.band is not None
    lows = {t.value: t.low for t in found.trials}
    assert [lows[value] for value in stairs.y] == stairs.band[0]


def test_without_a_trial_that_keeps_all_there_is_no_line() -> None:
    found = searched(5, lost=range(5), kept=["docs"])
    assert best_so_far(found.trials) is None
    (told,) = search_headline(found)
    assert told.startswith("No trial keeps docs: the least bad, trial 0, is significantly worse by")
    assert "search" in pictures(found)


def test_every_trial_that_has_a_value_is_drawn_once_in_its_kind() -> None:
    found = searched(60, lost=(7, 12), kept=["docs"])
    (panel,) = pictures(found)["search"].panels
    drawn = {kind.name: kind for kind in panel.points}
    numbers = sorted(int(x) for kind in panel.points for x in kind.x)
    assert numbers == [trial.number for trial in found.trials]
    assert drawn["stopped by racing"].style.marker == "circle-open"
    assert drawn["loses a set that is to be kept"].x == [7, 12]
    assert drawn["output"].x == [found.taken]
    assert {"default recipe and uniform soup", "prose alone", "learned soup"} <= set(drawn)
    kinds = by_kind(found.trials, None)
    assert len({kind.style for kind in kinds}) == len(kinds)


def test_a_failed_trial_has_a_row_and_no_place() -> None:
    found = searched(12)
    broken = found.trials[9].model_copy(update={"value": None, "error": "the worker was killed"})
    found = found.model_copy(update={"trials": [*found.trials[:9], broken, *found.trials[10:]]})
    picture = pictures(found)["search"]
    assert 9 not in [x for kind in picture.panels[0].points for x in kind.x]
    assert picture.numbers()[1][9][-2] == "failed: the worker was killed"
    assert set_aside(found) == ["1 trial could not be measured (the worker was killed)."]


def test_a_few_bad_trials_do_not_flatten_the_others() -> None:
    low, high = bounds([*(1 + i / 100 for i in range(50)), 90.0, 100.0])
    assert 0.9 < low < 1
    assert 1.5 < high < 3
    assert bounds([1.0, 2.0, 100.0])[1] > 100


def test_slices_show_the_most_important_numbers_and_the_others_on_demand() -> None:
    found = searched(20, count=30)
    section = search_section(found, None, {})
    folded = [block for block in section.blocks if isinstance(block, Folded)]
    assert "18 more" in [block.title for block in folded]
    titles = {c.name: [p.x_title for p in c.picture.panels] for c in charts([section])
              if isinstance(c.picture, Scatters)}  # fmt: skip
    assert [len(titles[name]) for name in ("search-slices", "search-slices-more")] == [12, 18]
    order = sorted(found.importance, key=lambda name: -found.importance[name])
    assert titles["search-slices"] + titles["search-slices-more"] == order
    (bars,) = importance_chart(found)
    assert sum(dot.value for dot in bars.picture.panels[0].bars[0]) == pytest.approx(1)  # type: ignore[union-attr]


def test_what_has_no_importance_is_told() -> None:
    found = searched(20, methods=True)
    assert "left out" not in pictures(found)["search-importance"].caption
    known = dict.fromkeys(list(found.importance)[:2], 0.5)
    picture = pictures(found.model_copy(update={"importance": known}))["search-importance"]
    assert picture.caption.endswith("Numbers that not every trial has are left out.")
    assert picture.rows == list(known)


def test_a_number_that_hangs_on_a_choice_is_drawn_where_it_was_asked_for() -> None:
    found = searched(30, methods=True)
    panels = {panel.x_title: panel for panel in pictures(found)["search-slices"].panels}
    ties = [t for t in found.trials if t.values["merge_method"] == "ties"]
    assert panels["density of prose"].count == len(ties) < panels["merge_method"].count == 30
    assert panels["density of prose"].decades == pytest.approx([0.1, 0.1**0.5, 1])
    assert panels["merge_method"].ticks == ["linear", "ties"]


def test_a_front_of_two_sets_is_a_line_and_of_more_a_plane_for_each_pair() -> None:
    two, four = searched(60, pareto=True), searched(60, FOUR, pareto=True)
    (panel,) = pictures(two)["search-front"].panels
    assert panel.stairs is not None
    assert list(panel.stairs.x) == sorted(panel.stairs.x)
    assert list(panel.stairs.y) == sorted(panel.stairs.y, reverse=True)
    assert len(panel.stairs.x) == len(two.front)
    planes = pictures(four)["search-front"].panels
    assert [(plane.x_title[2:6], plane.y_title[2:6]) for plane in planes] == [
        ("docs", "code"), ("docs", "chat"), ("docs", "math"), ("code", "chat"),
        ("code", "math"), ("chat", "math"),
    ]  # fmt: skip
    assert all(plane.stairs is None for plane in planes)
    assert "search" not in pictures(two)


def test_the_front_has_its_numbers_of_the_report_half_beside_those_it_was_chosen_by() -> None:
    found = searched(40, pareto=True)
    measured = {name: Estimate(**estimated(0.2, 0.03)) for name in found.aims}
    trials = [t.model_copy(update={"report": measured} if t.number in found.front else {})
              for t in found.trials]  # fmt: skip
    found = found.model_copy(update={"trials": trials})
    table = front_table(found, on_front(found))
    assert table.head == [
        "trial", "Δ docs ↓", "Δ code ↓", "docs, report half ↓", "code, report half ↓",
    ]  # fmt: skip
    assert {row[-1] for row in table.rows} == {"+0.2000 ± 0.0300"}
    assert [row[0].partition(" ")[0] for row in table.rows] == [
        str(trial.number) for trial in sorted(
            (t for t in trials if t.number in found.front), key=lambda t: t.by_set["docs"] or 0
        )
    ]  # fmt: skip


def test_a_front_is_told_with_the_command_that_writes_one_of_it() -> None:
    report = search_report(searched(40, pareto=True))
    assert view_of(report).headline[0].endswith(")."), "its ends are named"
    assert view_of(report).next.startswith("Next: write the one that you choose")
    command = "geo-merge search skills.yml -o front --aim=pareto"
    made = Provenance(versions={}, started="", seconds=1.0, command=command)
    told = view_of(report.model_copy(update={"provenance": made, "output": "front"})).next
    words = told.partition(": geo-merge ")[2].split()
    number = words[-1].removeprefix("--take=")
    assert words == [
        "search", "skills.yml", "-o", f"front-{number}", "--aim=pareto",
        "--storage=merged.search.log", f"--take={number}",
    ]  # fmt: skip
    assert isinstance(report.result, SearchMeasurements)
    assert int(number) in report.result.search.front


def test_plain_choices_stand_beside_the_output_with_a_verdict() -> None:
    found = searched(9).model_copy(update={"references": [
        against("default recipe", -0.05), against("uniform soup", 0.002),
        against("best parent", 0.01, half=0.3, model="demo/prose"), against("learned soup", 0.05),
    ]})  # fmt: skip
    assert [row[-1] for row in reference_table(found).rows] == [
        "better", "no difference", "cannot tell", "worse",
    ]  # fmt: skip
    told = search_headline(found)[-1]
    assert told == (
        "On the report half it is better than the default recipe by 0.050 ± 0.010; it does not "
        "differ from the uniform soup (+0.002 ± 0.010); it cannot be told from the best parent, "
        "demo/prose (+0.01 ± 0.30); it is worse than the learned soup by 0.050 ± 0.010."
    )


def test_each_panel_of_plain_choices_tells_of_its_own_set() -> None:
    sets = {
        name: ReferenceSetEntry(loss=2.0, difference=Estimate(**estimated(value, 0.01)))
        for name, value in (("docs", -0.2), ("code", 0.1))
    }
    one = against("default recipe", -0.2).model_copy(update={"sets": sets})
    picture = pictures(searched(9, references=[one]))["search-references"]
    assert [panel.findings for panel in picture.panels] == [["lower"], ["lower"], ["higher"]]
    drawn = [picture.styles_in(panel)[0] for panel in picture.panels]
    assert drawn == [FOUND["lower"], FOUND["lower"], FOUND["higher"]]


def test_a_start_that_was_stopped_is_hollow() -> None:
    found = searched(9)
    stopped = found.trials[1].model_copy(update={"stopped": True})
    kinds = by_kind([found.trials[0], stopped, found.trials[2]], None)
    assert [kind.style.marker for kind in kinds] == ["square", "diamond", "triangle-up-open"]


def test_the_optimism_is_what_the_report_half_has_more() -> None:
    found = searched(20)
    assert found.selection is not None
    assert found.report is not None
    chosen, report = found.selection.number, found.report.number
    told = search_headline(found)[0]
    assert f"{report:+.3f} ± 0.040 on the report half" in told
    assert f"{chosen:+.3f} ± 0.040 on the selection half" in told
    assert "(optimism: +0.012 ± 0.056)" in told


@pytest.mark.parametrize(
    ("references", "told"),
    [
        ([against("default recipe", -0.004)],
         "Nothing that was tried is significantly better than the default recipe on the report "
         "half (-0.004 ± 0.010): the default recipe would do."),
        ([against("default recipe", -0.004), against("uniform soup", -0.002)],
         "Nothing that was tried is significantly better than the default recipe on the report "
         "half (-0.004 ± 0.010): the default recipe would do, and so would the uniform soup."),
        ([against("default recipe", -0.004), against("uniform soup", -0.1)],
         "Nothing that was tried is significantly better than the default recipe on the report "
         "half (-0.004 ± 0.010): the default recipe would do."),
        ([against("default recipe", 0.046, 0.037), against("uniform soup", 0.115, 0.07)],
         "What was found is worse than the default recipe on the report half, by 0.046 ± 0.037: "
         "the default recipe would do, and the uniform soup is better."),
    ],
)  # fmt: skip
def test_the_last_line_says_that_the_default_recipe_would_do(
    references: list[ReferenceEntry], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = searched(20, better_than_default=False, references=references)
    report = search_report(found)
    console.print_report(report)
    assert " ".join(capsys.readouterr().out.split()).endswith(told)
    assert said(report).splitlines()[-1] == told
    assert told.replace("-", "\\-") in model_card(report) or told in model_card(report)


def test_the_last_line_is_silent_where_something_is_better_or_nothing_is_known() -> None:
    assert last_word(searched(20)) == ""
    assert last_word(searched(20, better_than_default=None)) == ""
    assert last_word(None) == ""
    assert last_word(searched(20, references=[against("uniform soup", 0.05)])) == (
        "The uniform soup is significantly better than what the search found, by 0.050 ± 0.010: "
        "take that."
    )
    taken = {"pareto": True, "taken": 0, "better_than_default": False}
    assert last_word(searched(9, **taken)) == ""
    assert last_word(searched(9, **{**taken, "taken": 4})).startswith(
        "The output is not significantly better than the default recipe on the report half: the "
    )
    found = searched(1, better_than_default=False)
    assert last_word(found).startswith(
        "Nothing that was tried is better than the default recipe, which is the output: the "
    )


def test_what_racing_saved_is_told() -> None:
    found = searched(60)
    stopped = sum(trial.stopped for trial in found.trials)
    share = found.saved / 60
    assert cost(found).endswith(
        f"racing stopped {stopped} early, and saved {found.saved:.3g} ({100 * share:.2g} %)."
    )
    assert cost(searched(5, racing=False)).endswith("; without racing.")
    assert cost(searched(5, racing=True, sets=("docs",), count=1)).endswith("stopped none.")


def test_a_search_is_told_in_a_sentence() -> None:
    assert about(searched(7, methods=True, count=1)) == (
        "7 trials by TPE over 1 number and 1 choice, on 180 documents of the selection halves; "
        "minimised: maximum over docs, code of the loss minus that of the best model there."
    )
    assert about(searched(1, sets=("docs",), engine="ray")).startswith(
        "1 trial by CMA-ES on Ray over 6 numbers, on 180 documents of the selection half; "
        "minimised: the loss."
    )
    told = search_headline(searched(40, asked=100, interrupted=True))
    assert told[-1] == (
        "The search was interrupted after 40 of 100 trials; the same command goes on with it."
    )


def test_all_trials_are_in_a_file_for_programs() -> None:
    found = searched(20, methods=True, lost=(4,))
    rows = list(csv.DictReader(io.StringIO(search_files(found)["search.csv"]().decode())))
    assert [float(row["value"]) for row in rows] == [trial.value for trial in found.trials]
    assert rows[0]["start"] == "default recipe and uniform soup"
    assert {row["merge_method"] for row in rows} == {"linear", "ties"}
    assert rows[4]["lost"] == "0.03"


@pytest.mark.parametrize("options", [
    {"trials": 3}, {"trials": 60, "sets": ("docs",)}, {"trials": 40, "sets": FOUR},
    {"trials": 30, "pareto": True, "sets": FOUR}, {"trials": 20, "count": 30},
    {"trials": 40, "pareto": True, "taken": 12},
], ids=["few", "one-set", "sets", "pareto", "wide", "taken"])  # fmt: skip
def test_a_console_of_eighty_columns_shows_it_whole(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "WIDE", 80)
    report = search_report(searched(**options), options.get("sets", ("docs", "code")))
    console.print_report(report)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 100


@pytest.mark.slow
def test_the_page_draws_every_picture_and_folded_ones_when_they_are_opened(
    tmp_path: Path, browser: Browser
) -> None:
    page = tmp_path / "report.html"
    write_page(search_report(searched(12, count=13, lost=(9,), kept=["docs"])), page)
    for width, dark in ((1280, False), (420, True)):
        browser.show(page, width, dark=dark)
        count = "document.querySelectorAll('.chart .main-svg').length"
        before = browser.ask(count)
        browser.ask(
            "[...document.querySelectorAll('summary')].find(x => x.innerText == '1 more').click()"
        )
        browser.ask("new Promise(done => setTimeout(done, 300))")
        assert browser.ask(count) > before
        widths = browser.ask(
            "[...document.querySelectorAll('.chart .main-svg')].map(x => x.clientWidth)"
        )
        assert 0 < min(widths) <= max(widths) <= width
        assert browser.complaints() == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
