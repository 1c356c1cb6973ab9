"""The lesson's programs run at a small size, and their pages show what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from examples.lesson import digits, ensembles, generalisation, norms, optimizers
from scripts import lesson
from tests.docs.small import make_small

SMALL = ("generalisation", "norms", "filters", "optimizers", "ensembles")
MOST = 100_000
"""Bytes of a picture."""


@pytest.mark.parametrize("name", lesson.PROGRAMS)
def test_pages_show_what_was_measured(name: str) -> None:
    text = "".join(page.read_text() for page in lesson.pages(name))
    for table in lesson.tables(name):
        assert table in text, f"{lesson.pages(name)} lack\n{table}"
    for picture in lesson.program(name).PICTURES:
        assert f"images/{picture})" in text
        assert (lesson.IMAGES / picture).stat().st_size < MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*lesson.PROGRAMS} - {*SMALL}))
def test_pictures_are_drawn_from_the_numbers(name: str, tmp_path: Path) -> None:
    numbers = json.loads((lesson.IMAGES / f"{name}.json").read_text())
    for picture, draw in lesson.program(name).PICTURES.items():
        draw(numbers, tmp_path / picture)
        assert 0 < (tmp_path / picture).stat().st_size < MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_program_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    program = lesson.program(name)
    measured = program.write(tmp_path, program.QUICK)
    assert json.loads((tmp_path / f"{name}.json").read_text()).keys() == measured.keys()
    assert all(0 < (tmp_path / picture).stat().st_size < MOST for picture in program.PICTURES)
    assert all(table.startswith("| ") for table in program.tables(measured).values())


def test_a_table_takes_the_place_of_the_one_before() -> None:
    text = "a\n| x |\n| --- |\n| 1 |\n| 2 |\n\nb"
    assert lesson.with_table(text, "| x |\n| --- |\n| 3 |") == "a\n| x |\n| --- |\n| 3 |\n\nb"
    with pytest.raises(ValueError, match="no table with the heading"):
        lesson.with_table(text, "| y |\n| --- |\n| 3 |")


def test_intervals_are_those_of_students_t() -> None:
    mean, half = digits.interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.302653 * 1 / np.sqrt(3), rel=1e-6))
    assert digits.factor([1.0, 1.0]) == "1 [1, 1]"


def test_a_rescaled_network_tells_all_digits_alike() -> None:
    model, ((x, _), _) = digits.network(0), digits.digits()
    twin = generalisation.rescaled(model)
    torch.testing.assert_close(twin(x), model(x))
    assert not torch.equal(twin[0].weight, model[0].weight)


@pytest.mark.parametrize("norm", ["batch norm", "layer norm"])
def test_normalised_networks_do_not_mind_the_size_of_weights(norm: str) -> None:
    model, ((x, _), _) = digits.network(0, norm), digits.digits()
    for _ in range(20):
        model.train()(x)  # running statistics
    twin = norms.doubled(model.eval())
    torch.testing.assert_close(twin(x), model(x), atol=1e-3, rtol=1e-3)
    plain = digits.network(0)
    assert not torch.allclose(norms.doubled(plain)(x), plain(x), atol=1e-2)


def test_siblings_share_their_beginning_alone() -> None:
    one, other = ensembles.siblings(0, 3, 0)
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    one, other = ensembles.siblings(0, 3, 1)
    assert not any(map(torch.equal, one.parameters(), other.parameters()))
    state = one.state_dict()
    bend = {f"bend.0.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    middle = ensembles.on_curve(one, bend, other, 0.5)
    expected = (one[0].weight + other[0].weight) / 4
    torch.testing.assert_close(middle[0].weight, expected)


def test_a_run_begins_where_all_do() -> None:
    kept = {name: optimizers.run(name, 0, optimizers.QUICK) for name in optimizers.RUNS}
    start = digits.network(0)
    for run in kept.values():
        assert len(run) == 3
        assert all(map(torch.equal, run[0].parameters(), start.parameters()))
    moved = optimizers.moved(kept["SGD"])
    ends = [nn.utils.parameters_to_vector(model.parameters()) for model in kept["SGD"]]
    torch.testing.assert_close(moved, ends[-1] - ends[0])
