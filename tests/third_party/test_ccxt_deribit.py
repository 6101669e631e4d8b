"""ccxt's own Deribit classes, unmodified but for the URLs, against the venue with its world.

The point is what a stranger's client needs: that its start-up, parsing and bookkeeping find
everything where Deribit has it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import ccxt.async_support
import ccxt.pro
import pytest

from mm_daemon.shell.venue_main import build_server
from mm_daemon.shell.venue_server import VenueServer

PERP = "BTC/USD:BTC"
PATIENCE_S = 20.0
T = TypeVar("T")


@pytest.fixture
async def server() -> AsyncIterator[VenueServer]:
    server = build_server(
        "127.0.0.1:0", seed=7, scenario="calm", speed=1.0, tier="top", underlyings=("BTC",)
    )
    await server.start()
    yield server
    await server.close()


def pointed_at(client: Any, server: VenueServer) -> Any:
    client.urls["api"]["rest"] = server.rest_url
    client.urls["api"]["ws"] = server.ws_url
    client.rateLimit = 1
    client.enableRateLimit = False
    return client


def credentials(name: str) -> dict[str, str]:
    return {"apiKey": name, "secret": "demo-secret"}


@pytest.fixture
async def rest(server: VenueServer) -> AsyncIterator[Any]:
    client = ccxt.async_support.deribit(credentials("demo-maker"))
    yield pointed_at(client, server)
    await client.close()


@pytest.fixture
async def stream(server: VenueServer) -> AsyncIterator[Any]:
    client = ccxt.pro.deribit(credentials("demo-maker"))
    yield pointed_at(client, server)
    await client.close()


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def test_rest_reads_markets_books_tickers_and_balances(rest: Any) -> None:
    markets = await rest.load_markets()
    options = [market for market in markets.values() if market["option"]]
    assert len(options) > 700
    assert markets[PERP]["inverse"] is True
    book = await rest.fetch_order_book(PERP, 5)
    assert len(book["bids"]) == 5
    assert book["bids"][0][0] < book["asks"][0][0]
    ticker = await rest.fetch_ticker(PERP)
    assert ticker["bid"] < ticker["ask"]
    assert ticker["markPrice"] == pytest.approx(ticker["bid"], rel=0.01)
    assert isinstance(await rest.fetch_trades(PERP), list)
    balance = await rest.fetch_balance()
    assert balance["BTC"]["total"] == 200.0
    assert (await rest.fetch_balance({"code": "BTC"}))["BTC"]["free"] > 100.0
    tickers = await rest.fetch_tickers(None, {"code": "BTC"})
    assert len(tickers) == len(markets)
    at_money = min(options, key=lambda m: (m["expiry"], abs(m["strike"] - ticker["markPrice"])))
    greeks = await rest.fetch_greeks(at_money["symbol"])
    assert -1.0 <= greeks["delta"] <= 1.0
    assert (await rest.fetch_status())["status"] == "ok"
    for currency in ("ETH", "SOL", "USDC"):
        assert await rest.fetch_open_orders(None, None, None, {"code": currency}) == []


async def test_rest_places_edits_cancels_and_finds_its_fills(rest: Any) -> None:
    ticker = await rest.fetch_ticker(PERP)
    below = round(ticker["bid"] * 0.99)
    order = await rest.create_order(PERP, "limit", "buy", 10, below, {"postOnly": True})
    assert order["status"] == "open"
    edited = await rest.edit_order(order["id"], PERP, "limit", "buy", 20, below + 1)
    assert (edited["amount"], edited["price"]) == (20.0, float(below + 1))
    assert [o["id"] for o in await rest.fetch_open_orders(PERP)] == [order["id"]]
    assert (await rest.cancel_order(order["id"], PERP))["status"] == "canceled"
    assert await rest.fetch_open_orders(PERP) == []
    bought = await rest.create_order(PERP, "market", "buy", 30)
    assert (bought["status"], bought["filled"]) == ("closed", 30.0)
    (position,) = await rest.fetch_positions()
    assert (position["symbol"], position["contracts"], position["side"]) == (PERP, 30.0, "long")
    fills = await rest.fetch_my_trades(PERP)
    assert sum(fill["amount"] for fill in fills) == 30.0
    assert {fill["order"] for fill in fills} == {bought["id"]}
    assert (await rest.fetch_order(bought["id"]))["status"] == "closed"
    assert [o["id"] for o in await rest.fetch_closed_orders(PERP)][-1:] == [bought["id"]]
    with pytest.raises(ccxt.ExchangeError, match="price_too_high"):
        await rest.create_order(PERP, "limit", "buy", 10, below * 3)
    with pytest.raises(ccxt.OrderNotFound):
        await rest.cancel_order("999999999", PERP)


async def test_wrong_keys_are_refused(server: VenueServer) -> None:
    client = pointed_at(
        ccxt.async_support.deribit({"apiKey": "demo-maker", "secret": "wrong"}), server
    )
    try:
        with pytest.raises(ccxt.ExchangeError):
            await client.fetch_positions()
    finally:
        await client.close()


async def test_websocket_streams_books_tickers_and_quotes(stream: Any) -> None:
    first = await soon(stream.watch_order_book(PERP))
    assert first["bids"][0][0] < first["asks"][0][0]
    for _ in range(10):
        book = await soon(stream.watch_order_book(PERP))
        assert book["bids"][0][0] < book["asks"][0][0]
    raw = await soon(stream.watch_order_book(PERP, params={"interval": "raw"}))
    assert raw["bids"]
    ticker = await soon(stream.watch_ticker(PERP))
    assert ticker["bid"] < ticker["ask"]
    quotes = await soon(stream.watch_bids_asks([PERP]))
    assert quotes[PERP]["bid"] < quotes[PERP]["ask"]


async def test_websocket_streams_own_orders_and_fills(stream: Any) -> None:
    await stream.load_markets()
    watches = [
        asyncio.ensure_future(soon(watch))
        for watch in (
            stream.watch_orders(PERP),
            stream.watch_my_trades(PERP),
            stream.watch_trades(PERP),
        )
    ]
    balance = await soon(stream.watch_balance())  # asked last, so the others are subscribed
    order = await stream.create_order(PERP, "market", "sell", 20)
    orders, fills, trades = await asyncio.gather(*watches)
    assert order["id"] in {one["id"] for one in orders}
    assert order["id"] in {one["order"] for one in fills}
    assert all(trade["symbol"] == PERP for trade in trades)
    assert "BTC" in balance
