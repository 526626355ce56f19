"""``python -m fedsim.runtime._gate HOST PORT...``: pass TCP connections on to the same ports of one host, and of no other.

A party's container is on a network without a way out. Beside it only this has one, which leads to the hub's machine and nowhere
else. TLS goes through it from end to end: it can read nothing, and stand in for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

CHUNK_BYTES = 1 << 18
"""Bytes that are read at once."""
MAX_CONNECTIONS = 256
"""Connections at a time, at most: a party has a handful."""
CONNECT_TIMEOUT_S = 10.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 (of its container, on a network that is closed)


class Gate:
    """A way to some ports of one host.

    Attributes:
        host: where connections lead.
        connections: how many there are now.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.connections = 0

    async def serve(self, ports: Sequence[tuple[int, int]], listen: str = EVERYWHERE) -> None:
        """Listen until cancelled; ``ports`` has pairs of a port here and the one at the host that it leads to."""
        async with contextlib.AsyncExitStack() as stack:
            for here, there in ports:

                async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: int = there) -> None:
                    await self._take(reader, writer, there)

                server = await asyncio.start_server(take, listen, here, limit=CHUNK_BYTES)
                await stack.enter_async_context(server)
            await asyncio.Event().wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """One connection, from its beginning to its end at either side."""
        self.connections += 1
        try:
            if self.connections > MAX_CONNECTIONS:
                return
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(self.host, port, limit=CHUNK_BYTES)
            try:
                ways = [
                    asyncio.create_task(_pass_on(reader, far_writer)),
                    asyncio.create_task(_pass_on(far_reader, writer)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            finally:
                far_writer.transport.abort()
        except OSError as error:  # a time limit that has run out is one, too
            print(
                f"no connection to {self.host} port {port}: {error or type(error).__name__}",
                file=sys.stderr,
                flush=True,
            )
        finally:
            self.connections -= 1
            writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then that no more comes; raises OSError when either side is gone."""
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


def main() -> None:
    """Serve what the command line says."""
    host, *ports = sys.argv[1:]
    asyncio.run(Gate(host).serve([(int(port), int(port)) for port in ports]))


if __name__ == "__main__":
    main()
