"""Links of the documentation lead somewhere, and every page is in the navigation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts.docs.blocks import ROOT, blocks_of, pages

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^( *)`{3}.*?^\1`{3}$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+?)(?: \{#([\w-]+)\})?$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Targets of a page's links, those of other hosts left out."""
    text = CODE.sub("", (ROOT / page).read_text())
    return [link for link in LINK.findall(text) if "://" not in link and "mailto:" not in link]


def anchors(path: Path) -> set[str]:
    """Headings as both GitHub and mkdocs name them, where they agree, and public names."""
    text = re.sub(r"^( *)`{3}.*?^\1`{3}$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {own or slug(title) for title, own in HEADING.findall(text)} | set(NAME.findall(text))


def slug(title: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{link}: no such file"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{link}: no such heading"


def test_included_files_have_a_test() -> None:
    included = {block.included for page in pages() for block in blocks_of(page)} - {""}
    extensions = {
        f"examples/extend/{path.name}" for path in (ROOT / "examples/extend").glob("*.py")
    }
    assert extensions <= included
    tested = "".join(path.read_text() for path in (ROOT / "tests" / "examples").glob("*.py"))
    for path in map(Path, included):
        assert (ROOT / path).exists()
        assert path.parts[0] == "examples"
        assert f'"{path.stem}"' in tested, f"{path} has no test"


def nav(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        yield from nav(list(entries.values()))
    elif isinstance(entries, list):
        for one in entries:
            yield from nav(one)


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = list(nav(yaml.safe_load(text)["nav"]))
    there = [str(page.relative_to("docs")) for page in pages() if page.parts[0] == "docs"]
    assert sorted(named) == sorted(there)
