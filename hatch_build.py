"""Compiles the merging kernels when the package is built or installed.

They are a plain shared library, loaded by ctypes: without Python's headers in it, one wheel for a
platform serves every Python. Without a C compiler, and on Windows, the wheel has no
kernels and is for any platform: torch does the arithmetic there, a few times slower.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = tuple(f"mergekit_geo/merging/{name}.c" for name in ("kernel", "masks", "weighed"))
LIBRARY = "mergekit_geo/merging/_kernel.so"
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fPIC", "-shared"]
ARM_MACOS = 11
"""From this release of macOS on, which was the first on ARM, a wheel states no minor release."""


class KernelBuild(BuildHookInterface[Any]):
    """Puts `_kernel.so` beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as made for this platform if that worked."""
        platform = platform_of(sysconfig.get_platform())
        if self.target_name != "wheel" or os.name == "nt" or not self._compile(platform):
            return
        tag = platform.replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(LIBRARY)
        build_data |= {"pure_python": False, "tag": f"py3-none-{tag}"}

    def _compile(self, platform: str) -> bool:
        root, compiler = Path(self.root), shlex.split(os.environ.get("CC", "cc"))
        fresh = (root / LIBRARY).with_suffix(f".{os.getpid()}")
        flags = [*FLAGS, *target_flags(platform)]
        try:
            sources = [root / source for source in SOURCES]
            subprocess.run([*compiler, *flags, *sources, "-o", fresh], check=True)
            fresh.replace(root / LIBRARY)  # a process may have the old one open
        except (OSError, subprocess.CalledProcessError) as error:
            (root / LIBRARY).unlink(missing_ok=True)
            self.app.display_warning(f"the merging kernels were not compiled: {error}")
            return False
        return True


def platform_of(name: str) -> str:
    """The platform that pip compares a wheel's with, of the one that Python was built for.

    Example:
        >>> platform_of("linux-x86_64"), platform_of("macosx-14.4-arm64")
        ('linux-x86_64', 'macosx-14.0-arm64')
    """
    if not name.startswith("macosx-"):
        return name
    _, release, machine = name.split("-")
    major, _, minor = release.partition(".")
    return f"macosx-{major}.{minor if int(major) < ARM_MACOS else 0}-{machine}"


def target_flags(platform: str) -> list[str]:
    """What has the compiler make what the wheel's name promises: a macOS, one processor or both.

    Example:
        >>> target_flags("macosx-10.9-universal2")
        ['-mmacosx-version-min=10.9', '-arch', 'arm64', '-arch', 'x86_64']
    """
    if not platform.startswith("macosx-"):
        return []
    _, release, machine = platform.split("-")
    machines = ["arm64", "x86_64"] if machine == "universal2" else [machine]
    return [f"-mmacosx-version-min={release}", *(word for m in machines for word in ("-arch", m))]
