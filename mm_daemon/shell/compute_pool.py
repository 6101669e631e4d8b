"""Slow work in another process: the trader's link to it, and the process itself.

The trader sends a request and goes on; the answer comes back as an input. A compute process that
dies, hangs or is not
there yet answers every open request with an error, so the decision always learns that its fit is
late.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import msgspec

from mm_daemon.domain.inputs import FactorsAnswer, FitAnswer
from mm_daemon.domain.outputs import AskFactors, AskFit
from mm_daemon.ipc.framing import FramingError, MessageDecoder, encode_message

RECONNECT_S = 0.25
OPEN_REQUESTS_MAX = 64
RECEIVE_BYTES = 1 << 20

FIT = "fit"
FACTORS = "factors"


class ComputeRequest(msgspec.Struct, frozen=True):
    kind: str
    ask_id: int
    underlying: str
    request: bytes


class ComputeReply(msgspec.Struct, frozen=True):
    kind: str
    ask_id: int
    underlying: str
    result: bytes
    error: str
    duration_ns: int


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(ComputeRequest)
_replies = msgspec.msgpack.Decoder(ComputeReply)

Answer = FitAnswer | FactorsAnswer


class ComputeLink(asyncio.Protocol):
    """The trader's end. Keeps connecting; never blocks."""

    def __init__(self, path: Path, feed: Callable[[Answer], None]) -> None:
        self._path = path
        self._feed = feed
        self._open: dict[int, ComputeRequest] = {}
        self._decoder = MessageDecoder()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    def ask(self, ask: AskFit | AskFactors) -> None:
        request = ComputeRequest(
            kind=FIT if isinstance(ask, AskFit) else FACTORS,
            ask_id=ask.ask_id,
            underlying=ask.underlying,
            request=ask.request,
        )
        if self._transport is None:
            self._fail(request, "the compute process is not connected")
        elif len(self._open) >= OPEN_REQUESTS_MAX:
            self._fail(request, f"{OPEN_REQUESTS_MAX} requests are already open")
        else:
            self._open[request.ask_id] = request
            self._transport.write(encode_message(_encoder.encode(request)))

    async def run(self) -> None:
        """Connects and reconnects until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._lost = asyncio.Event()
            try:
                await loop.create_unix_connection(lambda: self, str(self._path))
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._decoder = MessageDecoder()
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            replies = [_replies.decode(frame) for frame in self._decoder.feed(data)]
        except (FramingError, msgspec.MsgspecError):
            if self._transport is not None:
                self._transport.abort()
            return
        for reply in replies:
            if self._open.pop(reply.ask_id, None) is not None:
                self._feed(_answer(reply))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        lost = tuple(self._open.values())
        self._open.clear()
        for request in lost:
            self._fail(request, "the compute process went away")
        self._lost.set()

    def _fail(self, request: ComputeRequest, error: str) -> None:
        reply = ComputeReply(
            kind=request.kind,
            ask_id=request.ask_id,
            underlying=request.underlying,
            result=b"",
            error=error,
            duration_ns=0,
        )
        self._feed(_answer(reply))


def _answer(reply: ComputeReply) -> Answer:
    kind = FitAnswer if reply.kind == FIT else FactorsAnswer
    return kind(
        ask_id=reply.ask_id,
        underlying=reply.underlying,
        result=reply.result,
        error=reply.error,
        duration_ns=reply.duration_ns,
    )


def serve_compute(path: Path, work: Mapping[str, Callable[[bytes], bytes]]) -> None:
    """The compute process: one request at a time, for ever. A failing request answers with its
    error."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1)
        while True:
            peer, _ = listener.accept()
            with peer:
                _serve_peer(peer, work)


def _serve_peer(peer: socket.socket, work: Mapping[str, Callable[[bytes], bytes]]) -> None:
    decoder = MessageDecoder()
    while True:
        try:
            received = peer.recv(RECEIVE_BYTES)
            if not received:
                return
            for frame in decoder.feed(received):
                reply = _run(_requests.decode(frame), work)
                peer.sendall(encode_message(_encoder.encode(reply)))
        except (OSError, FramingError, msgspec.MsgspecError):
            return


def _run(request: ComputeRequest, work: Mapping[str, Callable[[bytes], bytes]]) -> ComputeReply:
    started_ns = time.monotonic_ns()
    result = b""
    error = ""
    try:
        result = work[request.kind](request.request)
    except Exception as problem:  # noqa: BLE001 - whatever a fit raises is its answer
        error = f"{type(problem).__name__}: {problem}"
    return ComputeReply(
        kind=request.kind,
        ask_id=request.ask_id,
        underlying=request.underlying,
        result=result,
        error=error,
        duration_ns=time.monotonic_ns() - started_ns,
    )
