"""How a report tells that an output is on the Hub."""

from __future__ import annotations

from mergekit_geo.records.record import Record


class PushMeasurements(Record):
    """What was pushed, after it was compared with what is on the disk.

    Attributes:
        repo: `org/name`.
        commit: The commit that holds it.
        url: Where to look at it.
        pull_request: Its address; null where none was opened.
        files: How many files have the size and hash there that they have on the disk.
        size: Their bytes.
        removed: Weights of an earlier model that the commit removed.
        others: Files of the repository that are not the output's.
    """

    repo: str
    commit: str
    url: str
    pull_request: str | None
    files: int
    size: int
    removed: list[str]
    others: list[str]
