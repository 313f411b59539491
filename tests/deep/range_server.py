"""A web server on this machine that serves one file by ranges, and remembers what was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace


@contextmanager
def range_server(
    content: bytes, ranges: bool = True, failures: int = 0
) -> Iterator[SimpleNamespace]:
    """``.address``; ``.sent`` is the number of bytes sent so far; the first requests may fail."""
    state = SimpleNamespace(sent=0, requests=0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            state.requests += 1
            if state.requests <= failures:
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers.get("Range")
            if ranges and asked:
                first, last = asked.removeprefix("bytes=").split("-")
                if not first:
                    start, end = max(0, len(content) - int(last)), len(content) - 1
                else:
                    start, end = int(first), min(int(last or len(content)), len(content) - 1)
                body = content[start : end + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            else:
                body = content
                self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            state.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}/public_data.zip"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
