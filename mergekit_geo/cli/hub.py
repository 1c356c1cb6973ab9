"""The command that pushes an output to the Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import Talk, takes
from mergekit_geo.cli.session import session


@takes(Talk)
def push(
    options: Talk,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Of a merge.")],
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="org/name, or name for one of your own.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch, made if it is not there, or refs/pr/N.")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")
    ] = False,
) -> None:
    """Push an output to the Hub, and compare what arrived with what is on the disk."""
    with session("push", options) as current:
        from mergekit_geo.commands.push import push as run

        result = run(
            folder,
            repo,
            private=private,
            revision=revision,
            create_pr=create_pr,
            progress=current.progress(),
        )
        current.show(result.report)
