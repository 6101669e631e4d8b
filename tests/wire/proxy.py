"""A TCP proxy between daemon and venue that keeps what opened each connection and can break it.

It runs on a thread of its own. `freeze` stops the bytes both ways and leaves the connections up, as
a lost network does; `cut` resets them; `refuse` takes no new ones. It knows no protocol but the
frames of a websocket, whose client side is masked and has to be unmasked to be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from dataclasses import dataclass, field

KEPT_BYTES = 65_536
CHUNK_BYTES = 65_536


@dataclass
class Opening:
    """The first bytes of one connection, by direction."""

    to_venue: bytearray = field(default_factory=bytearray)
    from_venue: bytearray = field(default_factory=bytearray)

    def client_text(self) -> bytes:
        """What the client said, unmasked where it spoke websocket."""
        raw = bytes(self.to_venue)
        head, separator, rest = raw.partition(b"\r\n\r\n")
        if b"upgrade: websocket" not in head.lower():
            return raw
        return head + separator + _unmasked(rest)


def _unmasked(raw: bytes) -> bytes:
    """Payloads of the whole frames in `raw`, one after the other."""
    found = bytearray()
    at = 0
    while at + 6 <= len(raw):
        size = raw[at + 1] & 0x7F
        at += 2
        if size == 126:
            size, at = struct.unpack_from("!H", raw, at)[0], at + 2
        elif size == 127:
            size, at = struct.unpack_from("!Q", raw, at)[0], at + 8
        mask, at = raw[at : at + 4], at + 4
        body = raw[at : at + size]
        found += bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
        at += size
    return bytes(found)


class Proxy:
    """Listens on a port of its own: `with Proxy() as proxy:`, then `proxy.port`."""

    def __init__(self) -> None:
        self.port = 0
        self.target_port = 0
        self.openings: list[Opening] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_refusing = False
        self._server: asyncio.Server

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._await(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    # -- faults ---------------------------------------------------------------------------------

    def freeze(self) -> None:
        """No byte passes until `thaw`; the connections stay up."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Resets every connection."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def refuse(self, is_refusing: bool) -> None:
        """Whether new connections are dropped at once."""
        self._is_refusing = is_refusing

    # -- inside ---------------------------------------------------------------------------------

    def _await(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)  # type: ignore[arg-type]

    async def _start(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        self._abort_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            writer.transport.abort()
            return
        opening = Opening()
        self.openings.append(opening)
        try:
            far = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far[1])
        self._writers.update(pair)
        pumps = [
            asyncio.ensure_future(self._pump(reader, far[1], opening.to_venue)),
            asyncio.ensure_future(self._pump(far[0], writer, opening.from_venue)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for one in pair:
                one.close()
            self._writers.difference_update(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if len(kept) < KEPT_BYTES:
                    kept += chunk[: KEPT_BYTES - len(kept)]
                writer.write(chunk)
                await writer.drain()
