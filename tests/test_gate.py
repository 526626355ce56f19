"""The gate of a party's containers: what goes through it, and that it leads to one host only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fedsim.runtime import _gate
from fedsim.runtime._gate import Gate
from fedsim.transport.addresses import free_port

HERE = "127.0.0.1"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def behind(peer: Peer) -> AsyncIterator[tuple[Gate, int, asyncio.Server]]:
    """A gate with a server behind it; the gate, the port in front of it, and the server."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(take, HERE, 0)
    gate, port = Gate(HERE), free_port(HERE)
    serving = asyncio.create_task(gate.serve([(port, server.sockets[0].getsockname()[1])], HERE))
    try:
        yield gate, port, server
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        server.close()


async def reach(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(500):
        with contextlib.suppress(ConnectionRefusedError):
            return await asyncio.open_connection(HERE, port)
        await asyncio.sleep(0.01)
    raise AssertionError("the gate does not listen")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()


def test_bytes_pass_unchanged_both_ways_and_an_end_is_an_end() -> None:
    content = bytes(range(256)) * 40_000

    async def play() -> bytes:
        async with behind(echo) as (gate, port, _):
            reader, writer = await reach(port)
            sending = asyncio.create_task(send(writer))
            came = await reader.read()  # until the other side, which has heard of the end, ends
            await sending
            writer.close()
            assert gate.host == HERE
            return came

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        writer.write_eof()

    async def read_all() -> bytes:
        async with asyncio.timeout(60):
            return await play()

    assert asyncio.run(read_all()) == content


def test_who_is_gone_at_one_side_is_gone_at_the_other() -> None:
    async def play() -> None:
        gone = asyncio.Event()

        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            gone.set()

        async with asyncio.timeout(60), behind(waits) as (gate, port, _):
            _, writer = await reach(port)
            writer.write(b"x")
            await writer.drain()
            writer.transport.abort()
            await gone.wait()
            while gate.connections:
                await asyncio.sleep(0.01)

    asyncio.run(play())


def test_nobody_behind_it_is_an_end_and_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    async def play() -> None:
        async with asyncio.timeout(60), behind(echo) as (gate, port, server):
            server.close()
            await server.wait_closed()
            reader, writer = await reach(port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            while gate.connections:
                await asyncio.sleep(0.01)

    asyncio.run(play())
    assert "no connection to 127.0.0.1 port" in capfd.readouterr().err


def test_a_crowd_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gate, "MAX_CONNECTIONS", 2)

    async def play() -> None:
        async with asyncio.timeout(60), behind(echo) as (gate, port, _):
            inside = [await reach(port) for _ in range(2)]
            for reader, writer in inside:
                writer.write(b"x")
                assert await reader.read(1) == b"x"
            reader, writer = await reach(port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            inside[0][1].close()
            while gate.connections > 1:
                await asyncio.sleep(0.01)
            reader, writer = await reach(port)
            writer.write(b"y")
            assert await reader.read(1) == b"y"
            for each in (writer, inside[1][1]):
                each.close()

    asyncio.run(play())
