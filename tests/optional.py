"""What tests need beside Python's packages, and may be missing on a machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip(missing: str, install: str) -> NoReturn:
    """Leave a test out, as something it needs is not installed; with CI=true it fails.

    Args:
        missing: What it needs.
        install: The command that installs it.
    """
    reason = f"no {missing}: {install}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (a test that is skipped fails with CI=true)")
    pytest.skip(reason)
