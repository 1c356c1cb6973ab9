"""Every recipe of the page on search spaces is one, with the names that its remarks say."""

import re

import pytest

from mergekit_geo.searches.space import Space
from scripts.docs.blocks import ROOT, Block, blocks_of

RECIPES = [one for one in blocks_of(ROOT / "docs/search-format.md") if one.language == "yaml"]


@pytest.mark.parametrize("block", RECIPES, ids=lambda one: str(one.line))
def test_a_recipe_is_a_space(block: Block) -> None:
    names = {one.name for one in Space.read(block.text).dimensions}
    said = {
        name.strip()
        for remark in re.findall(r"\}.*# (.+)$", block.text, re.MULTILINE)
        for name in remark.partition(": of")[0].split(", ")
    }
    assert said <= names
    assert len(said) > 3
