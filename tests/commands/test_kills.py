"""A command that is killed leaves its output whole or absent, and ends well the second time."""

import random
from pathlib import Path

import pytest

from benchmarks import kills


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> kills.Commands:
    return kills.Commands.made_in(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize("name", kills.NAMES)
def test_a_kill_tears_no_output(tmp_path: Path, commands: kills.Commands, name: str) -> None:
    """`benchmarks/kills.py` sends many more."""
    draw = random.Random(name)
    with kills.target_of(commands, name, tmp_path) as target:
        target.prepare()
        target.kill(draw, old=draw.choice([True, False]), timed=False)


def test_a_torn_output_is_found(tmp_path: Path) -> None:
    """What the judge is there for: a writer that keeps no promise."""

    def write(out: Path, overwrite: bool) -> None:
        out.mkdir(exist_ok=overwrite)
        for number in range(9):
            (out / f"{number}.csv").write_text("whole")

    target = kills.Target(write, tmp_path)
    target.prepare()
    with pytest.raises(AssertionError, match=r"\['[1-8]\.csv'"):
        target.kill(random.Random(1), old=False, timed=False)
