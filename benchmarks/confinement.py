"""What a process may touch while it is watched, and how long and large it may grow."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = frozenset({
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
})  # fmt: skip

RUNS = frozenset({
    "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen",
    "pickle.find_class", "builtins.input", "pty.spawn", "ctypes.dlopen",
})  # fmt: skip

BENEATH = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link")
ITSELF = ("os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link")
TWO = ("os.rename", "os.link")
"""Events that may name what is in an open folder, whose number comes last; with two of each."""

HARMLESS = ("/dev/null", "/dev/tty", "/dev/urandom", "/proc/", "/sys/")


class Watch:
    """Audit events of this process that it should not cause; there is no end to the watching.

    Args:
        folder: Where it may write.
        known: Folders of code that may run.
        secret: A file that it must not read.
    """

    def __init__(self, folder: Path, known: list[str], secret: Path) -> None:
        self.folder, self.known, self.secret = str(folder), known, str(secret)
        self.found: list[str] = []
        self._busy = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            if said := self._judge(event, arguments):
                self.found.append(said)
        except Exception as error:
            self.found.append(f"watch failed at {event}: {error!r}")
        finally:
            self._busy = False

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "open":
            return self._opened(*arguments)
        if event in CHANGES:
            paths = _paths(event, arguments)
            paths = paths[-1:] if event in ("shutil.copyfile", "os.symlink", "os.link") else paths
            return next(
                (
                    f"outside: {event} {p!r}"
                    for p in paths
                    if self._is_outside(p, itself=event in ITSELF)
                ),
                None,
            )
        if event in RUNS:
            return (
                None
                if event == "ctypes.dlopen" and arguments[0] is None
                else self._run(event, arguments)
            )
        if event == "exec":
            name = arguments[0].co_filename
            return f"code: exec of {name}" if self._is_foreign(name) else None
        if event == "socket.connect":
            return f"network: {arguments[1]!r}"
        return None

    def _opened(self, path: Any, mode: Any, flags: Any) -> str | None:
        if isinstance(path, int):
            return None
        name = os.fsdecode(path)
        if Path(name).name == Path(self.secret).name and os.path.realpath(name) == self.secret:
            return f"outside: reads {name}"
        writes = bool((flags or 0) & WRITING) or any(c in (mode or "") for c in "wax+")
        if writes and self._is_outside(name):
            return f"outside: writes {name}"
        return None

    def _run(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        text = repr(arguments)[:200]
        if event == "ctypes.dlopen" and any(place in text for place in self.known):
            return None
        return f"code: {event}{text}"

    def _is_outside(self, path: Any, *, itself: bool = False) -> bool:
        """Whether it leads elsewhere; `itself`: a link is meant, not what it leads to."""
        place = Path(os.fsdecode(path))
        full = os.path.realpath(place.parent) if itself else os.path.realpath(place)
        return not (full + "/").startswith((self.folder + "/", *HARMLESS))

    def _is_foreign(self, name: str) -> bool:
        return name.startswith(self.folder)


def _paths(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """What is changed, in full where it is named beneath an open folder."""
    count = 2 if event in TWO else 1
    paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
    folders = [a for a in arguments[1:] if isinstance(a, int)][-count:]
    if event in BENEATH and len(folders) == len(paths):
        return [_beneath(folder, path) for folder, path in zip(folders, paths, strict=True)]
    return paths


def _beneath(folder: int, path: str) -> str:
    return path if folder < 0 else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)  # noqa: PTH115, PTH118


def limit_memory(extra: int) -> None:
    """Let this process map so many bytes more than it does now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
