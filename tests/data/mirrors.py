"""Servers of files on this machine: some as they should be, some that are not."""

import hashlib
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from itertools import cycle
from threading import Event, Thread
from typing import ClassVar

CONTENT = bytes(range(256)) * 4_000  # 1 MB
SIZE = len(CONTENT)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Mirror(BaseHTTPRequestHandler):
    """A server with files under names that say how it behaves."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        kind, wanted = self.path.strip("/"), self.headers.get("Range")
        self.asked.append((kind, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if kind == "absent":
            self.send_error(404)
            return
        if kind == "whole-only":
            start = 0
        body = CONTENT[start:] if kind != "wrong" else b"something else"
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100_000] if kind == "breaks-off" else body)

    def log_message(self, *_: object) -> None:
        pass


class Crude:
    """A server that says whatever it is told to, over and over, in its own time."""

    def __init__(self, head: bytes, body: bytes = b"", *, pause: float = 0.0) -> None:
        self.said, self.pause, self.over = (head, body), pause, Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/file.bin"

    def __enter__(self) -> "Crude":
        self.connections: list[socket.socket] = []
        self.threads = [Thread(target=self._serve, daemon=True)]
        self.threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no thread behind: one that goes on takes its share from all tests to come."""
        self.over.set()
        for waiting in (self.socket, *self.connections):
            with suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)  # who waits for a client wakes up
        self.socket.close()
        for thread in self.threads:
            thread.join(timeout=10)
            assert not thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.threads.append(Thread(target=self._answer, args=(connection,), daemon=True))
            self.threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        head, body = self.said
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(head)
                if not self.pause:
                    connection.sendall(body)
                    return
                for part in cycle([bytes([byte]) for byte in body] or [b""]):
                    connection.sendall(part)
                    if self.over.wait(self.pause):
                        return
            except OSError:
                pass  # the client has left


OK = b"HTTP/1.1 200 OK\r\n"


BAD_HEADERS = {
    "no number": OK + b"Content-Length: abc\r\n\r\n",
    "a float": OK + b"Content-Length: 1e5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "negative": OK + b"Content-Length: -5\r\n\r\n",
    "location": b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\x80/\r\n\r\n",
    "no place": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    "scheme": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "status": b"HTTP/1.1 2x0 \x1b[31mOK\r\n\r\n",
    "reason": b"HTTP/1.1 503 \x1b]0;owned\x07\x9b31m\x1b[2J\r\n\r\n",
    "no header": b"\x1b[2J\r\n\r\n",
}
