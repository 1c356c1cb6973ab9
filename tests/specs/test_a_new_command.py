"""A new command is its own file, which this one is, and a line in the table of commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer.testing import CliRunner

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.cli.commands import command_of
from mergekit_geo.cli.parsing import Command
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.commands.result import Result
from mergekit_geo.config.option import option
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.specs.spec import Spec, command_line, models
from mergekit_geo.specs.table import COMMANDS, spec_of
from tests.conftest import Save

SUMMARY = "Count the tensors of models."


@dataclass(frozen=True)
class CountSpec(Spec):
    command: ClassVar[str] = "count"
    work: ClassVar[str] = "tests.specs.test_a_new_command:count"

    models: Sequence[Any] = models()
    _: KW_ONLY
    least: int = option(1, "Exit 3 if there are fewer.", least=0)

    def unmet(self, result: Result) -> str:
        return "--least" * (result.measurements.tensors < self.least)


@command(CountSpec)
def count(asked: CountSpec) -> Work:
    """Count the tensors of models."""
    found = open_checkpoints(asked.models)
    tensors = sum(len(one.tensors) for one in found)
    record = CheckMeasurements(compatible=True, tensors=tensors, notes=[], problems=[])
    return Work(asked, lambda output: Findings(record, model_entries(found)))


def test_from_python_and_from_the_shell(save: Save) -> None:
    folders = [str(save(name)) for name in "ab"]
    found = count(folders, least=2)
    assert found.report.settings == {"least": 2}
    assert found.report.command == "count"
    assert command_line(CountSpec(folders, least=2)).endswith(" --least=2")

    app = typer.Typer()
    app.command(name="count", cls=Command)(command_of(CountSpec, SUMMARY))
    done = CliRunner().invoke(app, [*folders, "--json"])
    assert done.exit_code == 0, done.output
    assert f'"tensors": {found.measurements.tensors}' in done.stdout
    assert CliRunner().invoke(app, [*folders, "--least=99"]).exit_code == 3
    assert "Exit 3 if there are fewer." in CliRunner().invoke(app, ["--help"]).output


def test_the_table_names_every_command_as_its_options_do() -> None:
    assert [spec_of(name).command for name in COMMANDS] == list(COMMANDS)


def test_what_it_does_not_admit(save: Save, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command(name="count", cls=Command)(command_of(CountSpec, SUMMARY))
    wrong = CliRunner().invoke(app, [str(save("a")), "--least=-1"])
    assert "least must be at least 0, found -1" in wrong.stderr
    assert CliRunner().invoke(app, [str(tmp_path / "none")]).exit_code == 1
