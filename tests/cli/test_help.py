"""What `--help` tells of a command, and what the documentation is made of."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.testing import CliRunner

from mergekit_geo.cli.commands import app
from mergekit_geo.cli.help import command_help, program_help
from mergekit_geo.cli.parsing import parse
from mergekit_geo.specs.panels import MAIN, VERBOSITY, options_of, panels
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS, spec_of

SPECS = [spec_of(name) for name in COMMANDS]
WIDTHS = (60, 80, 120)


def words_of(text: str) -> set[str]:
    return set(re.split(r"[\s,;\[\]]+", text))


def unfolded(text: str) -> str:
    """Help without its line ends, as one reads it."""
    return " ".join(text.split())


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_examples_are_command_lines(spec: type[Spec]) -> None:
    assert 1 <= len(spec.examples) <= 2
    for example in spec.examples:
        program, command, *words = shlex.split(example)
        assert (program, command) == ("geo-merge", spec.command)
        assert parse(spec, words).given


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_help_ends_with_the_examples_as_a_shell_takes_them(spec: type[Spec], width: int) -> None:
    _, shown = command_help(spec, "Do it.", width).split("Examples:\n")
    lines = shown.replace("\\\n", "").splitlines()
    assert [shlex.split(line) for line in lines] == [shlex.split(one) for one in spec.examples]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_nothing_is_cut_at_any_width(spec: type[Spec], width: int) -> None:
    text = command_help(spec, "Do it.", width)
    assert max(map(len, text.splitlines())) <= width
    for found in options_of(spec):
        assert {found.option.flag, *found.option.choices} - {""} <= words_of(text)


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_every_default_is_shown(spec: type[Spec]) -> None:
    text = unfolded(command_help(spec, "Do it.", 80))
    for found in (entry for panel in panels(spec).values() for entry in panel):
        assert found.default != "None"
        name = f"{', '.join(found.flags)} {found.metavar}".strip()
        choices = f"choices: {', '.join(found.choices)}; " if found.choices else ""
        default = f"default: {found.default}" if found.default else "required"
        assert f" {name} {found.text} [{choices}{default}]" in text


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_what_matters_comes_first(spec: type[Spec]) -> None:
    first, *_, last = panels(spec)
    assert (first, last) == (MAIN, VERBOSITY)
    known = {one.name for one in options_of(spec)}
    assert set(spec.essential) <= known
    required = {one.name for one in options_of(spec) if one.option.required}
    assert required <= set(spec.essential)


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_texts_are_sentences(spec: type[Spec]) -> None:
    for found in options_of(spec):
        text = found.option.text
        assert text[0].isupper() or text.split()[0].strip(":") in found.option.choices, text
        assert not text.startswith("Of "), text
        assert "said" not in text, text


@pytest.mark.parametrize("width", WIDTHS)
def test_help_of_the_program_lists_every_command(width: int) -> None:
    text = program_help([("--version", "Print the version and exit.")], width)
    assert max(map(len, text.splitlines())) <= width
    assert [line.split()[0] for line in text.splitlines() if re.match(r"  [a-z]+  ", line)] == list(
        COMMANDS
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_as_wide_as_the_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, summary = COMMANDS[name]
    for columns, width in ((20, 60), (72, 72), (500, 100)):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = CliRunner().invoke(app, [name, "--help"])
        assert done.exit_code == 0
        assert done.stdout == command_help(spec_of(name), summary, width)


def test_without_a_command_the_help_is_shown_and_the_use_is_wrong() -> None:
    asked, without = (CliRunner().invoke(app, words) for words in (["-h"], []))
    assert (asked.exit_code, asked.stderr) == (0, "")
    assert (without.exit_code, without.stdout) == (2, "")
    assert asked.stdout == without.stderr


def test_version() -> None:
    from mergekit_geo import __version__

    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"geo-merge {__version__}\n")
