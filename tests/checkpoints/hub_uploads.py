"""The small Hub's side of an upload: repositories, branches, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.checkpoints.hub_store import Blob, Hub, Refusal, Repository, Token, git_oid, is_large

REPO = r"/api/models/(?P<repo>[^/]+/[^/]+)"
BRANCH = re.compile(rf"{REPO}/branch/(?P<revision>[^/]+)")
PREUPLOAD = re.compile(rf"{REPO}/preupload/(?P<revision>[^/]+)")
COMMIT = re.compile(rf"{REPO}/commit/(?P<revision>[^/]+)")
BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
STORE = re.compile(r"/store/(?P<oid>[0-9a-f]{64})(/(?P<part>\d+))?")
SIGNATURE = "X-Signature=sesame"
"""In the query of every address of the store: a secret that nobody may be shown."""

EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
    b"<Message>Request has expired</Message><Signed>X-Signature=sesame</Signed></Error>"
)
BLOCK = 1 << 20


class Uploads(BaseHTTPRequestHandler):
    """Requests that change something."""

    @property
    @abstractmethod
    def hub(self) -> Hub: ...

    @abstractmethod
    def token(self) -> Token | None: ...

    @abstractmethod
    def json(self, answer: object, status: int = 200, received: int = 0) -> None: ...

    @abstractmethod
    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str], received: int = 0
    ) -> None: ...

    @abstractmethod
    def note(self, status: int, sent: int, received: int) -> None: ...

    @abstractmethod
    def hang_up(self, *, reset: bool) -> None: ...

    def answer_or_refuse(self, route: Callable[[], None]) -> None:
        try:
            route()
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            given = {name: value for name, value in headers.items() if value}
            self.answer(refusal.status, b"{}", given)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # the client is gone
            self.hang_up(reset=False)
            return
        self.answer_or_refuse(lambda: self._post(urlsplit(self.path).path, body))

    def _post(self, path: str, body: bytes) -> None:
        if found := STORE.fullmatch(path):
            self._complete(found["oid"])
            return
        token = self.token()
        if path == "/api/repos/create":
            self._create(token, **json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif found := BRANCH.fullmatch(path):
            self._branch(self._writable(found["repo"], token), unquote(found["revision"]))
        elif found := PREUPLOAD.fullmatch(path):
            self._preupload(found["repo"], unquote(found["revision"]), token, json.loads(body))
        elif found := BATCH.fullmatch(path):
            self._batch(json.loads(body))
        elif found := COMMIT.fullmatch(path):
            self._commit(found["repo"], unquote(found["revision"]), token, body)
        else:
            raise Refusal(404, "NoSuchEndpoint")

    def _writable(self, repo: str, token: Token | None, *, reading: bool = False) -> Repository:
        """A repository that the token may write to, or may propose changes to."""
        if token is None or repo not in self.hub.repositories:
            raise Refusal(401 if token is None else 404, "RepoNotFound")
        found = self.hub.repositories[repo]
        if repo.split("/", maxsplit=1)[0] in token.namespaces or (reading and not found.gated):
            return found
        raise Refusal(403, "GatedRepo" if found.gated else "", f"You cannot write to {repo}")

    @property
    def _as_pull_request(self) -> bool:
        return "create_pr=1" in urlsplit(self.path).query

    def _create(
        self,
        token: Token | None,
        name: str,
        organization: str | None = None,
        visibility: str = "public",
    ) -> None:
        if token is None:
            raise Refusal(401, message="Invalid username or password.")
        namespace = organization or token.namespaces[0]
        repo = f"{namespace}/{name}"
        if namespace not in token.namespaces:
            raise Refusal(403, message=f"You don't have the rights to create under {namespace}")
        url = f"{self.hub.endpoint}/{repo}"
        if repo in self.hub.repositories:
            self.json({"url": url, "error": "You already created this model repo"}, status=409)
            return
        found = self.hub.repositories[repo] = Repository(private=visibility == "private")
        found.commit({".gitattributes": self._small(b"*.safetensors filter=lfs\n")}, "main")
        self.json({"url": url})

    def _validate(self, card: str) -> None:
        if "\nbroken: true\n" in card:
            self.json({"errors": [{"message": '"broken" is not allowed'}]}, status=400)
        else:
            self.json({"errors": [], "warnings": []})

    def _branch(self, repository: Repository, revision: str) -> None:
        if revision in repository.branches:
            raise Refusal(409, message="Reference already exists")
        repository.branches[revision] = repository.branches["main"]
        self.json({})

    def _preupload(
        self, repo: str, revision: str, token: Token | None, asked: Mapping[str, Any]
    ) -> None:
        self._writable(repo, token, reading=self._as_pull_request)
        there = self.hub.files(repo, revision)
        answers = []
        for file in asked["files"]:
            name, blob = file["path"], there.get(file["path"])
            known = {} if blob is None else {"oid": blob.sha256 or blob.oid}
            mode = "lfs" if is_large(name) else "regular"
            answers.append({"path": name, "uploadMode": mode, "shouldIgnore": False, **known})
        self.json({"files": answers})

    def _batch(self, asked: Mapping[str, Any]) -> None:
        objects = [{**wanted, **self._actions(**wanted)} for wanted in asked["objects"]]
        self.json({"transfer": "basic", "objects": objects})

    def _actions(self, oid: str, size: int) -> dict[str, Any]:
        if oid in self.hub.objects:
            return {}
        url = f"{self.hub.endpoint}/store/{oid}"
        part = self.hub.part_size
        if part is None or size <= part:
            return {"actions": {"upload": {"href": f"{url}?{SIGNATURE}"}}}
        numbers = range(1, -(-size // part) + 1)
        header = {"chunk_size": str(part)} | {str(i): f"{url}/{i}?{SIGNATURE}" for i in numbers}
        return {"actions": {"upload": {"href": f"{url}?{SIGNATURE}", "header": header}}}

    def do_PUT(self) -> None:
        found = STORE.fullmatch(urlsplit(self.path).path)
        assert found is not None
        assert SIGNATURE in self.path
        assert "Authorization" not in self.headers, "a store is no place for tokens"
        oid, part, length = found["oid"], found["part"], int(self.headers["Content-Length"])
        cut = self.hub.cuts.get(oid)
        how = cut.pop(0) if cut else ""
        if how in ("end", "reset"):
            self.note(0, 0, self._receive(oid, part, length // 2, keep=False))
            self.hang_up(reset=True)
            return
        received = self._receive(oid, part, length, keep=how != "refuse")
        if how == "refuse":
            self.answer(403, EXPIRED, {"Content-Type": "application/xml"}, received)
            return
        if received < length:  # the client is gone
            self.hang_up(reset=False)
            return
        if part is None:
            self._keep(oid)
        self.answer(200, b"", {"ETag": f'"{part}"'}, received)

    def _receive(self, oid: str, part: str | None, length: int, *, keep: bool) -> int:
        """Hash what comes and append it to the file, of which parts come in order."""
        begins = part in (None, "1")
        digest = hashlib.sha256() if begins else self.hub.arriving[oid].copy()
        path = Path("/dev/null") if self.hub.root is None or not keep else self.hub.root / oid
        with path.open("wb" if begins else "ab") as file:
            left = length
            while left and (block := self.rfile.read(min(BLOCK, left))):
                digest.update(block)
                file.write(block)
                left -= len(block)
        if keep:
            self.hub.arriving[oid] = digest
        return length - left

    def _complete(self, oid: str) -> None:
        self._keep(oid)
        self.json({})

    def _keep(self, oid: str) -> None:
        digest = self.hub.arriving.pop(oid)
        path = None if self.hub.root is None else self.hub.root / oid
        if digest.hexdigest() != oid:
            raise Refusal(400, message="the content does not match its hash")
        size = 0 if path is None else path.stat().st_size
        self.hub.objects[oid] = Blob.large(path, size, digest)

    def _commit(self, repo: str, revision: str, token: Token | None, body: bytes) -> None:
        proposes, page = self._as_pull_request, f"{self.hub.endpoint}/{repo}"
        repository = self._writable(repo, token, reading=proposes)
        files = dict(self.hub.files(repo, revision))
        for line in body.splitlines():
            self._change(files, **json.loads(line))
        number = sum(name.startswith("refs/pr/") for name in repository.branches) + 1
        sha = repository.commit(files, f"refs/pr/{number}" if proposes else revision)
        request = {"pullRequestUrl": f"{page}/discussions/{number}"} if proposes else {}
        self.json({"commitUrl": f"{page}/commit/{sha}", "commitOid": sha, **request})

    def _change(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        if key == "file":
            content = base64.b64decode(value["content"])
            garbled = value["path"] in self.hub.garbled
            files[value["path"]] = self._small(content[::-1] if garbled else content)
        elif key == "lfsFile":
            if value["oid"] not in self.hub.objects:
                raise Refusal(400, message=f"{value['path']} was not uploaded")
            kept = self.hub.objects[value["oid"]]
            files[value["path"]] = Blob(kept.path, value["size"], kept.oid, kept.sha256)
        elif key == "deletedFile":
            del files[value["path"]]

    def _small(self, content: bytes) -> Blob:
        oid, root = git_oid(content), self.hub.root
        if root is not None:
            (root / oid).write_bytes(content)
        return Blob(root and root / oid, len(content), oid)
