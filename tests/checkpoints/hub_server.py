"""A small Hugging Face Hub on the loopback: what it is asked to download, and who asks."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub.repocard import metadata_load

from tests.checkpoints.hub_store import FILE, Blob, Files, Hub, Refusal, Request, Token
from tests.checkpoints.hub_uploads import Uploads

REPO = r"/api/models/(?P<repo>[^/]+/[^/]+)"
INFO = re.compile(rf"{REPO}(/revision/(?P<revision>[^/]+))?")
TREE = re.compile(rf"{REPO}/tree/(?P<revision>[^/]+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
LOGIN_PAGE = b"<!DOCTYPE html><html><body>Welcome to the hotel. Please log in.</body></html>"
WRONG_TOKEN = "Invalid credentials in Authorization header"


@contextmanager
def serve_hub(root: Path | None = None) -> Iterator[Hub]:
    """An empty Hub on a free port, until the block ends; it keeps uploads in `root`."""
    server = Server(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}", root)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """Clients may be killed: a connection that ends is no fault of this side."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(Uploads):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer_or_refuse(self._route)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep quiet: `Hub.requests` is the log."""

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def token(self) -> Token | None:
        """Whose request it is; None where nobody's."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in self.hub.tokens:
            raise Refusal(401, message=WRONG_TOKEN)
        return self.hub.tokens.get(given)

    def _route(self) -> None:
        path = urlsplit(self.path).path
        if self.hub.portal is not None and self.hub.portal.search(path):
            self.answer(200, LOGIN_PAGE, {"Content-Type": "text/html"})
            return
        token = self.token()
        if path == "/api/whoami-v2":
            self._whoami(token)
        elif found := INFO.fullmatch(path):
            self._info(found["repo"], unquote(found["revision"] or "main"))
        elif found := TREE.fullmatch(path):
            files = self.hub.files(found["repo"], unquote(found["revision"]))
            self.json([blob.tree_entry(name) for name, blob in files.items()])
        elif found := FILE.fullmatch(path):
            self._file(found["repo"], unquote(found["revision"]), unquote(found["file"]))
        else:
            raise Refusal(404, "NoSuchEndpoint")

    def _whoami(self, token: Token | None) -> None:
        if token is None:
            raise Refusal(401, message="Invalid username or password.")
        self.json({"name": token.namespaces[0], "auth": {"accessToken": {"role": token.role}}})

    def _info(self, repo: str, revision: str) -> None:
        sha, files = self.hub.find(repo, revision)
        siblings = [{"rfilename": name} for name in files]
        if "blobs=true" in self.path.lower():
            siblings = [blob.sibling(name) for name, blob in files.items()]
        private = self.hub.repositories[repo].private
        card = {"cardData": card_data(files)}
        self.json({"id": repo, "sha": sha, "siblings": siblings, "private": private, **card})

    def _file(self, repo: str, revision: str, name: str) -> None:
        sha, files = self.hub.find(repo, revision)
        if self.hub.repositories[repo].gated:
            # As on the real Hub: the names of a gated repository's files are public.
            raise Refusal(401, "GatedRepo")
        if name not in files:
            raise Refusal(404, "EntryNotFound")
        blob = files[name]
        assert blob.path is not None
        content, headers = blob.path.read_bytes(), file_headers(blob, sha)
        if f"{repo}/{name}" in self.hub.lies:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if wanted := RANGE.fullmatch(self.headers.get("Range", "")):
            self._part(content, int(wanted[1]), wanted[2], headers)
        elif self.command == "GET" and (cuts := self.hub.cuts.get(f"{repo}/{name}")):
            self._cut(content, headers, cuts.pop(0))
        else:
            self.answer(200, content, headers)

    def _part(self, content: bytes, first: int, last: str, headers: Mapping[str, str]) -> None:
        if first >= len(content):
            raise Refusal(416, "RangeNotSatisfiable")
        part = content[first : int(last) + 1 if last else None]
        span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self.answer(206, part, {**headers, "Content-Range": span})

    def _cut(self, content: bytes, headers: Mapping[str, str], how: str) -> None:
        """Promise the whole file, send half of it, and hang up."""
        half = content[: len(content) // 2]
        self._begin(200, len(content), len(half), headers, 0)
        self.wfile.write(half)
        self.hang_up(reset=how == "reset")

    def hang_up(self, *, reset: bool) -> None:
        """End the connection, or break it off."""
        self.close_connection = True
        if reset:
            time.sleep(0.1)  # a reset discards what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # shares the socket: only the last one to close it sends the reset
            self.connection.close()

    def json(self, answer: object, status: int = 200, received: int = 0) -> None:
        headers = {"Content-Type": "application/json"}
        self.answer(status, json.dumps(answer).encode(), headers, received)

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str], received: int = 0
    ) -> None:
        sent = b"" if self.command == "HEAD" else body
        self._begin(status, len(body), len(sent), headers, received)
        self.wfile.write(sent)

    def note(self, status: int, sent: int, received: int) -> None:
        """Before it is sent, so that no client can be done before the record is."""
        path = urlsplit(self.path).path
        self.hub.requests.append(Request(self.command, path, status, sent, received))

    def _begin(
        self, status: int, length: int, sent: int, headers: Mapping[str, str], received: int
    ) -> None:
        self.note(status, sent, received)
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def file_headers(blob: Blob, sha: str) -> dict[str, str]:
    headers = {
        "ETag": f'"{blob.sha256 or blob.oid}"',
        "X-Repo-Commit": sha,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if blob.sha256 is None:
        return headers
    return {**headers, "X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}


def card_data(files: Files) -> dict[str, object] | None:
    """The front matter of a repository's README.md."""
    card = files.get("README.md")
    if card is None or card.path is None or not card.path.read_bytes().startswith(b"---"):
        return None
    return metadata_load(card.path)
