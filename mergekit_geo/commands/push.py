"""`geo.push`: an output on the Hub, and the proof that it is what is on the disk."""

from __future__ import annotations

from pathlib import Path

from mergekit_geo.commands._push import push_warnings, pushed
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.config.output import Destination
from mergekit_geo.outputs.output import Output
from mergekit_geo.specs.training import PushSpec


@command(PushSpec)
def push(asked: PushSpec) -> Work:
    """Push an output to the Hub, and compare sizes and hashes of what arrived.

    The repository is made if it is not there. Weights of an earlier model in it are removed by the
    same commit; other files stay. The same call goes on with a push that broke off.

    Raises:
        ArgumentError: No repository can have this name, or a pull request on a branch.
        PushError: The folder is no whole output, or the Hub does not take it; the folder is
            untouched.

    Example:
        <!-- no-run: needs a Hub account -->
        ```python
        import mergekit_geo as geo

        print(geo.push("out", "org/merged", private=True).url)
        ```
    """
    to = Destination(asked.repo, asked.private, asked.revision, asked.create_pr)

    def do(output: Output) -> Findings:
        source = Path(asked.folder)
        found = pushed(source, to, asked.token, asked.told)
        unchanged = asked.create_pr and found.pull_request is None
        nothing = ["the repository holds all of it already: no pull request"] if unchanged else []
        return Findings(
            found,
            settings={"repo": to.repo},
            warnings=[*nothing, *push_warnings(source, found)],
            output=str(source),
        )

    return Work(asked, do)
