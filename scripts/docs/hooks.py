"""What mkdocs calls while it builds the site: pages get the parts that are made of the source.

`<!-- options: soup -->` becomes the tables of a command's options, `<!-- methods -->` the table of
merge methods, `<!-- architectures -->` that of the architectures that are tested.
"""

from __future__ import annotations

import re
from typing import Any

from scripts.docs.architectures import architecture_table
from scripts.docs.methods import method_table
from scripts.docs.options import option_tables

PLACE = re.compile(r"^<!-- (options|methods|architectures)(?:: ([\w-]+))? -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables in their places."""
    return PLACE.sub(_made, markdown)


def _made(place: re.Match[str]) -> str:
    if place[1] == "options":
        return option_tables(place[2])
    return method_table() if place[1] == "methods" else architecture_table()
