"""What the Hub of ``hub_server`` answers to uploads: created repositories, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field

import yaml
from hub_server import Answer, HubServer, Repository, Request, Route, etag_of, is_large, refusal

LICENCES = {"apache-2.0", "mit", "other"}
SIGNATURE = "aSignatureThatNobodyMaySee"


@dataclass
class Uploads:
    """The part of a Hub that takes uploads.

    Attributes:
        hub: The Hub, to which the routes are added.
        members: Who may create repositories in an account, and write to them.
        objects: The large files that it has, by their SHA-256.
        store: Where large files are sent to; on the real Hub that is another machine.
        part_size: The bytes of a part of a large file; 0: large files are sent in one piece.
    """

    hub: HubServer
    members: dict[str, set[str]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    store: str = ""
    part_size: int = 0

    def __post_init__(self) -> None:
        """Add the routes."""
        self.store = self.store or self.hub.address
        repository = r"(?P<repo_id>[^/]+/[^/]+)"
        oid = r"(?P<oid>[0-9a-f]{64})"
        self.hub.routes += [
            Route(("POST",), r"/api/repos/create", self.create),
            Route(("POST",), r"/api/validate-yaml", self.validate_yaml),
            Route(("POST",), rf"/api/models/{repository}/preupload/main", self.preupload),
            Route(("POST",), rf"/api/models/{repository}/commit/main", self.commit),
            Route(("POST",), rf"/{repository}\.git/info/lfs/objects/batch", self.batch),
            Route(("POST",), rf"/{repository}/verify", self.verify),
            Route(("PUT",), rf"/store/{oid}", self.put),
            Route(("PUT",), rf"/store/{oid}/(?P<part>\d+)", self.put_part),
            Route(("POST",), rf"/store/{oid}", self.join_parts),
        ]

    def create(self, request: Request) -> Answer:
        """Answer ``/api/repos/create``; a new repository has a first commit, as on the Hub."""
        told = json.loads(request.body)
        repo_id = f"{told['organization']}/{told['name']}"
        refused = self._refused(request, repo_id)
        if refused:
            return refused
        body = json.dumps({"url": f"{self.hub.address}/{repo_id}"}).encode()
        if repo_id in self.hub.repositories:
            return Answer(409, body)
        private = told.get("private", False)
        repository = Repository(private=private, readers=self.members[told["organization"]])
        repository.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self.hub.repositories[repo_id] = repository
        return Answer(200, body)

    def validate_yaml(self, request: Request) -> Answer:
        """Answer ``/api/validate-yaml``: the licence must be one of the Hub's list."""
        front = re.match(r"---\n(.*?)\n---", json.loads(request.body)["content"], re.DOTALL)
        told = yaml.safe_load(front[1]) if front else {}
        errors = [] if told.get("license", "mit") in LICENCES else ['"license" must be one of ...']
        warnings = [] if front else ["empty or missing yaml metadata in repo card"]
        found = {"errors": errors, "warnings": warnings}
        body = {kind: [{"message": text} for text in texts] for kind, texts in found.items()}
        return Answer(400 if errors else 200, json.dumps(body).encode())

    def preupload(self, request: Request, repo_id: str) -> Answer:
        """Answer ``/api/models/.../preupload/main``: how to send each file, and what is there."""
        refused = self._refused(request, repo_id)
        if refused:
            return refused
        head = self._head(repo_id)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                "shouldIgnore": False,
                "oid": etag_of(file["path"], head[file["path"]]) if file["path"] in head else None,
            }
            for file in json.loads(request.body)["files"]
        ]
        return Answer(200, json.dumps({"files": files}).encode())

    def batch(self, request: Request, repo_id: str) -> Answer:
        """Answer ``.../objects/batch``: where to send the large files that are not there yet."""
        refused = self._refused(request, repo_id)
        if refused:
            return refused
        objects = [
            {**wanted, **self._actions(repo_id, wanted["oid"], wanted["size"])}
            for wanted in json.loads(request.body)["objects"]
        ]
        transfer = "multipart" if self.part_size else "basic"
        return Answer(200, json.dumps({"transfer": transfer, "objects": objects}).encode())

    def _actions(self, repo_id: str, oid: str, size: int) -> dict[str, object]:
        if oid in self.objects:
            return {}
        place = f"{self.store}/store/{oid}"
        upload: dict[str, object] = {"href": f"{place}?X-Amz-Signature={SIGNATURE}"}
        if self.part_size:
            parts = range(1, -(-size // self.part_size) + 1)
            header = {str(part): f"{place}/{part}?X-Amz-Signature={SIGNATURE}" for part in parts}
            upload["header"] = {"chunk_size": str(self.part_size), **header}
        verify = {"href": f"{self.hub.address}/{repo_id}/verify"}
        return {"actions": {"upload": upload, "verify": verify}}

    def put(self, request: Request, oid: str) -> Answer:
        """Answer ``PUT /store/...``, which knows no tokens and checks what it gets."""
        if request.token is not None or hashlib.sha256(request.body).hexdigest() != oid:
            return refusal(400, "BadDigest")
        self.objects[oid] = request.body
        return Answer(200)

    def put_part(self, request: Request, oid: str, part: str) -> Answer:
        """Answer ``PUT /store/.../<part>``."""
        self.parts.setdefault(oid, {})[int(part)] = request.body
        return Answer(200, b"", {"ETag": hashlib.md5(request.body).hexdigest()})

    def join_parts(self, request: Request, oid: str) -> Answer:
        """Answer ``POST /store/...``, which makes one file of its parts."""
        parts = self.parts.pop(oid)
        told = [part["partNumber"] for part in json.loads(request.body)["parts"]]
        return self.put(request._replace(body=b"".join(parts[number] for number in told)), oid)

    def verify(self, request: Request, repo_id: str) -> Answer:
        """Answer ``.../verify``: whether a large file has arrived."""
        told = json.loads(request.body)
        there = len(self.objects.get(told["oid"], b"")) == told["size"]
        return Answer(200) if there else refusal(404, f"not in {repo_id}")

    def commit(self, request: Request, repo_id: str) -> Answer:
        """Answer ``/api/models/.../commit/main``, if main is still where the client saw it."""
        refused = self._refused(request, repo_id)
        if refused:
            return refused
        header, *operations = [json.loads(line) for line in request.body.splitlines()]
        repository = self.hub.repositories[repo_id]
        if header["value"].get("parentCommit") != repository.refs["main"]:
            return refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self._head(repo_id))
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            else:
                assert operation["key"] == "file"
                files[value["path"]] = base64.b64decode(value["content"])
        commit = repository.commit(files)
        url = f"{self.hub.address}/{repo_id}/commit/{commit}"
        told = {"success": True, "commitOid": commit, "commitUrl": url}
        return Answer(200, json.dumps(told).encode())

    def _head(self, repo_id: str) -> dict[str, bytes]:
        repository = self.hub.repositories[repo_id]
        return repository.commits[repository.refs["main"]]

    def _refused(self, request: Request, repo_id: str) -> Answer | None:
        user = self.hub.user(request)
        if user is None:
            return refusal(401, "Invalid username or password.")
        account, _, _ = repo_id.partition("/")
        if user not in self.members.get(account, set()):
            return refusal(403, f"You don't have the rights to create a model under {account}.")
        return None
