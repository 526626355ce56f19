"""A port before another one, which notes every byte that is sent there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Proxy:
    """A port before that of a hub or of a SuperLink, with threads of its own, which notes what the parties send."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []

    def open(self, address: str) -> None:
        """Begin to pass on what comes, to the hub at this address."""
        self._start(self._accept, int(address.rpartition(":")[2]))

    def close(self) -> bytes:
        """Wait for the end of all connections; what the parties have sent."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        return bytes(self.seen)

    def _start(self, work: Callable[..., None], *words: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=words))
        self._threads[-1].start()

    def _accept(self, port: int) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                party, _ = self._listener.accept()
                hub = socket.create_connection(("127.0.0.1", port))
                self._start(self._copy, party, hub, True)
                self._start(self._copy, hub, party, False)

    def _copy(self, source: socket.socket, sink: socket.socket, note: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                if note:
                    self.seen += block
                sink.sendall(block)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not note:
            for each in (source, sink):
                each.close()
