"""Recorded Deribit traffic through the same code: frames, book chains, both schemas, tick grids."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from mm_daemon.domain.events import BookChanged, BookLost, Event, TickerSeen
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.instruments import Instrument, Kind
from mm_daemon.domain.units import Ns
from mm_daemon.venues.deribit.instruments import Catalogue, read_rows
from mm_daemon.venues.deribit.messages import InstrumentBody
from mm_daemon.venues.deribit.settings import Underlying
from tests.venues.deribit_peer import SETTINGS, Peer

REFERENCE = Path(
    os.environ.get("MM_REFERENCE_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no reference data at {REFERENCE} (MM_REFERENCE_DATA)"
)
USD = (Underlying("BTC", "btc_usd", "BTC"), Underlying("ETH", "eth_usd", "ETH"))


def lines(name: str) -> list[str]:
    return gzip.decompress((REFERENCE / name).read_bytes()).decode().splitlines()


def old_listing() -> dict[str, msgspec.Raw]:
    """The get_instruments bodies of July 2021, by currency."""
    found = {}
    for line in lines("deribit-ws/DERIBIT.0.gz"):
        if "get_instruments" in line:
            currency = line.split("currency=")[1].split("&")[0]
            body = msgspec.json.decode(line.split(": ", 1)[1], type=dict[str, msgspec.Raw])
            found[currency] = body["result"]
    return found


def catalogue_of(*raws: bytes, underlyings: tuple[Underlying, ...] = USD) -> Catalogue:
    catalogue = Catalogue(underlyings)
    bodies: list[InstrumentBody] = []
    for raw in raws:
        bodies += read_rows(raw)[0]
    _, refused = catalogue.merge(bodies)
    assert refused == []
    return catalogue


def recorded_peer() -> tuple[Peer, list[bytes]]:
    """A peer whose catalogue and channels are those of the recording, and the recorded frames."""
    frames, channels = [], ()
    for line in lines("deribit-ws/DERIBIT.ws.1.0.gz"):
        if " <- " in line:
            sent = msgspec.json.decode(line.split(": ", 1)[1])
            channels = sent["params"]["channels"]
        elif '"method":"subscription"' in line:
            frames.append(line.split(": ", 1)[1].encode())
    names = {channel.split(".")[1] for channel in channels}
    listing = old_listing()
    peer = Peer(replace(SETTINGS, option_book="raw", option_ticker="raw", hedge_ticker="raw"))
    peer.replies["public/get_instruments"] = lambda params: [
        row
        for row in msgspec.json.decode(listing[str(params["currency"])])
        if row["instrument_name"] in names
    ]
    peer.connect(Conn.MARKET)
    peer.events.clear()
    return peer, frames


def test_every_recorded_frame_decodes_and_every_book_chain_holds() -> None:
    peer, frames = recorded_peer()
    kinds: Counter[str] = Counter()
    last: dict[int, int] = {}
    linked = 0
    for frame in frames:
        events: list[Event] = peer.protocol.on_frame(Conn.MARKET, frame, peer.now_ns)
        kinds.update(type(event).__name__ for event in events)
        for event in events:
            assert not isinstance(event, BookLost)
            if isinstance(event, BookChanged):
                assert event.is_snapshot == (event.instrument_id not in last)
                linked += not event.is_snapshot
                last[event.instrument_id] = event.change_id
    assert kinds == Counter(BookChanged=46, TickerSeen=89)
    assert len(last) == 10
    assert linked == 36


def test_recorded_frames_decode_in_any_field_order() -> None:
    peer, frames = recorded_peer()
    twin, _ = recorded_peer()
    for frame in frames:
        body = msgspec.json.decode(frame)
        if "params" not in body:
            continue
        params = body["params"]
        turned = {
            "params": {
                "data": dict(reversed(list(params["data"].items()))),
                "channel": params["channel"],
            },
            "method": body["method"],
            "jsonrpc": "2.0",
        }
        left = peer.protocol.on_frame(Conn.MARKET, frame, peer.now_ns)
        right = twin.protocol.on_frame(Conn.MARKET, msgspec.json.encode(turned), peer.now_ns)
        assert repr(left) == repr(right)
        assert left


def test_a_recorded_gap_loses_that_book_alone_and_asks_for_it_again() -> None:
    peer, frames = recorded_peer()
    books = [frame for frame in frames if b'"type":"change"' in frame]
    channels = Counter(frame.split(b'"channel":"')[1].split(b'"')[0] for frame in books)
    channel, count = channels.most_common(1)[0]
    assert count >= 3
    dropped = next(frame for frame in books if channel in frame)
    peer.holds = ("public/unsubscribe",)
    lost: list[BookLost] = []
    for frame in frames:
        if frame is dropped:
            continue
        events = peer.protocol.on_frame(Conn.MARKET, frame, peer.now_ns)
        lost += [event for event in events if isinstance(event, BookLost)]
    peer.run()
    assert len(lost) == 1
    assert "gap" in lost[0].reason
    assert peer.last("public/unsubscribe") == {"channels": [channel.decode()]}


def test_ticker_values_are_decimals_and_missing_values_are_nan() -> None:
    peer, frames = recorded_peer()
    tickers = [
        event
        for frame in frames
        for event in peer.protocol.on_frame(Conn.MARKET, frame, Ns(0))
        if isinstance(event, TickerSeen)
    ]
    first = tickers[0]
    assert (first.mark_price, first.mark_vol) == (0.001972, 1.2074)
    assert (first.underlying_price, first.index_price) == (2003.61, 2006.72)
    assert (first.best_bid, first.best_ask) == (0.0015, 0.0025)
    assert (first.price_min, first.price_max, first.open_interest) == (0.0001, 0.025, 12685.0)
    assert first.funding_8h != first.funding_8h
    empty = tickers[1]
    assert empty.best_bid != empty.best_bid
    assert empty.best_ask != empty.best_ask


def test_the_old_schema_loads() -> None:
    listing = old_listing()
    catalogue = catalogue_of(listing["BTC"], listing["ETH"])
    terms = catalogue[catalogue.ids["BTC-24SEP21-40000-P"]]
    assert (terms.kind, terms.is_call, terms.strike) == (Kind.OPTION, False, 40000.0)
    assert (terms.price_index, terms.settle_currency, terms.is_inverse) == ("btc_usd", "BTC", True)
    assert (terms.grid.tick_e9, terms.grid.step, terms.lot_e9) == (500_000, 1, 100_000_000)
    assert terms.expiry_ns == 1632470400 * 10**9
    perpetual = catalogue[catalogue.ids["BTC-PERPETUAL"]]
    assert (perpetual.kind, perpetual.expiry_ns) == (Kind.PERPETUAL, 0)
    assert (perpetual.is_inverse, perpetual.settle_currency) == (True, "BTC")
    assert perpetual.lot_e9 == 10 * 10**9
    assert catalogue[catalogue.ids["BTC-25MAR22"]].kind is Kind.FUTURE


def test_linear_instruments_of_the_old_schema_load() -> None:
    linear = (Underlying("SOL_USDC", "sol_usdc", "USDC"), Underlying("DOGE", "doge_usdc", "USDC"))
    catalogue = catalogue_of(old_listing()["USDC"], underlyings=linear)
    assert [terms.name for terms in catalogue.instruments] == [
        "SOL_USDC-PERPETUAL",
        "DOGE_USDC-PERPETUAL",
    ]
    assert [terms.is_inverse for terms in catalogue.instruments] == [False, False]
    assert [terms.settle_currency for terms in catalogue.instruments] == ["USDC", "USDC"]
    assert catalogue[1].grid.tick_e9 == 10_000


@pytest.mark.parametrize(
    ("name", "count"), [("option.2024-03-15", 2110), ("option.2025-05-08", 1268)]
)
def test_the_new_schema_loads_whole(name: str, count: int) -> None:
    raw = gzip.decompress((REFERENCE / f"deribit-instruments/deribit.{name}.json.gz").read_bytes())
    bodies = read_rows(raw)[0]
    assert len(bodies) == count
    indices = {body.price_index: body.quote_currency for body in bodies}
    underlyings = tuple(Underlying(index, index, "any") for index in sorted(indices))
    catalogue = catalogue_of(raw, underlyings=underlyings)
    assert len(catalogue) == count
    btc = [terms for terms in catalogue.instruments if terms.price_index == "btc_usd"]
    assert {(t.grid.tick_e9, t.grid.above, t.grid.step) for t in btc} == {(100_000, 50, 5)}
    assert {terms.lot_e9 for terms in btc} == {100_000_000}
    assert all(terms.fees.premium_cap == 0.125 for terms in btc)


def test_the_recorded_futures_load() -> None:
    path = REFERENCE / "deribit-instruments/deribit.future.2025-05-02.json.gz"
    catalogue = catalogue_of(gzip.decompress(path.read_bytes()))
    terms = catalogue[catalogue.ids["BTC-9MAY25"]]
    assert (terms.grid.tick_e9, terms.fees.maker, terms.fees.taker) == (
        2_500_000_000,
        -0.0001,
        5e-4,
    )
    ids = [terms.id for terms in catalogue.instruments]
    assert ids == list(range(len(ids)))


def test_every_recorded_best_quote_lies_on_the_grid() -> None:
    """718,160 quotes in the whole set; one chain a day is read here."""
    grid = grid_of_2025("BTC")
    assert grid == grid_of_2025("ETH")
    checked = 0
    for path in sorted((REFERENCE / "deribit-chains").glob("*.csv.gz"))[::8]:
        with gzip.open(path, "rt") as stream:
            for row in csv.DictReader(stream):
                for price in (row["bid_price"], row["ask_price"]):
                    if price and float(price) > 0.0:
                        checked += 1
                        assert grid.is_on_grid(float(price)), (row["instrument_name"], price)
    assert checked > 5_000


def grid_of_2025(base: str) -> object:
    path = REFERENCE / "deribit-instruments/deribit.option.2025-05-08.json.gz"
    catalogue = catalogue_of(gzip.decompress(path.read_bytes()))
    found: list[Instrument] = [t for t in catalogue.instruments if t.underlying == base]
    return found[0].grid
