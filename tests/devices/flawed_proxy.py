"""An HTTP proxy that spoils downloads: the network that goes away, and the file that is not what was published."""

from __future__ import annotations

import select
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


@contextmanager
def flawed_proxy(budget: int | None = None, *, corrupt: str = "?") -> Iterator[dict[str, str]]:
    """The environment that leads clients through it. After `budget` bytes nothing answers; a byte in the middle of any
    file whose name ends with `corrupt` is another one.
    """

    class Handler(_Handler):
        left: ClassVar = [float("inf") if budget is None else budget]
        spoiled = corrupt

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield {"http_proxy": url, "https_proxy": url, "no_proxy": ""}
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    left: list[float]
    spoiled: str

    def do_GET(self) -> None:
        request = urllib.request.Request(self.path, headers={"User-Agent": "apt"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                body = bytearray(answer.read())
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
            return
        if self.path.endswith(self.spoiled):
            body[len(body) // 2] ^= 0xFF
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self._allowed(len(body))])
        self.close_connection = True

    def do_CONNECT(self) -> None:
        if not self._allowed(1):
            self.send_error(502)
            return
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as far:
            self.send_response(200)
            self.end_headers()
            ends = {far: self.connection, self.connection: far}
            while True:
                ready, _, _ = select.select(list(ends), [], [], 60)
                for end in ready:
                    part = end.recv(1 << 16)
                    if not part or self._allowed(len(part)) < len(part):
                        self.close_connection = True
                        return
                    ends[end].sendall(part)

    def _allowed(self, size: int) -> int:
        allowed = int(min(size, self.left[0]))
        self.left[0] -= allowed
        return allowed

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent."""
