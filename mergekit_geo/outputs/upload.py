"""An output's way to the Hub: repository, upload, and a look at what arrived."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.hf_api import CommitInfo, RepoFile

from mergekit_geo.checkpoints.hub_client import client_told
from mergekit_geo.config.output import Destination
from mergekit_geo.errors import PushError
from mergekit_geo.outputs.push_errors import LOG_IN, push_errors
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.report import PushMeasurements

if TYPE_CHECKING:
    from hashlib import _Hash

WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
"""Files that transformers loads by their name, even beside an index that does not name them."""

OF_THE_HUB = ".gitattributes"
HIDDEN = (".*", "*/.*")
BLOCK = 1 << 20


def check_access(to: Destination, token: str | None = None) -> None:
    """Ask the Hub whether the token can write at all, before work is done that is to be pushed.

    Raises:
        PushError: It cannot, or nobody answers.
    """
    with client_told(Silent()), push_errors(to):
        api = _api(to, token)
        role = api.whoami().get("auth", {}).get("accessToken", {}).get("role")
        if role == "read":
            raise PushError("the token may only read", where=to.repo, remedy=LOG_IN)


def upload(
    folder: Path,
    files: Sequence[Path],
    to: Destination,
    token: str | None = None,
    progress: Progress | None = None,
) -> PushMeasurements:
    """Push files of a folder, and compare what arrived with what is on the disk.

    An upload that breaks off is gone on with by the same call: what the Hub has, it is not sent
    again.

    Args:
        folder: The output.
        files: What is pushed, relative to `folder`.
        to: Where it goes.
        token: For the Hub; the one that is stored if None.
        progress: Told what is going on.

    Raises:
        PushError: It could not be pushed, or something else arrived; the folder is untouched.
    """
    told = progress or Silent()
    local = {path.as_posix(): folder / path for path in files}
    size = sum(path.stat().st_size for path in local.values())
    with client_told(told), push_errors(to, folder):
        api = _api(to, token)
        repo = _made(api, to)
        told.say(f"pushing {len(local)} files, {in_gigabytes(size)}, to {_address(repo)}")
        stale = _stale(api.list_repo_files(repo, revision=to.revision), local)
        commit = _committed(api, repo, folder, files, to, stale)
        there = _tree(api, repo, commit.oid)
        told.phase("comparing what arrived", size)
        if found := differences(local, there, told.advance):
            raise _other_content(found, to, folder)
    names = {file.path for file in there}
    return PushMeasurements(
        repo=repo,
        commit=commit.oid,
        url=commit.pr_url or _address(repo, to.revision),
        pull_request=commit.pr_url,
        files=len(local),
        size=size,
        removed=stale,
        others=sorted(names - local.keys() - {OF_THE_HUB}),
    )


def _api(to: Destination, token: str | None) -> HfApi:
    used = token or get_token()
    if not used and not constants.HF_HUB_OFFLINE:
        raise PushError(f"no token for {constants.ENDPOINT}", where=to.repo, remedy=LOG_IN)
    return HfApi(token=used, library_name="mergekit_geo")


def _made(api: HfApi, to: Destination) -> str:
    """Create the repository if needed, private if asked for; returns its full name."""
    private = True if to.private else None  # the organisation's default, else public
    repo = api.create_repo(to.repo, private=private, exist_ok=True).repo_id
    if to.private and not api.model_info(repo).private:
        raise PushError(
            "--private was asked for, and the repository is there and public",
            where=repo,
            remedy="make it private in its settings, or leave --private out",
        )
    if to.revision not in (None, "main") and not to.revision.startswith("refs/"):
        api.create_branch(repo, branch=to.revision, exist_ok=True)
    return repo


def _stale(there: Iterable[str], local: Mapping[str, Path]) -> list[str]:
    """Weights of an earlier model in other files: they would be loaded in place of these."""
    return sorted(name for name in there if WEIGHTS.fullmatch(name) and name not in local)


def _committed(
    api: HfApi, repo: str, folder: Path, files: Sequence[Path], to: Destination, stale: list[str]
) -> CommitInfo:
    """Upload these files with the client, which skips what the Hub has and tries again if it can.

    With hf_xet, data goes up in pieces, of which those that arrived are not sent again, and in
    several commits if there are many files. Without, a file at a time and in one commit at the
    end: a file that broke off starts over, whole ones are not sent again.
    """
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    others = [escape(path.as_posix()) for path in there - set(files)]
    return api.upload_folder(
        repo_id=repo,
        folder_path=folder,
        revision=to.revision,
        create_pr=to.create_pr,
        commit_message=f"Merged by mergekit_geo: {folder.resolve().name}",
        ignore_patterns=[*HIDDEN, *others],
        delete_patterns=stale or None,
    )


def _tree(api: HfApi, repo: str, commit: str) -> list[RepoFile]:
    found = api.list_repo_tree(repo, recursive=True, revision=commit)
    return [entry for entry in found if isinstance(entry, RepoFile)]


def _other_content(found: Sequence[str], to: Destination, folder: Path) -> PushError:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return PushError(
        f"what arrived is not what is on the disk: {found[0]}{more}",
        where=to.repo,
        remedy=f"push again: {to.command(folder)}",
    )


def _address(repo: str, revision: str | None = None) -> str:
    page = f"{constants.ENDPOINT}/{repo}"
    return page if revision in (None, "main") else f"{page}/tree/{quote(revision, safe='')}"


def differences(
    local: Mapping[str, Path], remote: Iterable[RepoFile], advance: Callable[[int], None]
) -> list[str]:
    """List the files that differ, one line each; empty if all are the same.

    Args:
        local: Name in the repository to file.
        remote: The files of a commit; others than those in `local` do not matter.
        advance: Told of bytes that were read.
    """
    there = {file.path: file for file in remote}
    found = []
    for name, path in local.items():
        if name not in there:
            found.append(f"{name} is not there")
        elif there[name].size != path.stat().st_size:
            found.append(f"{name} has {there[name].size} bytes there, {path.stat().st_size} here")
        elif not _same_hash(path, there[name], advance):
            found.append(f"{name} has other content there")
    return found


def _same_hash(path: Path, file: RepoFile, advance: Callable[[int], None]) -> bool:
    """Compare hashes: SHA-256 for large files, git's blob SHA-1 for others."""
    if file.lfs is not None:
        return _digest(path, hashlib.sha256(), advance) == file.lfs.sha256
    begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest(path, begun, advance) == file.blob_id


def _digest(path: Path, begun: _Hash, advance: Callable[[int], None]) -> str:
    block = bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            begun.update(memoryview(block)[:count])
            advance(count)
    return begun.hexdigest()
