"""An HTTP server on loopback that serves files as it is told to: whole, cut off, elsewhere, not at all."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What a server has, and what it was asked for.

    Attributes:
        url: where it is.
        files: by path, what lies there.
        cut: by path, after how many bytes of an answer the connection breaks, once.
        moved: by path, where it has moved.
        ranges: whether it can serve the rest of a file.
        lengths: whether it says how long a file is.
        asked: the path and the range of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serve(**about: object) -> Iterator[Site]:
    """A site while the context lasts."""
    site = Site(**about)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, site)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    path, asked = handler.path, handler.headers.get("Range", "")
    site.asked.append((path, asked))
    if path in site.moved:
        handler.send_response(302)
        handler.send_header("Location", site.moved[path])
        handler.end_headers()
        return
    if path not in site.files:
        handler.send_error(404)
        return
    body, start = site.files[path], 0
    if asked and site.ranges:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.send_response(200)
    rest = body[start:]
    if site.lengths:
        handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[: site.cut.pop(path, len(rest))])
    handler.close_connection = True
