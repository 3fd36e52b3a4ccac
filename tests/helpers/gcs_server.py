"""A server on the loopback interface that speaks the part of Google Cloud Storage's JSON API that pyarrow uses.

It follows the published reference of the API, keeps objects in memory and checks no signature.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

BUCKET = "studies"
_PAGE = 3  # objects in one page of a listing; Google's have 1000
_ERRORS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 503: "UNAVAILABLE"}


@dataclass(frozen=True)
class StoredObject:
    """The bytes of an object, and the time of its last write."""

    data: bytes
    updated: datetime


@dataclass
class GCSServer:
    """A server with one bucket.

    Attributes:
        address: `127.0.0.1:port`.
        objects: all objects of the bucket, by name.
        requests: (method, path) of all requests so far.
        failing: the HTTP status with which to refuse a request, by its method and path; 0 to serve it.
    """

    address: str = ""
    objects: dict[str, StoredObject] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failing: Callable[[str, str], int] = lambda method, path: 0

    def url(self, folder: str, bucket: str = BUCKET) -> str:
        """Return the URL of a folder, with the address of this server."""
        return f"gs://{bucket}/{folder}?endpoint_override={self.address}&scheme=http"

    def names(self, folder: str) -> set[str]:
        """Return the names of all objects below `folder`, relative to it, without the markers of folders."""
        found = {name.removeprefix(f"{folder}/") for name in [*self.objects] if name.startswith(f"{folder}/")}
        return {name for name in found if name and not name.endswith("/")}

    def put(self, name: str, data: bytes) -> StoredObject:
        """Write an object."""
        self.objects[name] = written = StoredObject(data, datetime.now(UTC))
        return written


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: GCSServer
    uploads: dict[str, tuple[str, bytearray]]

    def log_message(self, *values: object) -> None:
        """Print nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = urlsplit(self.path)
        self.storage.requests.append((self.command, parts.path))
        if status := self.storage.failing(self.command, parts.path):
            self._refuse(status)
        elif parts.path == f"/storage/v1/b/{BUCKET}":
            self._send_json({"kind": "storage#bucket", "name": BUCKET})
        elif f"/storage/v1/b/{BUCKET}/o" not in parts.path:
            self._refuse(404)
        elif parts.path.startswith("/upload/"):
            self._upload(dict(parse_qsl(parts.query)), body)
        elif named := re.fullmatch(f"/storage/v1/b/{BUCKET}/o/(.+)", parts.path):
            self._object(unquote(named[1]), "alt=media" in parts.query)
        else:
            self._send_json(_page(self.storage.objects.copy(), dict(parse_qsl(parts.query))))

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 names that http.server calls

    def _object(self, name: str, is_content: bool) -> None:
        found = self.storage.objects.get(name)
        if found is None:
            self._refuse(404)
        elif self.command == "DELETE":
            self.storage.objects.pop(name, None)
            self._send(204)
        elif is_content:
            self._send(200, found.data)
        else:
            self._send_json(_metadata(name, found))

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST":
            session = uuid.uuid4().hex
            self.uploads[session] = (query["name"], bytearray())
            target = f"http://{self.storage.address}/upload/storage/v1/b/{BUCKET}/o"
            self._send(200, headers={"Location": f"{target}?uploadType=resumable&upload_id={session}"})
            return
        name, data = self.uploads[query["upload_id"]]
        data += body
        if self.headers["Content-Range"].endswith("/*"):  # more follows
            self._send(308, headers={"Range": f"bytes=0-{len(data) - 1}"})
        else:
            self._send_json(_metadata(name, self.storage.put(name, bytes(data))))

    def _refuse(self, status: int) -> None:
        error = {"code": status, "message": _ERRORS[status], "errors": [{"reason": _ERRORS[status].lower()}]}
        self._send(status, json.dumps({"error": error}).encode())

    def _send_json(self, values: dict[str, Any]) -> None:
        self._send(200, json.dumps(values).encode())

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _metadata(name: str, found: StoredObject) -> dict[str, str]:
    updated, size = found.updated.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), str(len(found.data))
    times = {"timeCreated": updated, "updated": updated}
    return {"kind": "storage#object", "bucket": BUCKET, "name": name, "size": size, **times}


def _page(objects: dict[str, StoredObject], query: dict[str, str]) -> dict[str, Any]:
    """Return a page of a listing: the objects below the prefix; with a delimiter, folders in place of their content."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    entries = set()
    for name in objects:
        if name.startswith(prefix):
            folder, found, _ = name.removeprefix(prefix).partition(delimiter or "//")
            entries.add(f"{prefix}{folder}/" if found else name)
    later = sorted(name for name in entries if name > query.get("pageToken", ""))
    page: dict[str, Any] = {"items": [_metadata(name, objects[name]) for name in later[:_PAGE] if name in objects]}
    page["prefixes"] = [name for name in later[:_PAGE] if delimiter and name.endswith(delimiter)]
    return page | ({"nextPageToken": later[_PAGE - 1]} if later[_PAGE:] else {})


@contextmanager
def gcs_server(folder: Path) -> Iterator[GCSServer]:
    """Run an empty server during the block, with a service account for it in the environment.

    Args:
        folder: for the key of the service account.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "tester@example.com", "private_key_id": "1"}
    account |= {"private_key": key.decode(), "token_uri": "http://127.0.0.1:9/token"}
    (folder / "account.json").write_text(json.dumps(account))
    storage = GCSServer()
    handler = type("Handler", (_Handler,), {"storage": storage, "uploads": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        storage.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "account.json"))
                yield storage
        finally:
            server.shutdown()
            thread.join()
