"""The table of merge methods for the documentation."""

from __future__ import annotations

from mergekit_geo.merging.method_help import listing

HEAD = ("`merge_method`", "each tensor of the output", "source", "takes, with its default")


def method_table() -> str:
    """Name, formula, source and requirements of every method."""
    named = [(f"`{name}`", *others) for name, *others in listing(in_recipe=True)]
    rows = [HEAD, ("---",) * len(HEAD), *named]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
