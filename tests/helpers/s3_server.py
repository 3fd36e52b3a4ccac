"""An S3-compatible server (moto) on the loopback interface that fails on request; it runs for one block."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "studies"
SECRET = "a-secret-that-no-message-may-hold"
KEY = "AKIATESTTESTTESTTEST"


@dataclass
class S3Server:
    """A server with one bucket.

    Attributes:
        endpoint: its address, `http://127.0.0.1:port`.
        failures: number of next requests to answer with 500.
        refusing: condition on (method, path) of further requests to answer with 500.
        requests: (method, path) of all requests so far.
    """

    endpoint: str
    failures: int = 0
    refusing: Callable[[str, str], bool] = lambda method, path: False
    requests: list[tuple[str, str]] = field(default_factory=list)

    def authenticate(self, after: float) -> None:
        """Refuse all credentials after so many further requests; moto otherwise accepts any."""
        url, words = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(url, data=str(after).encode(), headers=words, method="POST")).read()

    @property
    def client(self) -> Any:
        """A client other than the tested one."""
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)

    def url(self, folder: str) -> str:
        """Return the URL of a folder, with the address of this server."""
        return f"s3://{BUCKET}/{folder}?endpoint_override={self.endpoint}"

    def objects(self, folder: str = "") -> dict[str, tuple[str, Any]]:
        """Return the checksum and the time of every object below `folder`, by its name relative to it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=folder)
        found = {o["Key"]: (o["ETag"], o["LastModified"]) for page in pages for o in page.get("Contents", [])}
        return {key.removeprefix(folder).lstrip("/"): state for key, state in found.items() if not key.endswith("/")}

    def put(self, key: str, data: bytes) -> None:
        """Write an object without raygrid."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def delete(self, key: str) -> None:
        """Delete an object without raygrid."""
        self.client.delete_object(Bucket=BUCKET, Key=key)


class _Silent(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print nothing: thousands of lines would hide the important one."""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run an empty server during the block, with credentials for it in the environment."""
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()
    application, server = DomainDispatcherApplication(create_backend_app), S3Server("")

    def respond(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        server.requests.append(request)
        if server.failures or server.refusing(*request):
            server.failures = max(0, server.failures - 1)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        response: Iterable[bytes] = application(environ, start_response)
        return response

    listening = make_server("127.0.0.1", 0, respond, threaded=True, request_handler=_Silent)
    server.endpoint = f"http://127.0.0.1:{listening.port}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            server.client.create_bucket(Bucket=BUCKET)
            yield server
    finally:
        listening.shutdown()
        thread.join()
