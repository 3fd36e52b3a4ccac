"""The metadata service of an EC2 instance, as far as clients look for the credentials of its role and its region.

moto has one, too, but answers fewer spellings of the addresses than the clients of Python and C++ use.
"""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aws_api import KEYS, REGION

_ROLE = "raygrid"
_PREFIX = "/latest/meta-data"


def serve(address: str) -> None:
    """Answer on port 80 of an address, in a thread of this process."""
    server = _Server((address, 80), _Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a client whose connection is dropped has no credentials


def _credentials() -> str:
    expires = datetime.now(UTC) + timedelta(hours=6)
    secrets = {"AccessKeyId": KEYS["AWS_ACCESS_KEY_ID"], "SecretAccessKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    about = {"Code": "Success", "Type": "AWS-HMAC", "Token": "testing", "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}
    return json.dumps({**secrets, **about})


class _Metadata(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        """Give the token that version 2 of the service wants first."""
        self._answer("token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        """Give the name of the role, its credentials, or the region."""
        known = {
            f"{_PREFIX}/iam/security-credentials": _ROLE,
            f"{_PREFIX}/iam/security-credentials/{_ROLE}": _credentials(),
            f"{_PREFIX}/placement/region": REGION,
            f"{_PREFIX}/placement/availability-zone": f"{REGION}a",
        }
        self._answer(known.get(self.path.rstrip("/")))

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, text: str | None) -> None:
        body = (text or "").encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
