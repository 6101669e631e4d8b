"""The sweep against the simulated exchange over its real REST port, beside a live maker."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from mm_daemon.guard.sweep_client import SweepClient, SweepConfig
from mm_daemon.shell.venue_server import RisingClock, VenueServer
from mm_daemon.sim.deribit_wire import WireVenue
from mm_daemon.venues.deribit import sweep as deribit
from tests.sim.wire_rig import CALL, PERP, START_US, small_exchange


@pytest.fixture
async def server() -> AsyncIterator[VenueServer]:
    began_ns = time.monotonic_ns()
    clock = RisingClock(lambda: START_US + (time.monotonic_ns() - began_ns) // 1000)
    server = VenueServer(WireVenue(small_exchange()), clock=clock)
    await server.start()
    yield server
    await server.close()


class Maker:
    """The trading account over a websocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, method: str, **params: object) -> Any:
        frame = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        await self._socket.send_bytes(orjson.dumps(frame))
        while True:
            reply = orjson.loads((await self._socket.receive(10.0)).data)
            if reply.get("id") == 1:
                assert "error" not in reply, reply
                return reply["result"]

    async def quote_and_order(self) -> None:
        """Two orders and a two-sided mass quote: four things that a sweep must find."""
        await self.ask(
            "public/auth",
            grant_type="client_credentials",
            client_id="demo-maker",
            client_secret="demo-secret",
        )
        await self.ask("private/enable_cancel_on_disconnect")
        await self.ask("private/buy", instrument_name=PERP, amount=10, price=99_000)
        await self.ask("private/sell", instrument_name=CALL, amount=1, price=0.5, post_only=True)
        await self.ask(
            "private/set_mmp_config",
            index_name="btc_usd",
            mmp_group="sweep",
            interval=1,
            frozen_time=0,
            max_quote_quantity=10,
            quantity_limit=10,
            delta_limit=5,
        )
        quote = {
            "instrument_name": CALL,
            "bid": {"price": 0.0001, "amount": 1},
            "ask": {"price": 0.6, "amount": 1},
        }
        await self.ask("private/mass_quote", mmp_group="sweep", quote_id="1", quotes=[quote])


async def test_guards_key_empties_the_makers_account_of_orders_and_quotes(
    server: VenueServer,
) -> None:
    config = SweepConfig(
        rest_url=f"{server.rest_url}/api/v2",
        client_id="demo-guard",
        client_secret="demo-secret",
        currencies=("BTC", "ETH", "USDC"),
        empty_gap_s=0.05,
    )
    client = SweepClient(config, deribit, random.Random(1), threading.Event().wait)
    async with aiohttp.ClientSession() as http:
        maker = Maker(await http.ws_connect(server.ws_url))
        await maker.quote_and_order()
        assert len(await maker.ask("private/get_open_orders")) == 4
        assert await asyncio.to_thread(client.read_once) == 4
        report = await asyncio.to_thread(client.sweep, 10.0)
        assert report.is_confirmed, report
        assert report.cancelled == 4
        assert report.rounds == 2
        assert await maker.ask("private/get_open_orders") == []
    client.close()


async def test_wrong_secret_is_refused_by_the_venue(server: VenueServer) -> None:
    config = SweepConfig(f"{server.rest_url}/api/v2", "demo-guard", "not-it", ("BTC",))
    client = SweepClient(config, deribit, random.Random(1), threading.Event().wait)
    report = await asyncio.to_thread(client.sweep, 0.3)
    assert not report.is_confirmed
    assert "public/auth" in report.detail
    client.close()
