"""The websocket session against an independent server: whole frames, reconnects, honest writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mm_daemon.domain.frames import Conn
from mm_daemon.shell.ws_session import Backoff, WsSession, WsWire

FAST = Backoff(base_s=0.001, cap_s=0.01, healthy_after_s=60.0)


class Peer:
    """A server that says what it is told and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.connections: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handle(self, connection: ServerConnection) -> None:
        await self.connections.put(connection)
        with suppress(ConnectionClosed):
            async for message in connection:
                await self.heard.put(message)


class Client:
    """What the trader does with a session, as lists."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.changes: asyncio.Queue[tuple[WsWire | None, str]] = asyncio.Queue()

    def on_frame(self, conn: Conn, payload: bytes) -> None:
        assert conn is Conn.TRADE
        self.frames.put_nowait(payload)

    def on_change(self, conn: Conn, wire: WsWire | None, reason: str) -> None:
        self.changes.put_nowait((wire, reason))


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Peer, Client, WsSession, WsWire]]:
    peer, client = Peer(), Client()
    async with asyncio.timeout(10), serve(peer.handle, "127.0.0.1", 0) as server:
        session = WsSession(
            Conn.TRADE,
            f"ws://127.0.0.1:{port_of(server)}",
            on_frame=client.on_frame,
            on_change=client.on_change,
            jitter=random.Random(1),
            backoff=FAST,
        )
        running = asyncio.create_task(session.run())
        wire, _ = await client.changes.get()
        assert wire is not None
        yield peer, client, session, wire
        running.cancel()


async def test_frames_arrive_whole_also_when_the_server_fragments_them() -> None:
    async with connected() as (peer, client, _, _wire):
        connection = await peer.connections.get()
        await connection.send("one")
        await connection.send(iter(["fr", "ag", "mented"]))
        await connection.send("x" * 200_000)
        assert await client.frames.get() == b"one"
        assert await client.frames.get() == b"fragmented"
        assert await client.frames.get() == b"x" * 200_000


async def test_write_reaches_the_server_as_text_and_leaves_nothing_unsent() -> None:
    async with connected() as (peer, _, _session, wire):
        wire.write(b'{"id":1}')
        assert wire.unsent_bytes() == 0
        assert await peer.heard.get() == '{"id":1}'


async def test_unsent_bytes_are_seen_when_the_server_stops_reading() -> None:
    async with connected() as (peer, _, _session, wire):
        connection = await peer.connections.get()
        connection.transport.pause_reading()
        for _ in range(400):
            wire.write(b"x" * 65_536)
        assert wire.unsent_bytes() > 0
        connection.transport.abort()


@pytest.mark.parametrize("by", ["server", "us"])
async def test_lost_connection_is_reported_and_opened_again(by: str) -> None:
    async with connected() as (peer, client, session, _wire):
        connection = await peer.connections.get()
        if by == "server":
            await connection.close()
        else:
            session.disconnect("silent")
        gone, reason = await client.changes.get()
        assert gone is None
        assert reason == ("the venue closed the connection" if by == "server" else "silent")
        wire, _ = await client.changes.get()
        assert wire is not None


async def test_nobody_listening_is_reported_with_the_address_and_retried() -> None:
    async with asyncio.timeout(10):
        async with serve(Peer().handle, "127.0.0.1", 0) as server:
            port = port_of(server)
        client = Client()
        session = WsSession(
            Conn.TRADE,
            f"ws://127.0.0.1:{port}",
            on_frame=client.on_frame,
            on_change=client.on_change,
            jitter=random.Random(1),
            backoff=FAST,
        )
        running = asyncio.create_task(session.run())
        for _ in range(2):
            wire, reason = await client.changes.get()
            assert wire is None
            assert str(port) in reason
        running.cancel()


async def test_a_session_that_waits_tries_at_once_when_another_was_answered() -> None:
    async with asyncio.timeout(10):
        async with serve(Peer().handle, "127.0.0.1", 0) as server:
            port = port_of(server)
        client = Client()
        session = WsSession(
            Conn.TRADE,
            f"ws://127.0.0.1:{port}",
            on_frame=client.on_frame,
            on_change=client.on_change,
            jitter=random.Random(1),
            backoff=Backoff(base_s=3_600.0, cap_s=3_600.0),
        )
        running = asyncio.create_task(session.run())
        assert (await client.changes.get())[0] is None
        async with serve(Peer().handle, "127.0.0.1", port):
            session.hurry()
            assert (await client.changes.get())[0] is not None
            running.cancel()


@pytest.mark.parametrize("first_bytes", [b"", b"HTTP/1.1 101 Switch"])
async def test_connection_that_ends_inside_its_handshake_is_a_failure_not_a_session(
    first_bytes: bytes,
) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first_bytes)
        writer.close()

    async with asyncio.timeout(10):
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        client = Client()
        session = WsSession(
            Conn.TRADE,
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            on_frame=client.on_frame,
            on_change=client.on_change,
            jitter=random.Random(1),
            backoff=FAST,
        )
        running = asyncio.create_task(session.run())
        for _ in range(2):
            wire, reason = await client.changes.get()
            assert wire is None, "never told as up"
            assert "before its handshake" in reason
        running.cancel()
        server.close()


def test_backoff_tries_at_once_then_jitters_up_to_a_cap() -> None:
    backoff = Backoff()
    assert backoff.delay_s(0, 0.9) == 0.0
    assert backoff.delay_s(1, 1.0) == 0.5
    assert backoff.delay_s(50, 1.0) == 30.0
    assert backoff.delay_s(3, 0.0) == 0.0
