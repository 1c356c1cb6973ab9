"""A short slice of benchmarks/fuzz.py: damaged inputs end in a result or in one clear line."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_damaged_inputs_are_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--mutations", "4", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [(row[1], row[4]) for row in table] == [("4", "0")] * 7
