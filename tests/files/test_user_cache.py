"""The user's cache: private, and no worse than none where it is torn, foreign or not writable."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mergekit_geo.files.user_cache import CacheFolder, cache_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    return tmp_path / "home" / "cache" / "mergekit_geo"


def kept(name: str = "work") -> tuple[CacheFolder, list[str]]:
    told: list[str] = []
    return CacheFolder(name, told.append), told


def put(content: bytes) -> tuple[CacheFolder, list[str]]:
    cache, told = kept()
    assert cache.write("file", lambda file: file.write(content))
    assert told == []
    return cache, told


def test_what_is_kept_is_the_users_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        put(b"content")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (root, root / "work", root / "work" / "file")]
    assert modes == [0o700, 0o700, 0o600]
    cache, told = kept()
    assert cache.read("file") == b"content"
    assert cache.read("other") is None
    assert (told, [path.name for path in (root / "work").iterdir()]) == ([], ["file"])


TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"\xff" * 40,
    "a number": lambda content: b"-5",
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"0",
    "a bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("tear", TORN.values(), ids=TORN)
def test_a_torn_file_is_none_and_told_once(root: Path, tear: Callable[[bytes], bytes]) -> None:
    put(b"content")
    path = root / "work" / "file"
    path.write_bytes(tear(path.read_bytes()))
    cache, told = kept()
    assert cache.read("file") is None
    assert cache.read("file") is None
    assert told == [f"the cache {root} is damaged in part: measured anew"]
    assert cache.write("file", lambda file: file.write(b"again"))
    assert cache.read("file") == b"again"


@pytest.mark.parametrize("place", ["", "work", "work/file"])
@pytest.mark.parametrize("mode", [0o020, 0o002], ids=["group", "others"])
def test_what_others_can_write_to_is_not_read(root: Path, place: str, mode: int) -> None:
    put(b"content")
    (root / place).chmod((root / place).stat().st_mode | mode)
    cache, told = kept()
    assert cache.read("file") is None
    assert len(told) == 1
    assert f"others can write to {root / place if place else root}" in told[0]
    assert cache.write("file", lambda file: file.write(b"again")) is (place == "work/file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("place", ["", "work", "work/file"])
def test_what_belongs_to_another_user_is_not_read(root: Path, place: str) -> None:
    put(b"content")
    os.chown(root / place, 12345, 12345)
    cache, told = kept()
    assert cache.read("file") is None
    assert "belongs to another user" in told[0]


def test_a_link_or_a_pipe_in_place_of_a_file_is_not_read(root: Path, tmp_path: Path) -> None:
    put(b"content")
    (root / "work" / "file").rename(tmp_path / "elsewhere")
    (root / "work" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "work" / "pipe")
    for name in ("link", "pipe"):
        cache, told = kept()
        assert cache.read(name) is None
        assert "is no plain file or folder" in told[0]


@pytest.mark.parametrize("place", ["/proc/cache", "/dev/null/cache", "/dev/full"])
def test_a_place_that_cannot_be_written_keeps_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    cache, told = kept()
    assert cache.read("file") is None
    assert not cache.write("file", lambda file: file.write(b"content"))
    assert not cache.write("file", lambda file: file.write(b"content"))
    assert len(told) == 1
    assert told[0].startswith(f"the cache {place}/mergekit_geo cannot be used (")


def test_a_write_that_fails_leaves_what_was_there(root: Path) -> None:
    cache, told = put(b"content")

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    assert not cache.write("file", full)
    assert "(No space left on device): nothing is kept for a later run" in told[0]
    assert cache.read("file") == b"content"
    assert [path.name for path in (root / "work").iterdir()] == ["file"]


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for stated in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", stated)
        assert cache_folder() == tmp_path / ".cache" / "mergekit_geo"
