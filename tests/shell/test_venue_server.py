"""The venue on a port: websocket and REST side by side, spoken to by aiohttp over real sockets."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import picows
import pytest
import uvloop
import websockets

from mm_daemon.shell.venue_main import (
    build_server,
    load_scenario,
    parse_listen,
    serve_venue,
)
from mm_daemon.shell.venue_server import RisingClock, VenueServer, VenueStartError
from mm_daemon.sim.deribit_wire import WireVenue
from mm_daemon.sim.scenario import AckDelay, Outage
from tests.sim.wire_rig import CALL, PERP, START_US, small_exchange

PATIENCE_S = 10.0


class HandClock(RisingClock):
    """A clock that tests set; the server's timers still run on the loop's own."""

    def __init__(self) -> None:
        self.at_us = START_US
        super().__init__(lambda: self.at_us)


class Wire:
    """A websocket client that files what it hears."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.notes: list[dict[str, Any]] = []
        self._id = 0

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The whole reply of one request."""
        self._id += 1
        frame = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        await self.socket.send_bytes(orjson.dumps(frame))
        return await self.reply(self._id)

    async def reply(self, number: int) -> dict[str, Any]:
        """The reply of that id; notifications on the way are kept."""
        while True:
            frame: dict[str, Any] = orjson.loads(await self.text())
            if frame.get("id") == number:
                return frame
            self.notes.append(frame)

    async def text(self) -> str:
        """The next text message."""
        message = await self.socket.receive(PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return str(message.data)

    async def closed(self) -> int | None:
        """Reads until the venue closes; the close code."""
        while True:
            message = await self.socket.receive(PATIENCE_S)
            if message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.ERROR,
            ):
                return self.socket.close_code

    async def login(self, client_id: str = "demo-maker") -> None:
        """Authenticate the socket."""
        reply = await self.ask(
            "public/auth",
            grant_type="client_credentials",
            client_id=client_id,
            client_secret="demo-secret",
        )
        assert "result" in reply


class Place:
    """A running server over the small exchange, and a door to it."""

    def __init__(self, server: VenueServer, http: aiohttp.ClientSession, clock: HandClock) -> None:
        self.server = server
        self.http = http
        self.clock = clock

    async def wire(self) -> Wire:
        """A new websocket."""
        return Wire(await self.http.ws_connect(self.server.ws_url))

    def url(self, path: str) -> str:
        """A REST address."""
        return f"{self.server.rest_url}/api/v2/{path}"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Place]:
    clock = HandClock()
    venue = WireVenue(small_exchange())
    server = VenueServer(venue, clock=clock, **options)
    await server.start()
    async with aiohttp.ClientSession() as http:
        try:
            yield Place(server, http, clock)
        finally:
            await server.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with running() as place:
        yield place


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def test_one_port_serves_websocket_get_and_post(place: Place) -> None:
    wire = await place.wire()
    assert (await wire.ask("public/test"))["result"]["version"]
    async with place.http.get(place.url(f"public/ticker?instrument_name={CALL}")) as response:
        body = await response.json()
        assert (response.status, body["result"]["instrument_name"]) == (200, CALL)
    request = {"jsonrpc": "2.0", "id": 9, "method": "public/get_time", "params": {}}
    async with place.http.post(place.url("").rstrip("/"), json=request) as response:
        body = await response.json()
        assert (body["id"], body["result"]) == (9, START_US // 1_000)


def test_uvloop_serves_as_well() -> None:
    """Its transports are another class, and it is the loop the venue runs on."""

    async def serve() -> None:
        async with running() as place:
            await test_one_port_serves_websocket_get_and_post(place)
            await test_a_broken_link_cancels_and_a_logout_does_not(place)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def test_other_websocket_libraries_connect_as_well(place: Place) -> None:
    """One offers compression, which the venue declines; the other is the daemon's own."""
    request = orjson.dumps({"id": 1, "method": "public/get_time", "params": {}})
    async with websockets.connect(place.server.ws_url) as socket:
        await socket.send(request.decode())
        assert orjson.loads(await socket.recv())["result"] == START_US // 1_000

    replies: asyncio.Queue[bytes] = asyncio.Queue()

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            transport.send(picows.WSMsgType.TEXT, request)

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            replies.put_nowait(bytes(frame.get_payload_as_bytes()))

    transport, _ = await picows.ws_connect(Listener, place.server.ws_url)
    reply = await asyncio.wait_for(replies.get(), PATIENCE_S)
    assert orjson.loads(reply)["result"] == START_US // 1_000
    transport.disconnect()


async def test_other_paths_and_verbs_are_refused_plainly(place: Place) -> None:
    async with place.http.get(f"{place.server.rest_url}/index.html") as response:
        assert response.status == 404
    async with place.http.delete(place.url("public/test")) as response:
        assert response.status == 405
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await place.http.ws_connect(f"ws://127.0.0.1:{place.server.port}/elsewhere")
    assert caught.value.status == 404


async def test_rubbish_on_the_port_is_refused_and_the_venue_lives(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.server.port)
    writer.write(b"\x00\x01rubbish\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await (await place.wire()).ask("public/test"))["result"]


async def test_pipelined_gets_are_answered_in_order(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.server.port)
    paths = ("public/get_time", "public/test", "public/status")
    requests = [f"GET /api/v2/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths]
    last = b"GET /api/v2/public/test HTTP/1.1\r\nConnection: close\r\n\r\n"
    writer.write(b"".join([*requests, last]))
    answer = await reader.read()
    writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.index(b'"result":%d' % (START_US // 1_000)) < answer.index(b'"version"')


async def test_fragments_pings_and_large_frames_are_handled(place: Place) -> None:
    wire = await place.wire()
    writer = wire.socket._writer
    assert writer is not None
    frame = orjson.dumps({"id": 1, "method": "public/test", "params": {}})
    half = len(frame) // 2
    mask = bytes(4)
    sent = bytes([0x01, 0x80 | half]) + mask + frame[:half]
    sent += bytes([0x80, 0x80 | len(frame) - half]) + mask + frame[half:]
    assert writer.transport is not None
    writer.transport.write(sent)
    assert (await wire.reply(1))["result"]["version"]
    await wire.socket.ping(b"hello")
    await wire.socket.send_str("x" * 40_000)
    assert orjson.loads(await wire.text())["error"]["code"] == -32600


async def test_orders_flow_and_both_sides_hear_of_the_fill(place: Place) -> None:
    maker, taker = await place.wire(), await place.wire()
    await maker.login()
    await taker.login("demo-taker")
    await maker.ask("private/subscribe", channels=["user.changes.any.any.raw"])
    order = {"instrument_name": PERP, "amount": 10, "price": 100_000}
    await maker.ask("private/sell", **order)
    bought = await taker.ask("private/buy", **order)
    assert bought["result"]["order"]["order_state"] == "filled"
    await maker.ask("public/test")
    states = [n["params"]["data"]["orders"][0]["order_state"] for n in maker.notes]
    assert states == ["open", "filled"]


async def test_a_broken_link_cancels_and_a_logout_does_not(place: Place) -> None:
    watcher, broken, leaver = await place.wire(), await place.wire(), await place.wire()
    for wire, label in ((broken, "broken"), (leaver, "left"), (watcher, "stays")):
        await wire.login()
        await wire.ask("private/enable_cancel_on_disconnect")
        order = {"instrument_name": PERP, "amount": 10, "price": 99_000, "label": label}
        await wire.ask("private/buy", **order)
    await leaver.ask("private/logout")
    assert await leaver.closed() == 1000
    broken.socket._response.connection.transport.abort()  # type: ignore[union-attr]
    await until(lambda: len(place.server.venue.sessions()) == 1)
    reply = await watcher.ask("private/get_open_orders")
    assert sorted(o["label"] for o in reply["result"]) == ["left", "stays"]


async def test_running_dry_is_answered_and_then_the_socket_closes(place: Place) -> None:
    wire = await place.wire()
    await wire.login()
    frame = orjson.dumps({"id": 5, "method": "private/get_positions", "params": {}})
    for _ in range(101):
        await wire.socket.send_bytes(frame)
    codes = [orjson.loads(await wire.text()).get("error", {}).get("code") for _ in range(101)]
    assert codes == [None] * 100 + [10028]
    assert await wire.closed() == 1008


async def test_an_outage_drops_everybody_and_refuses_until_it_is_over(place: Place) -> None:
    wire = await place.wire()
    end_us = START_US + 3_000_000
    place.server.venue.faults.add(Outage(at_us=START_US, until_us=end_us))
    assert await wire.closed() == 1012
    async with place.http.get(place.url("public/test")) as response:
        assert response.status == 503
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await place.wire()
    place.clock.at_us = end_us
    assert (await (await place.wire()).ask("public/test"))["result"]


async def test_a_slow_acknowledgement_over_rest_is_answered_when_due(place: Place) -> None:
    delay = AckDelay(at_us=START_US, until_us=START_US + 60_000_000, delay_us=400_000)
    place.server.venue.faults.add(delay)
    auth = (
        "public/auth?grant_type=client_credentials&client_id=demo-maker&client_secret=demo-secret"
    )
    async with place.http.get(place.url(auth)) as response:
        token = (await response.json())["result"]["access_token"]
    order = f"private/buy?instrument_name={PERP}&amount=10&price=99000"
    headers = {"Authorization": f"Bearer {token}"}
    request = asyncio.ensure_future(place.http.get(place.url(order), headers=headers))
    await until(lambda: len(place.server.venue.received) == 1)
    assert not request.done()
    place.clock.at_us += 400_000
    async with await request as response:
        assert (await response.json())["result"]["order"]["order_state"] == "open"


async def test_a_reader_that_never_reads_is_dropped() -> None:
    async with running(unsent_bytes_max=50_000) as place:
        _, writer = await asyncio.open_connection("127.0.0.1", place.server.port, limit=1)
        key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        head = b"GET /ws/api/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        writer.write(head + b"Connection: Upgrade\r\n" + key + b"\r\n")
        await until(lambda: len(place.server.venue.sessions()) == 1)
        (session,) = place.server.venue.sessions()
        assert session.closing is None
        async with asyncio.timeout(PATIENCE_S):
            while place.server.venue.sessions():
                session.outbox.append(b"x" * 1_000_000)
                await asyncio.sleep(0)
        writer.close()


async def test_one_address_gets_no_more_than_its_connections() -> None:
    async with running(connections_per_address_max=2) as place:
        wires = [await place.wire() for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await place.wire()
        assert caught.value.status == 429
        await wires[0].socket.close()
        await until(lambda: len(place.server.venue.sessions()) == 1)
        assert (await (await place.wire()).ask("public/test"))["result"]


async def test_the_witness_tells_what_arrived_and_when(place: Place) -> None:
    wire = await place.wire()
    await wire.login()
    order = {"instrument_name": PERP, "amount": 10, "price": 99_000, "label": "seen"}
    await wire.ask("private/buy", **order)
    place.clock.at_us += 1_000
    await wire.ask("private/cancel_all")
    base = f"{place.server.rest_url}/sim/v1"
    async with place.http.get(f"{base}/received") as response:
        frames = (await response.json())["frames"]
    assert [frame["method"] for frame in frames] == ["private/buy", "private/cancel_all"]
    assert orjson.loads(frames[0]["frame"])["params"]["label"] == "seen"
    async with place.http.get(f"{base}/received?after_us={START_US}") as response:
        later = (await response.json())["frames"]
    assert later == frames[1:]
    async with place.http.get(f"{base}/status") as response:
        status = await response.json()
    assert status["sessions"][0]["account"] == "demo-maker"
    assert status["internal_errors"] == []
    async with place.http.get(f"{base}/received?after_us=x") as response:
        assert response.status == 400


async def test_a_taken_port_is_said_in_one_line(place: Place) -> None:
    other = VenueServer(WireVenue(small_exchange()), port=place.server.port)
    with pytest.raises(VenueStartError) as caught:
        await other.start()
    assert str(caught.value) == (
        f"venue: 127.0.0.1:{place.server.port} is in use; stop the other process or choose --listen"
    )


@pytest.mark.parametrize("listen", ["", "8712", "host:", "host:99999", ":1"])
def test_a_malformed_address_is_refused(listen: str) -> None:
    with pytest.raises(VenueStartError, match="HOST:PORT"):
        parse_listen(listen)


def test_unknown_scenarios_and_tiers_name_the_choices(tmp_path: Path) -> None:
    with pytest.raises(VenueStartError, match="calm"):
        load_scenario("nonsense")
    with pytest.raises(VenueStartError, match="cannot read"):
        load_scenario("/nonexistent/file.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = 3")
    with pytest.raises(VenueStartError, match=r"broken\.toml"):
        load_scenario(str(broken))
    assert load_scenario("outage").events
    params: dict[str, Any] = {"seed": 1, "scenario": "calm", "speed": 1.0, "tier": "best"}
    with pytest.raises(VenueStartError, match="top"):
        build_server("127.0.0.1:0", **params)


async def test_a_scenario_file_breaks_the_wire_when_it_says(tmp_path: Path) -> None:
    script = tmp_path / "short.toml"
    script.write_text(
        'name = "short"\ndescription = "One outage soon after the start."\n'
        '[[events]]\ntype = "outage"\nat_s = 5.0\nfor_s = 2.0\n'
    )
    clock = HandClock()
    server = build_server(
        "127.0.0.1:0",
        seed=1,
        scenario=str(script),
        speed=1.0,
        tier="1",
        underlyings=("BTC",),
        clock=clock,
    )
    await server.start()
    async with aiohttp.ClientSession() as http:
        wire = Wire(await http.ws_connect(server.ws_url))
        assert (await wire.ask("public/test"))["result"]
        clock.at_us += 5_000_000
        assert await wire.closed() == 1012
        clock.at_us += 2_000_000
        wire = Wire(await http.ws_connect(server.ws_url))
        assert (await wire.ask("public/test"))["result"]
    await server.close()


async def test_the_whole_venue_serves_a_moving_world_until_cancelled() -> None:
    lines: list[str] = []
    up = asyncio.Event()

    def announce(line: str) -> None:
        lines.append(line)
        up.set()

    task = asyncio.create_task(serve_venue("127.0.0.1:0", seed=3, announce=announce))
    async with asyncio.timeout(60):
        await up.wait()
        url = lines[0].split()[1]
        async with aiohttp.ClientSession() as http:
            wire = Wire(await http.ws_connect(url))
            options = await wire.ask("public/get_instruments", currency="any", kind="option")
            assert len(options["result"]) >= 1_500
            await wire.ask("public/subscribe", channels=[f"book.{PERP}.100ms"])
            while len(wire.notes) < 5:
                wire.notes.append(orjson.loads(await wire.text()))
    books = [note["params"]["data"] for note in wire.notes]
    assert books[0]["type"] == "snapshot"
    for earlier, later in itertools.pairwise(books):
        assert later["prev_change_id"] == earlier["change_id"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
