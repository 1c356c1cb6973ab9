"""A small Hugging Face Hub on the loopback: folders as repositories, a record of what it sent."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Request:
    """A request and how it was answered.

    Attributes:
        method: `GET` or `HEAD`.
        path: Without the query.
        status: Of the answer.
        sent: Bytes of its body.
    """

    method: str
    path: str
    status: int
    sent: int


@dataclass
class Repository:
    """Commits by sha, and the branches that name them."""

    gated: bool = False
    commits: dict[str, Path] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An error as the Hub tells it: a status, and a code in a header."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Hub:
    """The repositories, the record, and the faults to come.

    Attributes:
        endpoint: For `HF_ENDPOINT`.
        requests: What was asked, in order.
        cuts: By file, as `org/name/file`: how its next downloads break off in the middle.
            `end` closes the connection, which the hub client takes up again after a second;
            `reset` is an error to it at once.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.cuts: dict[str, list[str]] = {}

    def publish(self, repo: str, folder: Path, branch: str = "main", *, gated: bool = False) -> str:
        """Serve a folder as the newest commit of a branch, and return the commit's sha."""
        repository = self.repositories.setdefault(repo, Repository())
        sha = _sha1(*(name.encode() + path.read_bytes() for name, path in _files(folder)))
        repository.commits[sha] = folder
        repository.branches[branch] = sha
        repository.gated = gated
        return sha

    def sent(self, repo: str) -> Counter[str]:
        """Bytes sent of each file of a repository; files of which nothing was sent are left out."""
        found = [(FILE.fullmatch(request.path), request.sent) for request in self.requests]
        totals: Counter[str] = Counter()
        for match, count in found:
            if match and match["repo"] == repo and count:
                totals[unquote(match["file"])] += count
        return totals

    def find(self, repo: str, revision: str) -> tuple[str, Path]:
        """The commit that a revision names, and its folder."""
        if repo not in self.repositories:
            raise Refusal(401, "RepoNotFound")
        repository = self.repositories[repo]
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound")
        return sha, repository.commits[sha]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """An empty Hub on a free port, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        try:
            self._route(path)
        except Refusal as refusal:
            self._answer(refusal.status, b"{}", {"X-Error-Code": refusal.code})

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep quiet: `Hub.requests` is the log."""

    @property
    def _hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def _route(self, path: str) -> None:
        if found := INFO.fullmatch(path):
            self._info(found["repo"], unquote(found["revision"] or "main"))
        elif found := TREE.fullmatch(path):
            self._tree(found["repo"], unquote(found["revision"]))
        elif found := FILE.fullmatch(path):
            self._file(found["repo"], unquote(found["revision"]), unquote(found["file"]))
        else:
            raise Refusal(404, "NoSuchEndpoint")

    def _info(self, repo: str, revision: str) -> None:
        sha, folder = self._hub.find(repo, revision)
        siblings = [{"rfilename": name} for name, _ in _files(folder)]
        self._json({"id": repo, "sha": sha, "siblings": siblings})

    def _tree(self, repo: str, revision: str) -> None:
        _, folder = self._hub.find(repo, revision)
        self._json([_tree_entry(name, path) for name, path in _files(folder)])

    def _file(self, repo: str, revision: str, name: str) -> None:
        sha, folder = self._hub.find(repo, revision)
        if self._hub.repositories[repo].gated:
            # As on the real Hub: the names of a gated repository's files are public.
            raise Refusal(401, "GatedRepo")
        if not (folder / name).is_file():
            raise Refusal(404, "EntryNotFound")
        content = (folder / name).read_bytes()
        headers = {
            "ETag": f'"{_sha1(content)}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if wanted := RANGE.fullmatch(self.headers.get("Range", "")):
            self._part(content, int(wanted[1]), wanted[2], headers)
        elif self.command == "GET" and (cuts := self._hub.cuts.get(f"{repo}/{name}")):
            self._cut(content, headers, cuts.pop(0))
        else:
            self._answer(200, content, headers)

    def _part(self, content: bytes, first: int, last: str, headers: Mapping[str, str]) -> None:
        if first >= len(content):
            raise Refusal(416, "RangeNotSatisfiable")
        part = content[first : int(last) + 1 if last else None]
        span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self._answer(206, part, {**headers, "Content-Range": span})

    def _cut(self, content: bytes, headers: Mapping[str, str], how: str) -> None:
        """Promise the whole file, send half of it, and hang up."""
        half = content[: len(content) // 2]
        self._begin(200, len(content), len(half), headers)
        self.wfile.write(half)
        self.close_connection = True
        if how == "reset":
            time.sleep(0.1)  # a reset discards what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # shares the socket: only the last one to close it sends the reset
            self.connection.close()

    def _json(self, answer: object) -> None:
        self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        sent = body if self.command == "GET" else b""
        self._begin(status, len(body), len(sent), headers)
        self.wfile.write(sent)

    def _begin(self, status: int, length: int, sent: int, headers: Mapping[str, str]) -> None:
        # Noted before it is sent, so that no client can be done before the record is.
        path = urlsplit(self.path).path
        self._hub.requests.append(Request(self.command, path, status, sent))
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _files(folder: Path) -> list[tuple[str, Path]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _tree_entry(name: str, path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}


def _sha1(*parts: bytes) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
