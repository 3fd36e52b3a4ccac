"""The web servers of the fake Google Cloud: its API, and the metadata server, which tells a machine about itself."""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fake_google import FakeGoogle
from google_rules import GoogleError

_FLAVOR = {"Metadata-Flavor": "Google"}
_ACCOUNTS = "/computeMetadata/v1/instance/service-accounts/"


def serve_api(fake: FakeGoogle, address: tuple[str, int], context: ssl.SSLContext) -> None:
    """Serve the API on an address, in threads that end with the process."""

    class Handler(_Handler):
        def reply(self, path: str, query: dict[str, str]) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length).decode()
            is_form = self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
            body = dict(parse_qsl(text)) if is_form else json.loads(text or "null")
            host = self.headers["Host"].partition(":")[0]
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                self.send(200, fake.answer(host, self.command, path, query, token, body))
            except GoogleError as error:
                print(f"refused {self.command} {path}: {error.status} {error.message}", flush=True)
                self.send(error.status, {"error": {"code": error.status, "message": error.message}})

    server = ThreadingHTTPServer(address, Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_metadata(fake: FakeGoogle, address: tuple[str, int]) -> None:
    """Serve the metadata of the machine whose address a request comes from, in threads that end with the process."""

    class Handler(_Handler):
        def reply(self, path: str, query: dict[str, str]) -> None:
            caller = self.client_address[0]
            machines = fake.project.instances.values()
            mine = [one for one in machines if one["networkInterfaces"][0].get("networkIP") == caller]
            if not mine:
                self.send(404, "no machine has this address", {})
            elif path != "/" and self.headers.get("Metadata-Flavor") != "Google":
                self.send(403, "Missing Metadata-Flavor:Google header.", {})
            else:
                self._about(mine[0], path)

        def _about(self, instance: dict[str, Any], path: str) -> None:
            account = next(iter(instance.get("serviceAccounts", [])), None)
            place = path.removeprefix(_ACCOUNTS).strip("/") if path.startswith(_ACCOUNTS) else ""
            name, _, what = place.partition("/")
            if path == "/":
                self.send(200, "computeMetadata/", _FLAVOR)
            elif path == "/computeMetadata/v1/project/project-id":
                self.send(200, fake.project.name, _FLAVOR)
            elif path == "/computeMetadata/v1/universe/universe-domain":
                self.send(200, "googleapis.com", _FLAVOR)
            elif account is None or name not in ("default", account["email"]):
                self.send(404, f"no {path}", _FLAVOR)
            elif what == "token":
                self.send(200, fake.token(f"serviceAccount:{account['email']}", tuple(account["scopes"])), _FLAVOR)
            else:
                self.send(200, {"aliases": ["default"], **account}, _FLAVOR)

    threading.Thread(target=ThreadingHTTPServer(address, Handler).serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, path: str, query: dict[str, str]) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        try:
            self.reply(asked.path, dict(parse_qsl(asked.query)))
        except Exception as error:  # the log of the lab is where a fault of the fake shows
            print(f"fault in {self.command} {self.path}: {error!r}", file=sys.stderr, flush=True)
            self.send(500, {"error": {"code": 500, "message": repr(error)}})

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        is_text = isinstance(content, str)
        data = (content if is_text else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/text" if is_text else "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
