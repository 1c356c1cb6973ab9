"""Run a page's blocks one after another in one folder, in this process."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mergekit_geo.cli.app import app
from scripts.docs.blocks import ROOT, SHELLS, Block
from tests.docs.small import shrunk

EXITS = re.compile(r"#.*\bexits (\d+)")


@dataclass
class Session:
    """What the blocks of a page share.

    Attributes:
        folder: Where they run: the current one.
        names: What blocks of Python have defined.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def run(self, block: Block) -> None:
        """Run a block, or write the file that it shows.

        Raises:
            AssertionError: A command exits otherwise than the page says.
        """
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((ROOT / block.included).read_text() if block.included else block.text)
        elif block.language in SHELLS:
            for words, code in commands(block):
                self._command(block, words, code)
        elif block.language == "pycon":
            self._console(block)
        else:
            exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), self.names)

    def _command(self, block: Block, words: list[str], code: int) -> None:
        named = [one for word in words for one in self._globbed(word)]
        done = CliRunner().invoke(app, shrunk(named))
        said = f"{block.place}: geo-merge {shlex.join(words)}\n{done.output}"
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, f"exit {done.exit_code}, expected {code}\n{said}"

    def _globbed(self, word: str) -> list[str]:
        if "*" not in word:
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word))

    def _console(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(
            block.text, self.names, block.place, str(block.page), block.line - 1
        )
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed = runner.run(test, out=told.append, clear_globs=False).failed
        self.names.update(test.globs)
        assert not failed, "".join(told)


def commands(block: Block) -> Iterator[tuple[list[str], int]]:
    """The words behind `geo-merge` of each line, and the exit code that a remark states.

    Raises:
        ValueError: The line is another program's: that belongs into a block of its own.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "geo-merge":
            raise ValueError(f"{block.place}: {words[0]} in a block of geo-merge")
        stated = EXITS.search(line)
        yield words[1:], int(stated[1]) if stated else 0
