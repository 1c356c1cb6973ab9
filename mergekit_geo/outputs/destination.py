"""Where on the Hub an output goes, checked where it is said."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from mergekit_geo.errors import ArgumentError

NAME = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


@dataclass(frozen=True)
class Destination:
    """Where on the Hub an output goes.

    Attributes:
        repo: `org/name`, or `name` for a repository of one's own; made if it is not there.
        private: Make it private; a repository that is public already is refused.
        revision: Branch, made if it is not there, or `refs/pr/N`; None is the main branch.
        create_pr: Open a pull request instead of committing.

    Raises:
        ArgumentError: No repository can have this name, or a pull request on a branch.

    Example:
        >>> Destination("org/merged", private=True).command(Path("my out"))
        "geo-merge push 'my out' org/merged --private"
    """

    repo: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.repo):
            raise ArgumentError(
                f"no repository can be called {self.repo!r}",
                remedy="write org/name or name; a branch goes to --revision",
            )
        _refuse_what_the_hub_would(self.repo)
        if self.create_pr and self.revision not in (None, "main"):
            raise ArgumentError(
                f"a pull request is opened on the main branch, not on {self.revision!r}",
                remedy="give --create-pr or --revision",
            )

    def command(self, folder: Path) -> str:
        """The command that pushes a folder here."""
        flags = ["--private"] * self.private + ["--create-pr"] * self.create_pr
        flags += [] if self.revision is None else [f"--revision={self.revision}"]
        return shlex.join(["geo-merge", "push", str(folder), self.repo, *flags])


def _refuse_what_the_hub_would(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ArgumentError(str(error).split("\n", maxsplit=1)[0], where=repo) from error
