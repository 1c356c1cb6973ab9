"""The site as `scripts/docs.sh` builds it: strictly, and without asking a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mergekit_geo as geo
from tests.conftest import ROOT

LOADED = re.compile(
    r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)|<link[^>]+href="(https?:[^"]+)'
)


@pytest.mark.slow
def test_it_is_built(tmp_path: Path) -> None:
    """Strict: warnings fail, of dead links and pages outside the navigation; -q would hide them."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", str(tmp_path / "site")],
        capture_output=True, text=True, check=False, timeout=300, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    whole = "".join(pages.values())
    assert all(f'id="mergekit_geo.{name}"' in whole for name in geo.__all__)
    assert "--8<--" not in whole.replace("--8&lt;-- ", "")
    assert LOADED.findall(whole) == []
