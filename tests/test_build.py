"""What is in the sdist and the wheel, and what the wheel's name promises."""

import ctypes
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {"kernel.c", "masks.c", "weighed.c", "numbers.h"}


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The build hook, which is no part of the package."""
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def build(source: Path, target: str, out: Path) -> Path:
    """The file that hatchling, which is installed, makes of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@pytest.mark.slow
def test_a_wheel_is_built_of_the_sdist_alone(tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    tops = {path.name for path in source.iterdir()}
    assert tops == {
        "mergekit_geo", "hatch_build.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md",
        "CITATION.cff", "PKG-INFO", ".gitignore",
    }  # fmt: skip
    assert {path.name for path in (source / "mergekit_geo" / "merging").glob("*.[ch]")} == SOURCES
    wheel = build(source, "wheel", tmp_path / "wheel")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl"), "it has kernels, which are made for a platform"
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(
            archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
        )
        archive.extract("mergekit_geo/merging/_kernel.so", tmp_path)
    assert {name.split("/")[0] for name in names} == {
        "mergekit_geo",
        f"{wheel.name.split('-py3')[0]}.dist-info",
    }
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mergekit_geo").rglob("*.py")}
    assert modules <= set(names)
    assert {
        "mergekit_geo/py.typed",
        "mergekit_geo/views/page.css",
        "mergekit_geo/views/page.js",
    } <= set(names)
    assert not [name for name in names if name.endswith((".c", ".h", ".pyc"))]
    assert ctypes.CDLL(str(tmp_path / "mergekit_geo/merging/_kernel.so")).merge_rows
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("python", "platform", "flags"),
    [
        ("linux-x86_64", "linux-x86_64", ""),
        ("macosx-11.0-arm64", "macosx-11.0-arm64", "-mmacosx-version-min=11.0 -arch arm64"),
        ("macosx-14.4-arm64", "macosx-14.0-arm64", "-mmacosx-version-min=14.0 -arch arm64"),
        ("macosx-15-arm64", "macosx-15.0-arm64", "-mmacosx-version-min=15.0 -arch arm64"),
        ("macosx-10.9-universal2", "macosx-10.9-universal2",
         "-mmacosx-version-min=10.9 -arch arm64 -arch x86_64"),
    ],
)  # fmt: skip
def test_kernels_are_compiled_for_what_the_tag_says(
    hook: ModuleType, python: str, platform: str, flags: str
) -> None:
    assert hook.platform_of(python) == platform
    assert hook.target_flags(platform) == flags.split()
