"""What does not come from the Hub as it states it is not merged."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergekit_geo.checkpoints.stated_hash import require_stated_hashes
from mergekit_geo.errors import HubError
from tests.checkpoints.hub_models import make_model
from tests.checkpoints.hub_process import Cli, command_line, failed, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub, Token

WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as served:
        for name in "ab":
            served.publish(f"org/{name}", make_model(tmp_path / "models" / name))
        yield served


@pytest.fixture
def cli(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return command_line(hub, tmp_path)


def soup(cli: Cli, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ("soup", "org/a", "org/b", "-o", "out", "--no-eval", "--no-fsync", "--quiet")
    return cli(*words, **environment)


def test_other_bytes_than_the_stated_hash_are_not_merged(
    hub: Hub, cli: Cli, tmp_path: Path
) -> None:
    """Found after the download, and in the cache ever after; deleted, it is downloaded anew."""
    hub.lies.add(f"org/b/{WEIGHTS}")
    stated = hub.files("org/b")[WEIGHTS].sha256
    for offline in "01":
        done = soup(cli, HF_HUB_OFFLINE=offline)
        failed(
            done,
            rf"org/b: {WEIGHTS} is not what the Hub states: expected SHA-256 {stated}, found "
            r"[0-9a-f]{64} \(delete \S+ and \S+, then run again: it is downloaded anew\)",
        )
        assert not list(tmp_path.glob("out*"))
    hub.lies.clear()
    for path in re.findall(r"/\S+/(?:snapshots|blobs)/[^\s,]+", done.stderr):
        Path(path).unlink()
    succeeded(soup(cli))
    assert (tmp_path / "out" / WEIGHTS).is_file()
    # The same later on: a bit of the cached file changes, in size and name nothing does.
    shutil.rmtree(tmp_path / "out")
    (blob,) = (tmp_path / "home").rglob(str(stated))
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")
    assert "org/b: model.safetensors is not what the Hub states" in soup(cli).stderr


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blob, file = tmp_path / hashlib.sha256(b"content").hexdigest(), tmp_path / WEIGHTS
    blob.write_bytes(b"content")
    file.symlink_to(blob)
    require_stated_hashes(tmp_path, [WEIGHTS], "org/a")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        require_stated_hashes(tmp_path, [WEIGHTS, "absent"], "org/a")
    with pytest.raises(HubError, match=r"expected SHA-256 0{64}, found ed7002b4"):
        require_stated_hashes(tmp_path, [WEIGHTS], "org/a", {WEIGHTS: "0" * 64})
    blob.write_bytes(b"contenu")
    with pytest.raises(HubError, match=r"org/a: model\.safetensors is not what the Hub states"):
        require_stated_hashes(tmp_path, [WEIGHTS], "org/a")


@pytest.mark.parametrize("path", ["^/", "/api/", r"/resolve/.*\.json"])
def test_a_login_page_is_one_clear_line(path: str, hub: Hub, cli: Cli, tmp_path: Path) -> None:
    hub.portal = re.compile(path)
    done = soup(cli)
    failed(
        done,
        rf"org/a: {hub.endpoint} answered with a web page.* instead of [^\n]+ "
        r"\(a login page or a proxy stands between[^\n]+\)",
    )
    hub.portal = None
    succeeded(soup(cli))


def test_a_login_page_that_was_cached_as_configuration(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    succeeded(cli("check", "org/a", "org/b"))
    (config,) = (tmp_path / "home").glob("hub/models--org--a/snapshots/*/config.json")
    config.resolve().write_text("\n <html>log in</html>")
    failed(
        soup(cli),
        rf"org/a: \S+ answered with a web page instead of config\.json \(.*{config}.*\)",
    )


def test_a_login_page_where_an_output_is_pushed(hub: Hub, cli: Cli) -> None:
    hub.tokens["hf_x"] = Token()
    hub.portal = re.compile("whoami")
    words = ("soup", "org/a", "org/b", "-o", "out", "--no-eval", "--push-to", "me/c", "--quiet")
    failed(
        cli(*words, HF_TOKEN="hf_x"),
        rf"me/c: {hub.endpoint} answered with a web page.*\(a login page or a proxy.*\)",
    )
