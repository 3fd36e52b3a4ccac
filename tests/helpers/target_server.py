"""A small endpoint for tests: it counts the images that it receives, and fails as configured."""

import base64
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

WAIT_S = 300  # for something that comes as soon as a process has started, or a test fails


def read_images(request: dict[str, Any]) -> list[np.ndarray]:
    """Return the images of a request, as a server of PNG or JPEG files and of arrays reads them."""
    files = [io.BytesIO(base64.b64decode(image)) for image in request["images"]]
    return [np.load(file) if request["format"] == "npy" else np.asarray(Image.open(file)) for file in files]


class Reply:
    """A reply to a request instead of answers. `headers` may hold Retry-After; `body` is sent as it is.

    Attributes:
        drips: the body comes byte by byte, a hundredth of a second apart.
        missing: bytes that are announced and never come.
    """

    drips, missing = False, 0

    def __init__(self, status: int = 200, body: str = "", kind: str = "application/json", **headers: str) -> None:
        self.status, self.body, self.kind = status, body.encode(), kind
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class TargetServer:
    """A server on the loopback, for `with`; `answer` gives rows for a list of arrays.

    Attributes:
        counts: how often each image came, by SHA-256, in requests that failed too.
        requests: the images of each request, in order.
        replies: sent instead of answers, one to a request, until there are no more.
        hold: number of the request, from 0, that is not answered until `release` is set; `held` tells that it came.
        tokens: the Authorization header of each request.
    """

    def __init__(self, answer: Callable[[list[np.ndarray]], Any]) -> None:
        self.answer = answer
        self.counts: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.replies: list[Reply] = []
        self.tokens: list[str | None] = []
        self.hold = -1
        self.held, self.release = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/predict"

    def __enter__(self) -> "TargetServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reply(self, request: dict[str, Any], token: str | None) -> Reply:
        names = [hashlib.sha256(base64.b64decode(image)).hexdigest() for image in request["images"]]
        with self._lock:
            number = len(self.requests)
            self.requests.append(names)
            self.tokens.append(token)
            self.counts.update(names)
            planned = self.replies.pop(0) if self.replies else None
        if number == self.hold:
            self.held.set()
            assert self.release.wait(WAIT_S)
        return planned or Reply(body=json.dumps({"answers": np.asarray(self.answer(read_images(request))).tolist()}))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = owner.reply(request, self.headers.get("Authorization"))
                try:
                    self.send_response(reply.status)
                    headers = {
                        "Content-Type": reply.kind,
                        "Content-Length": str(len(reply.body) + reply.missing),
                        **reply.headers,
                    }
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    step = 1 if reply.drips else max(1, len(reply.body))
                    for start in range(0, len(reply.body), step):
                        self.wfile.write(reply.body[start : start + step])
                        if reply.drips:
                            owner.release.wait(0.01)
                except (BrokenPipeError, ConnectionResetError):  # who asked was killed
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Write nothing to the output of the tests."""

        return Handler
