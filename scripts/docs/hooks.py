"""What mkdocs calls while it builds the site: pages get the parts that are made of the source.

`<!-- options: soup -->` becomes the tables of a command's options, `<!-- methods -->` the table of
merge methods, `<!-- searched -->` that of the numbers which a search without a recipe tries, and
`<!-- architectures -->` that of the architectures that are tested.
"""

from __future__ import annotations

import re
from typing import Any

from scripts.docs.architectures import architecture_table
from scripts.docs.methods import method_table, searched_table
from scripts.docs.options import option_tables

PLACE = re.compile(
    r"^<!-- (options|methods|searched|architectures)(?:: ([\w-]+))? -->$", re.MULTILINE
)

TABLES = {"methods": method_table, "searched": searched_table, "architectures": architecture_table}
"""Tables that need no more than their name."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables in their places."""
    return PLACE.sub(_made, markdown)


def _made(place: re.Match[str]) -> str:
    if place[1] == "options":
        return option_tables(place[2])
    return TABLES[place[1]]()
