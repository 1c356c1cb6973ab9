"""What `--help` tells of a command, and what the documentation is made of."""

from __future__ import annotations

import shlex

import pytest

from mergekit_geo.cli.parsing import parse
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS, spec_of

SPECS = [spec_of(name) for name in COMMANDS]


@pytest.mark.parametrize("spec", SPECS, ids=COMMANDS)
def test_examples_are_command_lines(spec: type[Spec]) -> None:
    assert 1 <= len(spec.examples) <= 2
    for example in spec.examples:
        program, command, *words = shlex.split(example)
        assert (program, command) == ("geo-merge", spec.command)
        assert parse(spec, words).given
