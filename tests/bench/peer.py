"""The venue's end of the tick-to-quote bench: one process, raw sockets, two stamps.

It serves just enough of Deribit for the daemon to come up and quote a whole chain, then sends ticks
of the perpetual and stamps each just before the send, and the first byte of every quote just after
the receive. Between ticks it does the same with a bare echo, so that both see the same machine.
Which quote answers which tick it does not guess: the daemon's own tape says.

Started by `tests.bench.wire`; speaks JSON lines on its standard output.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import msgspec
import orjson

from tests.bench import websocket
from tests.bench.chain import (
    PERPETUAL,
    SPOT_USD,
    Chain,
    Option,
    book_note,
    make_chain,
    note,
    option_ticker,
    perpetual_ticker,
)
from tests.bench.script import Script, account

PERP_CHANNEL = f"book.{PERPETUAL}.raw"
CHANGES = "user.changes.any.any.raw"
INDEX = "btc_usd"
CHUNK = 1 << 18
MS = 1_000_000
SETTLE_NS = 800_000
"""After a quote: long enough for the daemon to take in the venue's reply to it."""
ANSWER_NS_MAX = 20 * MS
"""A tick without a quote for this long moved none."""
UPKEEP_NS = 250 * MS
HEARTBEAT_TURNS = 20
HEARTBEAT = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
REFRESH_S = 20.0
"""Every option's book and ticker says something within this time, as on the venue."""
QUIET_NS = 7_000 * MS
"""Between the first quotes and the first measured tick: fits, leans and garbage have settled."""
READY_NS_MAX = 90_000 * MS
EXCURSION_USD_MAX = 60.0
STEP_USD_START, STEP_USD_MIN, STEP_USD_MAX = 10.0, 1.0, 50.0
QUOTES_WANTED = 10
PERP_HALF_USD = 2.5
ECHOES_HOT = 400


class Plan(msgspec.Struct, frozen=True):
    """What to measure."""

    expiries: int
    strikes: int
    tuning_ticks: int
    closed_ticks: int
    paced: list[tuple[int, float]]
    """(frames a second, seconds) of each open-loop phase."""


class Sent(msgspec.Struct):
    phase: str
    change_id: int
    mono_ns: int


class Quoted(msgspec.Struct):
    wire_id: int
    mono_ns: int
    entries: int


class Result(msgspec.Struct):
    """All stamps of one run, on CLOCK_MONOTONIC."""

    options: int
    step_usd: float
    sent: list[Sent] = []
    quoted: list[Quoted] = []
    echo_hot_ns: list[int] = []
    echo_paired_ns: list[int] = []
    phases: dict[str, tuple[int, int]] = {}
    """Wall clock at start and end of each phase, ns."""


class Link:
    """One accepted connection: HTTP until it is upgraded, then websocket frames."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = stream
        self.buffer = bytearray()
        self.is_websocket = False
        self.channels: list[str] = []

    def fileno(self) -> int:
        return self.stream.fileno()

    def send(self, payload: bytes) -> None:
        """What a daemon that died cannot take is dropped; its end is seen at the next receive."""
        with suppress(ConnectionError):
            self.stream.sendall(websocket.frame(payload))


class Peer:
    """Serves, ticks and stamps, all in one thread."""

    def __init__(self, plan: Plan, listener: socket.socket, echo: socket.socket) -> None:
        self._plan = plan
        self._listener = listener
        self._echo = echo
        self._chain: Chain = make_chain(_now_ms(), expiries=plan.expiries, strikes=plan.strikes)
        self._script = Script(self._chain)
        self._links: list[Link] = []
        self._market: Link | None = None
        self._rng = random.Random(11)
        self._offset_usd = 0.0
        self._step_usd = STEP_USD_START
        self._change_id = 1
        self._book_ids = dict.fromkeys(self._chain.options, 1)
        self._upkeep_ns = 0
        self._upkeep_turn = 0
        self._upkeep_at = 0
        self._first_quote_ns = 0
        self._phase = ""
        self.result = Result(options=len(self._chain.options), step_usd=0.0)

    # -- the course of a run ----------------------------------------------------------------------

    def run(self) -> Result:
        """Waits for the daemon to quote, then measures every phase of the plan."""
        deadline_ns = time.monotonic_ns() + READY_NS_MAX
        while not self._is_ready():
            if time.monotonic_ns() > deadline_ns:
                raise TimeoutError(
                    f"the daemon quoted {self._script.quotes_live} sides of"
                    f" {2 * len(self._chain.options)} within {READY_NS_MAX // 10**9} s"
                )
            self._serve(0.05)
        self._tune()
        self._echo_hot()
        self._closed_loop()
        self._echo_hot()
        for per_second, seconds in self._plan.paced:
            self._paced(per_second, seconds)
            self._serve_for(500 * MS)
        self.result.step_usd = self._step_usd
        return self.result

    def serve_until(self, stopper: TextIO) -> None:
        """Goes on answering until `stopper` can be read, so that the daemon can stop in order."""
        while not select.select([stopper], [], [], 0)[0]:
            self._serve(0.02)

    def _is_ready(self) -> bool:
        is_quoting = self._script.quotes_live >= len(self._chain.options)
        if is_quoting and not self._first_quote_ns:
            self._first_quote_ns = time.monotonic_ns()
        return is_quoting and time.monotonic_ns() - self._first_quote_ns > QUIET_NS

    def _tune(self) -> None:
        """Finds the move of the perpetual that changes ten quotes at the median."""
        self._begin("tuning")
        for turn in range(self._plan.tuning_ticks):
            entries = self._tick_and_wait()
            factor = 1.0 + 0.3 / (1.0 + turn / 20)
            step = self._step_usd * factor if entries < QUOTES_WANTED else self._step_usd / factor
            self._step_usd = min(STEP_USD_MAX, max(STEP_USD_MIN, step))
        self._end()

    def _closed_loop(self) -> None:
        self._begin("closed")
        for _ in range(self._plan.closed_ticks):
            self._tick_and_wait()
            self.result.echo_paired_ns.append(self._echo_once())
        self._end()

    def _paced(self, per_second: int, seconds: float) -> None:
        """Open loop: a late tick is sent at once and counted from its own send."""
        self._begin(f"paced {per_second}")
        gap_ns = 1_000 * MS // per_second
        start_ns = time.monotonic_ns()
        for turn in range(int(per_second * seconds)):
            due_ns = start_ns + turn * gap_ns
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                self._serve(left_ns / 1e9)
            self._tick()
        self._end()

    def _begin(self, phase: str) -> None:
        self._phase = phase
        self.result.phases[phase] = (time.time_ns(), 0)

    def _end(self) -> None:
        started_ns, _ = self.result.phases[self._phase]
        self.result.phases[self._phase] = (started_ns, time.time_ns())
        self._phase = ""

    # -- ticks and stamps -------------------------------------------------------------------------

    def _tick_and_wait(self) -> int:
        """One tick and its quotes, taken in on both sides; how many quotes changed."""
        before = len(self.result.quoted)
        sent_ns = self._tick()
        while len(self.result.quoted) == before:
            if time.monotonic_ns() - sent_ns > ANSWER_NS_MAX:
                break
            self._serve(0.002)
        self._serve_for(SETTLE_NS)
        return sum(quoted.entries for quoted in self.result.quoted[before:])

    def _tick(self) -> int:
        payload = websocket.frame(self._next_tick())
        assert self._market is not None
        send = self._market.stream.sendall
        sent_ns = time.monotonic_ns()
        send(payload)
        self.result.sent.append(Sent(self._phase, self._change_id, sent_ns))
        return sent_ns

    def _next_tick(self) -> bytes:
        """The perpetual's touch moves by one step, up or down, never far from where it began."""
        old = self._offset_usd
        step = max(0.5, round(self._step_usd * 2.0) / 2.0)
        sign = 1.0 if self._rng.random() < 0.5 else -1.0
        if abs(old + sign * step) > EXCURSION_USD_MAX:
            sign = -sign
        self._offset_usd = old + sign * step
        previous, self._change_id = self._change_id, self._change_id + 1
        was_bid, was_ask = _touch(old)
        bid, ask = _touch(self._offset_usd)
        return book_note(
            PERP_CHANNEL,
            PERPETUAL,
            _now_ms(),
            self._change_id,
            prev_change_id=previous,
            bids=[("delete", was_bid, 0.0), ("new", bid, 1000.0)],
            asks=[("delete", was_ask, 0.0), ("new", ask, 1000.0)],
        )

    def _echo_hot(self) -> None:
        self.result.echo_hot_ns += [self._echo_once() for _ in range(ECHOES_HOT)]

    def _echo_once(self) -> int:
        """A tick's bytes there and back, waited for as quotes are."""
        payload = b"e" * 330
        echo = self._echo
        started_ns = time.monotonic_ns()
        echo.sendall(payload)
        select.select([echo], [], [], 1.0)
        got = len(echo.recv(CHUNK))
        spent_ns = time.monotonic_ns() - started_ns
        while got < len(payload):
            got += len(echo.recv(CHUNK))
        return spent_ns

    # -- serving ----------------------------------------------------------------------------------

    def _serve_for(self, wait_ns: int) -> None:
        until_ns = time.monotonic_ns() + wait_ns
        while (left_ns := until_ns - time.monotonic_ns()) > 0:
            self._serve(left_ns / 1e9)

    def _serve(self, timeout_s: float) -> None:
        """Waits for bytes from any side and answers all of them."""
        sources: list[socket.socket | Link] = [self._listener, *self._links]
        for source in select.select(sources, [], [], max(0.0, timeout_s))[0]:
            if isinstance(source, Link):
                self._receive(source)
            else:
                self._links.append(Link(self._listener.accept()[0]))
        if time.monotonic_ns() >= self._upkeep_ns:
            self._upkeep_ns = time.monotonic_ns() + UPKEEP_NS
            self._upkeep()

    def _receive(self, link: Link) -> None:
        try:
            content = link.stream.recv(CHUNK)
        except ConnectionResetError:
            content = b""
        stamp_ns = time.monotonic_ns()
        if content:
            link.buffer += content
            self._read(link, stamp_ns)
        else:
            self._drop(link)

    def _read(self, link: Link, stamp_ns: int) -> None:
        if not link.is_websocket:
            self._read_http(link)
            return
        while (taken := websocket.take_frame(link.buffer)) is not None:
            opcode, payload = taken
            if opcode == websocket.TEXT:
                self._answer(link, payload, stamp_ns)
            elif opcode == websocket.PING:
                link.stream.sendall(websocket.frame(payload, websocket.PONG))
            elif opcode == websocket.CLOSE:
                link.stream.sendall(websocket.frame(payload, websocket.CLOSE))

    def _read_http(self, link: Link) -> None:
        """An upgrade, or one JSON-RPC request by POST: the guard's sweep."""
        head, found, body = bytes(link.buffer).partition(b"\r\n\r\n")
        if not found:
            return
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if b"sec-websocket-key" in fields:
            link.buffer.clear()
            link.is_websocket = True
            link.stream.sendall(websocket.accept(fields[b"sec-websocket-key"]))
            return
        size = int(fields.get(b"content-length", b"0"))
        if len(body) < size:
            return
        link.buffer[:] = body[size:]
        request = orjson.loads(body[:size])
        reply = self._reply(request["id"], request["method"], request["params"], time.time_ns())
        link.stream.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(reply), reply)
        )

    def _answer(self, link: Link, payload: bytes, stamp_ns: int) -> None:
        request = orjson.loads(payload)
        method, params, wire_id = request["method"], request["params"], request["id"]
        if method == "private/mass_quote":
            self.result.quoted.append(Quoted(wire_id, stamp_ns, len(params["quotes"])))
            now_ns = time.time_ns()
            result, changes = self._script.mass_quote(params, now_ns // MS)
            link.send(_envelope(wire_id, b'"result":' + result, now_ns))
            link.send(note(CHANGES, orjson.Fragment(changes)))
            return
        link.send(self._reply(wire_id, method, params, time.time_ns()))
        if method.endswith("/subscribe"):
            link.channels += params["channels"]
            self._begin_channels(link, params["channels"])

    def _reply(self, wire_id: int, method: str, params: dict[str, Any], now_ns: int) -> bytes:
        return _envelope(wire_id, self._script.answer(method, params), now_ns)

    def _drop(self, link: Link) -> None:
        link.stream.close()
        self._links.remove(link)
        if self._market is link:
            self._market = None

    # -- market data ------------------------------------------------------------------------------

    def _begin_channels(self, link: Link, channels: list[str]) -> None:
        """A snapshot of every book and a first word on every other channel."""
        now_ms = _now_ms()
        for channel in channels:
            if not channel.startswith(("book.", "ticker.")):
                continue
            self._market = link
            name = channel.split(".")[1]
            if channel.startswith("ticker."):
                self._send_ticker(link, channel, name, now_ms)
            elif name == PERPETUAL:
                bid, ask = _touch(self._offset_usd)
                bids, asks = [("new", bid, 1000.0)], [("new", ask, 1000.0)]
                snapshot = book_note(channel, name, now_ms, self._change_id, bids=bids, asks=asks)
                link.send(snapshot)
            else:
                option = self._chain.options[name]
                link.send(_option_snapshot(channel, option, now_ms, self._book_ids[name]))

    def _send_ticker(self, link: Link, channel: str, name: str, now_ms: int) -> None:
        if name == PERPETUAL:
            link.send(note(channel, perpetual_ticker(now_ms)))
        else:
            link.send(note(channel, option_ticker(self._chain.options[name], now_ms)))

    def _upkeep(self) -> None:
        """Heartbeat, index, account, and some of the options: a change of size, a ticker."""
        now_ms = _now_ms()
        self._upkeep_turn += 1
        is_beat = self._upkeep_turn % HEARTBEAT_TURNS == 0
        for each in self._links:
            if is_beat and each.is_websocket:
                each.send(HEARTBEAT)
            if CHANGES in each.channels:
                each.send(note("user.portfolio.btc", account(now_ms)))
        link = self._market
        if link is None:
            return
        index = {"timestamp": now_ms, "price": SPOT_USD, "index_name": INDEX}
        link.send(note(f"deribit_price_index.{INDEX}", index))
        link.send(note(f"ticker.{PERPETUAL}.100ms", perpetual_ticker(now_ms)))
        names = list(self._chain.options)
        count = max(1, round(len(names) * UPKEEP_NS / (REFRESH_S * 1e9)))
        for _ in range(count):
            name = names[self._upkeep_at % len(names)]
            self._upkeep_at += 1
            self._touch_option(link, self._chain.options[name], now_ms)

    def _touch_option(self, link: Link, option: Option, now_ms: int) -> None:
        previous = self._book_ids[option.name]
        self._book_ids[option.name] = previous + 1
        amount = 8.0 + self._upkeep_at % 5
        bids = [("change", option.bid, amount)] if option.bid > 0.0 else []
        channel = f"book.{option.name}.100ms"
        asks = [("change", option.ask, amount)]
        link.send(
            book_note(
                channel,
                option.name,
                now_ms,
                previous + 1,
                prev_change_id=previous,
                bids=bids,
                asks=asks,
            )
        )
        self._send_ticker(link, f"ticker.{option.name}.100ms", option.name, now_ms)


def _option_snapshot(channel: str, option: Option, now_ms: int, change_id: int) -> bytes:
    bids = [("new", option.bid, 10.0)] if option.bid > 0.0 else []
    asks = [("new", option.ask, 10.0)]
    return book_note(channel, option.name, now_ms, change_id, bids=bids, asks=asks)


def _touch(offset_usd: float) -> tuple[float, float]:
    return SPOT_USD + offset_usd - PERP_HALF_USD, SPOT_USD + offset_usd + PERP_HALF_USD


def _envelope(wire_id: int, answer: bytes, now_ns: int) -> bytes:
    stamp_us = now_ns // 1_000
    return b'{"jsonrpc":"2.0","id":%d,%b,"usIn":%d,"usOut":%d,"usDiff":0,"testnet":true}' % (
        wire_id,
        answer,
        stamp_us,
        stamp_us,
    )


def _now_ms() -> int:
    return time.time_ns() // MS


def main() -> int:
    """Arguments: the plan as JSON, the file for the result. A line on stdin ends the process."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    listener = socket.create_server(("127.0.0.1", 0))
    bare = socket.create_server(("127.0.0.1", 0))
    ports = {"venue": listener.getsockname()[1], "echo": bare.getsockname()[1]}
    sys.stdout.write(orjson.dumps(ports).decode() + "\n")
    sys.stdout.flush()
    echo, _ = bare.accept()
    echo.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = Peer(plan, listener, echo)
    result = peer.run()
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(result))
    sys.stdout.write("measured\n")
    sys.stdout.flush()
    peer.serve_until(sys.stdin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
