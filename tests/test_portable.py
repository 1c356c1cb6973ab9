"""The package works where fork, flock, resource and the like do not exist."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.portable import open_flags

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_merge_without_what_only_unix_has(small: Path, tmp_path: Path) -> None:
    models, out = [small / "a", small / "b"], tmp_path / "out"
    script = ROOT / "tests" / "on_another_system.py"
    done = subprocess.run(
        [sys.executable, script, *models, out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"rendered": "[hello]", "locked": "another run is writing this output"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"
    assert (out / "report.html").is_file()
    geo.soup(models, tmp_path / "here", data=None)
    file = "model.safetensors"
    assert (out / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


def test_flags_that_a_system_lacks_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_NOFOLLOW")
    assert open_flags("O_RDWR", "O_NOFOLLOW") == os.O_RDWR
    monkeypatch.setattr(os, "O_BINARY", 1 << 40, raising=False)
    assert open_flags("O_RDONLY") == os.O_RDONLY | 1 << 40, "Windows would translate line breaks"
