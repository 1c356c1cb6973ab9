"""Refuse a tag that is not the version everywhere: `python scripts/check_release.py v1.2.3`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "mergekit_geo/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
    "CHANGELOG.md": r"^## (?!Unreleased)v?(\S+)",
}


def versions() -> dict[str, str]:
    """The version that each file states first; of the changelog that of its newest release."""
    texts = {file: (ROOT / file).read_text("utf-8") for file in PLACES}
    found = {file: re.search(PLACES[file], text, re.MULTILINE) for file, text in texts.items()}
    return {file: match[1] if match else "none" for file, match in found.items()}


def main(tag: str) -> int:
    """Print where another version stands; the exit code."""
    others = {file: version for file, version in versions().items() if f"v{version}" != tag}
    for file, version in others.items():
        print(f"{file}: expected the version of the tag {tag}, found {version}", file=sys.stderr)
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
