"""A server on the loopback that sends any bytes as the reply to each request, then closes the connection."""

import socket
import threading
from contextlib import suppress

_LONGEST_WAIT_S = 5


class RawServer:
    """For `with`; `reply` is sent for each request, and `sent` counts the requests."""

    def __init__(self) -> None:
        self.reply = b""
        self.sent = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/predict"

    def __enter__(self) -> "RawServer":
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed by the test
                return
            with connection, suppress(OSError):  # a client may leave early
                connection.settimeout(_LONGEST_WAIT_S)
                self._receive(connection)
                self.sent += 1
                connection.sendall(self.reply)  # the request was read whole, so closing does not reset the connection

    def _receive(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += connection.recv(65536)
