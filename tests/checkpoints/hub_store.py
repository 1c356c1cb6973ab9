"""What the small Hub of `hub_server.py` holds: repositories, commits, large files, faults."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
LARGE = (".safetensors", ".bin", ".png")
"""Suffixes of files that are kept as large ones."""


@dataclass(frozen=True)
class Request:
    """A request and how it was answered.

    Attributes:
        method: Such as `GET`.
        path: Without the query.
        status: Of the answer.
        sent: Bytes of its body.
        received: Bytes of the request's body.
    """

    method: str
    path: str
    status: int
    sent: int
    received: int = 0


@dataclass(frozen=True)
class Blob:
    """A file's content.

    Attributes:
        path: Where it lies; None if it was counted and thrown away.
        size: Bytes.
        oid: git's name of it, or of the pointer to it.
        sha256: Of a large file; None for others.
    """

    path: Path | None
    size: int
    oid: str
    sha256: str | None = None

    @classmethod
    def of(cls, name: str, path: Path) -> Blob:
        """The content of a file that is called `name` in a repository."""
        if not is_large(name):
            return cls(path, path.stat().st_size, git_oid(path.read_bytes()))
        with path.open("rb") as file:
            return cls.large(path, path.stat().st_size, hashlib.file_digest(file, "sha256"))

    @classmethod
    def large(cls, path: Path | None, size: int, digest: hashlib._Hash) -> Blob:
        """A large file, known by its SHA-256."""
        sha = digest.hexdigest()
        spec = "version https://git-lfs.github.com/spec/v1"
        return cls(path, size, git_oid(f"{spec}\noid sha256:{sha}\nsize {size}\n".encode()), sha)

    def tree_entry(self, name: str) -> dict[str, object]:
        """As a listing of a repository has it."""
        entry: dict[str, object] = {"type": "file", "path": name, "size": self.size}
        if self.sha256 is not None:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return {**entry, "oid": self.oid}

    def sibling(self, name: str) -> dict[str, object]:
        """As a description of a repository has it, where it is asked for its files."""
        entry: dict[str, object] = {"rfilename": name, "size": self.size, "blobId": self.oid}
        if self.sha256 is None:
            return entry
        return {**entry, "lfs": {"sha256": self.sha256, "size": self.size, "pointerSize": 130}}


Files = Mapping[str, Blob]


@dataclass
class Repository:
    """Commits by sha, and the branches that name them."""

    gated: bool = False
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str) -> str:
        """Make a commit the newest of a branch, and return its sha."""
        names = [f"{name} {blob.oid}" for name, blob in sorted(files.items())]
        sha = sha1(f"{len(self.commits)} {names}".encode())
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha


@dataclass(frozen=True)
class Token:
    """What a user's token is good for: the namespaces that it may write to."""

    namespaces: tuple[str, ...] = ("me", "org")
    role: str = "write"


class Refusal(Exception):
    """An error as the Hub tells it: a status, and a code and a message in headers."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Hub:
    """The repositories, the record, and the faults to come.

    Attributes:
        endpoint: For `HF_ENDPOINT`.
        root: Where what is uploaded is kept; None counts and hashes it and throws it away.
        requests: What was asked, in order.
        tokens: Who may do what.
        part_size: Large files above it are uploaded in parts of it; None takes them whole.
        objects: Large files that have arrived, by SHA-256.
        arriving: Large files of which parts have: the digest so far.
        garbled: Names of small files that arrive with other content.
        lies: Files, as `org/name/file`, that are sent with other bytes than their hash says.
        portal: Requests whose path this matches are answered with a login page.
        cuts: By file, as `org/name/file`, or by the SHA-256 of a file to be uploaded: what becomes
            of its next transfers. `end` closes the connection in the middle, which the hub client
            takes up again after a second; `reset` is an error to it at once (an upload it takes up
            again all the same); `refuse` answers 403 at the end of an upload, as a store does
            whose address has expired.
    """

    def __init__(self, endpoint: str, root: Path | None = None) -> None:
        self.endpoint, self.root = endpoint, root
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.tokens: dict[str, Token] = {}
        self.part_size: int | None = None
        self.objects: dict[str, Blob] = {}
        self.arriving: dict[str, hashlib._Hash] = {}
        self.garbled: set[str] = set()
        self.lies: set[str] = set()
        self.portal: re.Pattern[str] | None = None
        self.cuts: dict[str, list[str]] = {}

    def publish(self, repo: str, folder: Path, branch: str = "main", *, gated: bool = False) -> str:
        """Serve a folder as the newest commit of a branch, and return the commit's sha."""
        repository = self.repositories.setdefault(repo, Repository())
        repository.gated = gated
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        files = {name: Blob.of(name, path) for name, path in zip(names, paths, strict=True)}
        return repository.commit(files, branch)

    def sent(self, repo: str) -> Counter[str]:
        """Bytes sent of each file of a repository; files of which nothing was sent are left out."""
        found = [(FILE.fullmatch(request.path), request.sent) for request in self.requests]
        totals: Counter[str] = Counter()
        for match, count in found:
            if match and match["repo"] == repo and count:
                totals[unquote(match["file"])] += count
        return totals

    def received(self) -> Counter[str]:
        """Bytes received of each large file, by SHA-256, whether they came to be kept or not."""
        totals: Counter[str] = Counter()
        for request in self.requests:
            if request.method == "PUT":
                totals[request.path.split("/")[2]] += request.received
        return totals

    def find(self, repo: str, revision: str) -> tuple[str, Files]:
        """The commit that a revision names, and its files."""
        if repo not in self.repositories:
            raise Refusal(401, "RepoNotFound")
        repository = self.repositories[repo]
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def files(self, repo: str, revision: str = "main") -> Files:
        """What a revision holds."""
        return self.find(repo, revision)[1]


def is_large(name: str) -> bool:
    return name.endswith(LARGE)


def git_oid(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content)


def sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
