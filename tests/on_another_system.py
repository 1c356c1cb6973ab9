"""Merge small models without what only Unix has: `python tests/on_another_system.py MODEL ... OUT`.

The package's own modules get an `os` and a `signal` that lack these names, and no `fcntl` at all.
Other libraries know what to do on Windows, and tell by the name of the system: they keep theirs.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

MISSING = ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
UNIX = {
    os: "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WTERMSIG fork geteuid getuid killpg "
    "posix_fallocate pread preadv pwrite register_at_fork sched_getaffinity set_blocking",
    signal: "SIGALRM SIGHUP SIGKILL SIGPIPE SIGXCPU alarm pthread_sigmask",
}
LEFT_OUT = ("mergekit_geo.data.bounded", "mergekit_geo.__main__", "mergekit_geo.merging._kernel")
"""Imported only where there is a `fork`; runs when imported; no module but compiled kernels."""


def lose_unix() -> None:
    """From now on modules of the package are imported as on a system that is not Unix."""
    usual = builtins.__import__
    poorer = {found.__name__: _without(found, names.split()) for found, names in UNIX.items()}

    def find(name: str, globals: Any = None, *rest: Any, **more: Any) -> Any:  # noqa: A002
        if not str((globals or {}).get("__name__")).startswith("mergekit_geo"):
            return usual(name, globals, *rest, **more)
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return poorer.get(name) or usual(name, globals, *rest, **more)

    builtins.__import__ = find


def _without(module: ModuleType, names: list[str]) -> ModuleType:
    found = ModuleType(module.__name__)
    vars(found).update({key: value for key, value in vars(module).items() if key not in names})
    return found


def import_all() -> None:
    """Import every module of the package."""
    import mergekit_geo

    for found in walk_packages(mergekit_geo.__path__, "mergekit_geo."):
        if found.name not in LEFT_OUT:
            import_module(found.name)


def render(model: str) -> str:
    """What a chat template writes."""
    from transformers import AutoTokenizer

    from mergekit_geo.data.chat_template import Conversation
    from mergekit_geo.data.chat_template import render as rendered

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    return rendered(tokenizer, [Conversation([{"role": "user", "content": "hello"}])])[0]


def locked_twice(folder: Path) -> str:
    """What a second run of the same output is told."""
    from mergekit_geo.errors import OutputError
    from mergekit_geo.outputs.place import lock

    unlock = lock(folder)
    try:
        lock(folder)
    except OutputError as error:
        return error.message
    finally:
        unlock()
    return "not locked"


if __name__ == "__main__":
    *models, out = sys.argv[1:]
    lose_unix()
    import_all()
    import mergekit_geo as geo

    for _ in range(2):  # the second one replaces the first
        data = geo.EvalData(max_examples=8)
        overwrite = geo.OutputConfig(overwrite=True)
        geo.soup(models, out, data=data, sharpness="off", output=overwrite)
    found = {"rendered": render(models[0]), "locked": locked_twice(Path(out))}
    print(json.dumps(found))
