"""Compiles the merging kernels when the package is built or installed.

Without a C compiler the package still works: torch does the arithmetic then, a few times slower.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("mergekit_geo/merging/kernel.c", "mergekit_geo/merging/masks.c")
LIBRARY = "mergekit_geo/merging/_kernel.so"
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fPIC", "-shared"]


class KernelBuild(BuildHookInterface[Any]):
    """Puts `_kernel.so` beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as made for this platform if that worked."""
        if self.target_name != "wheel" or not self._compile():
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(LIBRARY)
        build_data |= {"pure_python": False, "tag": f"py3-none-{platform}"}

    def _compile(self) -> bool:
        root, compiler = Path(self.root), shlex.split(os.environ.get("CC", "cc"))
        fresh = (root / LIBRARY).with_suffix(f".{os.getpid()}")
        try:
            sources = [root / source for source in SOURCES]
            subprocess.run([*compiler, *FLAGS, *sources, "-o", fresh], check=True)
            fresh.replace(root / LIBRARY)  # a process may have the old one open
        except (OSError, subprocess.CalledProcessError) as error:
            (root / LIBRARY).unlink(missing_ok=True)
            self.app.display_warning(f"the merging kernels were not compiled: {error}")
            return False
        return True
