"""A command from its options to its result: opened once, published whole, or not at all."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.commands._run import Findings, Work, carry_out
from mergekit_geo.outputs.kind import BARRIER
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.specs.measures import BarrierSpec

FOUND = CheckMeasurements(compatible=True, tensors=3, notes=[], problems=[])


def work(out: Path, **options: object) -> Work:
    def do(output: Output) -> Findings:
        (output.folder / "curves.csv").write_text("t,loss\n")
        return Findings(FOUND, settings={"points": 7}, warnings=["twice", "twice"])

    asked = BarrierSpec(["a", "b"], out, **options)  # type: ignore[arg-type]
    return Work(asked, do, BARRIER)


def test_the_report_says_what_was_asked_and_what_was_found(tmp_path: Path) -> None:
    found = carry_out(work(tmp_path / "out"))
    assert found.report == geo.read_report(tmp_path / "out")
    assert (found.report.command, found.report.output) == ("barrier", str(tmp_path / "out"))
    assert found.report.settings["along"] == ["linear"]
    assert found.report.settings["points"] == 7, "what the command found out goes before"
    assert found.report.warnings == ["twice"], "each once"
    assert found.measurements == FOUND


def test_work_that_fails_publishes_nothing(tmp_path: Path) -> None:
    def fails(output: Output) -> Findings:
        raise geo.errors.DataError("no data")

    with pytest.raises(geo.errors.DataError, match="no data"):
        carry_out(Work(BarrierSpec(["a", "b"], tmp_path / "out"), fails, BARRIER))
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_refused_before_the_work(tmp_path: Path) -> None:
    carry_out(work(tmp_path / "out"))
    before = (tmp_path / "out" / "report.json").read_bytes()
    with pytest.raises(geo.errors.OutputExistsError):
        carry_out(work(tmp_path / "out"))
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    assert carry_out(work(tmp_path / "out", overwrite=True)).out == tmp_path / "out"


def test_a_public_function_has_the_options_of_its_command() -> None:
    named = set(inspect.signature(geo.barrier).parameters)
    assert {"models", "out", "along", "points", "data", "compute", "progress"} <= named
    assert "given" not in named
    assert "along: " in (geo.barrier.__doc__ or "")
