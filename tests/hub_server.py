"""A real HTTP server on this machine that answers as the Hugging Face Hub does.

It speaks what huggingface_hub 0.36 asks for: model listings, files with redirects to a separate
address for large ones, byte ranges, tokens, the Hub's error codes; ``hub_uploads`` adds uploads.
Faults can be put in its way, and it keeps a log. A new request is a ``Route``.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".onnx")  # kept in Git LFS on the Hub, whatever their size
LARGE_SIZE = 10_000_000


@dataclass
class Repository:
    """A model repository: its commits, and the branches and tags that point to them."""

    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Add a commit with exactly these files to a branch, and return its hash."""
        text = f"{len(self.commits)} {branch} {sorted(files)}"
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[branch] = commit
        return commit


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` requests whose path matches.

    The answer is ``status`` with ``headers``, or the connection is cut after ``cut_after`` bytes of
    the answer or ``read`` bytes of the request.
    """

    path: str
    times: int
    method: str = "GET"
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int = -1
    read: int = -1


class Request(NamedTuple):
    """What the server saw of a request."""

    method: str
    path: str
    range: str | None
    token: str | None
    body: bytes = b""


class Answer(NamedTuple):
    """What the server answers; ``body`` is not sent for HEAD requests."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    cut_after: int = -1


class Route(NamedTuple):
    """Which function answers which requests; it is given the groups of ``path``."""

    methods: tuple[str, ...]
    path: str
    answer: Callable[..., Answer]


def refusal(status: int, message: str, code: str | None = None) -> Answer:
    """Return an error as the Hub tells it: in headers and in JSON."""
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return Answer(status, json.dumps({"error": message}).encode(), headers)


def is_large(name: str, size: int) -> bool:
    """Return whether the Hub keeps a file in Git LFS."""
    return name.endswith(LARGE) or size >= LARGE_SIZE


def etag_of(name: str, content: bytes) -> str:
    """Return the tag that names a file's content: SHA-256 in Git LFS, git's own hash elsewhere."""
    if is_large(name, len(content)):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class HubServer(ThreadingHTTPServer):
    """The server; use ``running_hub`` to start one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)  # a free port of this machine
        self.repositories: dict[str, Repository] = {}
        self.accounts: dict[str, str] = {}  # token: user
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.lock = threading.Lock()
        repository = r"(?P<repo_id>[^/]+/[^/]+)"
        self.routes = [
            Route(("GET",), r"/api/whoami-v2", self.whoami),
            Route(
                ("GET",), rf"/api/models/{repository}(/revision/(?P<revision>[^/]+))?", self.info
            ),
            Route(
                ("GET", "HEAD"),
                rf"/{repository}/resolve/(?P<revision>[^/]+)/(?P<name>.+)",
                self.file,
            ),
            Route(("GET", "HEAD"), r"/large/(?P<etag>[0-9a-f]{64})", self.large),
        ]

    @property
    def address(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self.server_port}"

    def requested(self, text: str, method: str = "GET") -> list[Request]:
        """Return the logged requests whose path contains ``text``."""
        return [seen for seen in self.log if seen.method == method and text in seen.path]

    def respond(self, request: Request) -> Answer:
        """Return the answer to a request, or the fault that was put in its way."""
        with self.lock:
            self.log.append(request)
        fault = self._fault_for(request, reading=False)
        if fault and fault.status:
            return refusal(fault.status, "Fault")._replace(headers=fault.headers)
        if request.token is not None and request.token not in self.accounts:
            return refusal(401, "Invalid credentials in Authorization header")
        answer = self._routed(request)
        return answer._replace(cut_after=fault.cut_after) if fault else answer

    def bytes_to_read(self, request: Request, length: int) -> int:
        """Return how much of a request is read before the connection is cut, ``length`` for all."""
        fault = self._fault_for(request, reading=True)
        return min(fault.read, length) if fault else length

    def _fault_for(self, request: Request, *, reading: bool) -> Fault | None:
        with self.lock:
            hits = (f for f in self.faults if (f.read >= 0) is reading and _hits(f, request))
            fault = next(hits, None)
            if fault:
                fault.times -= 1
        return fault

    def _routed(self, request: Request) -> Answer:
        for route in self.routes:
            match = re.fullmatch(route.path, request.path)
            if match and request.method in route.methods:
                groups = {key: unquote(text or "") for key, text in match.groupdict().items()}
                return route.answer(request, **groups)
        return refusal(404, "Sorry, we can't find the page you are looking for.")

    def whoami(self, request: Request) -> Answer:
        """Answer ``/api/whoami-v2``."""
        if request.token is None:
            return refusal(401, "Invalid username or password.")
        user = {"type": "user", "name": self.accounts[request.token], "orgs": []}
        return Answer(200, json.dumps(user).encode())

    def info(self, request: Request, repo_id: str, revision: str) -> Answer:
        """Answer ``/api/models/...``: the commit of a revision, and the names of its files."""
        repository, commit, refused = self._find(request, repo_id, revision)
        if refused:
            return refused
        siblings = [{"rfilename": name} for name in repository.commits[commit]]
        told = {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
        access = {"private": repository.private, "gated": "manual" if repository.gated else False}
        return Answer(200, json.dumps({**told, **access, "tags": [], "downloads": 0}).encode())

    def file(self, request: Request, repo_id: str, revision: str, name: str) -> Answer:
        """Answer ``/<repo>/resolve/...``: a small file, or where a large one lies."""
        repository, commit, refused = self._find(request, repo_id, revision)
        if refused:
            return refused
        if repository.gated and self.user(request) not in repository.readers:
            status = 401 if request.token is None else 403
            return refusal(status, f"Access to model {repo_id} is restricted.", "GatedRepo")
        content = repository.commits[commit].get(name)
        here = {"X-Repo-Commit": commit}
        if content is None:
            return refusal(404, "Entry not found", "EntryNotFound")
        etag = etag_of(name, content)
        if not is_large(name, len(content)):
            return _ranged(request, content, {**here, "ETag": f'"{etag}"'})
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        return Answer(302, b"", {**here, **linked, "Location": f"{self.address}/large/{etag}"})

    def large(self, request: Request, etag: str) -> Answer:
        """Answer ``/large/...``, which stands for the Hub's separate store of large files."""
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for name, content in files.items():
                    if is_large(name, len(content)) and etag_of(name, content) == etag:
                        return _ranged(request, content, {"ETag": f'"{etag}"'})
        return refusal(404, "No such object")

    def user(self, request: Request) -> str | None:
        """Return whose token a request brings; None without one."""
        return self.accounts.get(request.token or "")

    def _find(
        self, request: Request, repo_id: str, revision: str
    ) -> tuple[Repository, str, Answer | None]:
        repository = self.repositories.get(repo_id, Repository(private=True))
        if repository.private and self.user(request) not in repository.readers:
            status = 401 if request.token is None else 404
            return repository, "", refusal(status, "Repository not found", "RepoNotFound")
        revision = revision or "main"
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            refused = refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return repository, "", refused
        return repository, commit, None


def _hits(fault: Fault, request: Request) -> bool:
    wanted = fault.times > 0 and fault.method == request.method
    return wanted and re.search(fault.path, request.path) is not None


def _ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Answer:
    if request.range is None:
        return Answer(200, content, headers)
    start = int(request.range.removeprefix("bytes=").rstrip("-"))
    if start >= len(content):
        return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Answer(206, content[start:], {**headers, "Content-Range": span})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def _answer(self) -> None:
        given = self.headers.get("Authorization")
        token = given.removeprefix("Bearer ") if given is not None else None
        path = urlsplit(self.path).path
        request = Request(self.command, path, self.headers.get("Range"), token)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(self.server.bytes_to_read(request, length))
        if len(body) < length:
            self._cut()
            return
        answer = self.server.respond(request._replace(body=body))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.cut_after < 0:
            self.wfile.write(answer.body)
            return
        self.wfile.write(answer.body[: answer.cut_after])
        self._cut()

    def _cut(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 (what http.server looks for)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the server has its own log."""


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Run a Hub of one's own, empty at first, until the block ends."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
